"""One patient moves what is counted by at most 1, and the noise has the std that is accounted."""

import math

import numpy as np
import pytest

from synthkit.privacy.mechanisms import (
    Cells,
    Names,
    common_names,
    counts_statistic,
    name_threshold,
    names_statistic,
    noisy_counts,
    running_std,
)

DRAWS = 2000


def table(seed, *, sizes=(7, 200, 1000), rows=400, patients=120):
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, patients, rows)
    cells = [rng.integers(-1, size, rows) for size in sizes]
    return owners, cells


def columns(cells, sizes=(7, 200, 1000)):
    return [
        Cells(cells=c, size=size, is_running=place > 0)
        for place, (c, size) in enumerate(zip(cells, sizes, strict=True))
    ]


@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("spread", [True, False])
def test_a_patient_with_many_rows_moves_the_counts_by_at_most_one(rows, spread):
    rng = np.random.default_rng(rows)
    for seed in range(20):
        owners, cells = table(seed)
        own = [rng.integers(0, c.max() + 1, rows) if spread else np.full(rows, c.max()) for c in cells]
        more = [np.concatenate(pair) for pair in zip(cells, own, strict=True)]
        before = counts_statistic(owners, columns(cells))
        after = counts_statistic(np.append(owners, np.full(rows, 10_000)), columns(more))
        moved = float(np.linalg.norm(after - before))
        assert moved <= 1 + 1e-9
        assert moved >= 0.1  # the patient does count


def test_fifty_rows_counted_as_fifty_patients_would_be_noticed():
    """The check above can fail: without the weights one patient moves a histogram by fifty."""
    owners, cells = table(0)
    more = [np.append(cells[0], np.zeros(50, dtype=int))]
    as_patients = np.append(owners, np.arange(10_000, 10_050))
    before = counts_statistic(owners, columns(cells[:1], (7,)))
    after = counts_statistic(as_patients, columns(more, (7,)))
    assert np.linalg.norm(after - before) == pytest.approx(50)


def test_a_patient_in_the_first_cell_moves_running_totals_by_exactly_one():
    """The bound is reached: dividing by a larger norm would waste budget."""
    cells = [Cells(cells=np.array([0]), size=500, is_running=True)]
    assert np.linalg.norm(counts_statistic(np.array([3]), cells)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 50])
@pytest.mark.parametrize("most", [1, 4])
def test_a_patient_with_many_names_moves_their_support_by_at_most_one(rows, most):
    rng = np.random.default_rng(rows)
    owners = rng.integers(0, 40, 200)
    names = rng.choice(np.array(["a", "b", "c", None], dtype=object), 200)
    own = np.array([f"own{i}" if i % 2 else "a" for i in range(rows)], dtype=object)
    before = names_statistic(owners, Names(names=names, most_per_patient=most))
    grown = Names(names=np.append(names, own), most_per_patient=most)
    after = names_statistic(np.append(owners, np.full(rows, 99)), grown)
    moved = [after.get(name, 0.0) - before.get(name, 0.0) for name in {*before, *after}]
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-9)


def test_the_noise_of_counts_and_running_totals_is_what_is_stated():
    """2,000 draws of each of 3 columns; a sample std leaves 12 % of the truth with probability below 1e-12.

    False-alarm probability over all entries looked at: below 1e-8.
    """
    owners, cells = table(1)
    wanted = columns(cells)
    exact = counts_statistic(owners, wanted) * math.sqrt(3)
    draws = [noisy_counts(owners, wanted, noise_multiplier=4.0) for _ in range(DRAWS)]
    flat = np.array([draw[0].counts for draw in draws]) - exact[:7]
    assert flat.std(axis=0) == pytest.approx(np.full(7, 4.0 * math.sqrt(3)), rel=0.12)
    assert draws[0][0].std == draws[0][0].cell_std == pytest.approx(4.0 * math.sqrt(3))
    weights = 1.0 / np.bincount(owners)[owners]
    for place, size in ((1, 200), (2, 1000)):
        inside = cells[place] >= 0
        totals = np.cumsum(np.bincount(cells[place][inside], weights[inside], minlength=size))
        errors = np.array([draw[place].counts for draw in draws]) - totals
        stated = draws[0][place]
        assert stated.std == pytest.approx(4.0 * math.sqrt(3) * running_std(size))
        assert errors.std(axis=0)[-1] == pytest.approx(stated.std, rel=0.12)
        assert (errors.std(axis=0) <= 1.12 * stated.std).all()
        steps = np.diff(errors, axis=1).std(axis=0)
        assert (steps <= 1.12 * stated.cell_std).all()
        assert steps[-1] == pytest.approx(stated.cell_std, rel=0.12)


def test_running_totals_are_far_better_than_adding_up_noisy_cells():
    assert running_std(1000) < 0.15 * math.sqrt(1000)
    assert running_std(1000) == pytest.approx(1.07 + math.log(1000) / math.pi, abs=0.01)


def test_the_noise_of_names_is_what_is_stated():
    """A name 1.5 std above the threshold is published with probability 0.933 in each of two columns.

    2,000 draws: outside +-0.03 with probability below 1e-6 each.
    """
    std = 2.0 * math.sqrt(2)
    threshold = name_threshold(std=std, most_per_patient=1, columns=2, failure_delta=1e-6)
    held = round(threshold + 1.5 * std)
    expected = 0.5 * math.erfc((threshold - held) / std / math.sqrt(2))
    names = np.full(held, "a", dtype=object)
    wanted = [Names(names=names), Names(names=names)]
    seen = [
        common_names(np.arange(held), wanted, noise_multiplier=2.0, failure_delta=1e-6) for _ in range(DRAWS)
    ]
    for place in (0, 1):
        assert np.mean([bool(draw[place]) for draw in seen]) == pytest.approx(expected, abs=0.03)


def test_rows_that_are_no_number_count_zero():
    owners = np.arange(4)
    some = Cells(cells=np.array([0, -1, 2, -1]), size=3)
    assert counts_statistic(owners, [some]).tolist() == [1, 0, 1]
    none = Names(names=np.array([None, "a", None, "a"], dtype=object))
    assert names_statistic(owners, none) == {"a": 2.0}


def test_a_cell_outside_the_grid_is_a_bug_not_a_count():
    with pytest.raises(RuntimeError):
        counts_statistic(np.arange(2), [Cells(cells=np.array([0, 3]), size=3)])
