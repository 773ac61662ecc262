"""Does a table fit its schema? Every violation, and the typed cells where there is none.

Knows the schema and the cells as text. Rules: each distinct value of a column is judged once and the
judgement is spread over the rows; a violation names column, row and rule, and never the cell; column
names are quoted back only when the file has the schema's header, for otherwise they may be cells. A
column that was bought refuses less: a number is clamped to its bounds, an unknown category becomes other;
one still to be bought takes any number or text.
"""

import datetime as dt
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from synthkit.data.reading import RawTable, read_raw
from synthkit.data.sources import NamedSource, as_source, source_name
from synthkit.domain.levels import canonical_number
from synthkit.domain.schema import OTHER, Column, Kind, Provenance, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import SchemaError

EPOCH = dt.date(1970, 1, 1)
LISTED = 20
"""Violations listed one by one; the rest are counted."""

NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
INFINITE = re.compile(r"\s*[+-]?inf(?:inity)?\s*", re.IGNORECASE)
DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?")


class Rule(StrEnum):
    """What a cell or a column breaks, in the words of a message."""

    NO_HEADER = "no column of the schema is in the header line"
    MISSING_COLUMN = "the column is missing"
    UNEXPECTED_COLUMN = "the column is not in the schema"
    EMPTY_CELL = "an empty cell where missing is not allowed"
    NOT_A_NUMBER = "not a number"
    NOT_FINITE = "not a finite number"
    NOT_WHOLE = "not a whole number"
    NOT_A_DATE = "not a date"
    OUT_OF_BOUNDS = "outside the public bounds"
    UNKNOWN_CATEGORY = "not one of the categories"
    NO_PATIENT_ID = "no patient id"
    REPEATED_PATIENT = "a patient's second row in a table of one row per patient"


FIXES = {
    Rule.NO_HEADER: "comma-separated, with the column names in the first line?",
    Rule.MISSING_COLUMN: "add it, or take it out of the schema",
    Rule.UNEXPECTED_COLUMN: "add it to ignore under [table] to leave it out",
    Rule.EMPTY_CELL: "fill it, or set missing = true",
    Rule.NO_PATIENT_ID: "every row needs one",
    Rule.REPEATED_PATIENT: "keep one row per patient",
    Rule.NOT_A_DATE: "write YYYY-MM-DD",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule. `row` counts data rows from 1, `line` is the line in the file; None: not a cell's."""

    column: str
    rule: Rule
    row: int | None = None
    line: int | None = None
    expected: str = ""
    """What the schema allows, in public words."""

    @property
    def place(self) -> str:
        """Column, row and line in words."""
        parts = [f"column {shown(self.column)}"] if self.column else []
        if self.row is not None:
            parts.append(f"row {self.row}" + (f" (line {self.line})" if self.line is not None else ""))
        return ", ".join(parts)

    @property
    def fix(self) -> str:
        """What to do about it."""
        return self.expected or FIXES.get(self.rule, "correct the cell")

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.rule.value} ({self.fix})"
            if self.place
            else f"{self.rule.value} ({self.fix})"
        )


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """All violations counted, the first `LISTED` listed: whole columns first, then by row.

    `kinds` maps (column, rule) to the number of cells. For the site's own eyes: counts are private.
    """

    violations: tuple[Violation, ...]
    count: int
    kinds: dict[tuple[str, Rule], int]

    @property
    def is_valid(self) -> bool:
        """Whether the table fits."""
        return self.count == 0


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class CheckedCells:
    """Typed cells by column (as `synthkit.data.table` describes), patient numbers, and what is wrong.

    `lots`: one uint64 per row, a digest of the patient's id; without ids, of the row's cells and how
    many equal rows stand above it. No other patient's cell has a part in it, nor the order of the rows.
    """

    columns: dict[str, np.ndarray]
    patients: np.ndarray
    lots: np.ndarray
    result: CheckResult


def check_table(path: NamedSource, schema: Schema, *, one_row_per_patient: bool = False) -> CheckResult:
    """Check a table against its schema.

    Args:
        path: A CSV, gzipped CSV or Parquet file, or a query.
        schema: What it should fit.
        one_row_per_patient: Whether a patient's second row is a violation.

    Raises:
        InputError: It cannot be read as a table at all.
    """
    source = as_source(path)
    raw = read_raw(source, source_name(source))
    return check_cells(raw, schema, one_row_per_patient=one_row_per_patient).result


def check_cells(raw: RawTable, schema: Schema, *, one_row_per_patient: bool = False) -> CheckedCells:
    """Judge every cell once read; see `check_table`."""
    tally = _Tally(lines=raw.lines)
    _check_columns(raw.frame, schema, tally)
    columns = {
        column.name: _check_column(raw.frame[column.name], column, tally)
        for column in schema
        if column.name in raw.frame
    }
    patients = _check_patients(raw.frame, schema, one_row_per_patient, tally)
    lots = _lots(raw.frame, schema)
    return CheckedCells(columns=columns, patients=patients, lots=lots, result=tally.result())


class _Tally:
    """Collects violations by column and rule; the lines give each row its place in the file."""

    def __init__(self, *, lines: np.ndarray | None) -> None:
        self._lines = lines
        self._whole: list[Violation] = []
        self._cells: list[tuple[str, Rule, str, np.ndarray]] = []

    def add_column(self, name: str, rule: Rule) -> None:
        self._whole.append(Violation(column=name, rule=rule))

    def add_cells(self, name: str, rule: Rule, expected: str, rows: np.ndarray) -> None:
        """`rows`: positions from 0."""
        if rows.size:
            self._cells.append((name, rule, expected, rows))

    def result(self) -> CheckResult:
        kinds = {(violation.column, violation.rule): 1 for violation in self._whole}
        kinds |= {(name, rule): int(rows.size) for name, rule, _, rows in self._cells}
        listed = [
            (int(row), place) for place, cells in enumerate(self._cells) for row in cells[3][:LISTED].tolist()
        ]
        violations = [*self._whole, *(self._violation(row, place) for row, place in sorted(listed))]
        return CheckResult(violations=tuple(violations[:LISTED]), count=sum(kinds.values()), kinds=kinds)

    def _violation(self, row: int, place: int) -> Violation:
        name, rule, expected, _ = self._cells[place]
        line = None if self._lines is None else int(self._lines[row])
        return Violation(column=name, rule=rule, row=row + 1, line=line, expected=expected)


def _check_columns(frame: pd.DataFrame, schema: Schema, tally: _Tally) -> None:
    roles = (schema.patient_id, schema.visit, schema.time)
    required = [*schema.names, *(name for name in roles if name is not None)]
    found = {str(name) for name in frame.columns}
    if not found & set(required):
        tally.add_column("", Rule.NO_HEADER)
        return
    for name in dict.fromkeys(required):
        if name not in found:
            tally.add_column(name, Rule.MISSING_COLUMN)
    for name in frame.columns:
        if name not in required and name not in schema.ignored:
            tally.add_column(str(name), Rule.UNEXPECTED_COLUMN)


def _check_patients(
    frame: pd.DataFrame, schema: Schema, one_row_per_patient: bool, tally: _Tally
) -> np.ndarray:
    """One number per row, int64, equal for rows of one patient; without an id each row is a patient."""
    if schema.patient_id is None or schema.patient_id not in frame:
        return np.arange(len(frame), dtype=np.int64)
    codes, _ = pd.factorize(frame[schema.patient_id])
    tally.add_cells(schema.patient_id, Rule.NO_PATIENT_ID, "", np.flatnonzero(codes < 0))
    if one_row_per_patient:
        repeated = pd.Series(codes).duplicated().to_numpy() & (codes >= 0)
        tally.add_cells(schema.patient_id, Rule.REPEATED_PATIENT, "", np.flatnonzero(repeated))
    return np.asarray(codes, dtype=np.int64)


def _lots(frame: pd.DataFrame, schema: Schema) -> np.ndarray:
    """What each row's patient brings to a split: see `CheckedCells`."""
    if schema.patient_id is not None and schema.patient_id in frame:
        return pd.util.hash_array(frame[schema.patient_id].to_numpy(dtype=object), categorize=True)
    cells = [name for name in sorted(schema.names) if name in frame]
    if not cells:
        return np.zeros(len(frame), dtype=np.uint64)
    rows = pd.util.hash_pandas_object(frame[cells], index=False).to_numpy()
    above = pd.Series(rows).groupby(rows, sort=False).cumcount().to_numpy()
    return pd.util.hash_pandas_object(pd.DataFrame({"row": rows, "above": above}), index=False).to_numpy()


Judgement = tuple[object, Rule | None]
"""A distinct cell's typed value, or the rule it breaks."""


def _check_column(cells: pd.Series, column: Column, tally: _Tally) -> np.ndarray:
    """The typed values, float64 (missing: NaN) or object text (missing: None), shape (rows,)."""
    codes, levels = pd.factorize(cells)
    judge = _judge_for(column)
    judgements = [judge(str(level)) for level in levels]
    if not column.missing:
        tally.add_cells(column.name, Rule.EMPTY_CELL, "", np.flatnonzero(codes < 0))
    for rule in dict.fromkeys(rule for _, rule in judgements if rule is not None):
        broken = np.array([found is rule for _, found in judgements] + [False])
        tally.add_cells(column.name, rule, _expected(column, rule), np.flatnonzero(broken[codes]))
    if column.is_numeric:
        numbers = [math.nan if rule else value for value, rule in judgements]
        return np.array([*numbers, math.nan], dtype=np.float64)[codes]
    texts = np.empty(len(judgements) + 1, dtype=object)
    texts[:-1] = [None if rule else value for value, rule in judgements]
    return np.asarray(texts[codes], dtype=object)


def _judge_for(column: Column) -> Callable[[str], Judgement]:
    if column.kind is Kind.DATETIME:
        return lambda cell: _judge_date(cell, column)
    if column.is_numeric:
        return lambda cell: _judge_number(cell, column)
    if not column.blank.categories:
        return lambda cell: (cell, None)
    levels = category_lookup(column.categories)
    if column.is_bought:
        return lambda cell: (_judge_category(cell, levels)[0] or OTHER, None)
    return lambda cell: _judge_category(cell, levels)


def category_lookup(categories: tuple[str, ...]) -> dict[str, str]:
    """From a cell's text, or its shortest number, to the category; a number two categories share is none."""
    numbers = [canonical_number(level) for level in categories]
    by_number = {
        number: level
        for number, level in zip(numbers, categories, strict=True)
        if number is not None and numbers.count(number) == 1
    }
    return by_number | {level: level for level in categories}


def _judge_category(cell: str, levels: dict[str, str]) -> Judgement:
    level = levels.get(cell)
    if level is None:
        level = levels.get(canonical_number(cell) or "")
    return (level, None) if level is not None else (None, Rule.UNKNOWN_CATEGORY)


def _judge_number(cell: str, column: Column) -> Judgement:
    if not NUMBER.fullmatch(cell):
        return None, Rule.NOT_FINITE if INFINITE.fullmatch(cell) else Rule.NOT_A_NUMBER
    number = float(cell)
    if not math.isfinite(number):
        return None, Rule.NOT_FINITE
    if column.kind is Kind.INTEGER and not number.is_integer():
        return None, Rule.NOT_WHOLE
    return _judge_bounds(number, column)


def _judge_date(cell: str, column: Column) -> Judgement:
    """A time of day is dropped: a datetime column counts days."""
    found = DATE.fullmatch(cell)
    try:
        day = dt.date.fromisoformat(found[1]) if found else None
    except ValueError:
        day = None
    if day is None:
        return None, Rule.NOT_A_DATE
    return _judge_bounds(float((day - EPOCH).days), column)


def _judge_bounds(number: float, column: Column) -> Judgement:
    """Outside public bounds is an error; bought bounds are known to be too narrow for some, and clamp."""
    if column.provenance is Provenance.DP:
        return clamped(number, column) + 0.0, None
    if column.minimum is None or column.maximum is None:
        raise RuntimeError("a numeric column has bounds")
    if not column.minimum <= number <= column.maximum:
        return None, Rule.OUT_OF_BOUNDS
    return number + 0.0, None


def clamped(number: float, column: Column) -> float:
    """The number within bounds that were bought; itself for other columns. NaN stays."""
    bounds = column.blank
    if column.provenance is not Provenance.DP or bounds.minimum is None or bounds.maximum is None:
        return number
    return min(max(number, bounds.minimum), bounds.maximum) if number == number else number  # noqa: PLR0124


def _expected(column: Column, rule: Rule) -> str:
    if rule is not Rule.OUT_OF_BOUNDS or column.minimum is None or column.maximum is None:
        return "see categories in the schema" if rule is Rule.UNKNOWN_CATEGORY else ""
    if column.kind is Kind.DATETIME:
        low, high = (EPOCH + dt.timedelta(days=int(day)) for day in (column.minimum, column.maximum))
        return f"within {low.isoformat()} to {high.isoformat()}"
    return f"within {column.minimum:.12g} to {column.maximum:.12g}"


def check_error(result: CheckResult, where: str) -> SchemaError:
    """The first violation as an error; it counts the kinds of violation, never the rows."""
    first, kinds = result.violations[0], len(result.kinds)
    more = f"; {kinds} kinds of violation in all" if kinds > 1 else ""
    place = f"{where}: {first.place}" if first.place else where
    return SchemaError(f"{first.rule.value}{more}", where=place, fix=first.fix)
