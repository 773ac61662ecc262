"""`synthkit split`: divide a table, or records, by patient into the three parts that training and audit need.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, load_schema
from synthkit.cli.options import ForceOption, JsonOption, SchemaOption, SeedOption
from synthkit.cli.tables import (
    PatientsOption,
    QueryOption,
    TableArgument,
    check_is_file,
    given_tables,
    table_name,
)
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.record_parts import RecordParts
    from synthkit.data.sources import TableSource

PARTS = ("members", "holdout", "reference")


def split(
    *,
    table: TableArgument,
    schema: SchemaOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder for the files; made when missing.")
    ],
    patients: PatientsOption = None,
    shares: Annotated[
        tuple[float, float, float],
        typer.Option("--shares", help="To train on, to hold out, for reference."),
    ] = (0.7, 0.2, 0.1),
    query: QueryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Divide a table into members.csv, holdout.csv and reference.csv, disjoint by patient.

    Train on members alone. An audit attacks the members and compares with the holdout, which the
    generator must never have seen; thresholds come from the reference. Records of visits are divided with
    their table of static columns, into members-patients.csv and so on; Parquet stays Parquet.

    Example:
      synthkit split patients.csv --schema schema.toml -o parts
      synthkit split sqlite:///hospital.db --query "SELECT * FROM patients" --schema schema.toml -o parts
      synthkit split records.parquet --patients patients.csv --schema schema.toml -o parts
    """
    if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise InputError("must be positive and sum to at most 1", where="option --shares")
    given, known = given_tables(query, table=table, patients=patients), load_schema(schema)
    source, statics = given.of("table"), given.get("patients")
    console = Console(as_json=as_json)
    if known.is_longitudinal:
        long, people = check_is_file(source), None if statics is None else check_is_file(statics)
        _split_records(console, long, known, people, output, shares=shares, seed=seed, force=force)
        return
    if patients is not None:
        raise InputError("belongs to records of visits", where="option --patients", fix="leave it out")
    _split_table(console, source, known, output, shares=shares, seed=seed, force=force)


def _split_table(
    console: Console,
    table: "TableSource",
    known: Schema,
    output: Path,
    *,
    shares: tuple[float, ...],
    seed: int,
    force: bool,
) -> None:
    from synthkit.data.connectors import read_table, read_text

    targets = [output / f"{name}.csv" for name in PARTS]
    _check_targets(output, targets, force=force)
    # Read once: asked again, a database may answer with other rows, or in another order.
    raw = read_text(table)
    rows = read_table(raw, known, where=table_name(table), is_draft=True)  # before anything is bought
    output.mkdir(mode=0o700, exist_ok=True)  # patients' rows come to lie in it
    for target, mask in zip(targets, rows.split_masks(shares, seed=seed), strict=True):
        raw.frame.loc[mask].to_csv(target, index=False, lineterminator="\n")
    console.line(f"members.csv, holdout.csv and reference.csv in {output}")
    console.result({name: str(target) for name, target in zip(PARTS, targets, strict=True)})


def _split_records(
    console: Console,
    table: Path,
    known: Schema,
    patients: Path | None,
    output: Path,
    *,
    shares: tuple[float, ...],
    seed: int,
    force: bool,
) -> None:
    from synthkit.data.record_parts import divide_records, write_part

    with console.progress("reading the records") as progress:
        parts = divide_records(table, known, patients=patients, shares=shares, seed=seed)
        targets = _record_targets(parts, output)
        _check_targets(output, [path for pair in targets for path in pair if path is not None], force=force)
        output.mkdir(mode=0o700, exist_ok=True)
        for place, (long, people) in enumerate(targets):
            progress(f"writing {PARTS[place]}")
            write_part(parts, place, long, people)
    names = ", ".join(long.name for long, _ in targets)
    console.line(f"{names}{'' if patients is None else ', each with its table of patients,'} in {output}")
    document: dict[str, object] = {name: str(long) for name, (long, _) in zip(PARTS, targets, strict=True)}
    document |= {f"{n}_patients": str(p) for n, (_, p) in zip(PARTS, targets, strict=True) if p is not None}
    console.result(document)


def _record_targets(parts: "RecordParts", output: Path) -> list[tuple[Path, Path | None]]:
    long, people = parts.endings()
    return [
        (output / f"{name}{long}", None if people is None else output / f"{name}-patients{people}")
        for name in PARTS
    ]


def _check_targets(output: Path, targets: list[Path], *, force: bool) -> None:
    """Nothing is overwritten unasked; a folder that is still to be made needs one to lie in."""
    if not output.exists():
        check_target(output)
        return
    for target in targets:
        check_target(target, force=force)
