"""`allowed` keeps exactly the values that meet every condition, on small columns tried value by value."""

import operator
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.domain.conditions import allowed, parse_conditions
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.schema import Column, Kind, Provenance, Scale, Schema
from synthkit.errors import ConditionError

COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COLUMNS = (
    Column(name="x", kind=Kind.NUMERIC, minimum=-1.05, maximum=1.0, decimals=1, missing=True),
    Column(name="x", kind=Kind.INTEGER, minimum=-3, maximum=6),
    Column(name="x", kind=Kind.ORDINAL, categories=tuple(str(n) for n in range(0, 50, 10)), missing=True),
)


def grid(column: Column) -> list[Decimal]:
    if not column.is_numeric:
        return [Decimal(level) for level in column.categories]
    step = Decimal(1).scaleb(-column.decimals)
    values = [n * step for n in range(-200, 200)]
    return [v for v in values if Decimal(str(column.minimum)) <= v <= Decimal(str(column.maximum))]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_exactly_the_meeting_values_are_allowed(data):
    column = data.draw(st.sampled_from(COLUMNS))
    values = grid(column)
    parts = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(COMPARE)), st.sampled_from(values)), min_size=1, max_size=4)
    )
    expected = [v for v in values if all(COMPARE[sign](v, right) for sign, right in parts)]
    text = " and ".join(f"x {sign} {right}" for sign, right in parts)
    schema = Schema(columns=(column,))
    if not expected:
        with pytest.raises(ConditionError, match="contradict"):
            parse_conditions([text], schema)
        return
    conditions = parse_conditions([text], schema)
    rule = allowed(column, conditions)
    assert not rule.missing
    if column.is_numeric:
        assert [v for v in values if rule.permits(float(v))] == expected
        assert (rule.low, rule.high) == (float(expected[0]), float(expected[-1]))
    else:
        assert [values[i] for i in rule.categories] == expected


NAMES = st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u00ad"), min_size=1)
printable = NAMES.filter(lambda name: name.isprintable())
LEVELS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, unique=True)
NUMBERS = st.floats(-1e12, 1e12).map(lambda x: x + 0.0)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    shared = {
        "name": name,
        "missing": draw(st.booleans()),
        "unit": draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=5)),
        "provenance": draw(st.sampled_from(Provenance)),
        "target": draw(st.booleans()),
    }
    kind = draw(st.sampled_from([Kind.CATEGORICAL, Kind.ORDINAL, Kind.NUMERIC, Kind.DURATION, Kind.DATETIME]))
    if kind in (Kind.CATEGORICAL, Kind.ORDINAL):
        return Column(kind=kind, categories=tuple(draw(LEVELS)), **shared)
    if kind is Kind.DATETIME:
        low, high = sorted(draw(st.lists(st.integers(-50000, 50000), min_size=2, max_size=2, unique=True)))
        return Column(kind=kind, minimum=float(low), maximum=float(high), spikes=(float(low),), **shared)
    low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True)))
    return Column(
        kind=kind,
        minimum=low,
        maximum=high,
        decimals=draw(st.integers(0, 9)),
        scale=draw(st.sampled_from(Scale)),
        spikes=tuple(draw(st.lists(st.floats(low, high).map(lambda x: x + 0.0), max_size=2))),
        **shared,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_schema_survives_its_document(data):
    names = data.draw(st.lists(printable, min_size=1, max_size=4, unique=True))
    drawn = tuple(data.draw(columns(name)) for name in names)
    schema = Schema(columns=drawn, name=data.draw(printable))
    again = schema_from_toml(schema_to_toml(schema), "again")
    assert again == schema
    assert again.digest == schema.digest
