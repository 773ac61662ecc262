"""Target: a yes-or-no question about one column, which a classifier is trained to answer.

Knows conditions on a single column. Refuses a condition that the schema already decides (a threshold
outside the bounds, an undeclared category): such a task has one class and measures nothing.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from synthkit.data.table import EPOCH
from synthkit.domain.levels import to_decimal
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError

EXAMPLE = "write it like 'age >= 70', 'readmitted = NO', or a binary column's name"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One prediction task: is `column` at least `value` (a number), or equal to `value` (text)?

    `exclude` names columns that may not be used as features, because they give the answer away.
    `levels` lists the categories that mean yes when an ordinal column's numbers are compared.
    """

    column: str
    value: float | str
    exclude: tuple[str, ...] = ()
    is_date: bool = False
    levels: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The question in words, for example "age >= 70"."""
        if isinstance(self.value, str):
            return f"{self.column} = {self.value}"
        if self.is_date:
            return f"{self.column} >= {(EPOCH + timedelta(days=self.value)).isoformat()}"
        return f"{self.column} >= {self.value:g}"

    def answers(self, frame: pd.DataFrame) -> np.ndarray:
        """float64, shape (rows,): 1 yes, 0 no, NaN where the column is missing."""
        cells = frame[self.column]
        if self.levels:
            yes = cells.isin(self.levels)
        elif isinstance(self.value, str):
            yes = cells == self.value
        else:
            yes = cells >= self.value
        return np.where(cells.isna(), np.nan, yes.to_numpy(dtype=float))

    def features(self, schema: Schema) -> tuple[int, ...]:
        """Positions of the columns that may be used to answer."""
        hidden = {self.column, *self.exclude}
        return tuple(i for i, column in enumerate(schema) if column.name not in hidden)


def parse_target(text: str, schema: Schema) -> Target:
    """Read a target: `COLUMN >= NUMBER`, `COLUMN = CATEGORY`, or a binary column's name alone.

    A binary column's name alone asks for its second category. ` without A, B` at the end keeps
    columns A and B out of the features.

    Raises:
        ConditionError: The text is none of these, or the schema already decides the answer.
    """
    where = f"target {text.strip()!r}"
    condition, exclude = _split_without(text.strip(), schema)
    column = _leading_column(condition, schema, where)
    rest = condition[len(column.name) :].strip()
    if not rest:
        value: float | str = _second_category(column, where)
    elif column.is_numeric:
        value = _threshold(rest, column, where)
    elif column.kind is Kind.ORDINAL and rest.startswith(">="):
        return _ordinal_target(rest[2:].strip(), column, exclude, where)
    else:
        value = _category(rest, column, where)
    is_date = column.kind is Kind.DATETIME
    target = Target(column=column.name, value=value, exclude=exclude, is_date=is_date)
    if not target.features(schema):
        raise ConditionError("no column is left to predict from", where=where, fix="exclude fewer")
    return target


def default_targets(schema: Schema, frame: pd.DataFrame) -> tuple[Target, ...]:
    """One target for each column that the schema marks `target = true`.

    A binary or event column: its second category. Another column of categories: its most frequent
    one in `frame` (the earliest declared of equals). A number: at least the median of `frame`, or
    the smallest value above the minimum where the median is the minimum. A column with a single
    value asks nothing and is left out.
    """
    targets = (_default_target(column, frame[column.name].dropna()) for column in schema if column.target)
    return tuple(target for target in targets if target is not None)


def _default_target(column: Column, cells: pd.Series) -> Target | None:
    if cells.nunique() < 2:
        return None
    if column.is_numeric:
        numbers = np.sort(cells.to_numpy(dtype=float))
        median = float(numbers[numbers.size // 2])
        value: float | str = median if median > numbers[0] else float(numbers[numbers > numbers[0]][0])
    elif column.kind in (Kind.BINARY, Kind.EVENT):
        value = column.categories[1]
    else:
        levels = column.categories or tuple(sorted(cells.unique()))
        value = max(levels, key=lambda level: int((cells == level).sum()))
    return Target(column=column.name, value=value, is_date=column.kind is Kind.DATETIME)


def _split_without(text: str, schema: Schema) -> tuple[str, tuple[str, ...]]:
    """Split off ` without A, B`, unless the words belong to a category ("diabetes without coma")."""
    condition, found, names = text.rpartition(" without ")
    exclude = tuple(name.strip() for name in names.split(","))
    if found and set(exclude) <= set(schema.names):
        return condition.strip(), exclude
    return text, ()


def _leading_column(text: str, schema: Schema, where: str) -> Column:
    """The column with the longest name that starts the text and ends at a space or an operator."""
    names = [n for n in schema.names if text.startswith(n) and text[len(n) : len(n) + 1] in ("", *" \t=<>!")]
    if not names:
        raise ConditionError("it does not start with a column of the schema", where=where, fix=EXAMPLE)
    return schema.column(max(names, key=len))


def _second_category(column: Column, where: str) -> str:
    if column.kind not in (Kind.BINARY, Kind.EVENT):
        raise ConditionError(f"column {column.name} is not binary", where=where, fix=EXAMPLE)
    return column.categories[1]


def _threshold(rest: str, column: Column, where: str) -> float:
    if not rest.startswith(">="):
        raise ConditionError(f"column {column.name} is a number", where=where, fix="write it with >=")
    number = rest[2:].strip()
    try:
        is_date = column.kind is Kind.DATETIME
        value = float((date.fromisoformat(number) - EPOCH).days) if is_date else float(number)
    except ValueError as error:
        raise ConditionError("what follows >= cannot be read", where=where, fix=EXAMPLE) from error
    if column.minimum is None or column.maximum is None or not column.minimum < value <= column.maximum:
        raise ConditionError(
            f"the bounds of column {column.name} already decide it",
            where=where,
            fix="choose a threshold above the minimum and up to the maximum",
        )
    return value


def _ordinal_target(number: str, column: Column, exclude: tuple[str, ...], where: str) -> Target:
    """A threshold on an ordinal column whose categories are numbers, such as decades of age."""
    levels = {level: to_decimal(level) for level in column.categories}
    least = to_decimal(number)
    if least is None or None in levels.values():
        raise ConditionError("the categories are not numbers", where=where, fix="write it with =")
    yes = tuple(level for level, value in levels.items() if value is not None and value >= least)
    if len(yes) in (0, len(levels)):
        raise ConditionError(
            f"the categories of column {column.name} already decide it",
            where=where,
            fix="choose a threshold above the lowest and up to the highest",
        )
    return Target(column=column.name, value=float(least), exclude=exclude, levels=yes)


def _category(rest: str, column: Column, where: str) -> str:
    if not rest.startswith("="):
        raise ConditionError(f"column {column.name} has categories", where=where, fix="write it with =")
    value = rest.lstrip("=").strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    if not value or (column.categories and value not in column.categories):
        raise ConditionError(
            f"not a category of column {column.name}", where=where, fix="use one the schema declares"
        )
    return value
