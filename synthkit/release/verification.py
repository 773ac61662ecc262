"""Verification of a `.synthkit` file: the recipient's side, offline, with public keys alone.

Knows bytes, a trust store and today's date; needs no network, no policy file and no set-up. Rules
kept here: nothing behind a failed step is believed; whatever the bytes are, the outcome is a verified
release, a BundleError or a SignatureError, each in one line.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import ReleaseRules
from synthkit.domain.record_files import PATIENTS, RECORDS, RecordFiles
from synthkit.domain.release import Approval, BundleManifest, SiteStatement
from synthkit.errors import BundleError, InputError, ReleaseRefusedError, SignatureError
from synthkit.release import framing
from synthkit.release.caveats import caveats_of
from synthkit.release.claims import (
    check_allowed_conditions,
    check_approval,
    check_encoders,
    check_epsilons,
    check_parts,
    check_statements,
    read_rules,
)
from synthkit.release.contents import TABLE
from synthkit.release.documents import MAX_STATEMENTS, quoted, read_approval, read_manifest, read_statement
from synthkit.release.egress import check_allowed_egress
from synthkit.release.revocation import RevocationList, revocation_of_key, revocations_of_release
from synthkit.release.signing import check_envelope, open_document
from synthkit.release.trust import TrustStore

_CLOCK_SKEW_DAYS = 1


@dataclass(frozen=True, kw_only=True)
class VerifiedRelease:
    """A release whose every byte, signature and claim was checked, with the evidence.

    `warnings` are true sentences a recipient should read before using the table; none of them makes
    the release invalid.
    """

    manifest: BundleManifest
    sealed_by: str
    statements: tuple[SiteStatement, ...]
    approvals: tuple[Approval, ...]
    parts: Mapping[str, bytes]
    warnings: tuple[str, ...]

    @property
    def table_csv(self) -> bytes:
        """The table's canonical CSV bytes.

        Raises:
            InputError: The release holds records of visits; see `records`.
        """
        if TABLE not in self.parts:
            raise InputError("holds records of visits, not a table", where="release", fix="take both files")
        return self.parts[TABLE]

    @property
    def records(self) -> RecordFiles | None:
        """The records' canonical CSV bytes; None: the release holds a table."""
        if RECORDS not in self.parts:
            return None
        return RecordFiles(records=self.parts[RECORDS], patients=self.parts.get(PATIENTS))


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A bundle after steps 1 to 3: framed, and its manifest signed by a trusted site."""

    manifest: BundleManifest
    sealed_by: str
    statements: tuple[SiteStatement, ...]
    approvals: tuple[JsonObject, ...]
    rest: memoryview
    trust: TrustStore
    today: dt.date
    manifest_key: str
    revocations: tuple[RevocationList, ...]

    @cached_property
    def parts(self) -> dict[str, bytes]:
        """The parts by name, in the manifest's order."""
        sizes = [part.size_bytes for part in self.manifest.parts]
        names = [part.name for part in self.manifest.parts]
        return dict(zip(names, framing.cut_parts(self.rest, sizes), strict=True))


def verify(
    source: Path | str | bytes,
    trust: TrustStore,
    *,
    today: dt.date,
    revocations: Sequence[RevocationList] = (),
) -> VerifiedRelease:
    """Verify a bundle, step by step; the first failure is raised.

    1. Framing: magic line, lengths, size limits.
    2. The header is JSON in its only byte form, with the manifest and the approvals and no more.
    3. The manifest is signed by a trusted, unrevoked site key and is well formed.
    4. Every part has its size and hash; table, schema, number of rows and, where it states one, every
       record's number of visits are those of the manifest.
    5. Every statement is signed by its site's trusted key and made for this table; no site twice;
       the sealing site is one of them.
    6. Every statement is approved by a trusted officer, for this manifest, as its verdict and (where
       the bundle carries it) the site's policy allow; two officers where that policy says four eyes.
    7. Not expired; neither sealed nor approved in the future.
    8. Epsilon and delta follow from the statements.
    9. No claim of DP over an encoder trained on the patients without DP.
    10. A table generated under conditions encloses every site's policy, and each allows them; every enclosed
        policy lets these kinds of file leave, to this recipient.
    11. Revoked neither by a site that states in it nor by an officer who approved it; no signature by a
        key that its owner or the owner's hospital revoked.

    Args:
        source: The bundle's bytes, or where it lies.
        trust: The keys the recipient trusts.
        today: The date on which the release must be valid.
        revocations: What `revocation.read_lists` returned; without any, step 11 refuses nothing.

    Raises:
        BundleError: Malformed, altered, expired or contradicting itself.
        SignatureError: A signature is wrong, or by a key that may not give it.
        InputError: The file cannot be read.
    """
    opened = _open(source, trust, today, revocations)  # 1, 2, 3
    for step in _STEPS:  # 4, 5, 6, 7, 8, 9, 10, 11
        step(opened)
    approvals = tuple(read_approval(envelope["document"]) for envelope in opened.approvals)
    parts = opened.parts
    return VerifiedRelease(
        manifest=opened.manifest,
        sealed_by=opened.sealed_by,
        statements=opened.statements,
        approvals=approvals,
        parts=parts,
        warnings=caveats_of(
            opened.manifest,
            opened.statements,
            approvals,
            parts,
            today=opened.today,
            revocations=opened.revocations,
        ),
    )


def check(
    source: Path | str | bytes,
    trust: TrustStore,
    *,
    today: dt.date,
    revocations: Sequence[RevocationList] = (),
) -> tuple[str, ...]:
    """What `verify` would refuse: every failing step's reason, one line each; empty when it holds.

    A failure of steps 1 to 3 stands alone, because nothing behind it can be believed.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        opened = _open(source, trust, today, revocations)
    except (BundleError, SignatureError) as error:
        return (str(error),)
    problems = []
    for step in _STEPS:
        try:
            step(opened)
        except (BundleError, SignatureError) as error:
            problems.append(str(error))
    return tuple(dict.fromkeys(problems))


def extract_table(verified: VerifiedRelease, path: Path) -> None:
    """Write the table's bytes, whole or not at all.

    Raises:
        InputError: The file exists or cannot be written.
    """
    framing.write_atomic(path, verified.table_csv)


def extract_records(verified: VerifiedRelease, path: Path, patients: Path | None) -> None:
    """Write the records, and the table of their static columns where the release has one.

    Raises:
        InputError: The release holds a table, a file is not asked for that it has or the other way round, a
            file exists or cannot be written.
    """
    files = verified.records
    if files is None:
        raise InputError("holds a table, not records of visits", where="release", fix="leave --patients out")
    if (files.patients is None) != (patients is None):
        what = "has no static columns" if files.patients is None else "has static columns, too"
        fix = "leave --patients out" if files.patients is None else "name a file for them: --patients"
        raise InputError(what, where="release", fix=fix)
    framing.write_atomic(path, files.records)
    if patients is None or files.patients is None:
        return
    try:
        framing.write_atomic(patients, files.patients)
    except InputError:
        path.unlink(missing_ok=True)
        raise


def approval_order(envelope: JsonObject) -> tuple[str, str, str]:
    """The one order of approvals in a header; needs an envelope that `check_envelope` returned."""
    return str(envelope["document"].get("site")), envelope["signer"], envelope["public_key"]


def _open(
    source: Path | str | bytes, trust: TrustStore, today: dt.date, revocations: Sequence[RevocationList]
) -> _Opened:
    """Steps 1 to 3."""
    data = source if isinstance(source, bytes) else framing.read_bytes(Path(source))
    head, rest = framing.cut_frame(data)  # 1
    header = framing.parse_canonical(head, where="bundle header")  # 2
    approvals = header.get("approvals")
    if set(header) != {"manifest", "approvals"} or not isinstance(approvals, list):
        raise BundleError("holds more or less than manifest and approvals", where="bundle header")
    if len(approvals) > 2 * MAX_STATEMENTS:
        raise BundleError("more approvals than any release needs", where="bundle header")
    document, signer = open_document(header["manifest"], "manifest", trust)  # 3
    manifest = read_manifest(document)
    envelopes = [
        check_envelope(one, "statement", where=_nth("statement", n)) for n, one in _count(manifest.statements)
    ]
    return _Opened(
        manifest=manifest,
        sealed_by=signer,
        statements=tuple(
            read_statement(one["document"], where=_nth("statement", n)) for n, one in _count(envelopes)
        ),
        approvals=tuple(approvals),
        rest=rest,
        trust=trust,
        today=today,
        manifest_key=header["manifest"]["public_key"],
        revocations=tuple(revocations),
    )


def _check_step_4(opened: _Opened) -> None:
    check_parts(opened.manifest, opened.parts)


def _check_step_5(opened: _Opened) -> None:
    pairs = zip(opened.manifest.statements, opened.statements, strict=True)
    for number, (envelope, statement) in enumerate(pairs, start=1):
        where = _nth("statement", number)
        _, signer = open_document(envelope, "statement", opened.trust, where=where)
        if signer != statement.site:
            raise SignatureError("speaks for another site than the one that signed it", where=where)
    check_statements(opened.manifest, opened.statements, opened.parts)
    if opened.sealed_by not in {statement.site for statement in opened.statements}:
        raise BundleError("the sealing site states nothing about the table itself", where="manifest")


def _check_step_6(opened: _Opened) -> None:
    by_site = {statement.site: statement for statement in opened.statements}
    officers: dict[str, list[str]] = {site: [] for site in by_site}
    for number, envelope in _count(opened.approvals):
        approval = _open_approval(envelope, opened.trust, where=_nth("approval", number))
        statement = by_site.get(approval.site)
        if statement is None:
            raise BundleError("approves for a site that states nothing", where=_nth("approval", number))
        check_approval(approval, statement, opened.manifest, read_rules(statement, opened.parts))
        officers[approval.site].append(approval.officer)
    for site, names in officers.items():
        _check_officers(site, names, read_rules(by_site[site], opened.parts))
    if sorted(opened.approvals, key=approval_order) != list(opened.approvals):
        raise BundleError("the approvals are out of order", where="bundle header")


def _check_step_7(opened: _Opened) -> None:
    manifest = opened.manifest
    if (manifest.created.date() - opened.today).days > _CLOCK_SKEW_DAYS:
        raise BundleError("sealed in the future", where="manifest", fix="check this machine's date")
    if manifest.expires < opened.today:
        raise BundleError(
            f"expired on {manifest.expires.isoformat()}", where="manifest", fix="ask for a new release"
        )
    for number, envelope in _count(opened.approvals):
        where = _nth("approval", number)
        checked = check_envelope(envelope, "approval", where=where)
        approved = read_approval(checked["document"], where=where).approved.date()
        if (approved - opened.today).days > _CLOCK_SKEW_DAYS:
            raise BundleError("approved in the future", where=where, fix="check this machine's date")
        if (manifest.created.date() - approved).days > _CLOCK_SKEW_DAYS:
            raise BundleError("approved before it was sealed", where=where)
        if approved > manifest.expires:
            raise BundleError("approved after it had expired", where=where)


def _check_step_8(opened: _Opened) -> None:
    check_epsilons(opened.manifest, opened.statements)


def _check_step_9(opened: _Opened) -> None:
    check_encoders(opened.statements)


def _check_step_10(opened: _Opened) -> None:
    try:
        check_allowed_conditions(opened.manifest, opened.statements, opened.parts)
        check_allowed_egress(opened.manifest, opened.statements, opened.parts)
    except ReleaseRefusedError as error:
        raise BundleError(error.what, where=error.where, fix="ask the site for another release") from error


def _check_step_11(opened: _Opened) -> None:
    keys = {"manifest": opened.manifest_key}
    keys |= {_nth("statement", n): one["public_key"] for n, one in _count(opened.manifest.statements)}
    for number, envelope in _count(opened.approvals):
        where = _nth("approval", number)
        keys[where] = check_envelope(envelope, "approval", where=where)["public_key"]
    for where, public_key in keys.items():
        found = revocation_of_key(public_key, opened.revocations, opened.trust)
        if found is not None:
            issuer, entry = found
            raise SignatureError(f"signed by a key that {quoted(issuer)} revoked {entry.words}", where=where)
    for one, entry in revocations_of_release(opened.manifest.digest, opened.revocations):
        if _may_revoke(one, opened):
            raise BundleError(
                f"revoked by {quoted(one.signer)} {entry.words}",
                where=f"release {quoted(opened.manifest.release)}",
                fix="do not use it; ask for another",
            )


_STEPS: tuple[Callable[[_Opened], None], ...] = (
    _check_step_4,
    _check_step_5,
    _check_step_6,
    _check_step_7,
    _check_step_8,
    _check_step_9,
    _check_step_10,
    _check_step_11,
)


def _may_revoke(one: RevocationList, opened: _Opened) -> bool:
    """Whether a list's signer states in this release, as its site, or approved it, as an officer."""
    issuer = opened.trust.find(one.public_key)
    if issuer is None:
        return False
    if issuer.role == "site":
        return issuer.name in {statement.site for statement in opened.statements}
    sites = {one["document"]["site"] for one in opened.approvals if one["signer"] == issuer.name}
    return issuer.role == "officer" and (issuer.site in sites if issuer.site else bool(sites))


def _open_approval(envelope: object, trust: TrustStore, *, where: str) -> Approval:
    """Open one approval, and require that its officer may speak for its site."""
    document, signer = open_document(envelope, "approval", trust, where=where)
    approval = read_approval(document, where=where)
    if approval.officer != signer:
        raise SignatureError("names another officer than the one who signed it", where=where)
    key = trust.find(check_envelope(envelope, "approval")["public_key"])
    if key is not None and key.site and key.site != approval.site:
        raise SignatureError("signed by an officer of another hospital", where=where)
    return approval


def _check_officers(site: str, names: Sequence[str], rules: ReleaseRules | None) -> None:
    """Refuse a site's statement that too few officers, or one officer twice, approved."""
    where = f"statement of {quoted(site)}"
    if not names:
        raise BundleError("lacks its officer's approval", where=where)
    if len(set(names)) != len(names):
        raise BundleError("one officer approves twice", where=where)
    if rules is not None and rules.four_eyes and len(names) < 2:
        raise BundleError("lacks the second officer's approval [rule release.four_eyes]", where=where)


def _count(items: Sequence[JsonObject]) -> list[tuple[int, JsonObject]]:
    return list(enumerate(items, start=1))


def _nth(what: str, number: int) -> str:
    return f"{what} {number}"
