"""A name that one patient alone holds is published with probability at most failure_delta.

The probability is measured with a failure_delta large enough to be measured. Every bound is an exact
binomial one: of 2,000 draws at a true probability of 0.05, more than 164 succeed with probability 1e-9;
fewer than 47 with probability below 1e-9.
"""

import math

import numpy as np
import pytest

from synthkit.privacy import mechanisms
from synthkit.privacy.mechanisms import Names, common_names, name_threshold

FAILURE, DRAWS, MOST, FEWEST = 0.05, 2_000, 164, 47
SIGMA = 3.0


def published(columns, patients, *, most_per_patient, noise=SIGMA):
    """How many of the draws publish any name starting with "own", in any column."""
    wanted = [Names(names=names, most_per_patient=most_per_patient) for names in columns]
    count = 0
    for _ in range(DRAWS):
        found = common_names(patients, wanted, noise_multiplier=noise, failure_delta=FAILURE)
        count += any(name.startswith("own") for names in found for name in names)
    return count


def lone(rows, *, columns=1, others=30):
    """Other patients' common name, and one patient with `rows` rows, each with names of her own."""
    patients = np.append(np.arange(others), np.full(rows, others))
    own = [np.array([f"own{row}" for row in range(rows)], dtype=object) for _ in range(columns)]
    return patients, [np.append(np.full(others, "all", dtype=object), names) for names in own]


@pytest.mark.parametrize(
    ("rows", "columns", "most_per_patient"), [(1, 1, 1), (1, 3, 1), (50, 1, 1), (50, 2, 4), (2, 1, 8)]
)
def test_a_lone_patients_names_are_published_at_most_that_often(rows, columns, most_per_patient):
    """Exact binomial bound as in the module's docstring; false-alarm probability 1e-9 a case."""
    patients, names = lone(rows, columns=columns)
    assert published(names, patients, most_per_patient=most_per_patient) <= MOST


def test_the_bound_is_reached_so_that_no_budget_is_wasted():
    """One name, one column: the probability is failure_delta itself. False-alarm probability 1e-9."""
    patients, names = lone(1)
    assert published(names, patients, most_per_patient=1) >= FEWEST


def test_a_threshold_without_the_patients_own_count_would_be_found_out(monkeypatch):
    """The measurement above can fail. At noise 1 this mistake publishes 26 % of the draws: it exceeds
    164 of 2,000 with probability above 1 - 1e-9."""
    monkeypatch.setattr(mechanisms, "name_threshold", lambda **given: name_threshold(**given) - 1.0)
    patients, names = lone(1)
    assert published(names, patients, most_per_patient=1, noise=1.0) > MOST
    monkeypatch.undo()
    assert published(names, patients, most_per_patient=1, noise=1.0) <= MOST


def test_a_threshold_for_one_name_instead_of_all_would_be_found_out(monkeypatch):
    """Four names in each of three columns at the price of one: 39 % of the draws; as above."""

    def for_one(**given):
        return name_threshold(**{**given, "columns": 1, "most_per_patient": 1})

    monkeypatch.setattr(mechanisms, "name_threshold", for_one)
    patients, names = lone(50, columns=3)
    assert published(names, patients, most_per_patient=4) > MOST


def test_the_threshold_is_the_closed_form_for_one_name():
    threshold = name_threshold(std=10.0, most_per_patient=1, columns=1, failure_delta=1e-6)
    assert 0.5 * math.erfc((threshold - 1) / 10 / math.sqrt(2)) == pytest.approx(1e-6, rel=1e-9)


def test_the_threshold_rises_with_everything_that_needs_it_to():
    base = {"std": 5.0, "most_per_patient": 2, "columns": 2, "failure_delta": 1e-6}
    threshold = name_threshold(**base)
    for change in ({"std": 6.0}, {"most_per_patient": 9}, {"columns": 5}, {"failure_delta": 1e-8}):
        assert name_threshold(**{**base, **change}) > threshold


def test_names_that_many_hold_are_published_and_in_text_order():
    """Counts 20 std above the threshold: a miss has probability below 1e-80."""
    patients = np.arange(900)
    names = np.repeat(np.array(["b", "a", "c"], dtype=object), 300)
    (found,) = common_names(patients, [Names(names=names)], noise_multiplier=SIGMA, failure_delta=1e-9)
    assert found == ("a", "b", "c")
