"""`synthkit split`: divide one table by patient into the three parts that training and audit need.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, load_schema
from synthkit.cli.options import ForceOption, JsonOption, SchemaOption, SeedOption

PARTS = ("members", "holdout", "reference")


def split(
    *,
    table: Annotated[Path, typer.Argument(help="The patients: CSV, CSV.GZ or Parquet.")],
    schema: SchemaOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder for the three files; made when missing.")
    ],
    shares: Annotated[
        tuple[float, float, float],
        typer.Option("--shares", help="To train on, to hold out, for reference."),
    ] = (0.7, 0.2, 0.1),
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Divide a table into members.csv, holdout.csv and reference.csv, disjoint by patient.

    Train on members alone. An audit attacks the members and compares with the holdout, which the
    generator must never have seen; thresholds come from the reference.

    Example:
      synthkit split patients.csv --schema schema.toml -o parts
    """
    from synthkit.data.connectors import read_frame, read_table
    from synthkit.errors import InputError

    if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise InputError("must be positive and sum to at most 1", where="option --shares")
    targets = [output / f"{name}.csv" for name in PARTS]
    if output.exists():
        for target in targets:
            check_target(target, force=force)
    else:
        check_target(output)
    known = load_schema(schema)
    rows = read_table(table, known, is_draft=True)  # comes before anything is bought
    frame = read_frame(table)
    output.mkdir(mode=0o700, exist_ok=True)  # patients' rows come to lie in it
    for target, mask in zip(targets, rows.split_masks(shares, seed=seed), strict=True):
        frame.loc[mask].to_csv(target, index=False, lineterminator="\n")
    console = Console(as_json=as_json)
    console.line(f"members.csv, holdout.csv and reference.csv in {output}")
    console.result({name: str(target) for name, target in zip(PARTS, targets, strict=True)})
