"""Conditions on generated rows: `age >= 70 and sex = Female`.

Knows the grammar and the schema's public bounds and categories. Refuses to know rows. Rules: a
condition is honoured exactly or refused here; one that no row of the schema could meet is refused
before anything is generated; a comparison is never true of a missing cell.
The grammar is in `synthkit.domain.condition_text`.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from difflib import get_close_matches

from synthkit.domain.condition_text import ORDER, Condition, Operator, parse_text
from synthkit.domain.levels import match_category, to_decimal
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import ConditionError

__all__ = ["Allowed", "Condition", "Operator", "allowed", "parse_conditions"]

EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What conditions leave of one column.

    For a column of categories: `categories`, the indices that may occur, ascending. For a numeric one:
    the inclusive interval from `low` to `high`, already rounded inwards to the column's decimals, less
    the `excluded` values and, unless `points` is None, narrowed to these values. `missing`: whether the
    cell may be empty. With only an empty cell allowed, `categories` is empty, or `low` exceeds `high`.
    """

    missing: bool
    categories: tuple[int, ...] = ()
    low: float = 0.0
    high: float = -1.0
    excluded: tuple[float, ...] = ()
    points: tuple[float, ...] | None = None

    def permits(self, value: float) -> bool:
        """Whether a number (days for a datetime) may stand in a numeric column."""
        inside = self.low <= value <= self.high and value not in self.excluded
        return inside and (self.points is None or value in self.points)


def parse_conditions(texts: Sequence[str], schema: Schema) -> tuple[Condition, ...]:
    """Parse conditions and check them, each alone and all together, against the schema.

    Args:
        texts: Each one or more conditions joined by `and`; all of them have to hold.
        schema: The table's schema.

    Raises:
        ConditionError: A text does not follow the grammar, names an unknown column or category, lies
            outside the public bounds, or no row could meet all of them.
    """
    conditions = tuple(
        _checked(condition, schema, f"condition {shown(text)}")
        for text in texts
        for condition in parse_text(text)
    )
    for name in dict.fromkeys(condition.column for condition in conditions):
        column = schema.column(name)
        rule = allowed(column, conditions)
        if not rule.missing and not _has_value(column, rule):
            raise ConditionError(
                "the conditions contradict each other: no value is left",
                where=f"column {shown(name)}",
                fix="drop or widen one of them",
            )
    return conditions


def _checked(condition: Condition, schema: Schema, where: str) -> Condition:
    """The condition with its values as the schema writes them."""
    if condition.column not in schema.names:
        fix = _nearest(condition.column, schema.names) or "see the schema's [columns]"
        raise ConditionError(f"unknown column {shown(condition.column)}", where=where, fix=fix)
    column = schema.column(condition.column)
    if condition.operator is Operator.MISSING and not column.missing:
        raise ConditionError(
            f"{shown(column.name)} is never missing in this schema", where=where, fix="drop the condition"
        )
    values = tuple(_checked_value(value, condition.operator, column, where) for value in condition.values)
    return Condition(column=column.name, operator=condition.operator, values=values)


def _checked_value(value: str, operator: Operator, column: Column, where: str) -> str:
    if column.is_numeric:
        number = _number(value, column, where)
        if operator not in ORDER and number != _on_grid(number, column, ROUND_FLOOR):
            raise ConditionError(f"{shown(column.name)} has {column.decimals} decimals", where=where)
        return value.strip()
    if operator in ORDER and column.kind is not Kind.ORDINAL:
        raise ConditionError(f"{shown(column.name)} has no order", where=where, fix="use = != or in")
    if not column.categories:
        raise ConditionError(
            f"{shown(column.name)} lists no categories", where=where, fix="list them in the schema"
        )
    level = match_category(value, column.categories)
    if operator in ORDER and level is not None and level not in column.ranked:
        raise ConditionError(
            f"{shown(level)} stands for many and has no order", where=where, fix="use = or !="
        )
    if level is not None:
        return level
    number_levels = _number_levels(column)
    if operator in ORDER and number_levels and to_decimal(value) is not None:
        if not min(number_levels) <= Decimal(value.strip()) <= max(number_levels):
            raise _outside(column, where, str(min(number_levels)), str(max(number_levels)))
        return value.strip()
    fix = _nearest(value, column.categories) or "see the schema's categories"
    raise ConditionError(f"{shown(column.name)} has no such category", where=where, fix=fix)


def _nearest(word: str, known: Sequence[str]) -> str:
    """A question that names the nearest known word, whatever its case; empty if none is near."""
    by_case = {name.casefold(): name for name in reversed(known)}
    near = get_close_matches(word.casefold(), by_case, n=1)
    return f"did you mean {shown(by_case[near[0]])}?" if near else ""


def _outside(column: Column, where: str, low: str, high: str) -> ConditionError:
    return ConditionError(
        f"outside the public bounds of {shown(column.name)}", where=where, fix=f"within {low} to {high}"
    )


def _number_levels(column: Column) -> tuple[Decimal, ...]:
    """The comparable categories as numbers, when every one of them is a number; else empty."""
    levels = [to_decimal(level) for level in column.ranked]
    return tuple(level for level in levels if level is not None) if None not in levels else ()


def _number(value: str, column: Column, where: str) -> Decimal:
    """A value of a numeric column (days for a datetime), checked against the bounds."""
    if column.kind is Kind.DATETIME:
        try:
            number: Decimal | None = Decimal((dt.date.fromisoformat(value.strip()) - EPOCH).days)
        except ValueError:
            number = None
    else:
        number = to_decimal(value)
    if number is None:
        form = "a date, YYYY-MM-DD" if column.kind is Kind.DATETIME else "a number"
        raise ConditionError(f"{shown(column.name)} is compared with {form}", where=where, fix="correct it")
    low, high = _bounds(column)
    if not low <= number <= high:
        raise _outside(column, where, _value_text(low, column), _value_text(high, column))
    return number


def _value_text(number: Decimal, column: Column) -> str:
    if column.kind is Kind.DATETIME:
        return (EPOCH + dt.timedelta(days=int(number))).isoformat()
    return f"{float(number):g}"


def _bounds(column: Column) -> tuple[Decimal, Decimal]:
    """The public bounds, exact: a float's shortest text is what the schema's author wrote."""
    if column.minimum is None or column.maximum is None:
        raise RuntimeError("a numeric column has bounds")
    return Decimal(repr(float(column.minimum))), Decimal(repr(float(column.maximum)))


def _unit(column: Column) -> Decimal:
    return Decimal(1) if column.is_whole else Decimal(1).scaleb(-column.decimals)


def _on_grid(number: Decimal, column: Column, rounding: str) -> Decimal:
    """The number rounded to the column's decimals."""
    unit = _unit(column)
    return (number / unit).to_integral_value(rounding=rounding) * unit


def allowed(column: Column, conditions: Sequence[Condition]) -> Allowed:
    """What the (checked) conditions on this column leave of it; others are passed over."""
    own = [condition for condition in conditions if condition.column == column.name]
    has_value = all(condition.operator is not Operator.MISSING for condition in own)
    missing = column.missing and all(condition.operator is Operator.MISSING for condition in own)
    if not has_value and not column.is_numeric:
        return Allowed(missing=missing)
    if not has_value:
        low, high = _bounds(column)
        return Allowed(missing=missing, low=float(high) + 1, high=float(low) - 1)
    own = [condition for condition in own if condition.operator is not Operator.NOT_MISSING]
    return (
        _allowed_numbers(column, own, missing) if column.is_numeric else _allowed_levels(column, own, missing)
    )


def _allowed_levels(column: Column, conditions: Sequence[Condition], missing: bool) -> Allowed:
    indices = range(len(column.categories))
    kept = (i for i in indices if all(_level_meets(column, i, condition) for condition in conditions))
    return Allowed(missing=missing, categories=tuple(kept))


def _level_meets(column: Column, index: int, condition: Condition) -> bool:
    level = column.categories[index]
    if condition.operator not in ORDER:
        return (level in condition.values) is not (condition.operator is Operator.NOT_EQUAL)
    if level not in column.ranked:
        return False
    numbers = _number_levels(column)
    if numbers:
        return _compares(numbers[index], condition.operator, Decimal(condition.values[0]))
    place = column.categories.index(condition.values[0])
    return _compares(Decimal(index), condition.operator, Decimal(place))


def _compares(left: Decimal, operator: Operator, right: Decimal) -> bool:
    return {
        Operator.BELOW: left < right,
        Operator.AT_MOST: left <= right,
        Operator.ABOVE: left > right,
        Operator.AT_LEAST: left >= right,
    }[operator]


def _allowed_numbers(column: Column, conditions: Sequence[Condition], missing: bool) -> Allowed:
    lower, upper = _bounds(column)
    low, high = _on_grid(lower, column, ROUND_CEILING), _on_grid(upper, column, ROUND_FLOOR)
    excluded: set[Decimal] = set()
    points: set[Decimal] | None = None
    for condition in conditions:
        values = {_number(value, column, f"column {shown(column.name)}") for value in condition.values}
        if condition.operator is Operator.NOT_EQUAL:
            excluded |= values
        elif condition.operator in (Operator.EQUAL, Operator.IN):
            points = values if points is None else points & values
        else:
            floor, ceiling = _half_line(column, condition.operator, min(values))
            low = low if floor is None else max(low, floor)
            high = high if ceiling is None else min(high, ceiling)
    if points is not None:
        points = {point for point in points - excluded if low <= point <= high}
        low, high = min(points, default=low), max(points, default=high)
        excluded = set()
    low, high = _trimmed(low, high, excluded, _unit(column))
    return Allowed(
        missing=missing,
        low=float(low),
        high=float(high),
        excluded=tuple(float(value) for value in sorted(excluded) if low <= value <= high),
        points=None if points is None else tuple(float(point) for point in sorted(points)),
    )


def _trimmed(low: Decimal, high: Decimal, excluded: set[Decimal], unit: Decimal) -> tuple[Decimal, Decimal]:
    """The interval without excluded values at its ends."""
    while low in excluded and low <= high:
        low += unit
    while high in excluded and low <= high:
        high -= unit
    return low, high


def _half_line(column: Column, operator: Operator, value: Decimal) -> tuple[Decimal | None, Decimal | None]:
    """Lowest and highest value of the column's grid that meet an order condition; None: no limit."""
    down, up = _on_grid(value, column, ROUND_FLOOR), _on_grid(value, column, ROUND_CEILING)
    if operator is Operator.AT_LEAST:
        return up, None
    if operator is Operator.ABOVE:
        return down + _unit(column), None
    if operator is Operator.AT_MOST:
        return None, down
    return None, up - _unit(column)


def _has_value(column: Column, rule: Allowed) -> bool:
    """Whether a present value remains."""
    if not column.is_numeric:
        return bool(rule.categories)
    if rule.points is not None:
        return bool(rule.points)
    unit = float(_unit(column))
    return math.floor((rule.high - rule.low) / unit + 1.5) > len(rule.excluded)
