"""What `synthkit release seal` does for records of visits: read both files, and draw them again.

Rule kept here: the records are the model's own, patient by patient; leaving out those that resemble a
patient, or changing one code, is a query on the patients that no budget paid for. Imports that take a second
or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.loading import name_of
from synthkit.cli.vaults import OpenedVault, check_inside, is_vault, read_made_records
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.schema import Schema
from synthkit.errors import InputError, ReleaseRefusedError

if TYPE_CHECKING:
    from synthkit.data.sequences import SyntheticSequences
    from synthkit.data.table import SyntheticTable


def check_patients_option(patients: Path | None, schema: Schema, table: Path) -> None:
    """Refuse a table of static columns beside a table of one row a patient, and beside a vault.

    Raises:
        InputError: It stands beside one.
    """
    if patients is not None and not schema.is_longitudinal:
        raise InputError("belongs to records of visits", where="option --patients", fix="leave it out")
    if is_vault(table):
        check_inside(patients, "--patients")


def check_length_option(visits: int | None, schema: Schema) -> None:
    """Refuse a number of visits where there are none.

    Raises:
        InputError: The table has one row a patient.
    """
    if visits is not None and not schema.is_longitudinal:
        raise InputError("belongs to records of visits", where="option --visits", fix="leave it out")


def read_drawn(
    table: Path, patients: Path | None, schema: Schema, opened: OpenedVault | None
) -> "SyntheticTable | SyntheticSequences":
    """What is to leave: a table, or records where the schema is longitudinal.

    Args:
        table: The table, the long table of records, or a vault.
        patients: The static columns beside a plain long table.
        schema: What it has to fit.
        opened: The vault; None: it lies plain.

    Raises:
        InputError: A file cannot be read.
        SchemaError: A row breaks the schema.
        BundleError: The vault holds something else than the schema describes.
    """
    if not schema.is_longitudinal:
        from synthkit.data.connectors import read_synthetic

        return read_synthetic(table if opened is None else opened.table, schema)
    return read_made_records(table, schema, patients, opened)


def check_origin_of_records(
    records: "SyntheticSequences", model: Path, seed: int, where: Sequence[str], *, visits: int | None
) -> ConditionStatement | None:
    """The records are the model's own: drawn again with this seed, both files have the same bytes.

    `visits` is the length that was asked for, if any.

    Returns:
        The conditions and what the model states of them; None: there are none.

    Raises:
        ReleaseRefusedError: They are other records.
        InputError: The model makes no records.
    """
    from synthkit.domain.conditions import parse_conditions
    from synthkit.training.record_models import draw_from, open_record_model, share_of

    trained = open_record_model(model)
    if not records.patient_count:
        raise InputError("no patient", where="--table", fix=f"draw records from {name_of(model)}")
    conditions = parse_conditions(where, trained.schema)
    drawn = draw_from(trained, records.patient_count, seed=seed, conditions=conditions, visits=visits)
    if drawn.records.digest != records.digest:
        raise ReleaseRefusedError(
            "these are not the records that the model draws with this seed, these conditions and this length",
            where="--table",
            fix="give generate's --seed, --where and --visits; filtered or edited records cannot leave",
        )
    if not conditions:
        return None
    mass = share_of(trained, conditions)
    return ConditionStatement.of(conditions, mass=mass, reliability=drawn.reliability)
