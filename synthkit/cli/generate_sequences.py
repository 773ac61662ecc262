"""`synthkit generate` from a model of records: a long table and one of static columns, or a vault of both.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.cli.generate_conditions import show_stated, stated_of
from synthkit.cli.generate_target import Target
from synthkit.cli.loading import name_of
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences

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
    count: int,
    target: Target,
    *,
    patients: Path | None,
    visits: int | None,
    where: Sequence[str],
    seed: int,
    console: Console,
) -> None:
    """Draw records and write them: two plain tables, one, or a vault of both.

    Raises:
        InputError: The model or a target cannot be used.
        ConditionError: No value satisfies the conditions.
        PolicyError: The policy forbids the conditions.
    """
    from synthkit.training.record_models import draw_from, open_record_model, share_of

    target.check_patients(patients)
    with console.progress("loading the model") as progress:
        model = open_record_model(target.model)
        if patients is not None and model.schema.statics is None:
            raise InputError("the schema has no static column", where="option --patients", fix="leave it out")
        conditions = parse_conditions(where, model.schema)
        progress("asking the model how many patients meet the conditions")
        mass = share_of(model, conditions) if conditions else 1.0
        stated_of(conditions, target.conditions, mass=mass)
        progress("drawing records")
        synthesis = draw_from(model, count, seed=seed, conditions=conditions, visits=visits)
        stated = stated_of(conditions, target.conditions, mass=mass, reliability=synthesis.reliability)
        progress("writing")
        target.write_records(synthesis.records, patients)
    if not model.is_private:
        console.note("this model was trained WITHOUT privacy; no release of these records may claim any")
    show_stated(console, stated, f"reliability {synthesis.reliability:.2f}")
    target.show(console)
    _show(console, synthesis.records, target)
    console.result(
        {
            **_sizes(synthesis.records),
            "output": str(target.path),
            "patients_table": None if patients is None else str(patients),
            "table_digest": synthesis.records.digest,
            "conditions": list(stated.conditions) if stated is not None else [],
            "condition_mass": mass if stated is None else stated.mass,
            "reliability": synthesis.reliability,
            "private": model.is_private,
            "readers": [reader.name for reader in target.readers],
        }
    )


def _sizes(records: "SyntheticSequences") -> dict[str, int]:
    return {"rows": records.patient_count, "visits": records.visit_count, "codes": int(records.codes.size)}


def _show(console: Console, records: "SyntheticSequences", target: Target) -> None:
    console.line(
        f"{records.patient_count:,} patients, {records.visit_count:,} visits, {records.codes.size:,} codes "
        f"into {name_of(target.path)}."
    )
