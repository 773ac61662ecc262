"""`synthkit generate` from a model of records: a long table, and a table of static columns.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import json
from collections.abc import Sequence
from pathlib import Path

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, name_of
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import InputError

HEADER, MODE = "model.json", "records"
PUBLISHED_MODE, PUBLISHED_RECORDS = "paper", ("eva", "eva-c")
"""What the header of a published system of records says."""


def is_record_model(folder: Path) -> bool:
    """Whether a model's header says that it makes records; what cannot be read is left to the reader."""
    try:
        document = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(document, dict):
        return False
    is_published = document.get("mode") == PUBLISHED_MODE and document.get("generator") in PUBLISHED_RECORDS
    return is_published or document.get("mode") == MODE


def generate_records(
    folder: Path,
    count: int,
    output: Path,
    *,
    patients: Path | None,
    visits: int | None,
    where: Sequence[str],
    seed: int,
    force: bool,
    refused: Sequence[str],
    console: Console,
) -> None:
    """Draw records and write them.

    Raises:
        InputError: An option that says nothing here; the model or a target cannot be used.
        ConditionError: No value satisfies the conditions.
    """
    from synthkit.data.reading import format_of
    from synthkit.data.sequence_writing import write_sequences
    from synthkit.training.record_models import draw_from, open_record_model

    if refused:
        what = "says nothing of a model of records"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")
    if patients is not None:
        if patients == output:
            raise InputError("two results would have one name", where=name_of(output), fix="name them apart")
        check_target(patients, force=force)
    for target in (output, patients):
        if target is not None:
            format_of(target)
    with console.progress("loading the model") as progress:
        model = open_record_model(folder)
        if patients is not None and model.schema.statics is None:
            raise InputError("the schema has no static column", where="option --patients", fix="leave it out")
        conditions = parse_conditions(where, model.schema)
        progress("drawing records")
        synthesis = draw_from(model, count, seed=seed, conditions=conditions, visits=visits)
        progress("writing")
        write_sequences(synthesis.records, output, patients=patients)
    records = synthesis.records
    if not model.is_private:
        console.note("this model was trained WITHOUT privacy; no release of these records may claim any")
    console.line(
        f"{records.patient_count:,} patients, {records.visit_count:,} visits, {records.codes.size:,} codes "
        f"into {name_of(output)}."
    )
    console.result(
        {
            "rows": records.patient_count,
            "visits": records.visit_count,
            "codes": int(records.codes.size),
            "output": str(output),
            "patients_table": None if patients is None else str(patients),
            "table_digest": records.digest,
            "conditions": [str(text) for text in where],
            "reliability": synthesis.reliability,
            "private": model.is_private,
        }
    )
