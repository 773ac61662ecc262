"""A first draft of a schema, read off a table, for a person to correct.

Knows one file's cells. Refuses to call anything public: every bound and category it finds is marked as
read off the data, which blocks private training until a person replaces or vouches for it. The notes
name columns and kinds, never a cell.
"""

import datetime as dt
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from synthkit.data.checking import DATE, EPOCH
from synthkit.data.reading import read_raw
from synthkit.data.sources import NamedSource, as_source, source_name
from synthkit.domain.levels import canonical_number, to_decimal
from synthkit.domain.quasi_identifiers import likely_quasi_identifiers
from synthkit.domain.schema import MAX_CATEGORIES, Column, Kind, Provenance, Scale, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SchemaError

MOST_CATEGORIES = 50
"""A text column with more levels is a code."""

MOST_ORDINAL_LEVELS = 10
"""Whole numbers with at most this many levels are levels, not a range."""

LEAST_SPREAD = 20
"""Distinct values from which on a numeric column counts as spread, so that a heap in it is a spike."""

SPIKE_SHARE = 0.1
LOG_SKEWNESS = 2.0
PATIENT_NAME = re.compile(r"(?:patient|subject|person|pat|mrn|pid)(?:[_ ]?(?:id|nr|nbr|no|num|number|key))?")
ID_NAME = re.compile(r"(?:.*[_ ])?(?:id|uuid|guid|key|nbr|nr|identifier)")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A drafted schema, and in plain sentences what was guessed, left out and is to be looked at."""

    schema: Schema
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class _Cells:
    """One column: its distinct texts, how often each occurs, and the number of rows."""

    name: str
    levels: tuple[str, ...]
    counts: np.ndarray
    rows: int

    @property
    def missing(self) -> bool:
        return int(self.counts.sum()) < self.rows

    @property
    def is_unique(self) -> bool:
        return not self.missing and len(self.levels) == self.rows


def infer_schema(path: NamedSource, *, patient_id: str | None = None) -> Inference:
    """Draft a schema from a CSV, gzipped CSV or Parquet file, or from a query.

    Args:
        path: The file, or the query.
        patient_id: The column that identifies the patient; guessed from names and values if None.

    Raises:
        InputError: The file cannot be read as a table, its first line is not a header, or the column
            named as patient id is not there.
        SchemaError: No column is left to describe.
    """
    source = as_source(path)
    where = source_name(source)
    frame = read_raw(source, where).frame
    _check_names(frame.columns.tolist(), where)
    if patient_id is not None and patient_id not in frame:
        raise InputError(
            f"there is no column {shown(patient_id)}", where=where, fix="name an existing column"
        )
    cells = [_cells(str(name), frame[name]) for name in frame.columns]
    notes: list[str] = []
    chosen = patient_id if patient_id is not None else _guess_patient_id(cells, notes)
    columns: list[Column] = []
    ignored: list[str] = []
    for entry in cells:
        if entry.name == chosen:
            continue
        column, note = _column(entry)
        notes += [note] if note else []
        if column is None:
            ignored.append(entry.name)
        else:
            columns.append(column)
    if not columns:
        raise SchemaError("no column is left to describe", where=where, fix="give a table with data columns")
    notes += _long_tails(columns)
    notes.append(
        "Every bound and category was read off the data: replace each by what is publicly known and set "
        'provenance = "public", or set "dp" to buy it with budget; private training refuses the rest.'
    )
    guessed = likely_quasi_identifiers([column.name for column in columns])
    notes.append(_known_to_others(guessed))
    schema = Schema(
        columns=tuple(columns), patient_id=chosen, ignored=tuple(ignored), quasi_identifiers=guessed
    )
    return Inference(schema=schema, notes=tuple(notes))


def _long_tails(columns: Sequence[Column]) -> list[str]:
    """Which columns were drafted with a logarithmic scale, and by which rule; nothing where none was."""
    names = ", ".join(shown(column.name) for column in columns if column.scale is Scale.LOG)
    if not names:
        return []
    return [
        f'scale = "log" was drafted for {names}: nothing below 0, and a moment skewness above '
        f"{LOG_SKEWNESS:g}, a long right tail. Keep it where such a quantity is known to have one, as many "
        "laboratory values and costs are; else delete the line."
    ]


def _known_to_others(guessed: Sequence[str]) -> str:
    """What a person has to decide about the quasi-identifiers."""
    names = ", ".join(map(shown, guessed)) or "none"
    return (
        f"Quasi-identifiers, by their names: {names}. Correct the list to what others may know of a "
        "patient: an audit's attackers know these columns first."
    )


def _check_names(names: Sequence[str], where: str) -> None:
    """A first line of numbers is a row of data; a single name full of separators is not comma-separated."""
    numbers = sum(to_decimal(name) is not None for name in names)
    if 2 * numbers >= len(names):
        raise InputError("the first line holds no column names", where=where, fix="add a header line")
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        raise InputError("the cells are not separated by commas", where=where, fix="export it with commas")
    for place, name in enumerate(names, 1):
        if not name.isprintable():
            raise InputError(
                f"header: the name of column {place} is not printable", where=where, fix="rename it"
            )


def _cells(name: str, values: pd.Series) -> _Cells:
    codes, levels = pd.factorize(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    return _Cells(name=name, levels=tuple(str(level) for level in levels), counts=counts, rows=len(values))


def _guess_patient_id(cells: Sequence[_Cells], notes: list[str]) -> str | None:
    """A column named after the patient, else a column named like an id that never repeats."""
    named = [entry for entry in cells if PATIENT_NAME.fullmatch(entry.name.lower()) and not entry.missing]
    unique = [entry for entry in cells if _is_id(entry)]
    for entry in (*(entry for entry in named if len(entry.levels) > 2), *unique):
        notes.append(f"Column {shown(entry.name)} was taken for the patient id: it is never generated.")
        return entry.name
    notes.append("No patient id was found: each row counts as one patient of its own.")
    return None


def _is_id(entry: _Cells) -> bool:
    return entry.is_unique and entry.rows > 2 and ID_NAME.fullmatch(entry.name.lower()) is not None


def _column(entry: _Cells) -> tuple[Column | None, str]:
    """The drafted column, or None with the reason it is left out."""
    name = shown(entry.name)
    if not entry.levels:
        return None, f"Column {name} is empty and was left out."
    if _is_id(entry):
        return None, f"Column {name} looks like an identifier and was left out."
    if len(entry.levels) <= 2:
        return _categorical(entry, Kind.BINARY if len(entry.levels) == 2 else Kind.CATEGORICAL), ""
    if all(DATE.fullmatch(level) for level in entry.levels):
        dated = _dated(entry)
        if dated is not None:
            return dated, ""
    if all(_is_number(level) for level in entry.levels):
        return _numeric(entry), ""
    return _texts(entry, name)


def _is_number(text: str) -> bool:
    """A number a float can hold, and not a code with leading zeros."""
    if to_decimal(text) is None or re.match(r"\s*[+-]?0[0-9]", text):
        return False
    return math.isfinite(float(text))


def _categorical(entry: _Cells, kind: Kind) -> Column:
    return Column(
        name=entry.name,
        kind=kind,
        categories=ordered(entry.levels),
        missing=entry.missing,
        provenance=Provenance.DATA,
    )


def ordered(levels: Sequence[str]) -> tuple[str, ...]:
    """Levels in numeric order where all are numbers, else in text order; 1 and 1.0 are one level."""
    numbers = [to_decimal(level) for level in levels]
    if any(number is None for number in numbers) or not all(_is_number(level) for level in levels):
        return tuple(sorted(levels))
    canonical = {canonical_number(level) or level for level in levels}
    return tuple(sorted(canonical, key=lambda level: (Decimal(level), level)))


def _dated(entry: _Cells) -> Column | None:
    try:
        days = [(dt.date.fromisoformat(level[:10]) - EPOCH).days for level in entry.levels]
    except ValueError:
        return None
    if min(days) == max(days):
        return None
    return Column(
        name=entry.name,
        kind=Kind.DATETIME,
        minimum=float(min(days)),
        maximum=float(max(days)),
        missing=entry.missing,
        provenance=Provenance.DATA,
    )


def _numeric(entry: _Cells) -> Column:
    """Whole numbers of few levels are ordinal; else an integer or numeric range."""
    exact = [to_decimal(level) or Decimal(0) for level in entry.levels]
    decimals = max(_decimals(number) for number in exact)
    if len(set(exact)) == 1 or (decimals == 0 and len(set(exact)) <= MOST_ORDINAL_LEVELS):
        levels = ordered(entry.levels)
        kinds = {1: Kind.CATEGORICAL, 2: Kind.BINARY}
        return _categorical(entry, kinds.get(len(levels), Kind.ORDINAL))
    values = np.array([float(number) for number in exact])
    return Column(
        name=entry.name,
        kind=Kind.NUMERIC if decimals else Kind.INTEGER,
        minimum=float(values.min()),
        maximum=float(values.max()),
        missing=entry.missing,
        provenance=Provenance.DATA,
        decimals=decimals,
        scale=_scale(values, entry.counts),
        spikes=_spikes(values, entry.counts),
    )


def _decimals(number: Decimal) -> int:
    """Decimals a number is written with, trailing zeros not counted; at most 9."""
    exponent = number.normalize().as_tuple().exponent
    return min(9, max(0, -exponent)) if isinstance(exponent, int) else 0


def _scale(values: np.ndarray, counts: np.ndarray) -> Scale:
    """Logarithmic for non-negative values with a long right tail (moment skewness above 2)."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(values, weights=counts)
        spread = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        skewness = np.average((values - mean) ** 3, weights=counts) / spread**3 if spread > 0 else 0.0
    return Scale.LOG if values.min() >= 0 and skewness > LOG_SKEWNESS else Scale.LINEAR


def _spikes(values: np.ndarray, counts: np.ndarray) -> tuple[float, ...]:
    """Values that hold more than a tenth of the cells of an otherwise spread column, ascending.

    A value that is merely the top of a hill, not three times either neighbour, is no spike.
    """
    if values.size < LEAST_SPREAD:
        return ()
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    neighbour = np.maximum(np.append(counts[1:], 0), np.append(0, counts[:-1]))
    is_spike = (counts > SPIKE_SHARE * counts.sum()) & (counts > 3 * neighbour)
    return tuple(values[is_spike].tolist())


def _texts(entry: _Cells, name: str) -> tuple[Column | None, str]:
    """Few levels are categories, more a code, and nearly one a row free text."""
    numbers = sum(_is_number(level) for level in entry.levels)
    note = ""
    if numbers >= LEAST_SPREAD and len(entry.levels) - numbers <= 3:
        note = f"Column {name} mixes numbers and texts: was a missing value written as a text?"
    if len(entry.levels) <= min(MOST_CATEGORIES, max(2, entry.rows - 1)):
        return _categorical(entry, Kind.CATEGORICAL), note
    if len(entry.levels) > min(MAX_CATEGORIES, int(entry.counts.sum()) // 2):
        return None, f"Column {name} looks like free text or an identifier and was left out."
    return _categorical(
        entry, Kind.CODE
    ), note or f"Column {name} has many levels: give its public code list."
