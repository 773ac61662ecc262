"""`synthkit schema infer` and `synthkit schema check`.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, load_schema, name_of, save_text
from synthkit.cli.options import ForceOption, JsonOption, SchemaOption
from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.toml_reading import shown
from synthkit.errors import SchemaError

if TYPE_CHECKING:
    from synthkit.data.checking import CheckResult

TableArgument = Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv, .csv.gz or .parquet file.")]


def infer(
    table: TableArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The schema to write, TOML.")],
    patient_id: Annotated[
        str | None, typer.Option("--patient-id", metavar="COLUMN", help="The column that identifies them.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draft a schema from a table, for a person to correct.

    Every bound and category is read off the patients' rows and marked `provenance = "data"`. Private
    training refuses such a schema until a person has replaced each by what is publicly known.

    Example:
      synthkit schema infer admissions.csv -o schema.toml --patient-id mrn
    """
    from synthkit.data.inference import infer_schema

    check_target(output, force=force)
    console = Console(as_json=as_json)
    with console.progress("reading the table"):
        draft = infer_schema(table, patient_id=patient_id)
    save_text(output, schema_to_toml(draft.schema), force=force)
    unreviewed = draft.schema.not_public()
    console.line(f"Drafted {len(draft.schema)} columns into {name_of(output)}.")
    console.items(draft.notes)
    console.heading("What you have to do now")
    console.items(
        (
            f'Review every column with provenance = "data": {", ".join(map(shown, unreviewed))}.',
            "Replace each bound and category by what is known without these rows: a code list, a range.",
            'Then write provenance = "public" there. It is your word that the line came from no patient.',
            f"Check the result: synthkit schema check {name_of(table)} --schema {name_of(output)}",
        )
    )
    console.result(
        {
            "schema": str(output),
            "schema_digest": draft.schema.digest,
            "columns": list(draft.schema.names),
            "patient_id": draft.schema.patient_id,
            "to_review": list(unreviewed),
            "notes": list(draft.notes),
        }
    )


def check(table: TableArgument, schema: SchemaOption, as_json: JsonOption = False) -> None:
    """List what in a table does not fit its schema: row and column of each violation, never the cell.

    The first 20 are listed and all are counted. Ends with 4 when there is any.

    Example:
      synthkit schema check admissions.csv --schema schema.toml
    """
    from synthkit.data.checking import check_table

    console = Console(as_json=as_json)
    known = load_schema(schema)
    with console.progress("checking the table"):
        result = check_table(table, known)
    console.result(_document(result))
    if known.not_public():
        names = ", ".join(map(shown, known.not_public()))
        console.note(f"private training refuses this schema: read off the data are {names}")
    if result.is_valid:
        console.line(f"{name_of(table)} fits {name_of(schema)}.")
        return
    console.items(str(violation) for violation in result.violations)
    hidden = result.count - len(result.violations)
    if hidden:
        console.line(f"  and {hidden} more")
    count = f"{result.count} violation{'s' if result.count > 1 else ''}"
    raise SchemaError(f"{count} of the schema", where=name_of(table), fix="correct the table or the schema")


def _document(result: "CheckResult") -> JsonObject:
    return {
        "valid": result.is_valid,
        "count": result.count,
        "violations": [
            {
                "column": violation.column,
                "row": violation.row,
                "line": violation.line,
                "rule": violation.rule.value,
                "fix": violation.fix,
            }
            for violation in result.violations
        ],
    }
