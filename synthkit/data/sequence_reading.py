"""From a long table to records: one row a code becomes visits in order, or is refused.

Knows files and longitudinal schemas. Refuses what a record cannot be: no patient, no visit number, an
unknown code, two times in one visit, a visit dated before the one before it, a static column that
changes, a patient without visits, more visits or codes than the caps. Accepts, with one meaning each:
rows in any order (the visit number orders the visits, whatever numbers are left out), a code listed twice
in a visit (once), an empty code (a visit without codes, where the code column may be missing), two visits
on one day (a gap of 0), a static column that contradicts the codes (no schema says which code stands for
which condition: the column is the site's word, and `evaluate` shows what its patients carry). Messages name
column and row, never a cell, a patient or a count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from synthkit.data.checking import DATE, EPOCH, check_cells, check_error
from synthkit.data.reading import RawTable, read_raw
from synthkit.data.sequence_table import Cells, LongTable
from synthkit.data.sequences import PatientSequences, SyntheticSequences, starts_of
from synthkit.data.sources import NamedSource, TableSource, as_source, source_name
from synthkit.data.table import RowsOfCodes
from synthkit.domain.levels import canonical_number, to_decimal
from synthkit.domain.record_files import PATIENTS, RECORDS
from synthkit.domain.schema import OTHER, Column, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import SchemaError

Source = NamedSource | bytes

LARGEST = 2**31 - 1
"""No visit number and no day is larger."""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How long a record may be: public numbers, decided before any row is read.

    A record over `visits` is refused, or with `is_cut` keeps its first ones: then what is kept of a
    patient depends on that patient alone. A visit with more than `codes` distinct codes is always refused.
    """

    visits: int = 1000
    codes: int = 500
    is_cut: bool = False


def read_sequences(
    path: NamedSource,
    schema: Schema,
    *,
    patients: NamedSource | None = None,
    where: str | None = None,
    caps: Caps | None = None,
) -> PatientSequences:
    """Read real patients' records and check them.

    Args:
        path: The long table: CSV, gzipped CSV, Parquet or a query, one row for each code of each visit.
        schema: A longitudinal schema. Times are dates (YYYY-MM-DD) or whole days counted from any day,
            the same throughout.
        patients: A table of one row a patient with the id and the static columns; None: they stand in
            the long table, repeated in each row of a patient. Gives the patients' order, too.
        where: What messages call the long table; its name without the directory unless given.
        caps: How long a record may be.

    Raises:
        InputError: A file cannot be read as a table.
        SchemaError: The schema is not longitudinal, or a record breaks it; the message names the first
            row found to.
    """
    found, lots = _read(as_source(path), schema, patients, where, caps or Caps())
    return replace(PatientSequences(**vars(found)), lots=lots)


def read_synthetic_sequences(
    path: Source, schema: Schema, *, patients: Source | None = None, where: str | None = None
) -> SyntheticSequences:
    """Read records that were generated; see `read_sequences`. Their own numbers are forgotten. Of any length,
    but no visit has more codes than `Caps` allows: pairs of codes are counted, and so many fill any memory.

    Args:
        path: The long table; or a CSV file's bytes, which then touch no disk.
        schema: A longitudinal schema.
        patients: The table of static columns, likewise; None: they stand in the long table.
        where: What messages call the long table; its name without the directory unless given.

    Raises:
        InputError: A file cannot be read as a table.
        SchemaError: The schema is not longitudinal, or a record breaks it.
    """
    found, _ = _read(_source(path), schema, patients, where, Caps(visits=LARGEST))
    return SyntheticSequences(**vars(found))


def read_code_rows(path: NamedSource, draft: Schema, *, patients: NamedSource | None = None) -> RowsOfCodes:
    """Read real patients' records as rows of codes, for buying what a draft leaves open.

    One row a code, with the patient's static columns; times play no part. Codes may be any text where
    the list is still to be bought. See `read_sequences` for the arguments.

    Raises:
        InputError: A file cannot be read as a table.
        SchemaError: The schema is not longitudinal, or a row breaks it.
    """
    table, column = LongTable(as_source(path), source_name(as_source(path))), draft.code
    _check_columns(table, draft, has_statics=patients is None)
    ids = _required(table, str(draft.patient_id), "no patient id")
    people, owners = _people(table, draft, ids, patients)
    cells = table.cells(column.name)
    what, fix = "a code that is not on one printable line", "correct the code"
    table.judged(column.name, cells, lambda text: int(text.isprintable()) or None, what=what, fix=fix)
    if not column.is_to_buy:
        _codes(table, column, draft.vocabulary.places)
    frame = people.statics.iloc[owners].reset_index(drop=True)
    frame[column.name] = np.array([*cells.texts, None], dtype=object)[cells.levels]
    visits = _visit_numbers(table, draft)
    return RowsOfCodes(schema=draft, frame=frame, patients=owners.astype(np.int64), visits=visits)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Found:
    """The fields of the records, see `synthkit.data.sequences`."""

    schema: Schema
    codes: np.ndarray
    visit_starts: np.ndarray
    patient_starts: np.ndarray
    statics: pd.DataFrame
    gaps: np.ndarray | None
    first_days: np.ndarray | None
    is_dated: bool


def _read(
    source: TableSource | bytes, schema: Schema, patients: Source | None, where: str | None, caps: Caps
) -> tuple[_Found, np.ndarray]:
    """The records, and each patient's lot."""
    vocabulary = schema.vocabulary
    table = LongTable(source, where if where is not None else _name_of(source, RECORDS))
    _check_columns(table, schema, has_statics=patients is None)
    ids = _required(table, str(schema.patient_id), "no patient id")
    people, owners = _people(table, schema, ids, patients)
    numbers, codes = _visit_numbers(table, schema), _codes(table, schema.code, vocabulary.places)
    rows = _ordered(owners, numbers, codes, len(vocabulary))
    visits = np.bincount(rows.visit_owners, minlength=len(people.statics))
    has_code = rows.codes >= 0
    counts = np.add.reduceat(has_code, rows.visit_rows, dtype=np.int64)
    _check_codes(table, schema, caps, rows, counts)
    if not caps.is_cut:
        _check_visits(table, schema, caps, rows, visits)
    gaps, first_days, is_dated = _times(table, schema, rows, starts_of(visits))
    found = _Found(
        schema=schema,
        codes=rows.codes[has_code],
        visit_starts=starts_of(counts),
        patient_starts=starts_of(visits),
        statics=people.statics,
        gaps=gaps,
        first_days=first_days,
        is_dated=is_dated,
    )
    if caps.is_cut and visits.max() > caps.visits:
        cut = SyntheticSequences(**vars(found)).first_visits(caps.visits)
        found = _Found(**vars(cut))
    return found, people.lots


def _source(given: Source) -> TableSource | bytes:
    return given if isinstance(given, bytes) else as_source(given)


def _name_of(source: TableSource | bytes, canonical: str) -> str:
    """What messages call a file; bytes have the name under which they leave."""
    return canonical if isinstance(source, bytes) else source_name(source)


def _check_columns(table: LongTable, schema: Schema, *, has_statics: bool) -> None:
    roles = [name for name in (schema.patient_id, schema.visit, schema.time) if name is not None]
    required = [*roles, *(schema.names if has_statics else (schema.code.name,))]
    if not set(required) & set(table.names):
        raise SchemaError(
            "no column of the schema is in the header line",
            where=table.where,
            fix="comma-separated, with the column names in the first line?",
        )
    for name in required:
        if name not in table.names:
            raise SchemaError(
                "the column is missing",
                where=f"{table.where}: column {shown(name)}",
                fix="add it, or take it out of the schema",
            )
    for name in table.names:
        if name not in required and name not in schema.ignored:
            raise SchemaError(
                "the column is not expected here",
                where=f"{table.where}: column {shown(name)}",
                fix="add it to ignore under [table] to leave it out",
            )


def _required(table: LongTable, name: str, what: str) -> Cells:
    cells = table.cells(name)
    if cells.empty.size:
        table.refuse(name, what, "every row needs one", cells.empty)
    return cells


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _People:
    statics: pd.DataFrame
    lots: np.ndarray


def _people(
    table: LongTable, schema: Schema, ids: Cells, patients: Source | None
) -> tuple[_People, np.ndarray]:
    """The patients, and each row's patient, int32 (rows,)."""
    if patients is not None:
        return _people_from_table(table, schema, ids, _source(patients))
    lots = pd.util.hash_array(np.array(ids.texts, dtype=object), categorize=False)
    _, first_rows = np.unique(ids.levels, return_index=True)
    frame = _repeated_statics(table, schema, ids, first_rows)
    return _People(statics=frame, lots=lots), ids.levels


def _repeated_statics(table: LongTable, schema: Schema, ids: Cells, first_rows: np.ndarray) -> pd.DataFrame:
    """Static columns that stand in every row: each patient's first row, after a look at all others."""
    statics = schema.statics
    if statics is None:
        return pd.DataFrame(index=range(first_rows.size))
    columns = {}
    for name in statics.names:
        cells = table.cells(name)
        changed = cells.levels != cells.levels[first_rows][ids.levels]
        if changed.any():
            fix = "one value a patient, or leave the column out"
            table.refuse(name, "a static column changes within a patient", fix, np.flatnonzero(changed))
        texts = np.array([*cells.texts, None], dtype=object)
        columns[name] = texts[cells.levels[first_rows]]
    lines = first_rows + 1 if table.lines is None else table.lines[first_rows]
    plain = Schema(columns=statics.columns, name=schema.name)
    checked = check_cells(RawTable(frame=pd.DataFrame(columns, dtype=object), lines=lines), plain)
    if not checked.result.is_valid:
        first = checked.result.violations[0]
        place = f"{table.where}: column {shown(first.column)}, line {first.line}"
        raise SchemaError(first.rule.value, where=place, fix=first.fix)
    return pd.DataFrame({name: checked.columns[name] for name in statics.names})


def _people_from_table(
    table: LongTable, schema: Schema, ids: Cells, source: TableSource | bytes
) -> tuple[_People, np.ndarray]:
    statics, where = schema.statics, _name_of(source, PATIENTS)
    if statics is None or schema.patient_id is None:
        raise SchemaError("the schema has no static column", where=where, fix="leave the table out")
    raw = read_raw(source, where)
    checked = check_cells(raw, statics, one_row_per_patient=True)
    if not checked.result.is_valid:
        raise check_error(checked.result, where)
    known = {str(text): row for row, text in enumerate(raw.frame[schema.patient_id])}
    places = np.array([known.get(text, -1) for text in ids.texts], dtype=np.int32)
    owners = places[ids.levels]
    if (owners < 0).any():
        fix = "add the patient there, or leave the rows out"
        what = f"a visit of a patient who is not in {where}"
        table.refuse(schema.patient_id, what, fix, np.flatnonzero(owners < 0))
    silent = np.setdiff1d(np.arange(len(raw.frame)), places)
    if silent.size:
        row = int(silent[0])
        line = "" if raw.lines is None else f" (line {int(raw.lines[row])})"
        raise SchemaError(
            "a patient without visits", where=f"{where}: row {row + 1}{line}", fix="leave the patient out"
        )
    frame = pd.DataFrame({name: checked.columns[name] for name in statics.names})
    return _People(statics=frame, lots=checked.lots), owners


def _visit_numbers(table: LongTable, schema: Schema) -> np.ndarray:
    """Each row's visit, as the rank of its number among all numbers of the file: int32 (rows,)."""
    name = str(schema.visit)
    cells = _required(table, name, "no visit number")
    values = table.judged(name, cells, _whole, what="not a whole number", fix="write the visit's number")
    ranks = np.unique(values, return_inverse=True)[1].astype(np.int32)
    return np.asarray(ranks[cells.levels])


def _codes(table: LongTable, column: Column, known: Mapping[str, int]) -> np.ndarray:
    """Each row's code as its number, -1 where the cell is empty: int32 (rows,)."""
    cells = table.cells(column.name)
    if not column.missing and cells.empty.size:
        fix = "fill it, or set missing = true for visits without codes"
        table.refuse(column.name, "an empty cell where missing is not allowed", fix, cells.empty)
    other = known.get(OTHER) if column.is_bought else None

    def number(text: str) -> int | None:
        return known.get(text, known.get(canonical_number(text) or "", other))

    values = table.judged(column.name, cells, number, what="not a listed code", fix="see the schema's list")
    return np.asarray(np.append(values, -1).astype(np.int32)[cells.levels])


def _whole(text: str) -> int | None:
    number = to_decimal(text)
    if number is None or abs(number) > LARGEST or number != int(number):
        return None
    return int(number)


def _day(text: str) -> int | None:
    found = DATE.fullmatch(text)
    try:
        return (EPOCH.fromisoformat(found[1]) - EPOCH).days if found else None
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Rows:
    """The rows in order of patient, visit and code, none twice.

    `order`: each one's place in the file; `codes`: its code, -1 for none; `visit_rows`: where each visit
    begins; `visit_owners`: its patient.
    """

    order: np.ndarray
    codes: np.ndarray
    visit_rows: np.ndarray
    visit_owners: np.ndarray
    dropped: tuple[np.ndarray, np.ndarray]
    """Places in the file of repeated codes, and each one's visit."""


def _ordered(owners: np.ndarray, numbers: np.ndarray, codes: np.ndarray, size: int) -> _Rows:
    """Sort and drop repeated rows. One key a row: what is sorted already, as ours is, is not sorted again."""
    keys = owners.astype(np.int64)
    for digit, base in ((numbers, int(numbers.max()) + 1), (codes + np.int32(1), size + 1)):
        keys *= base
        keys += digit
    order = np.arange(keys.size, dtype=np.int64 if keys.size > LARGEST else np.int32)
    if (keys[1:] < keys[:-1]).any():
        order = np.argsort(keys, kind="stable")
        keys, codes, owners = keys[order], codes[order], owners[order]
    dropped = order[:0], order[:0]
    is_repeated = np.append(False, keys[1:] == keys[:-1])
    keys //= size + 1
    is_new = np.append(True, keys[1:] != keys[:-1])
    if is_repeated.any():
        visits = np.cumsum(is_new) - 1
        dropped = order[is_repeated], visits[is_repeated]
        kept = ~is_repeated
        order, codes, owners, is_new = order[kept], codes[kept], owners[kept], is_new[kept]
    starts = np.flatnonzero(is_new)
    return _Rows(order=order, codes=codes, visit_rows=starts, visit_owners=owners[starts], dropped=dropped)


def _check_codes(table: LongTable, schema: Schema, caps: Caps, rows: _Rows, counts: np.ndarray) -> None:
    if (counts > caps.codes).any():
        first = rows.order[rows.visit_rows[counts > caps.codes]]
        what = f"a visit with more than {caps.codes} codes"
        table.refuse(schema.code.name, what, "split the visit, or raise the cap", first)


def _check_visits(table: LongTable, schema: Schema, caps: Caps, rows: _Rows, visits: np.ndarray) -> None:
    if (visits > caps.visits).any():
        beyond = starts_of(visits)[:-1][visits > caps.visits] + caps.visits
        first = rows.order[rows.visit_rows[beyond]]
        what = f"a visit beyond a patient's first {caps.visits}"
        table.refuse(str(schema.visit), what, "raise the cap, or keep the first ones", first)


_Times = tuple[np.ndarray | None, np.ndarray | None, bool]
"""Gaps, first days, and whether they are dates."""


def _times(table: LongTable, schema: Schema, rows: _Rows, patient_starts: np.ndarray) -> _Times:
    if schema.time is None:
        return None, None, True
    cells = _required(table, schema.time, "no time")
    is_dated = all(DATE.fullmatch(text) for text in cells.texts)
    judge, what = (_day, "not a date") if is_dated else (_whole, "not a whole number of days")
    fix = "write YYYY-MM-DD everywhere, or days counted from one day"
    values = table.judged(schema.time, cells, judge, what=what, fix=fix).astype(np.int32)[cells.levels]
    days = values[rows.order[rows.visit_rows]]
    of_row = np.repeat(days, np.diff(rows.visit_rows, append=rows.order.size))
    places, visits = rows.dropped
    repeated = places[values[places] != days[visits]]
    differs = np.concatenate([rows.order[values[rows.order] != of_row], repeated])
    if differs.size:
        table.refuse(schema.time, "two times in one visit", "one time a visit", differs)
    gaps = np.diff(days, prepend=days[:1])
    gaps[patient_starts[:-1]] = 0
    if (gaps < 0).any():
        fix = "correct the time, or the visit's number"
        first = rows.order[rows.visit_rows[gaps < 0]]
        table.refuse(schema.time, "a visit dated before the one before it", fix, first)
    return gaps.astype(np.int32), days[patient_starts[:-1]].astype(np.int32), is_dated
