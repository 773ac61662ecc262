"""`synthkit release seal`: from a table, its model, its audit and a ledger to a candidate.

Rule kept here: nothing is sealed whose papers do not belong together; each refusal names the paper that
is wrong and what to do. For a release of one site; the sites of a joint release each state their part,
and the library seals those. Imports that take a second or more stand inside the functions that need
them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit import __version__
from synthkit.cli.conditions_text import condition_pairs, length_pairs, recipient_pairs
from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_file, load_schema, name_of, read_json
from synthkit.cli.model_header import ModelHeader, read_model_header
from synthkit.cli.options import (
    JsonOption,
    KeyOption,
    LedgerOption,
    PassphraseOption,
    PolicyTrustOption,
    SchemaOption,
    VaultKeyOption,
    VaultPassphraseOption,
)
from synthkit.cli.policy_in_force import policy_in_force, trusted_keys
from synthkit.cli.vaults import OpenedVault, VaultKey, check_may_be_plain, check_readers, is_vault, open_vault
from synthkit.domain.audit import AuditReport
from synthkit.domain.canonical import canonical_json
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.linkage import PUBLISHED_MASK
from synthkit.domain.policy import SitePolicy
from synthkit.domain.policy_check import check_egress_against_policy
from synthkit.domain.release import SiteStatement
from synthkit.domain.schema import Schema
from synthkit.errors import InputError, LedgerError, ReleaseRefusedError, SchemaError
from synthkit.privacy.accounting import RECOMPUTED_TOLERANCE, check_spend, reported_epsilon
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.bundle import Candidate, ReleaseFacts, policy_part
from synthkit.release.bundle import seal as seal_release
from synthkit.release.claims import SCHEMA
from synthkit.release.gate import CountedAudit, check_counted
from synthkit.release.signing import SigningKey, seal_document
from synthkit.release.vault import Expected

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.data.table import SyntheticTable


@dataclass(frozen=True, kw_only=True)
class _Papers:
    """Everything that has to agree before a table is sealed."""

    drawn: "SyntheticTable | SyntheticSequences"
    schema: Schema
    model: ModelHeader
    report: AuditReport
    policy: SitePolicy
    ledger: Ledger
    ledger_path: Path
    site: str


def seal(
    *,
    table: Annotated[Path, typer.Option("--table", help="The synthetic table that is to leave.")],
    schema: SchemaOption,
    model: Annotated[Path, typer.Option("--model", help="The folder of the model that made it.")],
    audit: Annotated[Path, typer.Option("--audit", help="What `audit --save` wrote about this table.")],
    policy: Annotated[str, typer.Option("--policy", help="The site's policy.")],
    ledger: LedgerOption,
    site: Annotated[str, typer.Option("--site", help="This hospital's name, as trust files list it.")],
    key: KeyOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The candidate's folder.")],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="The conditions the table was generated under; they become public."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed it was generated with.")] = 0,
    visits: Annotated[
        int | None,
        typer.Option("--visits", min=1, help="Records: the length that was asked for; it becomes public."),
    ] = None,
    release: Annotated[str | None, typer.Option("--release", help="The release's name.")] = None,
    recipient: Annotated[
        str, typer.Option("--recipient", help="Who it is for, as the policy's egress rule names them.")
    ] = "",
    trust: PolicyTrustOption = None,
    passphrase_env: PassphraseOption = None,
    vault_key: VaultKeyOption = None,
    vault_passphrase_env: VaultPassphraseOption = None,
    patients: Annotated[
        Path | None, typer.Option("--patients", help="Records: the table of their static columns.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Bind a table, its schema, its audit and its spend into a sealed candidate.

    Refuses papers that do not belong together: a table that the audit did not judge, a policy other
    than the one it was judged by, an audit or a spend that the ledger does not know, rows that the model
    does not draw with this seed under these conditions (and of this length, for records of visits), or
    conditions that the policy does not allow, such as a group below its floor. Conditions, the share of
    patients who meet them by the model, and its reliability stand in the manifest for every recipient to
    read. A candidate cannot leave before the site's officer has approved it. Of records of visits both
    tables are bound: --table is the one of visits, --patients the one of static columns, unless they stand
    in every row.

    A table in a vault is opened in memory with --vault-key (or with --key, where the policy lets the site
    read) and lies in the vault still in the candidate's folder. Records in a vault have no --patients: both
    tables lie in it.

    Example:
      synthkit release seal --table synthetic.csv --schema schema.toml --model model \
        --audit audit.json --policy policy.toml --ledger heart.ledger --site north \
        --key north.pem -o candidate
    """
    from synthkit.cli.seal_records import check_length_option, check_patients_option, read_drawn

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("exists and is not an empty folder", where=name_of(output), fix="name a new folder")
    console = Console(as_json=as_json)
    rules, known = policy_in_force(policy, trust, site=site), load_schema(schema)
    check_patients_option(patients, known, table)
    check_length_option(visits, known)
    kinds = frozenset({"records" if known.is_longitudinal else "table"})
    check_egress_against_policy(rules.egress, recipient=recipient, kinds=kinds, site=site)
    check_file(ledger)
    signing = load_key(key, passphrase_env)
    reader = VaultKey(
        path=vault_key or key, passphrase_env=vault_passphrase_env if vault_key else passphrase_env
    )
    header, report = read_model_header(model), AuditReport.from_json(read_json(audit))
    vault = _opened(table, reader, rules, header, report)
    if vault is not None and trust is not None:
        check_readers(vault.vault, rules, trusted_keys(trust), name_of(table))
    with console.progress("checking that the papers belong together"):
        papers = _Papers(
            drawn=read_drawn(table, patients, known, vault),
            schema=known,
            model=header,
            report=report,
            policy=rules,
            ledger=Ledger.open(ledger, asset=rules.asset),
            ledger_path=ledger,
            site=site,
        )
        _check_papers(papers)
        stated = _check_origin(papers.drawn, model, seed, where or (), visits=visits)
        candidate = _seal(papers, signing, release, stated, recipient=recipient, visits=visits)
    if vault is not None:
        candidate = replace(candidate, vault=vault.locked)
    candidate.write(output)
    _show(console, candidate, output)


def _opened(
    table: Path, reader: VaultKey, rules: SitePolicy, model: ModelHeader, report: AuditReport
) -> OpenedVault | None:
    """The opened vault; None for a plain table, where the policy allows one."""
    if not is_vault(table):
        check_may_be_plain(rules, name_of(table))
        return None
    expected = Expected(
        site=model.site,
        asset=rules.asset,
        schema_digest=model.schema_digest,
        policy_digest=rules.digest,
        model_digest=model.weights_sha256,
        table_digest=report.table_digest,
    )
    return open_vault(table, reader, expected)


def _check_papers(papers: _Papers) -> None:
    """Refuse what does not belong together, the plainest mistakes first."""
    model, site = papers.model, papers.site
    if model.site != site:
        raise InputError(f"was trained at site {model.site!r}", where=model.where, fix="name that --site")
    if papers.ledger.site != site:
        where = name_of(papers.ledger_path)
        raise LedgerError("the ledger is another site's", where=where, fix="give this site's own")
    if papers.schema.digest != model.schema_digest:
        raise SchemaError("is not the schema of the model", where="--schema", fix="give the one it learnt by")
    _check_audit(papers)
    _check_spend(papers)


def _check_audit(papers: _Papers) -> None:
    """The audit judged this table, by this policy, and the ledger counted this very report of it."""
    report, where = papers.report, "--audit"
    if report.table_digest != papers.drawn.digest:
        raise ReleaseRefusedError("the audit judged another table", where=where, fix="audit this table")
    if report.schema_digest != papers.schema.digest:
        raise ReleaseRefusedError("the audit used another schema", where=where, fix="audit with this one")
    if report.policy_digest != papers.policy.digest:
        raise ReleaseRefusedError(
            "the audit was made under another policy", where=where, fix="audit with this --policy"
        )
    studies = {papers.model.study, papers.model.study_digest}
    counted = [
        CountedAudit.from_entry(entry.fields)
        for entry in read_entries(papers.ledger_path)
        if entry.kind == "audit" and entry.fields["study"] in studies
    ]
    check_counted(report, counted, papers.policy.audit)


def _check_spend(papers: _Papers) -> None:
    """The model's spend is no less than its events cost, and is what the ledger holds for its study."""
    model, spend = papers.model, papers.model.spend
    if spend is None:
        if not papers.policy.release.allow_non_private:
            raise ReleaseRefusedError(
                _why_not_private(model), where="rule release.allow_non_private", fix="train it with --epsilon"
            )
        return
    if papers.schema.not_public():
        raise SchemaError(
            "bounds or categories were read off the patients' rows",
            where=f"column {papers.schema.not_public()[0]}",
            fix="no epsilon can be claimed: review the schema and train again",
        )
    check_spend(spend)
    history = papers.ledger.history(model.study_digest, schema=model.schema_digest)
    held = reported_epsilon(history, spend.delta)
    if held < spend.epsilon * (1 - RECOMPUTED_TOLERANCE):
        raise LedgerError(
            "the ledger does not cover the model's spend",
            where=f"study {model.study}",
            fix="give the ledger the model was trained under",
        )
    # A receipt for part of the steps is true in itself and false as this model's.
    if spend.epsilon < held * (1 - RECOMPUTED_TOLERANCE):
        raise LedgerError(
            "the model states less than the ledger holds for its study",
            where=f"study {model.study}",
            fix="seal the model that the study's last training wrote",
        )


def _why_not_private(model: ModelHeader) -> str:
    """The reason for a refusal: of a published system what was measured when it was trained."""
    usual = "the model was trained without differential privacy"
    if model.verbatim is not None:
        return f"{usual}: {model.verbatim.words}"
    published = [one for one in model.linkage if one.mask_share == PUBLISHED_MASK]
    return f"{usual}: {published[0].words}" if published else usual


def _check_origin(
    table: "SyntheticTable | SyntheticSequences",
    model: Path,
    seed: int,
    where: Sequence[str],
    *,
    visits: int | None,
) -> ConditionStatement | None:
    """The table is the model's own, row by row: drawn again, it has the same bytes.

    Leaving out rows that resemble patients, or picking the best ones, is a query on the patients that no
    budget paid for; the rows that remain show who is missing.

    Returns:
        The conditions and what the model states of them; None: there are none.
    """
    from synthkit.cli.seal_records import check_origin_of_records
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.domain.conditions import parse_conditions
    from synthkit.training.condition_mass import condition_mass
    from synthkit.training.paper_artefact import open_model
    from synthkit.training.synthesis import synthesize

    if isinstance(table, SyntheticSequences):
        return check_origin_of_records(table, model, seed, where, visits=visits)
    trained = open_model(model)
    conditions = parse_conditions(where, trained.schema)
    drawn = synthesize(trained, len(table), seed=seed, conditions=conditions)
    if drawn.table.digest != table.digest:
        raise ReleaseRefusedError(
            "these are not the rows that the model draws with this seed and these conditions",
            where="--table",
            fix="give generate's --seed and --where; a filtered, edited or completed table cannot leave",
        )
    if not conditions:
        return None
    mass = condition_mass(trained, conditions)
    return ConditionStatement.of(conditions, mass=mass, reliability=drawn.reliability)


def _seal(
    papers: _Papers,
    key: SigningKey,
    release: str | None,
    conditions: ConditionStatement | None,
    *,
    recipient: str,
    visits: int | None,
) -> Candidate:
    from synthkit.data.sequences import SyntheticSequences

    now = dt.datetime.now(dt.UTC)
    model, spend = papers.model, papers.model.spend
    facts = ReleaseFacts(
        release=release or f"{model.study}-{now.date().isoformat()}",
        study=model.study,
        study_digest=model.study_digest,
        generator=model.generator,
        model_digest=model.weights_sha256,
        epsilon_worst_overlap=spend.epsilon if spend is not None else None,
        expires=now.date() + dt.timedelta(days=papers.policy.release.valid_days),
        version=__version__,
        conditions=conditions,
        recipient=recipient,
        visits=visits,
    )
    statement = seal_document(_statement(papers).to_json(), "statement", key, papers.site)
    drawn = papers.drawn
    return seal_release(
        table_csv=drawn.files if isinstance(drawn, SyntheticSequences) else drawn.to_csv_bytes(),
        parts={
            SCHEMA: canonical_json(papers.schema.to_json()),
            policy_part(papers.site): canonical_json(papers.policy.to_json()),
        },
        statements=[statement],
        facts=facts,
        key=key,
        signer=papers.site,
        now=now,
    )


def _statement(papers: _Papers) -> SiteStatement:
    counter, head = papers.ledger.head
    return SiteStatement(
        site=papers.site,
        asset=papers.policy.asset,
        table_digest=papers.drawn.digest,
        spend=papers.model.spend,
        encoder_provenance=papers.model.encoder_provenance,
        encoder_digest=papers.model.encoder_digest,
        ledger_head=head,
        ledger_counter=counter,
        policy_digest=papers.policy.digest,
        verdict=papers.report.verdict,
        audit=papers.report.coarse(),
    )


def _show(console: Console, candidate: Candidate, folder: Path) -> None:
    manifest = candidate.manifest
    conditions = manifest.conditions
    console.line(f"Sealed {manifest.release} into {name_of(folder)}.")
    delta = "" if manifest.delta is None else f" at delta {figure(manifest.delta)}"
    console.pairs(
        {
            "table": manifest.table_digest,
            "verdict": candidate.statements[0].verdict.value,
            "epsilon": epsilon_text(manifest.epsilon_disjoint) + delta,
            "expires": manifest.expires.isoformat(),
            **recipient_pairs(manifest.recipient),
            **condition_pairs(conditions),
            **length_pairs(manifest.visits),
        }
    )
    console.items(candidate.missing)
    console.line("Next: synthkit release approve, by the site's officer with her own key.")
    console.result(
        {
            "candidate": str(folder),
            "release": manifest.release,
            "manifest_digest": manifest.digest,
            "table_digest": manifest.table_digest,
            "verdict": candidate.statements[0].verdict.value,
            "epsilon": manifest.epsilon_disjoint,
            "delta": manifest.delta,
            "conditions": conditions.to_json() if conditions is not None else None,
            "expires": manifest.expires.isoformat(),
            "visits": manifest.visits,
            "recipient": manifest.recipient or None,
            "locked": bool(candidate.vault),
            "missing": list(candidate.missing),
        }
    )
