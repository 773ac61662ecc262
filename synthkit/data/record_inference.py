"""A first draft of a schema of records of visits, read off their table, for a person to correct.

Knows the cells of a long table and, where it stands apart, of the table of static columns. Refuses to guess
which column orders the visits, and to call anything public: the code list and every bound are marked as read
off the data. Rules: a column that never changes within a patient is static; one that does, and is neither
visit, time nor code, is left out and named. The notes name columns, never a cell.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.data.inference import Inference, infer_schema, ordered
from synthkit.data.reading import read_raw
from synthkit.data.sources import NamedSource, as_source, source_name
from synthkit.domain.quasi_identifiers import likely_quasi_identifiers
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

CODE_NAMES = ("code", "codes", "diagnosis", "icd", "atc")


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Columns of the long table; `patient_id` and `code` are guessed where None, `time` may be absent."""

    visit: str
    patient_id: str | None = None
    time: str | None = None
    code: str | None = None


def infer_records(table: NamedSource, roles: Roles, *, patients: NamedSource | None = None) -> Inference:
    """Draft a longitudinal schema.

    Args:
        table: The long table: one row for each code of each visit.
        roles: What its columns are.
        patients: The table of static columns; None: they stand in every row.

    Raises:
        InputError: A file cannot be read as a table; a column that was named is not there; or no column was
            found to be the patient's id or the code.
        SchemaError: No column is left to describe.
    """
    source = as_source(table)
    where = source_name(source)
    draft = infer_schema(source, patient_id=roles.patient_id)
    frame = read_raw(source, where).frame
    for name in (roles.visit, roles.time, roles.code):
        if name is not None and name not in frame:
            raise InputError(f"there is no column {shown(name)}", where=where, fix="name an existing column")
    owner = draft.schema.patient_id
    if owner is None:
        raise InputError("no patient id was found", where=where, fix="name it with --patient-id")
    code = roles.code or _code_name(draft, {owner, roles.visit, roles.time}, where)
    taken = {owner, roles.visit, roles.time, code}
    others = [name for name in frame.columns if name not in taken]
    if patients is None:
        changing = [name for name in others if _changes(frame, owner, name)]
        statics = tuple(c for c in draft.schema if c.name in others and c.name not in changing)
        ignored = [name for name in others if name not in {column.name for column in statics}]
    else:
        people = infer_schema(as_source(patients), patient_id=owner).schema
        statics, changing = people.columns, []
        ignored = [*others, *(name for name in people.ignored if name not in others)]
    guessed = likely_quasi_identifiers([column.name for column in statics])
    schema = Schema(
        columns=(_code_column(frame[code]), *statics),
        patient_id=owner,
        visit=roles.visit,
        time=roles.time,
        ignored=tuple(ignored),
        quasi_identifiers=guessed,
    )
    return Inference(schema=schema, notes=_notes(schema, changing))


def looks_like_records(draft: Inference) -> bool:
    """Whether a table that was taken for one row a patient has a visit's number and codes."""
    has_code = any(column.kind is Kind.CODE for column in draft.schema)
    has_visit = any("visit" in name.lower() for name in draft.schema.names)
    return draft.schema.patient_id is not None and has_code and has_visit


def _code_name(draft: Inference, taken: set[str | None], where: str) -> str:
    free = [column for column in draft.schema if column.name not in taken]
    named = [column.name for column in free if column.name.lower() in CODE_NAMES]
    coded = [column.name for column in free if column.kind is Kind.CODE]
    for names in (named, coded):
        if len(names) == 1:
            return names[0]
    raise InputError("which column holds the codes?", where=where, fix="name it with --code")


def _changes(frame: pd.DataFrame, owner: str, name: str) -> bool:
    """Whether some patient has two values, an empty cell being one."""
    values = pd.factorize(frame[name])[0]
    people = pd.factorize(frame[owner])[0]
    return bool(np.unique(np.stack([people, values]), axis=1).shape[1] > np.unique(people).size)


def _code_column(cells: pd.Series) -> Column:
    levels = [str(level) for level in pd.unique(cells.dropna())]
    return Column(
        name=str(cells.name),
        kind=Kind.CODE,
        categories=ordered(levels),
        missing=bool(cells.isna().any()),
        provenance=Provenance.DATA,
    )


def _notes(schema: Schema, changing: list[str]) -> tuple[str, ...]:
    statics = ", ".join(shown(c.name) for c in schema if c.name != schema.code.name) or "none"
    notes = [
        f"Patient id: {shown(str(schema.patient_id))}; visits in the order of {shown(str(schema.visit))}; "
        f"time: {shown(schema.time) if schema.time else 'none'}; codes: {shown(schema.code.name)}.",
        f"Static columns: {statics}.",
        "The code list was read off the data, and so was every bound and category: give the public list "
        '(typed, if you like: diagnosis, drug, procedure, laboratory), or set provenance = "dp" to buy it.',
    ]
    if changing:
        names = ", ".join(map(shown, changing))
        notes.append(f"Left out, for they change from row to row of a patient: {names}.")
    known = ", ".join(map(shown, schema.quasi_identifiers)) or "none"
    notes.append(f"Quasi-identifiers, by their names: {known}. Correct the list to what others may know.")
    return tuple(notes)
