"""`synthkit evaluate-simulated`: generated records against the simulator's exact probabilities.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import load_schema
from synthkit.cli.options import JsonOption, SchemaOption, SeedOption

if TYPE_CHECKING:
    from synthkit.evaluation.simulated_truth import Agreement, TruthReport


def evaluate_simulated(
    *,
    synthetic: Annotated[Path, typer.Argument(help="Generated records: CSV, CSV.GZ or Parquet.")],
    schema: SchemaOption,
    patients: Annotated[
        Path | None, typer.Option("--patients", help="Their static columns, one row each.")
    ] = None,
    visits_mean: Annotated[
        float, typer.Option("--visits-mean", help="What `simulate` was given; for floor and ceiling.")
    ] = 52.0,
    most_visits: Annotated[int, typer.Option("--most-visits", help="Likewise.")] = 400,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Measure a generator that was trained on `synthkit simulate` records against the exact truth.

    For each generated visit the stated process says how probable each code is, given that very patient's
    visits before; the records say how often it is there. Asked are drugs after conditions and events, checks
    after drugs, codes that come again, conditions that bring others, and death. A floor knows how frequent
    each code is and no history; a ceiling is as many patients of the process itself, whose differences are
    chance. The seed is that of the ceiling: take another than the training records'.

    Example:
      synthkit evaluate-simulated made.parquet --patients made-patients.csv --schema schema.toml --seed 1
    """
    from synthkit.data.sequence_reading import read_synthetic_sequences
    from synthkit.data.simulator.process import standard_process
    from synthkit.evaluation.simulated_truth import compare_with_truth

    console = Console(as_json=as_json)
    process = standard_process(visits_mean=visits_mean, most_visits=most_visits)
    with console.progress("reading the records") as progress:
        records = read_synthetic_sequences(synthetic, load_schema(schema), patients=patients)
        result = compare_with_truth(process, records, seed=seed, progress=progress)
    _show(console, result)
    console.result(result.to_json())


def _show(console: Console, result: "TruthReport") -> None:
    console.heading(
        "Found against exact, given the same histories (floor: no history; ceiling: chance alone)"
    )
    console.table(
        ("", "exact", "found", "mean deviation", "floor", "ceiling", "strength (floor 0, truth 1)"),
        [
            (
                one.question,
                _figure(one.synthetic.exact),
                _figure(one.synthetic.found),
                *(_deviation(side) for side in (one.synthetic, one.floor, one.ceiling)),
                _figure(one.synthetic.strength),
            )
            for one in result.questions
        ],
    )
    share = f"{100 * result.possible:.1f} %"
    console.line()
    console.line(f"{share} of the visits are such that the process can make them after those before.")


def _figure(value: float) -> str:
    return "too few" if value != value else f"{value:.4f}"  # noqa: PLR0124


def _deviation(side: "Agreement") -> str:
    return "too few" if not side.groups else f"{side.deviation:.4f} ({100 * side.error:.0f} %)"
