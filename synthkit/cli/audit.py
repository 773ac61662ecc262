"""`synthkit audit`: attack the very table that is to leave; the verdict is the exit code.

Rule kept here: with a ledger, the attempt is recorded before anyone sees the verdict. Imports that take
a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.audit_papers import AuditTargets, SiteFacts, write_papers
from synthkit.cli.audit_sequences import AuditFiles, StaticFiles, audit_records
from synthkit.cli.audit_shadow import check_shadow, shadows_of
from synthkit.cli.console import Console, Progress
from synthkit.cli.loading import check_file, load_schema, name_of
from synthkit.cli.model_header import read_model_header
from synthkit.cli.options import (
    JsonOption,
    PolicyTrustOption,
    ReportOption,
    SchemaOption,
    SeedOption,
    VaultKeyOption,
    VaultPassphraseOption,
)
from synthkit.cli.policy_in_force import policy_in_force
from synthkit.cli.tables import QueryOption, given_tables
from synthkit.cli.vaults import OpenedVault, VaultKey, check_inside, is_vault, open_vault, read_made
from synthkit.domain.audit import AttackResult, AuditReport
from synthkit.domain.policy import SitePolicy
from synthkit.domain.policy_check import check_kinds_may_leave
from synthkit.domain.schema import Schema
from synthkit.errors import InputError, PolicyError
from synthkit.privacy.ledger import Ledger
from synthkit.release.vault import Expected

if TYPE_CHECKING:
    from synthkit.training.artefact import Model


def audit(
    *,
    members: Annotated[
        str, typer.Option("--members", metavar="TABLE", help="Patients the generator was trained on.")
    ],
    holdout: Annotated[
        str, typer.Option("--holdout", metavar="TABLE", help="Patients of the same kind it never saw.")
    ],
    reference: Annotated[
        str, typer.Option("--reference", metavar="TABLE", help="Further such patients; set thresholds.")
    ],
    synthetic: Annotated[Path, typer.Option("--synthetic", help="The very table that is to leave.")],
    schema: SchemaOption,
    policy: Annotated[str, typer.Option("--policy", help="A file, or a shipped policy's name.")] = "standard",
    trust: PolicyTrustOption = None,
    ledger: Annotated[Path | None, typer.Option("--ledger", help="Counts this attempt.")] = None,
    vault_key: VaultKeyOption = None,
    vault_passphrase_env: VaultPassphraseOption = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study whose attempts are counted: name or digest.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="The model's folder: names the study by its digest; its weights are attacked too."
        ),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            "--earlier",
            help="A table, or vault, released before from the same patients; repeat for more.",
        ),
    ] = None,
    shadow: Annotated[
        int | None,
        typer.Option(
            "--shadow",
            metavar="N",
            help="Slow: train the model N more times on the reference, and attack with what that teaches.",
        ),
    ] = None,
    members_patients: Annotated[
        str | None,
        typer.Option(
            "--members-patients", metavar="TABLE", help="Records: static columns of --members, one row each."
        ),
    ] = None,
    holdout_patients: Annotated[
        str | None, typer.Option("--holdout-patients", metavar="TABLE", help="Records: those of --holdout.")
    ] = None,
    reference_patients: Annotated[
        str | None,
        typer.Option("--reference-patients", metavar="TABLE", help="Records: those of --reference."),
    ] = None,
    synthetic_patients: Annotated[
        Path | None, typer.Option("--synthetic-patients", help="Records: those of --synthetic.")
    ] = None,
    earlier_patients: Annotated[
        list[Path] | None,
        typer.Option("--earlier-patients", help="Records: those of the plain --earlier, in order."),
    ] = None,
    query: QueryOption = None,
    report: ReportOption = None,
    redacted: Annotated[
        list[Path] | None,
        typer.Option(
            "--redacted", help="Write what of it may leave, .html or .json; repeat for both; replaces."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the full report, JSON, for `release seal`.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Attack a synthetic table and judge it by the policy's rules.

    Ends with 0 for PASS, 1 for FAIL, 2 for INCONCLUSIVE, 3 for INVALID. Only an audit that a ledger
    counted can be sealed: generating again until a table passes is selection on private data. The report
    is for the site's own eyes; what may leave is the coarse part that `release seal` takes from it and
    `--redacted` writes: verdict, attacks and limits; no rate, reason, picture or number of patients.

    A table in a vault (.vault), or records with their static columns, are opened in memory with --vault-key,
    are written nowhere, and are attacked only where a ledger counts the attempt.

    A longitudinal schema attacks records of visits: whole, in part, by their rare codes, in any order.

    --shadow 16 trains the model's generator sixteen times more, on the reference with and without some of its
    loneliest patients and invented ones; how long that will take is said before the first, by a timed
    beginning of one. Nothing of these trainings leaves or is kept.

    Example:
      synthkit audit --members train.csv --holdout holdout.csv --reference reference.csv \
        --synthetic synthetic.csv --schema schema.toml --policy policy.toml \
        --ledger heart.ledger --model model --save audit.json --report audit.html
      synthkit audit --members train.parquet --holdout holdout.parquet --reference reference.parquet \
        --synthetic made.parquet --schema records.toml --members-patients train-patients.csv
    """
    targets = AuditTargets(report=report, redacted=tuple(redacted or ()), save=save)
    targets.check()
    given = given_tables(
        query,
        members=members,
        holdout=holdout,
        reference=reference,
        members_patients=members_patients,
        holdout_patients=holdout_patients,
        reference_patients=reference_patients,
    )
    console = Console(as_json=as_json)
    known = load_schema(schema)
    counted = _study_of(study, model, known)
    rules = policy_in_force(policy, trust, site="" if model is None else read_model_header(model).site)
    book = _open_ledger(ledger, rules, counted)
    reader = VaultKey(path=vault_key, passphrase_env=vault_passphrase_env)
    locked = _Locked(key=reader, model=model, ledger=book)
    check_shadow(shadow, model, known)
    locked.check(synthetic, synthetic_patients, earlier or ())
    if targets.redacted:
        check_kinds_may_leave(rules.egress, frozenset({"audit-page"}))
    files = AuditFiles(
        members=given.of("members"),
        holdout=given.of("holdout"),
        reference=given.of("reference"),
        synthetic=synthetic,
        earlier=tuple(earlier or ()),
    )
    statics = StaticFiles(
        members=given.get("members-patients"),
        holdout=given.get("holdout-patients"),
        reference=given.get("reference-patients"),
        synthetic=synthetic_patients,
        earlier=tuple(earlier_patients or ()),
    )
    attempt = 1 if book is None else book.audit_attempts(counted) + 1
    with console.progress("reading the tables") as progress:
        if known.is_longitudinal:
            result = audit_records(
                files,
                statics,
                known,
                model,
                opened=locked.opened(synthetic, known, rules),
                open_earlier=lambda path: locked.opened_earlier(path, known, rules),
                policy=rules,
                attempt=attempt,
                seed=seed,
                progress=progress,
            )
        else:
            statics.check_none()
            result = _audit_tables(
                files, known, locked, shadow, policy=rules, attempt=attempt, seed=seed, progress=progress
            )
    if book is not None:
        table, told = result.table_digest, result.digest
        book.record_audit(study=counted, table_digest=table, verdict=result.verdict, report_digest=told)
    facts = SiteFacts(policy=rules, schema=known, model=model, ledger=book, study=counted)
    write_papers(result, targets, facts)
    _show(console, result, is_counted=book is not None, is_plain=not is_vault(synthetic), policy=rules)
    console.result({**result.to_json(), "report_digest": result.digest, "counted": book is not None})
    raise typer.Exit(result.verdict.exit_code)


def _audit_tables(
    files: AuditFiles,
    known: Schema,
    locked: "_Locked",
    shadow: int | None,
    *,
    policy: SitePolicy,
    attempt: int,
    seed: int,
    progress: Progress,
) -> AuditReport:
    """Read the tables and attack them."""
    from synthkit.audit.run import run_audit
    from synthkit.data.connectors import read_synthetic, read_table

    opened = locked.opened(files.synthetic, known, policy)
    return run_audit(
        members=read_table(files.members, known),
        holdout=read_table(files.holdout, known),
        reference=read_table(files.reference, known),
        synthetic=read_synthetic(files.synthetic if opened is None else opened.table, known),
        earlier=[
            read_made(path, known, locked.key, locked.about_earlier(known, policy)) for path in files.earlier
        ],
        model=None if locked.model is None else _weights(locked.model),
        shadows=shadows_of(locked.model, shadow),
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=attempt,
        seed=seed,
        progress=progress,
    )


@dataclass(frozen=True, kw_only=True)
class _Locked:
    """What opens a table in a vault, and what the vault has to be about."""

    key: VaultKey
    model: Path | None
    ledger: Ledger | None

    def check(self, synthetic: Path, patients: Path | None, earlier: Sequence[Path]) -> None:
        """Refuse a vault that no ledger counts: looking as often as one likes is selection.

        That holds for one named as an earlier release, too: a candidate could be looked at in its place.

        Raises:
            PolicyError: There is no ledger.
            InputError: A key was given and nothing is locked, or static columns stand beside a vault.
        """
        vaults = [path for path in (synthetic, *earlier) if is_vault(path)]
        if not vaults and self.key.path is not None:
            raise InputError("opens a vault", where="option --vault-key", fix="leave it out, or name one")
        if is_vault(synthetic):
            check_inside(patients, "--synthetic-patients")
        if vaults and self.ledger is None:
            raise PolicyError(
                "a table in a vault is audited only where the attempt is counted",
                rule="audit.max_attempts",
                where=name_of(vaults[0]),
                fix="add --ledger and --model",
            )

    def opened(self, synthetic: Path, schema: Schema, policy: SitePolicy) -> OpenedVault | None:
        """The vault, opened in memory; None: what is audited lies plain."""
        if not is_vault(synthetic):
            return None
        header = None if self.model is None else read_model_header(self.model)
        expected = Expected(
            site="" if self.ledger is None else self.ledger.site,
            asset=policy.asset,
            schema_digest=schema.digest,
            policy_digest=policy.digest,
            model_digest="" if header is None else header.weights_sha256,
        )
        return open_vault(synthetic, self.key, expected)

    def about_earlier(self, schema: Schema, policy: SitePolicy) -> Expected:
        """What a vault of an earlier release is about: these patients, whatever model or policy made it."""
        site = "" if self.ledger is None else self.ledger.site
        return Expected(site=site, asset=policy.asset, schema_digest=schema.digest)

    def opened_earlier(self, path: Path, schema: Schema, policy: SitePolicy) -> OpenedVault | None:
        """An earlier release's vault, opened in memory; None: it lies plain."""
        if not is_vault(path):
            return None
        return open_vault(path, self.key, self.about_earlier(schema, policy))


def _weights(folder: Path) -> "Model | None":
    """The model to attack; none of a published system, whose folder holds rows and no likelihood."""
    from synthkit.training.artefact import Model
    from synthkit.training.paper_artefact import open_model

    found = open_model(folder)
    return found if isinstance(found, Model) else None


def _study_of(study: str | None, model: Path | None, schema: Schema) -> str:
    """What the ledger calls the study; a model's own digest, unless a study is named."""
    if model is None:
        return study or ""
    header = read_model_header(model)
    if header.schema_digest != schema.digest:
        raise InputError("was trained with another schema", where=header.where, fix="give its own --schema")
    if study is not None and study not in (header.study, header.study_digest):
        raise InputError("belongs to another study", where=header.where, fix="leave --study out")
    return header.study_digest


def _open_ledger(path: Path | None, policy: SitePolicy, study: str) -> Ledger | None:
    if path is None:
        return None
    if not study:
        raise InputError("the study is missing", where="--ledger", fix="add --study NAME or --model FOLDER")
    check_file(path)
    return Ledger.open(path, asset=policy.asset)


def _show(
    console: Console, result: AuditReport, *, is_counted: bool, is_plain: bool, policy: SitePolicy
) -> None:
    console.heading(f"Audit of table {result.table_digest[:16]}, attempt {result.attempt}")
    if result.attacks:
        header = ("attack", "statistic", "patients", "attack", "control", "baseline", "advantage", "p")
        console.table((*header, "detectable"), [_row(attack) for attack in result.attacks])
    for rule in result.hard_rules:
        console.note(rule)
    if "shadow_trainings" in result.diagnostics:
        console.line(_shadow_text(result.diagnostics))
    if not is_counted:
        console.note("no ledger counted this attempt, so this audit cannot be sealed (--ledger)")
    if is_plain and policy.vault.required:
        console.note(
            "the policy seals tables from a vault alone [rule vault.required]; this one lay in plain text"
        )
    console.line()
    console.items(result.reasons)
    console.verdict(result.verdict.value, f"limit {result.max_advantage:g}, alpha {result.alpha:g}")


def _shadow_text(found: Mapping[str, float]) -> str:
    """What was trained again, and what that gave away."""
    right, made = (int(found[f"shadow_canary_guesses{end}"]) for end in ("_right", ""))
    return (
        f"{int(found['shadow_trainings'])} shadow trainings: {right} of {made} canaries' coins guessed "
        f"right, which shows an epsilon of at least {found['shadow_canary_epsilon_at_least']:.2f} at 95 %"
    )


def _row(attack: AttackResult) -> tuple[str, ...]:
    interval = attack.advantage_interval
    return (
        attack.name,
        attack.statistic,
        attack.stratum,
        f"{attack.attack_rate:.3f}",
        f"{attack.control_rate:.3f}",
        f"{attack.baseline_rate:.3f}",
        f"{attack.advantage:+.3f} [{interval.lower:+.3f}, {interval.upper:+.3f}]",
        f"{attack.p_adjusted:.2g}",
        f"{attack.minimum_detectable_effect:.3f}",
    )
