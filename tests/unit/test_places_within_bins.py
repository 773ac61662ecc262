"""Values lean within their bins as the density does, and binning adds next to nothing to a spread."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkit.data.encoding import fit_encoding
from synthkit.data.within_bins import TRUSTED_ROWS, leans, places
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.schema import Column, Kind, Provenance, Schema

EVEN = np.arange(8.0)


def lean_of(*counts, rows=1e9):
    """Leans of seven bins of equal width with these relative counts, of very many rows."""
    return leans(rows * np.array(counts), EVEN)


def test_equal_neighbours_make_no_lean():
    assert not lean_of(1, 1, 1, 1, 1, 1, 1).any()


def test_a_lean_is_half_the_change_of_a_density_over_its_mean():
    """A straight line: from bin to bin the count rises by one, so by a half either side of the middle."""
    assert lean_of(1, 2, 3, 4, 5, 6, 7)[1:-1] == pytest.approx([0.5 / k for k in range(2, 7)], rel=1e-6)


def test_halving_leans_by_a_third():
    """An exponential density that halves from bin to bin has two ends as 2 to 1: 1 + 1/3 to 1 - 1/3."""
    assert lean_of(64, 32, 16, 8, 4, 2, 1)[1:-1] == pytest.approx([-1 / 3] * 5, rel=1e-6)


@pytest.mark.parametrize(
    "counts",
    [(1, 2, 3, 9, 3, 2, 1), (5, 4, 1, 0, 1, 4, 5), (3, 3, 3, 3, 0, 0, 0)],
    ids=["a peak", "a gap", "a sudden stop"],
)
def test_no_lean_where_neighbours_do_not_agree(counts):
    assert lean_of(*counts)[3] == 0


def test_the_first_and_the_last_bin_lean_by_their_one_neighbour():
    found = lean_of(8, 4, 2, 2, 2, 1, 4)
    assert found[0] == pytest.approx(-0.25, rel=1e-6)
    assert found[-1] == pytest.approx(0.375, rel=1e-6)


def test_densities_count_not_heights_of_unequal_bins():
    """Twice as wide a bin holds twice as many rows of a level density."""
    edges = np.array([0.0, 1, 2, 4, 8, 9, 13])
    assert leans(1e6 * np.diff(edges), edges) == pytest.approx(np.zeros(6), abs=1e-9)


def test_few_rows_are_half_believed():
    assert lean_of(4, 2, 1, 0, 0, 0, 0, rows=TRUSTED_ROWS / 7)[1] == pytest.approx(-1 / 6, rel=1e-6)


def test_a_lone_bin_has_no_neighbour():
    assert not leans(np.array([5]), np.array([0.0, 1])).any()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(0, 2**32))
def test_leans_and_places_stay_in_range(counts, seed):
    rng = np.random.default_rng(seed)
    edges = np.cumsum(rng.uniform(0.01, 5.0, len(counts) + 1))
    assert (np.abs(leans(np.array(counts), edges)) <= 1).all()
    rows = np.repeat(np.arange(len(counts)), np.minimum(counts, 20))
    where = places(rows, edges, rng)
    assert where.shape == rows.shape
    assert ((where >= 0) & (where <= 1)).all()


def test_places_follow_the_density_of_the_lean():
    """1 + t (2 u - 1) has mean 1/2 + t/6; six standard errors of 0.289 / 800 or less. Seeds are fixed."""
    counts = np.array([16, 8, 4, 2, 1]) * 40_000
    rows = np.repeat(np.arange(5), counts)
    where = places(rows, np.arange(6.0), np.random.default_rng(0))
    lean = leans(counts, np.arange(6.0))
    for place in range(5):
        chance = 6 * 0.289 / np.sqrt(counts[place])
        assert where[rows == place].mean() == pytest.approx(0.5 + lean[place] / 6, abs=chance)
        below = 0.5 - lean[place] / 4  # the integral of the density up to 1/2
        assert (where[rows == place] < 0.5).mean() == pytest.approx(below, abs=3 / np.sqrt(counts[place]))


def real_column(**settings):
    column = Column(
        name="x",
        kind=Kind.NUMERIC,
        minimum=0.0,
        maximum=100.0,
        decimals=2,
        provenance=Provenance.PUBLIC,
        **settings,
    )
    return Schema(columns=(column,))


SHAPES = {
    "normal, bins of 0.6 deviations": lambda rng: rng.normal(50, 5, 100_000),
    "exponential, bins of half its mean": lambda rng: rng.exponential(6, 100_000),
    "gamma": lambda rng: rng.gamma(3.0, 3.0, 100_000),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_binning_adds_next_to_nothing_to_a_spread(shape):
    """Spread evenly, 100,000 normal values would gain 3 % in standard deviation, and the sorted values
    would lie two to six times as far from the real ones. Seeds are fixed.
    """
    rng = np.random.default_rng(0)
    values = np.clip(SHAPES[shape](rng), 0, 100).round(2)
    encoding = fit_encoding(real_column())
    column = encoding.columns[0]
    states = column.encode(pd.Series(values))
    made = column.decode(states, rng, ())
    even = rng.uniform(column.edges[states], column.edges[states + 1])
    assert abs(made.std() / values.std() - 1) < 0.01
    away, even_away = (np.abs(np.sort(x) - np.sort(values)).mean() for x in (made, even))
    assert away < even_away / 2


def test_under_a_condition_on_the_column_values_lie_evenly():
    """The bins beside those allowed hold no row then, whatever the density. Seeds are fixed."""
    encoding = fit_encoding(real_column())
    column = encoding.columns[0]
    rows = np.repeat([10, 11, 12], [40_000, 20_000, 10_000])
    given = parse_conditions(["x >= 31.25"], encoding.schema)
    for conditions, mean in ((given, 0.5), ((), 0.5 - 1 / 18)):
        values = column.decode(rows, np.random.default_rng(0), conditions)[rows == 11]
        where = (values - column.edges[11]) / (column.edges[12] - column.edges[11])
        assert where.mean() == pytest.approx(mean, abs=0.013)
