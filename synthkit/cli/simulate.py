"""`synthkit simulate`: records of patients who do not exist, from a stated process.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, Progress
from synthkit.cli.loading import check_target, name_of, save_text
from synthkit.cli.options import ForceOption, JsonOption, SeedOption
from synthkit.domain.documents import schema_to_toml
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.simulator.process import Process


def simulate(
    *,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many patients.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="One row a code: CSV, CSV.GZ or Parquet.")],
    schema: Annotated[Path, typer.Option("--schema", help="The schema to write: columns and code list.")],
    patients: Annotated[
        Path | None,
        typer.Option("--patients", help="Age, sex, site and end go here; else into every row."),
    ] = None,
    visits_mean: Annotated[
        float, typer.Option("--visits-mean", help="Mean number of visits, but for deaths and the cap.")
    ] = 52.0,
    most_visits: Annotated[
        int, typer.Option("--most-visits", help="Where a record ends at the latest.")
    ] = 400,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Simulate patients: conditions, drugs that follow them, checks that follow drugs, seasons, death.

    No patient's row had a part in it, so the records are public: for tests, demos, and training an
    encoder. The same seed gives the same patients, and fewer are the first of more. The process is
    stated number by number in the package, and its exact probabilities are in synthkit.data.simulator.

    Example:
      synthkit simulate -n 20000 -o records.parquet --patients patients.csv --schema schema.toml
    """
    from synthkit.data.simulator.process import standard_process

    _check_targets(output, patients, schema, force=force)
    process = standard_process(visits_mean=visits_mean, most_visits=most_visits)
    console = Console(as_json=as_json)
    save_text(schema, schema_to_toml(process.schema), force=force)
    with console.progress("simulating patients") as progress:
        visits, codes = _write(process, number, seed, (output, patients), progress)
    console.line(f"{number:,} patients, {visits:,} visits, {codes:,} codes into {name_of(output)}.")
    console.line(f"Schema and code list ({len(process.vocabulary)} codes) into {name_of(schema)}.")
    console.result(
        {
            "output": str(output),
            "patients_table": None if patients is None else str(patients),
            "schema": str(schema),
            "schema_digest": process.schema.digest,
            "process_digest": process.digest,
            "patients": number,
            "visits": visits,
            "codes": codes,
            "seed": seed,
        }
    )


def _check_targets(output: Path, patients: Path | None, schema: Path, *, force: bool) -> None:
    from synthkit.data.reading import format_of

    tables = [path for path in (output, patients) if path is not None]
    if len({*tables, schema}) != len(tables) + 1:
        raise InputError("two results would have one name", where=name_of(output), fix="name them apart")
    for target in (*tables, schema):
        check_target(target, force=force)
    for table in tables:
        format_of(table)


def _write(
    process: "Process", number: int, seed: int, targets: tuple[Path, Path | None], progress: Progress
) -> tuple[int, int]:
    """Visits and codes written."""
    from synthkit.data.sequence_writing import sequence_writer
    from synthkit.data.simulator.sampling import simulate_chunks

    done = visits = codes = 0
    with sequence_writer(process.schema, targets[0], patients=targets[1]) as writer:
        for records in simulate_chunks(process, number, seed=seed):
            writer.write(records)
            done += records.patient_count
            visits += records.visit_count
            codes += records.codes.size
            progress.at(done, number)
    return visits, codes
