"""`synthkit evaluate`: how useful a synthetic table is, beside a floor and a ceiling.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, load_schema, name_of, save_text
from synthkit.cli.options import JsonOption, ReportOption, SchemaOption, SeedOption
from synthkit.domain.utility import SPREAD_TOLERANCE, Estimate, UtilityReport


def evaluate(
    *,
    real: Annotated[Path, typer.Option("--real", help="Real rows the generator did not see.")],
    synthetic: Annotated[Path, typer.Option("--synthetic", help="The table to judge.")],
    schema: SchemaOption,
    train: Annotated[
        Path | None, typer.Option("--train", help="Real rows of other patients; they train the baseline.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="What to predict: a binary column, 'age >= 70', 'sex = Female'."),
    ] = None,
    report: ReportOption = None,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Most rows per table given to sdmetrics.")
    ] = None,
    repeats: Annotated[
        int,
        typer.Option("--repeats", min=1, help="Classifiers per target; above 1 scores have 95 % intervals."),
    ] = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Measure fidelity and usefulness of a synthetic table.

    Every figure stands beside a floor (real rows with every relation destroyed) and a ceiling (other
    real rows in the synthetic table's place). The figures describe real patients and are covered by no
    privacy budget: they are for the site's own eyes.

    Example:
      synthkit evaluate --real test.csv --train train.csv --synthetic synthetic.csv \
        --schema schema.toml --target "age >= 70" --report evaluation.html
    """
    from synthkit.data.connectors import read_synthetic, read_table
    from synthkit.evaluation.run import evaluate as measure
    from synthkit.evaluation.targets import parse_target

    console = Console(as_json=as_json)
    if report is not None:
        check_target(report, force=True)
    known = load_schema(schema)
    wanted = tuple(parse_target(text, known) for text in target) if target else None
    with console.progress("reading the tables") as progress:
        table, made = read_table(real, known), read_synthetic(synthetic, known)
        baseline = read_table(train, known) if train is not None else None
        result = measure(
            real=table,
            synthetic=made,
            train=baseline,
            targets=wanted,
            seed=seed,
            max_rows=max_rows,
            repeats=repeats,
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
    for note in result.notes:
        console.note(note)


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
