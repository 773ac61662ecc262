"""`synthkit complete`: fill partial rows, or go on with records, from a trained model. Costs no budget.

Rule kept here: the person is told that what comes out holds the cells that went in, so that nobody takes
it for a synthetic table. Imports that take a second or more stand inside the functions that need them;
see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.generate_sequences import is_record_model
from synthkit.cli.loading import check_target
from synthkit.cli.options import ForceOption, JsonOption, SeedOption
from synthkit.cli.record_variants import continue_a_table, refuse_options
from synthkit.cli.tables import QueryOption, given_tables
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

NOT_SYNTHETIC = (
    "the given cells stand in these rows as they were, covered by no epsilon: this is no synthetic table, "
    "and `release seal` refuses it"
)


def complete(
    *,
    model: Annotated[Path, typer.Argument(help="The folder that `train -o` or `federate -o` wrote.")],
    partial: Annotated[
        str,
        typer.Argument(
            metavar="PARTIAL", help="Rows with empty cells: CSV, CSV.GZ, Parquet, or a database's address."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV, CSV.GZ or Parquet, by its ending.")],
    keep_missing: Annotated[
        list[str] | None,
        typer.Option(
            "--keep-missing",
            metavar="COLUMN",
            help="Empty cells of this column are known to be missing: they stay empty. Repeatable.",
        ),
    ] = None,
    copies: Annotated[
        int, typer.Option("--copies", min=1, help="Complete the whole table so many times over.")
    ] = 1,
    patients: Annotated[
        str | None,
        typer.Option(
            "--patients", metavar="TABLE", help="Records: static columns stand here; else in every row."
        ),
    ] = None,
    query: QueryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Fill the empty cells of partial rows, each row's jointly, given its other cells.

    A column that is absent is filled in every row. A given cell comes out exactly as it went in. An empty
    cell is drawn, and may be drawn as missing where the schema allows that; with --keep-missing it is
    itself the knowledge that nothing was measured. Columns that are no data, the patient id first, are
    left out; the rows keep their order. Every cell is checked before anything is drawn.

    The result holds what you gave, which may be real patients' cells: it stays at the site. For new rows
    of a given stratum, which may leave once audited and sealed, use `generate --where` instead.

    Of a model of records, PARTIAL holds records of visits, and each goes on where it ends: every given
    visit stands as it was, later ones are drawn. Patients are numbered from 1 in the order given.

    Example:
      synthkit complete model partial.csv -o completed.csv --keep-missing creatinine
      synthkit complete records-model histories.csv --patients patients.csv -o continued.csv
    """
    check_target(output, force=force)
    given = given_tables(query, partial=partial, patients=patients)
    if is_record_model(model):
        asked = {"--keep-missing": bool(keep_missing), "--copies": copies != 1}
        refuse_options([name for name, given in asked.items() if given])
        histories, statics = given.of("partial"), given.get("patients")
        continue_a_table(
            model, histories, output, patients=statics, seed=seed, console=Console(as_json=as_json)
        )
        return
    if patients is not None:
        raise InputError("belongs to a model of records", where="option --patients", fix="leave it out")
    from synthkit.data.connectors import read_partial, write_completed
    from synthkit.training.paper_artefact import open_model
    from synthkit.training.synthesis import complete as complete_rows
    from synthkit.training.synthesis import completing

    console = Console(as_json=as_json)
    with console.progress("loading the model") as progress:
        trained = open_model(model)
        able = completing(trained)
        progress("reading the rows")
        rows = read_partial(given.of("partial"), trained.schema, keep_missing=keep_missing or ())
        progress("drawing cells")
        completed = complete_rows(able, rows, seed=seed, copies=copies)
        progress("writing")
        write_completed(completed, output)
    if rows.dropped:
        console.note(f"left out, as no data: {', '.join(map(shown, rows.dropped))}")
    if not trained.is_private:
        console.note("this model was trained WITHOUT privacy; its draws may repeat real patients")
    if not rows.to_fill:
        console.note("no cell was empty: nothing was drawn")
    console.note(NOT_SYNTHETIC)
    console.line(f"completed rows into {output}")
    console.result(
        {
            "output": str(output),
            "filled": list(rows.to_fill),
            "left_out": list(rows.dropped),
            "copies": copies,
            "private": trained.is_private,
            "synthetic": False,
        }
    )
