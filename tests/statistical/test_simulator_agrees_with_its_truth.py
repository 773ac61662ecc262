"""Drawn patients follow the exact probabilities, which are computed by other code than draws them.

Everything is a fixed seed's outcome; the false-alarm probabilities are those of a fresh seed.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from synthkit.data.simulator.process import DIED, ENDS, LEFT, standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.simulator.truth import (
    class_posterior,
    end_chances,
    log_likelihood,
    next_visit_chances,
    visit_chances,
)

FALSE_ALARM = 1e-4
ENOUGH = 25.0
"""Least variance of a count for its z to be called normal."""


@pytest.fixture(scope="module")
def process():
    return standard_process(visits_mean=20)


@pytest.fixture(scope="module")
def records(process):
    return simulate(process, 3000, seed=5)


@pytest.fixture(scope="module")
def chances(process, records):
    return visit_chances(process, records)


def z_scores(coded, chances):
    """One a code: counts minus their compensator over its standard deviation, a martingale's limit."""
    variance = (chances * (1 - chances)).sum(axis=0)
    kept = variance > ENOUGH
    assert kept.sum() > 20
    return (coded - chances).sum(axis=0)[kept] / np.sqrt(variance[kept])


def worst_allowed(tests):
    return float(norm.isf(FALSE_ALARM / tests / 2))


def test_every_code_is_as_frequent_as_its_chances_given_the_past(process, records, chances):
    """In ten groups of visits that the past defines, each code. False alarm: at most 1e-4 (Bonferroni)."""
    season = (records.days % 365.25) // 91.3125
    coded, first = records.dense(), records.is_first_visit
    recent = np.roll(coded, 1, axis=0) & ~first[:, None]
    sick = recent[:, : process.conditions].any(axis=1)
    groups = {
        "first": first,
        "later": ~first,
        "quick": ~first & (records.gaps < 30),
        "slow": ~first & (records.gaps > 120),
        "sick": sick,
        "spring": season == 0,
        "autumn": season == 2,
        "late": np.arange(records.visit_count) - records.patient_starts[records.patient_of_visit] > 20,
        "women": (records.statics["sex"] == "Female").to_numpy()[records.patient_of_visit],
        "old": (records.statics["age"] > 75).to_numpy()[records.patient_of_visit],
    }
    scores = np.concatenate([z_scores(coded[rows], chances[rows]) for rows in groups.values()])
    assert np.abs(scores).max() < worst_allowed(scores.size)


def test_chances_are_calibrated_at_every_level(records, chances):
    """At 40 levels of the probability itself.

    Codes of a visit are nearly uncorrelated given the past (causes and what follows are one patient's few),
    so the variance is taken as that of independent ones, and doubled. False alarm: below 1e-4.
    """
    coded = records.dense()
    levels = np.digitize(chances, np.quantile(chances, np.linspace(0, 1, 41)[1:-1])).ravel()
    expected = np.bincount(levels, chances.ravel(), 40)
    variance = 2 * np.bincount(levels, (chances * (1 - chances)).ravel(), 40)
    found = np.bincount(levels, coded.ravel().astype(float), 40)
    kept = variance > ENOUGH
    assert kept.sum() > 20
    scores = (found - expected)[kept] / np.sqrt(variance[kept])
    assert np.abs(scores).max() < worst_allowed(scores.size)


PERTURBED = {
    "after": lambda p: p.after * 0.5,
    "base": lambda p: p.base + 0.2,
    "age": lambda p: p.age * 0.6,
    "classes": lambda p: p.classes * 0.4,
    "class_shares": lambda p: p.class_shares[:, ::-1],
    "swing": lambda p: p.swing * 0.3,
    "peak": lambda p: p.peak + 60,
    "reported": lambda p: p.reported * 0.8,
    "last": lambda p: p.last * 0.7,
    "new": lambda p: p.new * 0.7,
    "old": lambda p: p.old * 0.7,
    "scheduled": lambda p: p.scheduled * 0.6,
    "visit_base": lambda p: p.visit_base + 0.2,
    "visit_condition": lambda _: 0.0,
    "leaving": lambda p: p.leaving * 0.6,
    "death_base": lambda p: p.death_base + 1.5,
    "death_age": lambda _: 0.0,
    "incidental": lambda p: p.incidental[::-1],
    "male": lambda _: 0.6,
}
"""Parameters, each changed so much that 1,000 records must tell."""


def test_the_true_parameters_beat_all_others(process, records):
    """The mean log-likelihood ratio of 1,000 records is below 0 by 3 of its standard errors at least.

    Were records drawn from a changed process, its ratio would be above 0, so a passing test refutes that
    with error probability below 2e-3 for each parameter.
    """
    some = records.take(np.arange(1000))
    truth = log_likelihood(process, some)
    assert np.isfinite(truth).all()
    for name, change in PERTURBED.items():
        ratio = log_likelihood(replace(process, **{name: change(process)}), some) - truth
        assert ratio.mean() < -3 * ratio.std() / np.sqrt(ratio.size), name


def test_a_condition_of_the_other_sex_is_next_to_impossible(process, records):
    some = records.take(np.arange(300))
    other = replace(process, sex=process.sex[::-1])
    assert (log_likelihood(other, some) - log_likelihood(process, some)).min() < -20


def test_records_end_as_often_as_the_past_says(process, records):
    """Deaths and leavings after the k-th visit, k to 8, two z-tests. False alarm: 1e-4."""
    visits, ends = records.visits_per_patient, records.statics["end"].to_numpy()
    found, expected, variance = np.zeros(2), np.zeros(2), np.zeros(2)
    for place in range(1, 9):
        there = np.flatnonzero(visits >= place)
        given = end_chances(process, records.take(there).first_visits(place))[:, :2]
        last = visits[there] == place
        found += [(last & (ends[there] == ENDS[how])).sum() for how in (DIED, LEFT)]
        expected += given.sum(axis=0)
        variance += (given * (1 - given)).sum(axis=0)
    assert variance.min() > ENOUGH
    assert np.abs((found - expected) / np.sqrt(variance)).max() < worst_allowed(2)


def test_the_next_visit_is_foretold_without_its_day(process):
    """Fourth visits of 250 patients, each code that is frequent enough. False alarm: 1e-4."""
    short = replace(process, longest=200)
    drawn = simulate(short, 500, seed=8)
    longer = drawn.take(np.flatnonzero(drawn.visits_per_patient >= 4)[:250])
    given = next_visit_chances(short, longer.first_visits(3))
    came = longer.dense()[longer.patient_starts[:-1] + 3]
    variance = (given * (1 - given)).sum(axis=0)
    kept = variance > 8
    scores = (came - given).sum(axis=0)[kept] / np.sqrt(variance[kept])
    assert scores.size > 12
    assert np.abs(scores).max() < worst_allowed(scores.size)
    total = (came.sum() - given.sum()) / came.sum()
    assert abs(total) < 0.1


def test_the_class_comes_to_light(process, records):
    """Posteriors stay probabilities, average to the shares, and sharpen with the record's length.

    The average differs from the shares by more than 0.03 with probability below 1e-4.
    """
    whole = class_posterior(process, records)
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-12)
    sites = np.array([process.site_names.index(site) for site in records.statics["site"]])
    assert np.abs(whole.mean(axis=0) - process.class_shares[sites].mean(axis=0)).max() < 0.03
    brief = class_posterior(process, records.first_visits(1))
    assert whole.max(axis=1).mean() > brief.max(axis=1).mean() + 0.1
