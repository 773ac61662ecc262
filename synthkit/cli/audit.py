"""`synthkit audit`: attack the very table that is to leave; the verdict is the exit code.

Rule kept here: with a ledger, the attempt is recorded before anyone sees the verdict. Imports that take
a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_file, check_target, load_policy, load_schema, save_text
from synthkit.cli.model_header import read_model_header
from synthkit.cli.options import JsonOption, ReportOption, SchemaOption, SeedOption
from synthkit.domain.audit import AttackResult, AuditReport
from synthkit.domain.canonical import canonical_json
from synthkit.domain.policy import SitePolicy
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger


def audit(
    *,
    members: Annotated[Path, typer.Option("--members", help="Patients the generator was trained on.")],
    holdout: Annotated[Path, typer.Option("--holdout", help="Patients of the same kind it never saw.")],
    reference: Annotated[Path, typer.Option("--reference", help="Further such patients; set thresholds.")],
    synthetic: Annotated[Path, typer.Option("--synthetic", help="The very table that is to leave.")],
    schema: SchemaOption,
    policy: Annotated[str, typer.Option("--policy", help="A file, or a shipped policy's name.")] = "standard",
    ledger: Annotated[Path | None, typer.Option("--ledger", help="Counts this attempt.")] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study whose attempts are counted: name or digest.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="The model's folder: names the study by its digest.")
    ] = None,
    report: ReportOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the full report, JSON, for `release seal`.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Attack a synthetic table and judge it by the policy's rules.

    Ends with 0 for PASS, 1 for FAIL, 2 for INCONCLUSIVE, 3 for INVALID. Only an audit that a ledger
    counted can be sealed: generating again until a table passes is selection on private data. The report
    is for the site's own eyes; what may leave is the coarse part that `release seal` takes from it.

    Example:
      synthkit audit --members train.csv --holdout holdout.csv --reference reference.csv \
        --synthetic synthetic.csv --schema schema.toml --policy policy.toml \
        --ledger heart.ledger --model model --save audit.json --report audit.html
    """
    from synthkit.audit.run import run_audit
    from synthkit.data.connectors import read_synthetic, read_table

    for target in (report, save):
        if target is not None:
            check_target(target, force=target is report)
    console = Console(as_json=as_json)
    rules, known = load_policy(policy), load_schema(schema)
    counted = _study_of(study, model, known)
    book = _open_ledger(ledger, rules, counted)
    with console.progress("reading the tables") as progress:
        result = run_audit(
            members=read_table(members, known),
            holdout=read_table(holdout, known),
            reference=read_table(reference, known),
            synthetic=read_synthetic(synthetic, known),
            rules=rules.audit,
            policy_digest=rules.digest,
            attempt=1 if book is None else book.audit_attempts(counted) + 1,
            seed=seed,
            progress=progress,
        )
    if book is not None:
        book.record_audit(study=counted, table_digest=result.table_digest, verdict=result.verdict)
    _write(result, report, save)
    _show(console, result, is_counted=book is not None)
    console.result({**result.to_json(), "report_digest": result.digest, "counted": book is not None})
    raise typer.Exit(result.verdict.exit_code)


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


def _write(result: AuditReport, report: Path | None, save: Path | None) -> None:
    if save is not None:
        save_text(save, canonical_json(result.to_json()).decode("utf-8"))
    if report is not None:
        from synthkit.report.documents import audit_page

        save_text(report, audit_page(result), force=True)


def _show(console: Console, result: AuditReport, *, is_counted: bool) -> None:
    console.heading(f"Audit of table {result.table_digest[:16]}, attempt {result.attempt}")
    if result.attacks:
        header = ("attack", "statistic", "patients", "attack", "control", "baseline", "advantage", "p")
        console.table((*header, "detectable"), [_row(attack) for attack in result.attacks])
    for rule in result.hard_rules:
        console.note(rule)
    if not is_counted:
        console.note("no ledger counted this attempt, so this audit cannot be sealed (--ledger)")
    console.line()
    console.items(result.reasons)
    console.verdict(result.verdict.value, f"limit {result.max_advantage:g}, alpha {result.alpha:g}")


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
