"""Bought bounds, quantile edges, spikes and categories, on real rows and on awkward ones."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.grids import ascending, coarse_grid, fine_grid, per_one
from synthkit.data.purchase import buy, conform
from synthkit.data.table import PatientTable, pool
from synthkit.domain.schema import OTHER, Column, Kind, Provenance, Scale, Schema
from synthkit.errors import SchemaError
from synthkit.privacy.mechanisms import running_std
from synthkit.training.planning import purchase_for

NUMBERS = ("num_lab_procedures", "num_medications", "time_in_hospital")


@lru_cache(maxsize=1)
def diabetes():
    """The pooled rows of all hospitals, and a schema whose named columns are to be bought."""
    bundled = example("diabetes")
    open_ones = (*NUMBERS, "number_emergency", "diag_1")
    draft = replace(
        bundled.schema,
        columns=tuple(
            Column(name=c.name, kind=c.kind, provenance=Provenance.DP) if c.name in open_ones else c
            for c in bundled.schema
        ),
    )
    return pool([read_table(path, draft, is_draft=True) for path in bundled.sites.values()])


def one_column(column, values, *, patients=None):
    draft = Schema(columns=(column,))
    frame = pd.DataFrame({column.name: values})
    owners = np.arange(len(frame)) if patients is None else patients
    return PatientTable(schema=draft, frame=frame, patients=owners)


def bought(table, *, epsilon=0.3):
    return buy(table, purchase_for(table.schema, target_epsilon=epsilon, delta=1e-5))


def bought_unless_hidden(table, epsilon):
    """None where noise hides a column's range, which the purchase then says."""
    try:
        return bought(table, epsilon=epsilon)
    except SchemaError:
        return None


def open_column(name="x", kind=Kind.NUMERIC, **fields):
    return Column(name=name, kind=kind, provenance=Provenance.DP, **fields)


def shares(values, column):
    """Share of the rows in each bin and spike of a bought column."""
    encoding = fit_encoding(Schema(columns=(column,))).columns[0]
    states = encoding.encode(pd.Series(values))
    return encoding, np.bincount(states, minlength=encoding.states) / len(values)


def test_edges_on_real_rows_are_near_the_true_quantiles():
    """Epsilon 0.3 for five columns, some 40,000 patients: a running total's noise is below 0.6 % of them.

    Each inner edge's rank is compared with the rank it stands for through the bins' shares: none holds
    more than twice its even share unless it is a single value, and few patients lie outside the bounds.
    False-alarm probability below 1e-6: both limits are more than six std of the noise away.
    """
    table = diabetes()
    schema = bought(table)
    for name in NUMBERS:
        column, values = schema.column(name), table.frame[name].to_numpy()
        assert np.mean((values < column.minimum) | (values > column.maximum)) < 0.02
        encoding, found = shares(np.clip(values, column.minimum, column.maximum), column)
        wide = np.diff(encoding.edges) > 1
        evenly = 1 / min(32, len(encoding.edges) - 1)
        assert found[: wide.size][wide].max(initial=0) < 2 * evenly + 0.03
    days = schema.column("time_in_hospital")
    assert set(days.edges) >= set(range(2, 14))  # few whole numbers: one bin each


def test_every_true_quantile_of_real_rows_has_an_edge_near_it():
    """Epsilon 0.3 for three columns between public bounds. An edge near each of the 31 quantiles has a
    true rank within six std of a running total's noise and the share of patients at that very value.

    False-alarm probability below 1e-6: 93 comparisons, each at six std.
    """
    table = diabetes()
    bundled = example("diabetes").schema
    columns = tuple(replace(bundled.column(name), bins=Provenance.DP) for name in NUMBERS)
    draft = Schema(columns=columns)
    purchase = purchase_for(draft, target_epsilon=0.3, delta=1e-5)
    schema = buy(replace(table, schema=draft, frame=table.frame[list(NUMBERS)]), purchase)
    for column in schema:
        values = np.sort(table.frame[column.name].to_numpy())
        noise = purchase.numbers_noise * 3**0.5 * running_std(fine_grid(column).size) / values.size
        assert noise < 0.004
        ranks = np.searchsorted(values, column.edges) / values.size  # share below each edge
        for wanted in np.arange(1, 32) / 32:
            heap = np.mean(values == values[int(wanted * values.size)])
            assert np.abs(ranks - wanted).min() <= 6 * noise + heap


def test_frequent_categories_of_real_rows_are_found_and_the_rest_is_other():
    """Categories of more than 2 % of the patients stand more than six std above the threshold."""
    table = diabetes()
    column, values = bought(table).column("diag_1"), table.frame["diag_1"]
    frequent = {level for level, share in values.value_counts(normalize=True).items() if share > 0.02}
    assert frequent - {OTHER} <= set(column.categories)
    assert set(column.categories) <= set(values) | {OTHER}
    assert column.categories[-1] == OTHER
    mapped = conform(table, bought(table)).frame["diag_1"]
    assert (mapped.isin(column.categories)).all()


def test_zero_inflation_and_heaps_get_states_of_their_own():
    """Half zeros, a tenth at 100, else spread: at epsilon 0.5 and 20,000 patients noise is 1 % of them."""
    rng = np.random.default_rng(0)
    values = np.round(rng.gamma(2.0, 40.0, 20_000), 1)
    values[:10_000], values[10_000:12_000] = 0.0, 100.0
    column = bought(one_column(open_column(decimals=1), values), epsilon=0.5).columns[0]
    assert 0.0 in column.spikes
    encoding, found = shares(np.clip(values, column.minimum, column.maximum), column)
    assert found[column.spikes.index(0.0)] == pytest.approx(0.5, abs=0.02)
    heap = encoding.encode(pd.Series([100.0]))[0] - len(column.spikes)
    assert encoding.edges[heap + 1] - encoding.edges[heap] <= 4.0
    assert np.delete(found, column.spikes.index(0.0)).max() < 0.13
    assert np.count_nonzero(found) > 15


def test_one_enormous_outlier_moves_nothing_beyond_noise():
    """The same purchase with and without a patient at 1e9: bounds, spikes and bins in the same range.

    The outlier is one patient against a threshold of more than 100: 1e9 becomes a bound with
    probability below 1e-3 a draw (the grid's own false-alarm rate), 10 draws below 1e-2.
    """
    rng = np.random.default_rng(1)
    values = np.rint(rng.normal(60, 15, 5_000))
    column = open_column(kind=Kind.INTEGER)
    far = 0
    for _ in range(10):
        plain = bought(one_column(column, values)).columns[0]
        struck = bought(one_column(column, np.append(values, [1e9]))).columns[0]
        far += max(struck.maximum, plain.maximum) > 1024
        middle = [np.searchsorted(np.sort(values), edge) / values.size for edge in struck.edges]
        assert max(np.diff(middle)) < 0.35
    assert far == 0


def test_a_patient_with_fifty_rows_counts_once():
    """Fifty rows at 1e6 by one patient: below every threshold, as in the test before."""
    rng = np.random.default_rng(2)
    values = np.append(np.rint(rng.normal(60, 15, 5_000)), np.full(50, 1e6))
    owners = np.append(np.arange(5_000), np.full(50, 5_000))
    table = one_column(open_column(kind=Kind.INTEGER), values, patients=owners)
    assert bought(table).columns[0].maximum < 1024
    names = np.append(np.full(5_000, "all", dtype=object), [f"own{i}" for i in range(50)])
    texts = one_column(open_column(kind=Kind.CATEGORICAL), names, patients=owners)
    assert bought(texts).columns[0].categories == ("all", OTHER)


def test_infinite_and_absent_numbers_count_zero():
    values = np.concatenate([np.full(3_000, 5.0), np.full(500, np.inf), np.full(500, np.nan)])
    column = bought(one_column(open_column(kind=Kind.INTEGER), values)).columns[0]
    assert (column.minimum, column.maximum) == (4.0, 7.0)


@pytest.mark.parametrize(
    "column",
    [
        open_column(kind=Kind.INTEGER),
        open_column(decimals=3),
        open_column(kind=Kind.DATETIME),
        open_column(kind=Kind.DURATION, unit="days"),
        Column(name="x", kind=Kind.NUMERIC, minimum=-5, maximum=1e6, decimals=2, bins=Provenance.DP),
        Column(name="x", kind=Kind.INTEGER, minimum=0, maximum=90_000, scale=Scale.LOG, bins=Provenance.DP),
        Column(name="x", kind=Kind.DATETIME, minimum=0, maximum=30_000, bins=Provenance.DP),
    ],
)
@pytest.mark.parametrize("epsilon", [0.02, 5.0])
@pytest.mark.parametrize("shape", ["spread", "constant", "negative", "huge", "tiny"])
def test_whatever_the_rows_the_edges_ascend_and_the_schema_encodes(column, epsilon, shape):
    """Total order and validity hold for every outcome of the noise; where noise hides all, it is said."""
    rng = np.random.default_rng(3)
    values = {
        "spread": np.rint(rng.normal(15_000, 4_000, 2_000)),
        "constant": np.full(2_000, 3.0),
        "negative": -np.rint(rng.gamma(1, 300, 2_000)),
        "huge": rng.choice([1e300, -1e300, 1e18], 2_000),
        "tiny": rng.choice([1e-9, -1e-9], 2_000),
    }[shape]
    if column.minimum is not None:
        values = np.clip(values, column.minimum, column.maximum)
    schema = bought_unless_hidden(one_column(column, values), epsilon)
    if schema is None:
        assert epsilon < 1
        return
    done = schema.columns[0]
    assert done.is_bought
    assert done.minimum < done.maximum
    assert list(done.edges) == sorted(set(done.edges))
    table = conform(one_column(column, values), schema)
    encoding = fit_encoding(schema)
    states = encoding.encode(table)
    assert 0 <= states.min() <= states.max() < encoding.layout.states[0]
    made = encoding.decode(states, np.random.default_rng(0))
    assert made.frame["x"].between(done.minimum, done.maximum).all()
    again = encoding.encode(replace(table, frame=made.frame))
    same = again == states
    assert same[~made.frame["x"].isin(done.spikes).to_numpy()].all()  # a bin may hold a spike's value too


def test_public_bounds_stay_what_they_were():
    values = np.random.default_rng(4).gamma(2, 100, 20_000)
    column = Column(name="x", kind=Kind.NUMERIC, minimum=0, maximum=5_000, decimals=1, bins=Provenance.DP)
    done = bought(one_column(column, np.clip(values, 0, 5_000))).columns[0]
    assert (done.minimum, done.maximum, done.provenance) == (0, 5_000, Provenance.PUBLIC)
    found = shares(np.clip(values, 0, 5_000), done)[1]
    even = fit_encoding(Schema(columns=(replace(column, bins=Provenance.PUBLIC),))).columns[0]
    before = np.bincount(even.encode(pd.Series(np.clip(values, 0, 5_000)))) / values.size
    assert found.max() < 0.1 < before.max()


def test_grids_do_not_depend_on_rows_and_hold_every_number():
    for column in (open_column(kind=Kind.INTEGER), open_column(decimals=2), open_column(kind=Kind.DATETIME)):
        for grid in (coarse_grid(column), fine_grid(column)):
            assert (np.diff(grid.starts) > 0).all()
            assert (grid.ends >= grid.starts).all()
            numbers = np.array(
                [-1e300, -7.0, -0.01, 0.0, 0.01, 1.0, 127.0, 128.0, 1e9, 1e300, np.nan, -np.inf]
            )
            cells = grid.cells(numbers, per_one(column))
            assert cells[-2:].tolist() == [-1, -1]
            assert (np.diff(cells[:-2]) >= 0).all()
            assert (cells[0], cells[-3]) == (0, grid.size - 1)


def test_the_nearest_ascending_sequence():
    assert ascending([1, 3, 2, 4]).tolist() == [1, 2.5, 2.5, 4]
    assert ascending([3, 2, 1]).tolist() == [2, 2, 2]
    rough = np.random.default_rng(5).normal(size=200)
    smooth = ascending(rough)
    assert (np.diff(smooth) >= 0).all()
    assert smooth.sum() == pytest.approx(rough.sum())
