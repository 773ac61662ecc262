"""A release of several hospitals: each states and approves its own part, one of them seals.

Wires the sites' desks to the release library; decides nothing. Under the policy of one site that requires a
vault the candidate has to come out of one, made for readers whom each such site knows and lets read; only the
bundle, which every officer has approved, is plain.
"""

# ruff: noqa: PLC0415

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit import __version__
from synthkit.cli.console import epsilon_text
from synthkit.cli.vaults import OpenedVault, check_may_be_plain, check_readers
from synthkit.domain.audit import AuditReport
from synthkit.domain.canonical import canonical_json
from synthkit.domain.privacy import PrivacySpend
from synthkit.domain.study import Study
from synthkit.errors import SynthkitError
from synthkit.privacy.accounting import overlap_epsilon
from synthkit.release.bundle import Candidate, ReleaseFacts, export, policy_part, seal, verify
from synthkit.release.signing import TrustStore, read_key
from synthkit.release.vault import Expected, check_label

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.data.table import SyntheticTable
    from synthkit.training.artefact import Model
    from synthkit.training.sequence_artefact import SequenceModel
    from synthkit_client.site_folder import SiteFolder

VALID_DAYS = 180


def make_release(
    study: Study,
    folders: "Mapping[str, SiteFolder]",
    *,
    model: "Model | SequenceModel",
    table: "SyntheticTable | SyntheticSequences",
    audits: Mapping[str, AuditReport],
    spends: Mapping[str, PrivacySpend],
    reason: str,
    path: Path,
    vault: OpenedVault | None = None,
) -> dict[str, str]:
    """Seal with the first site's key, let every officer decide, export.

    `vault` is what the candidate was read out of; None: it lay plain.

    Returns:
        By site, how its officer decided.

    Raises:
        ReleaseRefusedError: A site's policy does not let this table leave; nothing was written.
        PolicyError: A site's policy requires a vault and there is none, or it opens for somebody else.
        BundleError: The vault is about another candidate or schema.
    """
    check_vault(study, folders, table=table, vault=vault)
    from synthkit_client.enrol import OFFICER_KEY
    from synthkit_client.release_desk import approve_candidate, state

    statements = [state(folder, study, audits[name]) for name, folder in folders.items()]
    candidate = _seal(
        study=study,
        folders=folders,
        model=model,
        table=table,
        statements=statements,
        worst_overlap=overlap_epsilon(list(spends.values())),
    )
    decisions = {}
    for name, folder in folders.items():
        officer = read_key(folder.path / OFFICER_KEY)
        candidate = approve_candidate(folder, candidate, audits[name].verdict, officer, reason=reason)
        decisions[name] = candidate.approvals_of(name)[-1]["document"]["decision"]
    export(candidate, path)
    return decisions


def check_vault(
    study: Study,
    folders: "Mapping[str, SiteFolder]",
    *,
    table: "SyntheticTable | SyntheticSequences",
    vault: OpenedVault | None,
) -> None:
    """Refuse a candidate that lay plain where a site requires a vault, or in one that strangers can open.

    Raises:
        PolicyError: Rule `vault.required`, or `vault.readers`.
        BundleError: The vault is about something else.
    """
    strict = {name: folder for name, folder in folders.items() if folder.policy.vault.required}
    if vault is None:
        for name, folder in strict.items():
            check_may_be_plain(folder.policy, f"joint release, site {name}")
        return
    expected = Expected(schema_digest=study.schema.digest, table_digest=table.digest)
    check_label(vault.vault.label, expected, where="joint release")
    for name, folder in strict.items():
        check_readers(
            vault.vault, folder.policy, folder.trust, f"joint release, site {name}", sites=tuple(folders)
        )


def _seal(
    *,
    study: Study,
    folders: "Mapping[str, SiteFolder]",
    model: "Model | SequenceModel",
    table: "SyntheticTable | SyntheticSequences",
    statements: list[dict[str, object]],
    worst_overlap: float,
) -> Candidate:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.federation.messages import digest_weights

    now = dt.datetime.now(dt.UTC)
    parts = {"schema.json": canonical_json(study.schema.to_json())}
    parts |= {policy_part(name): canonical_json(folder.policy.to_json()) for name, folder in folders.items()}
    first = next(iter(folders.values()))
    facts = ReleaseFacts(
        release=f"{study.name}-{now:%Y-%m-%d}",
        study=study.name,
        study_digest=study.digest,
        generator=model.generator.kind,
        model_digest=digest_weights(model.generator.get_weights()),
        epsilon_worst_overlap=worst_overlap,
        expires=now.date() + dt.timedelta(days=VALID_DAYS),
        version=__version__,
    )
    return seal(
        table_csv=table.files if isinstance(table, SyntheticSequences) else table.to_csv_bytes(),
        parts=parts,
        statements=statements,
        facts=facts,
        key=first.key,
        signer=first.name,
        now=now,
    )


def recipient_trust(folders: "Mapping[str, SiteFolder]", path: Path) -> TrustStore:
    """The public keys a recipient was given: every site's and every officer's. Written to `path`."""
    from synthkit_client.enrol import OFFICER_KEY, officer_of, site_of

    keys = []
    for name, folder in folders.items():
        keys += [site_of(name, folder.key), officer_of(name, read_key(folder.path / OFFICER_KEY))]
    store = TrustStore(keys=tuple(keys))
    path.write_text(json.dumps(store.to_json(), indent=1) + "\n", encoding="utf-8")
    return store


def verify_release(path: Path, trust: TrustStore) -> str:
    """Verify a bundle offline and say in one line what it is.

    Raises:
        BundleError: It was altered.
        SignatureError: A signature does not hold.
    """
    manifest = verify(path, trust, today=dt.datetime.now(dt.UTC).date()).manifest
    return (
        f"{manifest.rows} rows, epsilon {epsilon_text(manifest.epsilon_disjoint)} for a patient of one "
        f"hospital, {epsilon_text(manifest.epsilon_worst_overlap)} for one at all "
        f"{len(manifest.statements)}"
    )


def show_tampering(path: Path, trust: TrustStore) -> str:
    """Flip one bit in the middle of a copy and return the refusal; the file itself stays whole.

    Raises:
        RuntimeError: The altered copy verified, which must never happen.
    """
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    try:
        verify(bytes(data), trust, today=dt.datetime.now(dt.UTC).date())
    except SynthkitError as error:
        return str(error)
    raise RuntimeError("an altered bundle verified")
