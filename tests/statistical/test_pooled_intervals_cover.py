"""Pooled intervals over synthetic tables hold what they promise, and no more.

A real sample of a normal population, a model fitted to it, and synthetic tables drawn from the model: the
simplest case in which each rule can be checked against the population's mean.
"""

import numpy as np
import pytest

from synthkit.evaluation.rubin import Rule, pool

REAL, TRIALS, SETS = 200, 2000, 5
SPREAD = 4 * np.sqrt(0.95 * 0.05 / TRIALS)
"""Four standard errors of an observed coverage of 95 %: exceeded by chance in 6 of 100,000 cases."""


def covered(draw, rule, *, seed, ratio=1.0, noise=0.0, same_noise=True):
    """Share of trials whose interval holds the population's mean, 0."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(TRIALS):
        real = rng.normal(size=REAL)
        estimates, variances = [], []
        shared = rng.normal(0, noise) if noise else 0.0
        for _ in range(SETS):
            shift = shared if same_noise or not noise else rng.normal(0, noise)
            table = draw(rng, real, shift, int(REAL * ratio))
            estimates.append([table.mean()])
            variances.append([table.var(ddof=1) / table.size])
        found = pool(np.array(estimates), np.array(variances), rule=rule, ratio=ratio)
        lower, upper = found.interval
        hits += lower[0] <= 0 <= upper[0]
    return hits / TRIALS


def from_one_model(rng, real, shift, count):
    """All tables from the model with the estimated parameters."""
    return rng.normal(real.mean() + shift, real.std(ddof=1), count)


def from_a_posterior(rng, real, shift, count):
    """Each table from parameters drawn anew from their posterior, given the real rows."""
    scale = real.std(ddof=1) * np.sqrt((REAL - 1) / rng.chisquare(REAL - 1))
    return rng.normal(rng.normal(real.mean() + shift, scale / np.sqrt(REAL)), scale, count)


@pytest.mark.parametrize(
    ("rule", "ratio"), [(Rule.PARTIAL, 1.0), (Rule.PARTIAL, 3.0), (Rule.SIMPLE, 1.0), (Rule.SIMPLE, 0.5)]
)
def test_tables_of_one_fitted_model_cover_at_95_per_cent(rule, ratio):
    """2,000 trials; a right rule fails this with a probability of about 6e-5 a case."""
    assert covered(from_one_model, rule, seed=1, ratio=ratio) == pytest.approx(0.95, abs=SPREAD)


def test_tables_of_posterior_draws_cover_under_the_rule_for_fully_synthetic_data():
    """The rule may be conservative where its variance came out negative; it must not fall below 95 %.

    2,000 trials: falls four standard errors below by chance with a probability of about 3e-5.
    """
    assert covered(from_a_posterior, Rule.FULL, seed=2) > 0.95 - SPREAD


def test_one_table_taken_for_real_covers_too_little():
    """Its interval holds the mean in about 83 % of trials: sqrt(2) too narrow. This is why tables are pooled.

    Phi(1.96 / sqrt 2) = 0.917, so 83.4 %; 2,000 trials are within four standard errors, 6e-5.
    """
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(TRIALS):
        table = from_one_model(rng, rng.normal(size=REAL), 0.0, REAL)
        hits += abs(table.mean()) <= 1.96 * table.std(ddof=1) / np.sqrt(REAL)
    assert hits / TRIALS == pytest.approx(0.834, abs=4 * np.sqrt(0.834 * 0.166 / TRIALS))


def test_noise_that_all_tables_share_is_not_covered_and_noise_of_their_own_is():
    """What the report warns of. The noise is as large as the sampling error of the real rows.

    Shared: the true spread is sqrt((2 + 1 / 5) / (1 + 1 / 5)) of what the interval is made for, coverage
    about 85 %; the bound of 90 % is more than six standard errors away. Of their own: 95 %, within
    four standard errors but for a chance of 6e-5.
    """
    size = 1 / np.sqrt(REAL)
    shared = covered(from_one_model, Rule.PARTIAL, seed=4, noise=size)
    own = covered(from_one_model, Rule.PARTIAL, seed=4, noise=size, same_noise=False)
    assert shared < 0.90
    assert own == pytest.approx(0.95, abs=SPREAD)
