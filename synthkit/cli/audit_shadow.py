"""`synthkit audit --shadow N`: what the option needs, and what it refuses.

Knows where the model's folder is. Refuses before any table is read what could only fail after. Imports that
take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.audit.shadow import Shadowing


def check_shadow(trainings: int | None, model: Path | None, schema: Schema) -> None:
    """Refuse shadows of records, and of no model, and a number that tells nothing.

    Raises:
        InputError: One of these.
    """
    if trainings is None:
        return
    where = "option --shadow"
    if schema.is_longitudinal:
        raise InputError("trains generators of tables, not of records", where=where, fix="leave it out")
    if model is None:
        raise InputError("needs the model that is to be trained again", where=where, fix="add --model FOLDER")
    shadows_of(model, trainings)


def shadows_of(model: Path | None, trainings: int | None) -> "Shadowing | None":
    """What the attack needs, if it is asked for.

    Raises:
        InputError: The model's folder is malformed, its encoder was frozen, or the number tells nothing.
    """
    if model is None or trainings is None:
        return None
    from synthkit.audit.shadow_training import shadowing
    from synthkit.training.paper_artefact import open_model

    return shadowing(open_model(model), trainings)
