"""For any schema and conditions: states come back, values fit the schema, every condition holds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from small_ward import WARD, ward_table

from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.conditions import Condition, Operator, allowed, parse_conditions
from synthkit.domain.schema import Column, Kind, Scale, Schema
from synthkit.errors import ConditionError, SchemaError

BARE = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def numeric_columns(draw):
    kind = draw(st.sampled_from([Kind.NUMERIC, Kind.INTEGER, Kind.DURATION, Kind.DATETIME]))
    decimals = draw(st.integers(0, 4)) if kind in (Kind.NUMERIC, Kind.DURATION) else 0
    units = 10**decimals
    low = draw(st.integers(-3000, 3000))
    span = draw(st.sampled_from([1, 2, 7, 48, 49, 100, 3000, 100_000]))
    spikes = draw(st.lists(st.integers(low, low + span), max_size=3, unique=True))
    return Column(
        name="x",
        kind=kind,
        minimum=low / units,
        maximum=(low + span) / units,
        decimals=decimals,
        spikes=tuple(spike / units for spike in spikes),
        missing=draw(st.booleans()),
        scale=draw(st.sampled_from(Scale)),
    )


@st.composite
def level_columns(draw):
    kind = draw(st.sampled_from([Kind.CATEGORICAL, Kind.ORDINAL, Kind.BINARY, Kind.EVENT]))
    count = 2 if kind in (Kind.BINARY, Kind.EVENT) else draw(st.integers(1, 8))
    names = draw(st.sampled_from(["abcdefgh", "01234567"]))
    return Column(name="x", kind=kind, categories=tuple(names[:count]), missing=draw(st.booleans()))


def grid(column):
    """Every value that may be released, of a column with few of them; else none."""
    unit = 10**column.decimals
    first, last = round(column.minimum * unit), round(column.maximum * unit)
    return [k / unit for k in range(first, last + 1)] if last - first <= 3000 else []


@st.composite
def conditions_on(draw, column):
    def value():
        if not column.is_numeric:
            return draw(st.sampled_from(column.categories))
        unit = 10**column.decimals
        k = draw(st.integers(round(column.minimum * unit), round(column.maximum * unit)))
        if column.kind is Kind.DATETIME:
            return str(np.datetime64("1970-01-01") + k)
        return f"{k / unit:.{column.decimals}f}"

    ordered = column.is_numeric or column.kind is Kind.ORDINAL
    operators = [Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN]
    operators += [Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST] if ordered else []
    operators += [Operator.NOT_MISSING, *([Operator.MISSING] if column.missing else [])]
    found = []
    for _ in range(draw(st.integers(1, 4))):
        operator = draw(st.sampled_from(operators))
        count = draw(st.integers(1, 3)) if operator is Operator.IN else 1
        values = () if "missing" in operator.value else tuple(value() for _ in range(count))
        found.append(Condition(column="x", operator=operator, values=values))
    return found


def checked(column, conditions):
    """The conditions as the command line would have them; contradictions are not asked."""
    schema = Schema(columns=(column,))
    try:
        return schema, parse_conditions([str(condition) for condition in conditions], schema)
    except ConditionError:
        return schema, None


def drawn_values(schema, conditions, rows=400):
    """Values of states drawn as a generator would: any state the conditions give weight to."""
    encoding = fit_encoding(schema)
    rng = np.random.default_rng(0)
    weights = encoding.restrict(conditions).get(0, np.ones(encoding.layout.states[0]))
    possible = np.flatnonzero(weights)
    states = np.concatenate([possible, rng.choice(possible, rows)])[:, None]
    return encoding.decode(states, rng, conditions)


@BARE
@given(st.data())
def test_every_condition_holds_for_every_decoded_number(data):
    column = data.draw(numeric_columns())
    schema, conditions = checked(column, data.draw(conditions_on(column)))
    assume(conditions is not None)
    rule = allowed(column, conditions)
    table = drawn_values(schema, conditions)
    for value, text in zip(table.frame["x"], table.release_frame()["x"], strict=True):
        if np.isnan(value):
            assert rule.missing
            assert text is None
        else:
            assert rule.permits(value), (value, rule)
            check_released(column, value, text)


def check_released(column, value, text):
    """Within the public bounds, on the declared grid, and written as that very number."""
    assert column.minimum <= value <= column.maximum
    if column.kind is Kind.DATETIME:
        assert text == str(np.datetime64("1970-01-01") + int(value))
        return
    assert float(text) == value
    assert len(text.partition(".")[2]) == column.decimals


@BARE
@given(st.data())
def test_every_condition_holds_for_every_decoded_level(data):
    column = data.draw(level_columns())
    schema, conditions = checked(column, data.draw(conditions_on(column)))
    assume(conditions is not None)
    rule = allowed(column, conditions)
    permitted = {column.categories[index] for index in rule.categories}
    for value in drawn_values(schema, conditions).frame["x"]:
        assert rule.missing if value is None else value in permitted


@BARE
@given(numeric_columns())
@example(Column(name="x", kind=Kind.NUMERIC, minimum=0, maximum=1e8, decimals=2, spikes=(12345678.91,)))
def test_unconditional_values_fit_the_schema_and_encode_again(column):
    """A value decoded from a bin lies in it to within half a unit; all else comes back to its state."""
    schema = Schema(columns=(column,))
    encoding = fit_encoding(schema)
    coding = encoding.columns[0]
    states = np.repeat(np.arange(coding.states), 5)[:, None]
    table = encoding.decode(states, np.random.default_rng(1))
    again = encoding.encode(PatientTable(schema=schema, frame=table.frame, patients=np.arange(len(table))))
    for state, back, value, text in zip(
        states[:, 0], again[:, 0], table.frame["x"], table.release_frame()["x"], strict=True
    ):
        if state == coding.present_states:
            assert np.isnan(value)
            assert back == state
            continue
        check_released(column, value, text)
        if state < len(coding.spikes):
            assert value == coding.spikes[state]
            assert back == state
            continue
        low, high = coding.edges[state - len(coding.spikes)], coding.edges[state - len(coding.spikes) + 1]
        slack = 0 if column.is_whole else coding.unit * 0.5001
        assert low - slack <= value <= high + slack
        assert back == state or value in coding.spikes or not column.is_whole


@BARE
@given(level_columns())
def test_levels_come_back_to_their_state(column):
    schema = Schema(columns=(column,))
    encoding = fit_encoding(schema)
    states = np.arange(encoding.layout.states[0])[:, None]
    table = encoding.decode(states, np.random.default_rng(0))
    again = encoding.encode(PatientTable(schema=schema, frame=table.frame, patients=np.arange(len(table))))
    assert np.array_equal(again, states)


@BARE
@given(numeric_columns())
def test_every_released_value_has_a_bin_and_edges_increase(column):
    values = grid(column)
    assume(values)
    coding = fit_encoding(Schema(columns=(column,))).columns[0]
    assert (np.diff(coding.edges) > 0).all()
    assert coding.edges[0] <= column.minimum
    assert column.maximum <= coding.edges[-1]
    states = coding.encode(pd.Series(values, dtype=float))
    assert states.min() >= 0
    assert states.max() < coding.present_states
    # A spike's own state is not in the order of the values; the bins are.
    order = [state for state in states if state >= len(coding.spikes)]
    assert order == sorted(order)


@BARE
@given(st.data())
def test_the_weights_are_the_permitted_share_of_each_bin(data):
    """Whole numbers, whose bins share no edge: counted value by value."""
    column = data.draw(numeric_columns().filter(lambda c: c.is_whole and grid(c)))
    schema, conditions = checked(column, data.draw(conditions_on(column)))
    assume(conditions is not None)
    coding, rule = fit_encoding(schema).columns[0], allowed(column, conditions)
    weights = coding.weights(conditions)
    values = np.array(grid(column))
    for index, (low, high) in enumerate(zip(coding.edges[:-1], coding.edges[1:], strict=True)):
        inside = values[(values > low) & (values < high)]
        share = np.mean([rule.permits(value) for value in inside])
        assert weights[len(coding.spikes) + index] == pytest.approx(share)


def test_the_encoding_of_any_two_tables_is_the_same_to_the_byte():
    """It is made from the schema alone, and reading rows leaves it as it was."""
    seen = []
    for seed in (1, 2):
        encoding = fit_encoding(WARD)
        encoding.encode(ward_table(30 * seed, seed=seed))
        edges = b"".join(column.edges.tobytes() for column in encoding.columns)
        seen.append((edges, repr(encoding.to_json()), repr(encoding.layout)))
    assert seen[0] == seen[1]


def test_real_rows_come_back_to_within_a_bin():
    table = ward_table(300)
    encoding = fit_encoding(WARD)
    back = encoding.decode(encoding.encode(table), np.random.default_rng(0)).frame
    for coding in encoding.columns:
        name = coding.column.name
        one, other = table.frame[name], back[name]
        assert one.isna().equals(other.isna())
        if not coding.column.is_numeric:
            assert one.dropna().equals(other.dropna())
            continue
        rows = one.notna().to_numpy()
        states = encoding.encode(table)[rows, WARD.names.index(name)]
        widths = np.diff(coding.edges)[np.maximum(states - len(coding.spikes), 0)]
        off = np.abs(one - other).to_numpy()[rows]
        assert (off <= np.where(states < len(coding.spikes), 0, widths) + coding.unit).all()


def test_values_with_bounds_between_two_whole_numbers_come_back():
    column = Column(name="x", kind=Kind.NUMERIC, minimum=0.5, maximum=10.2, decimals=0)
    schema = Schema(columns=(column,))
    encoding = fit_encoding(schema)
    frame = pd.DataFrame({"x": np.arange(1.0, 11.0)})
    states = encoding.encode(PatientTable(schema=schema, frame=frame, patients=np.arange(10)))
    assert np.array_equal(encoding.decode(states, np.random.default_rng(0)).frame["x"], frame["x"])


def test_a_code_column_is_refused():
    with pytest.raises(SchemaError, match="longitudinal"):
        fit_encoding(Schema(columns=(Column(name="icd", kind=Kind.CODE),)))


def test_two_excluded_neighbours_below_the_upper_bound_stay_excluded():
    """0.2 + 0.1 exceeds 0.3 as floats; a step must not turn back there."""
    column = Column(name="x", kind=Kind.NUMERIC, minimum=0, maximum=0.3, decimals=1)
    schema, conditions = checked(
        column, [Condition(column="x", operator=Operator.NOT_EQUAL, values=(v,)) for v in ("0.1", "0.2")]
    )
    assert set(drawn_values(schema, conditions).frame["x"]) == {0.0, 0.3}
