"""`synthkit evaluate`: how useful a synthetic table is, beside a floor and a ceiling.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.evaluate_sequences import RecordFiles, RecordQuestions, evaluate_records
from synthkit.cli.loading import check_target, load_schema, name_of, save_text
from synthkit.cli.options import (
    JsonOption,
    ReportOption,
    SchemaOption,
    SeedOption,
    VaultKeyOption,
    VaultPassphraseOption,
)
from synthkit.cli.tables import QueryOption, given_tables
from synthkit.cli.vaults import VaultKey, read_made
from synthkit.domain.schema import Schema
from synthkit.domain.survival import SurvivalReport, Term
from synthkit.domain.utility import SPREAD_TOLERANCE, Estimate, UtilityReport
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.evaluation.survival_task import SurvivalTask


def evaluate(
    *,
    real: Annotated[
        str, typer.Option("--real", metavar="TABLE", help="Real rows the generator did not see.")
    ],
    synthetic: Annotated[
        list[Path],
        typer.Option(
            "--synthetic", help="The table to judge. More of them, with --survival: pooled intervals."
        ),
    ],
    schema: SchemaOption,
    train: Annotated[
        str | None,
        typer.Option(
            "--train", metavar="TABLE", help="Real rows of other patients; they train the baseline."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="What to predict: a binary column, 'age >= 70', 'sex = Female'; records: 'code in [A, B]'.",
        ),
    ] = None,
    survival: Annotated[
        str | None,
        typer.Option("--survival", metavar="DURATION,EVENT", help="Compare time to an event as well."),
    ] = None,
    event_level: Annotated[
        str | None, typer.Option("--event-level", help="The category that is the event; default: the second.")
    ] = None,
    stratum: Annotated[
        list[str] | None,
        typer.Option("--stratum", help="Calibration of these rows apart: 'age > 75'. Repeatable."),
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option("--covariate", help="A column of the Cox models; default: all that can. Repeatable."),
    ] = None,
    patients: Annotated[
        str | None,
        typer.Option("--patients", metavar="TABLE", help="Records: static columns of --real, one row each."),
    ] = None,
    synthetic_patients: Annotated[
        Path | None, typer.Option("--synthetic-patients", help="Records: those of --synthetic.")
    ] = None,
    train_patients: Annotated[
        str | None, typer.Option("--train-patients", metavar="TABLE", help="Records: those of --train.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Records: the probability of --real by it; a map of its latents."),
    ] = None,
    augment: Annotated[
        int | None,
        typer.Option(
            "--augment", min=2, metavar="SIZE", help="Records: what they add to SIZE real patients."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Records: leave out what has to be trained.")
    ] = False,
    report: ReportOption = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Most rows per table given to sdmetrics.")
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            min=1,
            help="Trainings per task. Tables: 1; above, scores have 95 % intervals. Records: 3.",
            show_default=False,
        ),
    ] = None,
    query: QueryOption = None,
    vault_key: VaultKeyOption = None,
    vault_passphrase_env: VaultPassphraseOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Measure fidelity and usefulness of a synthetic table.

    Every figure stands beside a floor (real rows with every relation destroyed) and a ceiling (other
    real rows in the synthetic table's place). The figures describe real patients and are covered by no
    privacy budget: they are for the site's own eyes.

    A longitudinal schema compares records of visits: codes, pairs of codes within and across visits by
    probability and by log lift, repetition, lengths and gaps; what a network learns of next visits; what
    patients with a condition (--target) carry. Other real records, --train, make baseline and ceiling.

    Example:
      synthkit evaluate --real test.csv --train train.csv --synthetic synthetic.csv \
        --schema schema.toml --target "age >= 70" --report evaluation.html
      synthkit evaluate --real test.csv --train train.csv --synthetic made.csv --schema schema.toml \
        --survival time,status --stratum "age > 75"
      synthkit evaluate --real test.parquet --train train.parquet --synthetic made.parquet \
        --schema records.toml --target "code in [I50, I25]" --augment 500 --report records.html
    """
    from synthkit.data.connectors import read_table
    from synthkit.evaluation.run import evaluate as measure
    from synthkit.evaluation.targets import parse_target

    console = Console(as_json=as_json)
    if report is not None:
        check_target(report, force=True)
    given = given_tables(query, real=real, train=train, patients=patients, train_patients=train_patients)
    known = load_schema(schema)
    reader = VaultKey(path=vault_key, passphrase_env=vault_passphrase_env)
    if known.is_longitudinal:
        ungiven = {
            "--synthetic": None if len(synthetic) == 1 else synthetic,
            "--survival": survival,
            "--event-level": event_level,
            "--stratum": stratum,
            "--covariate": covariate,
            "--max-rows": max_rows,
        }
        evaluate_records(
            RecordFiles(
                real=given.of("real"),
                real_patients=given.get("patients"),
                synthetic=synthetic[0],
                synthetic_patients=synthetic_patients,
                train=given.get("train"),
                train_patients=given.get("train-patients"),
                model=model,
                key=reader,
            ),
            known,
            RecordQuestions(
                conditions=target,
                cohort=augment,
                repeats=repeats,
                seed=seed,
                report=report,
                is_quick=quick,
            ),
            refused=[name for name, value in ungiven.items() if value is not None],
            console=console,
        )
        return
    tables = {"--patients": patients, "--synthetic-patients": synthetic_patients, "--model": model}
    for option, path in {**tables, "--train-patients": train_patients, "--augment": augment}.items():
        if path is not None:
            raise InputError("belongs to records of visits", where=f"option {option}", fix="leave it out")
    if quick:
        raise InputError("belongs to records of visits", where="option --quick", fix="leave it out")
    wanted = tuple(parse_target(text, known) for text in target) if target else None
    task = _survival_task(
        known, survival, event_level, (stratum or [], covariate or []), is_single=len(synthetic) == 1
    )
    with console.progress("reading the tables") as progress:
        table = read_table(given.of("real"), known)
        made, *others = [read_made(one, known, reader) for one in synthetic]
        other_rows = given.get("train")
        baseline = None if other_rows is None else read_table(other_rows, known)
        result = measure(
            real=table,
            synthetic=made,
            train=baseline,
            targets=wanted,
            seed=seed,
            max_rows=max_rows,
            repeats=repeats or 1,
            survival=task,
            more_synthetic=tuple(others),
            progress=progress,
        )
        if report is not None:
            from synthkit.evaluation.pairs import pair_densities
            from synthkit.evaluation.pictures import associations, distributions
            from synthkit.report.documents import evaluation_page

            progress("drawing the report")
            page = evaluation_page(
                result, distributions(table, made), associations(table, made), pair_densities(table, made)
            )
            save_text(report, page, force=True)
    _show(console, result)
    if report is not None:
        console.line(f"Report: {name_of(report)}")
    console.result(result.to_json())


def _show(console: Console, result: UtilityReport) -> None:
    console.heading("Quality (sdmetrics, 0 to 1)")
    rows = (("synthetic", result.quality), ("floor", result.floor), ("ceiling", result.ceiling))
    console.table(
        ("", "overall", "column shapes", "column pairs"),
        [(name, f"{q.overall:.3f}", f"{q.column_shapes:.3f}", f"{q.column_pairs:.3f}") for name, q in rows],
    )
    if result.utility:
        console.heading("Prediction, tested on real rows (AUC, accuracy)")
        console.table(
            ("target", "trained on real", "trained on synthetic"),
            [
                (
                    entry.target,
                    f"{entry.real.auc:.3f}  {entry.real.accuracy:.3f}",
                    f"{entry.synthetic.auc:.3f}  {entry.synthetic.accuracy:.3f}",
                )
                for entry in result.utility
            ],
        )
    _show_repeats(console, result)
    _show_spread(console, result)
    if result.survival is not None:
        _show_survival(console, result.survival)
    for note in (*result.notes, *(result.survival.notes if result.survival is not None else ())):
        console.note(note)


def _survival_task(
    schema: Schema,
    survival: str | None,
    event_level: str | None,
    strata_and_covariates: tuple[list[str], list[str]],
    *,
    is_single: bool,
) -> "SurvivalTask | None":
    """What `--survival` asks for; refuses options that say nothing without it."""
    strata, covariates = strata_and_covariates
    if survival is not None:
        from synthkit.evaluation.survival_task import survival_task

        return survival_task(survival, schema, event_level=event_level, strata=strata, covariates=covariates)
    for option, given in (("event-level", event_level), ("stratum", strata), ("covariate", covariates)):
        if given:
            raise InputError("it goes with --survival", where=f"option --{option}", fix="add --survival")
    if not is_single:
        raise InputError("more than one table takes --survival", where="option --synthetic", fix="give one")
    return None


def _show_survival(console: Console, found: SurvivalReport) -> None:
    console.heading(f"Survival: time to {found.event} = {found.event_level} ({found.unit or 'no unit'})")
    pooled = any(one.pooled is not None for one in found.hazard_ratios)
    console.table(
        ("hazard ratio", "real", "synthetic", *(("pooled",) if pooled else ()), "log error", "of a half"),
        [
            (
                one.name,
                _ratio(one.real),
                _ratio(one.synthetic),
                *((_ratio(one.pooled),) if pooled else ()),
                _small(one.log_error),
                _small(one.half_sample_error),
            )
            for one in found.hazard_ratios
        ],
    )
    gaps = found.distance, found.halves_distance
    console.pairs(
        {
            "C on real rows": f"{_number(found.c_index.synthetic)} trained on synthetic, "
            f"{_number(found.c_index.real)} trained on real",
            "curves, largest gap": f"{gaps[0].largest_gap:.3f}; two real halves "
            f"{_number(gaps[1].largest_gap if gaps[1] else None)}",
            "log-rank": f"{gaps[0].log_rank:.2f}, p {gaps[0].p_value:.2g} (p falls with the number of rows)",
            "censored": f"real {100 * found.censored[0]:.1f} %, synthetic {100 * found.censored[1]:.1f} %",
        }
    )
    if found.calibration_slope:
        console.heading("Calibration slope on real rows (1 is perfect)")
        console.table(
            ("stratum", "percentile of event times", "trained on real", "trained on synthetic"),
            [
                (
                    one.stratum,
                    f"{one.percentile}th ({one.time:g})",
                    *("nothing to say" if s is None else f"{s.slope:.2f}" for s in (one.real, one.synthetic)),
                )
                for one in found.calibration_slope
            ],
        )


def _ratio(term: Term | None) -> str:
    return "none" if term is None else term.text


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _show_repeats(console: Console, result: UtilityReport) -> None:
    repeated = [(entry.target, entry.repeats) for entry in result.utility if entry.repeats is not None]
    if not repeated:
        return
    console.heading("Repeated: mean and 95 % interval (of classifiers and test patients)")
    console.table(
        ("target", "score", "trained on real", "trained on synthetic", "synthetic / real"),
        [
            (target, name, *(_interval(side) for side in sides))
            for target, again in repeated
            for name, sides in (
                ("AUC", (again.real.auc, again.synthetic.auc, again.ratio.auc)),
                ("accuracy", (again.real.accuracy, again.synthetic.accuracy, again.ratio.accuracy)),
            )
        ],
    )


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "nothing to say"
    return f"{estimate.mean:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"


def _show_spread(console: Console, result: UtilityReport) -> None:
    outside = [(name, spread) for name, spread in result.spread.items() if spread.is_outside]
    if not outside:
        return
    console.heading(f"Spread over {100 * SPREAD_TOLERANCE:g} % off (synthetic / real standard deviation)")
    console.table(
        ("column", "ratio", "chance"),
        [
            (name, "real is constant" if s.ratio is None else f"{s.ratio:.3f}", f"{s.chance:.3f}")
            for name, s in outside
        ],
    )


def _small(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"
