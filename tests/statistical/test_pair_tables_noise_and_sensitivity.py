"""The tables' one Gaussian mechanism: a patient moves them by what is accounted, the noise has that width."""

import math

import numpy as np
import pytest
import torch

from synthkit.domain.crossing import crossed_layout, crossings, with_crossed
from synthkit.domain.layout import Layout, PatientStates
from synthkit.privacy.mechanisms import SINGLE_WEIGHT, pair_tables, table_noise, tables_statistic

LAYOUT = Layout(names=("a", "b", "c", "d", "e"), states=(3, 7, 2, 12, 1))
BLOCK = np.repeat(np.arange(5), LAYOUT.states)
PAIRS = np.triu(BLOCK[:, None] != BLOCK[None, :])
"""Cells above the diagonal that pair two columns: each is published once, and mirrored."""


def some_rows(count, rng):
    return np.column_stack([rng.integers(0, size, count) for size in LAYOUT.states])


def hospital(seed, *, patients=60, most=5):
    """Patients with 1 to `most` rows each."""
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, most + 1, patients))])
    return PatientStates(states=some_rows(starts[-1], rng), starts=starts)


def joined(patients, rows, *, place=None):
    """The same patients and one more, with the given rows, before patient `place`; else the last."""
    place = len(patients) if place is None else place
    at = patients.starts[place]
    states = np.concatenate([patients.states[:at], rows, patients.states[at:]])
    starts = np.concatenate([patients.starts[: place + 1], patients.starts[place:] + len(rows)])
    return PatientStates(states=states, starts=starts)


def norm(tables):
    """The norm that the noise is scaled to: pairs once, a state's own count `SINGLE_WEIGHT` times."""
    return math.sqrt((tables[PAIRS] ** 2).sum() + SINGLE_WEIGHT**2 * (np.diag(tables) ** 2).sum())


BOUND, OWN_BOUND = table_noise(LAYOUT, noise_multiplier=1.0)


def moved(before, rows, *, place=None, statistic=tables_statistic):
    return norm(statistic(joined(before, rows, place=place), LAYOUT) - statistic(before, LAYOUT))


@pytest.mark.parametrize("place", [0, 30, None])
def test_a_patient_with_one_row_moves_the_tables_by_exactly_the_bound(place):
    """Neither more, which would be unaccounted, nor less, which would waste noise."""
    for seed in range(20):
        row = some_rows(1, np.random.default_rng(1000 + seed))
        assert moved(hospital(seed), row, place=place) == pytest.approx(BOUND, rel=1e-12)


@pytest.mark.parametrize("rows", [2, 3, 7, 50])
@pytest.mark.parametrize("place", [0, None])
def test_a_patient_with_many_rows_moves_the_tables_by_at_most_the_bound(rows, place):
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        different = moved(hospital(seed), some_rows(rows, rng), place=place)
        assert 0.2 * BOUND < different < BOUND, "the patient does count"
        equal = moved(hospital(seed), some_rows(1, rng).repeat(rows, axis=0), place=place)
        assert equal == pytest.approx(BOUND, rel=1e-12)


def test_the_bound_holds_among_many_patients_with_thirds_and_sevenths():
    """Counting in float32 would break it here: by 4e-7 to 2e-6 of it, in the tables of 20,000 patients."""
    before = hospital(0, patients=20_000, most=7)
    for rows in (1, 3, 50):
        row = some_rows(1, np.random.default_rng(rows)).repeat(rows, axis=0)
        assert moved(before, row, place=0) <= BOUND * (1 + 1e-11)


def each_row_as_a_patient(patients, layout):
    return tables_statistic(PatientStates.one_row_each(patients.states), layout)


def test_a_mechanism_that_forgot_the_rows_of_a_patient_would_be_noticed():
    """The measurement above can fail: fifty rows, each counted whole, move the tables by fifty bounds."""
    row = some_rows(1, np.random.default_rng(0)).repeat(50, axis=0)
    assert moved(hospital(0), row, statistic=each_row_as_a_patient) == pytest.approx(50 * BOUND)


def test_the_bound_is_that_of_the_weighted_vector():
    """Five columns: ten pairs of weight 1 and five own counts of weight 2, each moved by 1."""
    assert pytest.approx(math.sqrt(10 + 4 * 5)) == BOUND
    assert pytest.approx(BOUND / 2) == OWN_BOUND
    one = Layout(names=("a",), states=(9,))
    assert table_noise(one, noise_multiplier=3.0)[1] == pytest.approx(3.0), "as a plain histogram's"


def test_the_tables_count_what_a_loop_counts():
    patients = hospital(3)
    expected = np.zeros((LAYOUT.width, LAYOUT.width))
    for start, stop in zip(patients.starts[:-1], patients.starts[1:], strict=True):
        for row in patients.states[start:stop] + np.array(LAYOUT.offsets):
            expected[np.ix_(row, row)] += 1 / (stop - start)
    np.testing.assert_allclose(tables_statistic(patients, LAYOUT), expected, rtol=0, atol=1e-12)


def test_rows_of_no_patient_count_nothing():
    nobody = PatientStates.one_row_each(np.empty((0, 5), dtype=np.int64))
    assert not tables_statistic(nobody, LAYOUT).any()


DRAWS = 2000


def deviations(mechanism, *, noise_multiplier):
    """What `mechanism` adds to the exact tables of a hospital, shape (DRAWS, width, width)."""
    patients = hospital(1)
    exact = tables_statistic(patients, LAYOUT)
    return np.stack([mechanism(patients, noise_multiplier) - exact for _ in range(DRAWS)])


def widths(noise):
    """Sample std of the pairs' noise and of the own counts', about 0."""
    diagonal = np.diagonal(noise, axis1=1, axis2=2)
    return np.sqrt((noise[:, PAIRS] ** 2).mean()), np.sqrt((diagonal**2).mean())


def bought(patients, noise_multiplier):
    return pair_tables(patients, LAYOUT, noise_multiplier=noise_multiplier)


def naive(patients, noise_multiplier):
    """Unit noise a cell, as if a patient were in one cell in all."""
    noise = np.triu(np.random.default_rng().normal(0, noise_multiplier, (LAYOUT.width,) * 2))
    return tables_statistic(patients, LAYOUT) + noise + np.triu(noise, 1).T


def assert_accounted(noise, *, noise_multiplier):
    pair, own = widths(noise)
    assert pair == pytest.approx(noise_multiplier * BOUND, rel=0.03)
    assert own == pytest.approx(noise_multiplier * OWN_BOUND, rel=0.03)


@pytest.mark.parametrize("noise_multiplier", [0.5, 6.0])
def test_the_noise_is_as_wide_as_accounted(noise_multiplier):
    """2,000 draws of 25 own counts: a sample std has a standard error of 0.32 %, so 3 % is 9 of them.

    False alarm: below 1e-18.
    """
    assert_accounted(deviations(bought, noise_multiplier=noise_multiplier), noise_multiplier=noise_multiplier)


def test_every_cell_has_the_noise_of_its_kind():
    """2,000 draws a cell: a sample std leaves 12 % of the truth with probability below 1e-12.

    False alarm over all cells: below 1e-9.
    """
    noise = deviations(bought, noise_multiplier=2.0)
    std = np.sqrt((noise**2).mean(axis=0))
    assert std[PAIRS] == pytest.approx(np.full(PAIRS.sum(), 2 * BOUND), rel=0.12)
    assert np.diag(std) == pytest.approx(np.full(LAYOUT.width, 2 * OWN_BOUND), rel=0.12)


def test_unit_noise_would_be_noticed():
    """The measurement can fail: noise for a patient who is in one cell is not noise for one who is in 15."""
    with pytest.raises(AssertionError):
        assert_accounted(deviations(naive, noise_multiplier=2.0), noise_multiplier=2.0)


def test_the_noise_has_no_mean_and_no_neighbour():
    """Six standard errors each: false alarm below 1e-8. A cell's noise says nothing of the next one's."""
    noise = deviations(bought, noise_multiplier=1.0)[:, PAIRS] / BOUND
    limit = 6 / math.sqrt(noise.size)
    assert abs(noise.mean()) < limit
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < limit
    assert abs((noise[1:] * noise[:-1]).mean()) < limit


def test_the_tables_are_symmetric_and_silent_on_what_is_known():
    """A patient is in one state of a column: there is nothing to buy inside a column's own block."""
    tables = bought(hospital(2), 3.0)
    assert tables.shape == (LAYOUT.width, LAYOUT.width)
    assert tables.dtype == np.float64
    assert np.array_equal(tables, tables.T)
    inside = (BLOCK[:, None] == BLOCK[None, :]) & ~np.eye(LAYOUT.width, dtype=bool)
    # Several rows of one patient differ, but each row is in one state: the exact count is 0 as well.
    assert not tables[inside].any()
    assert tables[~inside].all(), "and nowhere else is a count without noise"


def test_the_noise_is_fresh_each_time_and_no_seed_reaches_it():
    """Two releases of the same patients under equal seeds share no cell; false alarm below 1e-12."""
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        drawn.append(bought(hospital(0), 1.0))
    differs = drawn[0] != drawn[1]
    assert differs[PAIRS | np.eye(LAYOUT.width, dtype=bool)].all()


@pytest.mark.parametrize("state", [-1, 7, 10**6])
@pytest.mark.parametrize("row", [0, 59])
def test_a_state_outside_its_column_raises(state, row):
    """It would count in another column's table, beyond what a patient is accounted for."""
    states = some_rows(60, np.random.default_rng(0))
    states[row, 1] = state
    with pytest.raises(ValueError, match="outside its column"):
        pair_tables(PatientStates.one_row_each(states), LAYOUT, noise_multiplier=1.0)


def test_one_column_is_a_histogram():
    layout = Layout(names=("a",), states=(4,))
    patients = PatientStates.one_row_each(np.array([[0], [0], [3]]))
    assert np.array_equal(tables_statistic(patients, layout), np.diag([2.0, 0, 0, 1]))
    tables = pair_tables(patients, layout, noise_multiplier=1.0)
    assert np.array_equal(tables, np.diag(np.diag(tables)))


TIMED = Layout(
    names=("time", "event", "x", "again"), states=(12, 3, 4, 2), bins=(11, 0, 0, 0), timed=((0, 1), (0, 3))
)
CROSSED = crossings(TIMED, 4)
WIDE = crossed_layout(TIMED, CROSSED)


def crossed_tables(patients):
    return tables_statistic(with_crossed(patients, CROSSED), WIDE)


def weighed(tables):
    """The norm that the noise is scaled to, for the layout with crossed columns."""
    block = np.repeat(np.arange(len(WIDE.states)), WIDE.states)
    pairs = np.triu(block[:, None] != block[None, :])
    return math.sqrt((tables[pairs] ** 2).sum() + SINGLE_WEIGHT**2 * (np.diag(tables) ** 2).sum())


@pytest.mark.parametrize("rows", [1, 2, 7, 50])
def test_a_patient_moves_tables_with_crossed_columns_by_at_most_their_bound(rows):
    """Crossed columns are columns to the accounting: a bound that left them out would be exceeded."""
    bound = table_noise(WIDE, noise_multiplier=1.0)[0]
    assert bound == pytest.approx(math.sqrt(15 + 4 * 6))
    for seed in range(10):
        rng = np.random.default_rng(seed)

        def some(count, rng=rng):
            return np.column_stack([rng.integers(0, size, count) for size in TIMED.states])

        before = PatientStates.one_row_each(some(40))
        equal, different = some(1).repeat(rows, axis=0), some(rows)
        for added, at_least in ((equal, bound * (1 - 1e-12)), (different, 0.2 * bound)):
            moves = weighed(crossed_tables(joined(before, added)) - crossed_tables(before))
            assert at_least <= moves <= bound * (1 + 1e-12)
            if added is equal:
                assert moves > 1.3 * table_noise(TIMED, noise_multiplier=1.0)[0]


def test_the_noise_of_crossed_columns_is_as_wide_as_theirs_is_accounted():
    """300 draws of 470 cells: a sample std has a standard error of 0.2 %, so 2 % is 10 of them."""
    rng = np.random.default_rng(0)
    rows = PatientStates.one_row_each(np.column_stack([rng.integers(0, n, 40) for n in TIMED.states]))
    counted, exact = with_crossed(rows, CROSSED), crossed_tables(rows)
    noise = np.stack([pair_tables(counted, WIDE, noise_multiplier=2.0) - exact for _ in range(300)])
    block = np.repeat(np.arange(len(WIDE.states)), WIDE.states)
    crossed = np.triu((block[:, None] < 4) & (block[None, :] >= 4))
    assert noise[:, crossed].std() == pytest.approx(2 * table_noise(WIDE, noise_multiplier=1.0)[0], rel=0.02)
