"""Sealing, approving and exporting: the site's side, until one file may leave.

Knows statements, tables as bytes, and candidates; knows no patients, and trusts no key: whose keys
count is the recipient's question. Rules kept here: what would not verify is not sealed; an approval
passes the gate before it is signed; a candidate with an approval missing does not leave.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthkit.domain.canonical import JsonObject, digest_of, sha256_hex
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.policy import ReleaseRules
from synthkit.domain.record_files import RecordFiles
from synthkit.domain.release import Approval, BundleManifest, Decision, Part, SiteStatement
from synthkit.errors import BundleError, InputError, ReleaseRefusedError
from synthkit.release import claims, contents, framing
from synthkit.release.candidate import Candidate, build_candidate
from synthkit.release.documents import check_part_name, read_approval, read_statement
from synthkit.release.egress import check_allowed_egress
from synthkit.release.gate import decide
from synthkit.release.note import write_note
from synthkit.release.revocation import RevocationList
from synthkit.release.signing import SigningKey, check_envelope, seal_document
from synthkit.release.standing import check_candidate_stands, check_officer_stands
from synthkit.release.trust import ROLES_BY_KIND, TrustedKey, TrustStore
from synthkit.release.verification import approval_order, verify


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """What the sealing site says about a release; all else follows from table, schema and statements.

    `epsilon_worst_overlap` is the composed epsilon of one patient at all sites (None: without DP); it
    comes from the accountant and equals the site's own epsilon where there is one site.
    """

    release: str
    study: str
    study_digest: str
    generator: str
    model_digest: str
    epsilon_worst_overlap: float | None
    expires: dt.date
    version: str
    conditions: ConditionStatement | None = None
    """What the rows were generated under; None: nothing."""
    recipient: str = ""
    """Who it is for; empty: whoever is given it."""
    visits: int | None = None
    """Every record's number of visits, where one was asked for."""


def seal(
    *,
    table_csv: bytes | RecordFiles,
    parts: Mapping[str, bytes],
    statements: Sequence[JsonObject],
    facts: ReleaseFacts,
    key: SigningKey,
    signer: str,
    now: dt.datetime,
) -> Candidate:
    """Bind a table, its schema and the sites' signed statements into one sealed manifest.

    Args:
        table_csv: `SyntheticTable.to_csv_bytes`, or `SyntheticSequences.files` of records of visits.
        parts: `schema.json` (`Schema.to_json`), optionally each site's policy under
            `claims.policy_part(site)`, and anything more that belongs to the release. The audits and
            the note for the recipient are written here.
        statements: Envelopes of kind `statement`, one for each site.
        facts: What does not follow from the above.
        key: The sealing site's key.
        signer: Its name; it has to be among the statements.
        now: The time, with its zone.

    Raises:
        InputError: A part is missing, or named like one that is written here.
        BundleError: The statements do not fit the table, each other or the facts.
        ReleaseRefusedError: A site's policy does not allow the conditions, or is not enclosed.
        SignatureError: A statement's signature is wrong.
    """
    created = _utc(now)
    opened = tuple(read_statement(check_envelope(one, "statement")["document"]) for one in statements)
    if signer not in {statement.site for statement in opened}:
        raise InputError("the sealing site has no statement", where=f"site {signer!r}", fix="add its own")
    if facts.expires < created.date():
        raise InputError("the expiry lies in the past", where="expires", fix="choose a later day")
    spends = [statement.spend for statement in opened if statement.spend is not None]
    disjoint = max((spend.epsilon for spend in spends), default=None)
    delta = max((spend.delta for spend in spends), default=None)
    note = write_note(
        release=facts.release,
        study=facts.study,
        generator=facts.generator,
        statements=opened,
        epsilons=(disjoint, facts.epsilon_worst_overlap, delta),
        expires=facts.expires,
        conditions=facts.conditions,
        visits=facts.visits,
        is_of_records=isinstance(table_csv, RecordFiles),
    )
    all_parts = _collect_parts(table_csv, parts, claims.audit_part(opened), note)
    schema = framing.parse_canonical(all_parts[claims.SCHEMA], where=claims.SCHEMA)
    drawn = contents.read_drawn(all_parts, schema)
    manifest = BundleManifest(
        **vars(facts),
        schema_digest=digest_of(schema),
        table_digest=drawn.digest,
        rows=drawn.rows,
        epsilon_disjoint=disjoint,
        delta=delta,
        statements=tuple(statements),
        parts=tuple(_part(name, data) for name, data in all_parts.items()),
        created=created,
    )
    _check_policies(manifest, opened, all_parts)
    return build_candidate(seal_document(manifest.to_json(), "manifest", key, signer), all_parts)


def approve(
    candidate: Candidate,
    *,
    statement_site: str,
    officer: str,
    key: SigningKey,
    rules: ReleaseRules,
    requested: Decision | None,
    reason: str,
    now: dt.datetime,
    trust: TrustStore | None = None,
    revocations: Sequence[RevocationList] = (),
) -> Candidate:
    """Pass one site's statement through the gate and add the officer's signed approval.

    Args:
        candidate: What is to be released.
        statement_site: The site whose statement she answers for.
        officer: Her name, as trust stores list her key.
        key: Her key, which is no site's key.
        rules: The release rules of that site's policy.
        requested: What she asks for beyond a PASS; see `gate.decide`.
        reason: Her reason, in one line; needed for anything but a PASS.
        now: The time, with its zone.
        trust: The keys its recipients trust; None: whether hers is among them is not asked.
        revocations: What `revocation.read_lists` returned; needs `trust`.

    Returns:
        The candidate with her approval added; `missing` says what is still to do.

    Raises:
        ReleaseRefusedError: The gate, or four eyes, refuses; or the release was revoked.
        SignatureError: Her key, or one that signed before, is unknown, revoked or another's.
        InputError: The site states nothing here, or the reason is not one printable line.
    """
    statement = candidate.statement(statement_site)
    _check_officer(candidate, statement_site, officer, key)
    if trust is not None:
        mine = key.public_key_hex
        check_officer_stands(mine, officer, statement_site, trust=trust, revocations=revocations)
        check_candidate_stands(candidate, trust=trust, revocations=revocations)
    if not reason.strip().isprintable():
        raise InputError("the reason is not one printable line", where="reason", fix="leave line breaks out")
    decision = decide(
        verdict=statement.verdict,
        rules=rules,
        private=statement.spend is not None,
        encoder_provenance=statement.encoder_provenance,
        requested=requested,
        reason=reason,
    )
    approval = Approval(
        manifest_digest=candidate.manifest.digest,
        site=statement_site,
        officer=officer,
        decision=decision,
        reason=reason.strip(),
        approved=_utc(now),
    )
    _check_rules(candidate, statement, approval, rules)
    envelope = seal_document(approval.to_json(), "approval", key, officer)
    approvals = sorted((*candidate.approvals, envelope), key=approval_order)
    four_eyes = candidate.four_eyes | ({statement_site} if rules.four_eyes else set())
    return replace(candidate, approvals=tuple(approvals), four_eyes=four_eyes)


def export(
    candidate: Candidate,
    path: Path,
    *,
    trust: TrustStore | None = None,
    revocations: Sequence[RevocationList] = (),
    today: dt.date | None = None,
) -> None:
    """Write the one file that leaves, whole or not at all, after reading it as a recipient would.

    Args:
        candidate: What is to leave, fully approved.
        path: The file to write.
        trust: The keys its recipients trust; None: those that the candidate names, which proves no identity.
        revocations: What `revocation.read_lists` returned.
        today: The date; None: that of the last approval.

    Raises:
        ReleaseRefusedError: An approval is missing.
        InputError: The file exists or cannot be written.
        BundleError: The candidate does not verify.
        SignatureError: The candidate does not verify.
    """
    if candidate.missing:
        raise ReleaseRefusedError(
            f"not fully approved: {'; '.join(candidate.missing)}",
            where=f"release {candidate.manifest.release}",
            fix="release approve, by each site's officer",
        )
    data = framing.encode(candidate.header(), list(candidate.parts.values()))
    dates = [read_approval(one["document"]).approved.date() for one in candidate.approvals]
    keys = trust if trust is not None else _keys_named_in(candidate)
    if revocations:
        check_candidate_stands(candidate, trust=keys, revocations=revocations)
    last = max(candidate.manifest.created.date(), *dates)
    verify(data, keys, today=today or last, revocations=revocations)
    framing.write_atomic(path, data)


def _check_policies(
    manifest: BundleManifest, statements: Sequence[SiteStatement], parts: Mapping[str, bytes]
) -> None:
    """Refuse what an enclosed policy does not let leave."""
    claims.check_allowed_conditions(manifest, statements, parts)
    check_allowed_egress(manifest, statements, parts)


def _collect_parts(
    table: bytes | RecordFiles, given: Mapping[str, bytes], audit: bytes, note: bytes
) -> dict[str, bytes]:
    """All parts in the bundle's order: those that every release has, then the others by name."""
    written_here = {*contents.DRAWN, claims.AUDIT, claims.README} & set(given)
    if written_here:
        raise InputError("sealing writes this part itself", where=min(written_here), fix="leave it out")
    if claims.SCHEMA not in given:
        raise InputError("the schema is missing", where=claims.SCHEMA, fix="add Schema.to_json, canonical")
    for name in given:
        check_part_name(name)
    others = {name: given[name] for name in sorted(given) if name != claims.SCHEMA}
    fixed = {
        **contents.parts_of(table),
        claims.SCHEMA: given[claims.SCHEMA],
        claims.AUDIT: audit,
        claims.README: note,
    }
    return {**fixed, **others}


def _check_officer(candidate: Candidate, site: str, officer: str, key: SigningKey) -> None:
    """Refuse a site's key as an officer's, and one officer as two."""
    site_keys = {candidate.envelope["public_key"]} | {
        one["public_key"] for one in candidate.manifest.statements
    }
    if key.public_key_hex in site_keys:
        raise ReleaseRefusedError(
            "this is a site's key, not an officer's", where="rule release.keys_apart", fix="use your own key"
        )
    earlier = candidate.approvals_of(site)
    if any(one["signer"] == officer or one["public_key"] == key.public_key_hex for one in earlier):
        raise ReleaseRefusedError(
            "this officer has approved already", where="rule release.four_eyes", fix="ask another officer"
        )
    if earlier and len(earlier) >= candidate.officers_needed(site):
        raise ReleaseRefusedError(
            "all approvals are there already", where=f"site {site}", fix="export the release"
        )


def _check_rules(
    candidate: Candidate, statement: SiteStatement, approval: Approval, rules: ReleaseRules
) -> None:
    """Refuse rules that are not the enclosed policy's, and conditions or an expiry outside them."""
    enclosed = claims.read_rules(statement, candidate.parts)
    if enclosed is not None and enclosed != rules:
        raise ReleaseRefusedError(
            "these are not the rules of the policy that the site states",
            where=f"site {statement.site}",
            fix="approve under the policy in force when the site stated, or seal again",
        )
    claims.check_allowed_conditions(candidate.manifest, (statement,), candidate.parts)
    check_allowed_egress(candidate.manifest, candidate.statements, candidate.parts)
    if not candidate.manifest.created.date() <= approval.approved.date() <= candidate.manifest.expires:
        raise ReleaseRefusedError(
            "approved before it was sealed, or after it expired",
            where="rule release.valid_days",
            fix="seal it again",
        )
    try:
        claims.check_approval(approval, statement, candidate.manifest, rules)
    except BundleError as error:
        raise ReleaseRefusedError(error.what, where=error.where, fix=error.fix) from error


def _keys_named_in(candidate: Candidate) -> TrustStore:
    """The keys a candidate names itself, for reading it once before it leaves; proves no identity."""
    envelopes = (candidate.envelope, *candidate.manifest.statements, *candidate.approvals)
    keys = {
        TrustedKey(name=one["signer"], role=ROLES_BY_KIND[one["kind"]][0], public_key=one["public_key"])
        for one in envelopes
    }
    return TrustStore(keys=tuple(keys))


def _part(name: str, data: bytes) -> Part:
    return Part(name=name, size_bytes=len(data), sha256=sha256_hex(data))


def _utc(now: dt.datetime) -> dt.datetime:
    """The time in UTC, to the second."""
    if now.utcoffset() is None:
        raise TypeError("now needs a time zone")
    return now.astimezone(dt.UTC).replace(microsecond=0)
