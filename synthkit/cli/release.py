"""`synthkit release keygen|approve|export|verify|open`; `seal` is in a module of its own.

Knows keys, candidates and bundles; no tables, so that a recipient verifies without pandas or torch.
Rule kept here: an officer is shown what she signs.
"""

import datetime as dt
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.conditions_text import condition_pairs, length_pairs, recipient_pairs
from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.keys import load_key, passphrase_from
from synthkit.cli.loading import check_file, check_target, name_of, save_text
from synthkit.cli.options import (
    JsonOption,
    KeyOption,
    PassphraseOption,
    PolicyTrustOption,
    RevocationsOption,
    TrustOption,
    VaultKeyOption,
    VaultPassphraseOption,
)
from synthkit.cli.policy_in_force import policy_in_force, trusted_keys
from synthkit.cli.vaults import VaultKey, check_may_be_plain
from synthkit.domain.canonical import JsonObject
from synthkit.domain.release import Decision
from synthkit.errors import BundleError, InputError, ReleaseRefusedError, SignatureError
from synthkit.release.bundle import Candidate, VerifiedRelease, check, extract_records, extract_table
from synthkit.release.bundle import approve as approve_candidate
from synthkit.release.bundle import export as export_candidate
from synthkit.release.bundle import verify as verify_bundle
from synthkit.release.revocation import RevocationList, read_lists
from synthkit.release.signing import generate_key, public_path, write_key
from synthkit.release.trust import TrustedKey, TrustStore
from synthkit.release.vault import vault_key_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

CandidateArgument = Annotated[Path, typer.Argument(metavar="CANDIDATE", help="What `release seal` wrote.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A .synthkit file.")]


class Role(StrEnum):
    """Whose key it is: what it may sign."""

    SITE = "site"
    OFFICER = "officer"
    AUDITOR = "auditor"
    COORDINATOR = "coordinator"


class Request(StrEnum):
    """What an officer asks for beyond a PASS."""

    DP_CLAIM = Decision.DP_CLAIM.value
    OVERRIDE = Decision.OVERRIDE.value


def keygen(
    *,
    name: Annotated[str, typer.Option("--name", help="The owner's name, as trust files list it.")],
    role: Annotated[Role, typer.Option("--role", help="What the key may sign.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the three files.")],
    site: Annotated[str, typer.Option("--site", help="Bind an officer to one hospital.")] = "",
    passphrase_env: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a signing key: NAME.pem to keep, NAME.pem.pub and NAME.trust.json to give away.

    An auditor's key signs nothing; like an officer's it can open vaults, where the policy says so. The trust
    file names the public half of the key that vaults are locked for, which follows from the same secret.

    Recipients put the trust file into their folder of trusted keys, after asking the owner on another
    channel that the public key is theirs.

    Example:
      synthkit release keygen --name north --role site -o keys --passphrase-env NORTH_PASSPHRASE
    """
    if not NAME.fullmatch(name):
        raise InputError("is not 1 to 80 letters, digits, dots and dashes", where="--name", fix="shorten it")
    secret = passphrase_from(passphrase_env) if passphrase_env is not None else None
    output.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, trust_path = output / f"{name}.pem", output / f"{name}.trust.json"
    for target in (path, public_path(path), trust_path):
        check_target(target)
    key = generate_key()
    reads = "" if role is Role.COORDINATOR else vault_key_of(key)
    entry = TrustedKey(name=name, role=role.value, public_key=key.public_key_hex, site=site, vault_key=reads)
    write_key(key, path, secret)
    save_text(trust_path, json.dumps(TrustStore(keys=(entry,)).to_json(), indent=2) + "\n")
    console = Console(as_json=as_json)
    console.line(f"Key {name_of(path)} ({role.value}), public key {key.public_key_hex}")
    console.line(f"Give away {name_of(public_path(path))} and {name_of(trust_path)}; never the key itself.")
    if secret is None:
        able = "open vaults" if role is Role.AUDITOR else "sign"
        console.note(f"the key is not encrypted: whoever can read the file can {able} (--passphrase-env)")
    console.result({"key": str(path), "trust": str(trust_path), **entry.to_json()})


def approve(
    candidate: CandidateArgument,
    *,
    site: Annotated[str, typer.Option("--site", help="The hospital whose statement she answers for.")],
    officer: Annotated[str, typer.Option("--officer", help="Her name, as trust files list her key.")],
    key: KeyOption,
    policy: Annotated[str, typer.Option("--policy", help="The policy that the site states.")],
    decision: Annotated[
        Request | None, typer.Option("--decision", help="What she asks for when the audit did not PASS.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Her reason, one line; travels along.")] = "",
    passphrase_env: PassphraseOption = None,
    trust: PolicyTrustOption = None,
    revocations: RevocationsOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Add an officer's signed decision to a candidate.

    A PASS needs nothing but her signature. INCONCLUSIVE needs `--decision dp_claim` and FAIL needs
    `--decision override`, each with a written reason and only where the site's policy allows it. A table that
    lies in a vault is opened, in memory, with her own key.

    With --trust her key has to be an officer's of this site among the trusted ones, and the policy has to be
    signed by one; with --revocations too, no key and no release that was taken back is approved.

    Example:
      synthkit release approve candidate --site north --officer ada --key ada.pem \
        --policy policy.toml
    """
    store, lists = _trusted(trust, revocations)
    rules = policy_in_force(policy, trust, site=site, revocations=lists)
    signing = load_key(key, passphrase_env)
    sealed = Candidate.read(candidate, signing)
    if not sealed.vault:
        check_may_be_plain(rules, name_of(candidate))
    statement = sealed.statement(site)
    if statement.policy_digest != rules.digest:
        raise ReleaseRefusedError(
            "is not the policy that the site states", where="--policy", fix="give the one it was sealed under"
        )
    console = Console(as_json=as_json)
    _show_statement(console, sealed, site)
    approved = approve_candidate(
        sealed,
        statement_site=site,
        officer=officer,
        key=signing,
        rules=rules.release,
        requested=None if decision is None else Decision(decision.value),
        reason=reason,
        now=dt.datetime.now(dt.UTC),
        trust=store,
        revocations=lists,
    )
    approved.write(candidate)
    console.line(f"Approved by {officer} for {site}.")
    console.items(approved.missing or ("Nothing is missing. Next: synthkit release export.",))
    if revocations is None:
        console.note("whether her key or this release was taken back was not asked (--trust, --revocations)")
    console.result(
        {"release": approved.manifest.release, "manifest_digest": approved.manifest.digest}
        | {"site": site, "officer": officer, "missing": list(approved.missing)}
    )


def _show_statement(console: Console, sealed: Candidate, site: str) -> None:
    statement, manifest = sealed.statement(site), sealed.manifest
    spend = statement.spend
    delta = "" if spend is None else f" at delta {figure(spend.delta)}"
    console.pairs(
        {
            "release": manifest.release,
            "table": manifest.table_digest,
            "verdict at this site": statement.verdict.value,
            "epsilon of this site": epsilon_text(spend.epsilon if spend is not None else None) + delta,
            "expires": manifest.expires.isoformat(),
            **recipient_pairs(manifest.recipient),
            **condition_pairs(manifest.conditions),
            **length_pairs(manifest.visits),
        }
    )


def _trusted(
    trust: Path | None, revocations: Path | None
) -> tuple[TrustStore | None, tuple[RevocationList, ...]]:
    """The trusted keys and the lists that they vouch for."""
    if trust is None:
        if revocations is not None:
            fix = "a list counts only with the keys to check it by"
            raise InputError("is missing", where="option --trust", fix=fix)
        return None, ()
    store = trusted_keys(trust)
    return store, () if revocations is None else read_lists(revocations, store)


def export(
    candidate: CandidateArgument,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, .synthkit.")],
    vault_key: VaultKeyOption = None,
    vault_passphrase_env: VaultPassphraseOption = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="The keys its recipients trust; else those it names.")
    ] = None,
    revocations: RevocationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the one file that leaves, after reading it as a recipient would.

    Ends with 1 when an approval is missing, when the release was revoked, or when a policy does not let it
    leave; with 6 when it does not verify, such as after a key was revoked (--trust, --revocations). A table
    in a vault is opened with --vault-key: what leaves is readable by whoever receives it.

    Example:
      synthkit release export candidate -o heart.synthkit --trust keys --revocations revocations
    """
    check_target(output)
    store, lists = _trusted(trust, revocations)
    reader = VaultKey(path=vault_key, passphrase_env=vault_passphrase_env)
    sealed = Candidate.read(candidate, None if vault_key is None else reader.load(name_of(vault_key)))
    today = dt.datetime.now(dt.UTC).date()
    export_candidate(sealed, output, trust=store, revocations=lists, today=today)
    console = Console(as_json=as_json)
    console.line(f"Exported {sealed.manifest.release} to {name_of(output)}.")
    if sealed.manifest.recipient:
        console.line(f"It is for {sealed.manifest.recipient} alone.")
    if revocations is None:
        console.note("whether a key or this release was taken back was not asked (--trust, --revocations)")
    console.line(f"The recipient runs: synthkit release verify {name_of(output)} --trust KEYS")
    console.result({"release": sealed.manifest.release, "manifest_digest": sealed.manifest.digest})


def verify(
    bundle: BundleArgument,
    *,
    trust: TrustOption,
    revocations: RevocationsOption = None,
    recount: Annotated[
        bool, typer.Option("--recount", help="Compute every epsilon anew from its events; takes seconds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify every byte, signature and claim of a release, offline, with public keys alone.

    Ends with 6 when it does not hold. Without `--recount` a hospital's signed epsilon is taken as stated.
    With `--revocations`, a release that was taken back, or a signature by a key that was, is refused. Whether
    a newer list exists cannot be known offline: ask the hospitals for theirs.

    Example:
      synthkit release verify heart.synthkit --trust keys --revocations revocations
    """
    console = Console(as_json=as_json)
    release, lists = _verified(console, bundle, trust, revocations)
    if recount:
        # Imported here: verification itself needs no accountant and is done in a fraction of a second.
        from synthkit.cli.recount import recount as check_epsilons  # noqa: PLC0415

        check_epsilons(release)
    _show(console, release, lists)
    if recount:
        console.line("Every epsilon was computed anew from its events.")
    console.result({**_document(release, lists), "recounted": recount})


def open_bundle(
    bundle: BundleArgument,
    *,
    trust: TrustOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write, CSV.")],
    patients: Annotated[
        Path | None, typer.Option("--patients", help="Records of visits: static columns go here, CSV.")
    ] = None,
    revocations: RevocationsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a release and take its table out; nothing is written of one that was revoked.

    A release of records of visits holds two tables: `-o` takes the visits, `--patients` the static columns.

    Example:
      synthkit release open heart.synthkit --trust keys -o table.csv
    """
    check_target(output)
    console = Console(as_json=as_json)
    release, lists = _verified(console, bundle, trust, revocations)
    if release.records is None and patients is None:
        extract_table(release, output)
    else:
        extract_records(release, output, patients)
    _show(console, release, lists)
    console.line(f"Table: {name_of(output)}")
    static = None if patients is None else str(patients)
    console.result({**_document(release, lists), "table": str(output), "patients_table": static})


def _verified(
    console: Console, bundle: Path, trust: Path, revocations: Path | None
) -> tuple[VerifiedRelease, tuple[RevocationList, ...]]:
    """The verified release and the lists; in JSON, a refusal names every failing step, not only the first."""
    check_file(bundle)
    store, today = trusted_keys(trust), dt.datetime.now(dt.UTC).date()
    lists = () if revocations is None else read_lists(revocations, store)
    try:
        return verify_bundle(bundle, store, today=today, revocations=lists), lists
    except (BundleError, SignatureError):
        problems = check(bundle, store, today=today, revocations=lists)
        console.result({"verified": False, "problems": list(problems)})
        raise


def _show(console: Console, release: VerifiedRelease, lists: tuple[RevocationList, ...]) -> None:
    manifest = release.manifest
    delta = "" if manifest.delta is None else f" at delta {figure(manifest.delta)}"
    console.pairs(
        {
            "release": manifest.release,
            "study": manifest.study,
            "generator": manifest.generator,
            "sealed by": release.sealed_by,
            "rows": str(manifest.rows),
            "table": manifest.table_digest,
            "epsilon, patients at one site": epsilon_text(manifest.epsilon_disjoint) + delta,
            "epsilon, patients at all sites": epsilon_text(manifest.epsilon_worst_overlap) + delta,
            "expires": manifest.expires.isoformat(),
            **recipient_pairs(manifest.recipient),
            **condition_pairs(manifest.conditions),
            **length_pairs(manifest.visits),
        }
    )
    console.heading("Who states and who approved")
    console.items(
        f"{one.site}: audit {one.verdict.value}, encoder {one.encoder_provenance.value}, "
        f"epsilon {epsilon_text(one.spend.epsilon if one.spend is not None else None)}"
        for one in release.statements
    )
    console.items(
        f"{one.officer} for {one.site}: {one.decision.value}{': ' if one.reason else ''}{one.reason}"
        for one in release.approvals
    )
    for warning in release.warnings:
        console.note(warning)
    console.items(
        f"not revoked by {one.signer}'s list {one.counter} of {one.as_of.isoformat()}; a newer one cannot be "
        "known offline"
        for one in lists
    )
    if not lists:
        console.note("whether it was revoked since was not asked (--revocations)")
    console.verdict("VERIFIED", "every byte, signature and claim holds")


def _document(release: VerifiedRelease, lists: tuple[RevocationList, ...]) -> JsonObject:
    manifest = release.manifest
    return {
        "verified": True,
        "release": manifest.release,
        "manifest_digest": manifest.digest,
        "study": manifest.study,
        "study_digest": manifest.study_digest,
        "generator": manifest.generator,
        "model_digest": manifest.model_digest,
        "sealed_by": release.sealed_by,
        "rows": manifest.rows,
        "table_digest": manifest.table_digest,
        "schema_digest": manifest.schema_digest,
        "epsilon_disjoint": manifest.epsilon_disjoint,
        "epsilon_worst_overlap": manifest.epsilon_worst_overlap,
        "delta": manifest.delta,
        "conditions": manifest.conditions.to_json() if manifest.conditions is not None else None,
        "visits": manifest.visits,
        "recipient": manifest.recipient or None,
        "created": manifest.created.isoformat(),
        "expires": manifest.expires.isoformat(),
        "statements": [one.to_json() for one in release.statements],
        "approvals": [one.to_json() for one in release.approvals],
        "warnings": list(release.warnings),
        "revocations": [
            {"signer": one.signer, "counter": one.counter, "head": one.head, "as_of": one.as_of.isoformat()}
            for one in lists
        ],
    }
