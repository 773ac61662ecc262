"""The calibration slope of the true model is 1 under censoring, that of one too sure of itself is below."""

import numpy as np
import pytest

from synthkit.evaluation.calibration import calibrate, pseudo_observations, slope_of

TRIALS, ROWS, AT = 400, 400, 1.0


def population(rng, rows):
    """Exponential times, a third of them censored; the true probability of an event by AT."""
    risk = 0.8 * rng.normal(size=rows)
    time, until = rng.exponential(np.exp(-risk)), rng.exponential(2.0, rows)
    return risk, np.minimum(time, until), time <= until


def probability(risk):
    return -np.expm1(-AT * np.exp(risk))


def test_the_true_model_has_slope_one_and_the_error_it_is_given():
    """400 trials of 400 rows.

    The mean slope is within four of its standard errors of 1: fails by chance with a probability of 6e-5.
    The spread of (slope - 1) / error is within 4 / sqrt(800) = 14 % of 1: about 6e-5 as well.
    """
    rng = np.random.default_rng(1)
    found = []
    for _ in range(TRIALS):
        risk, time, event = population(rng, ROWS)
        found.append(slope_of(probability(risk), pseudo_observations(time, event, AT)))
    slopes, errors = np.array(found).T
    assert slopes.mean() == pytest.approx(1, abs=4 * slopes.std() / np.sqrt(TRIALS))
    assert ((slopes - 1) / errors).std() == pytest.approx(1, abs=0.14)


def test_dropping_the_censored_would_not_do():
    """Why pseudo-observations: what is known of the others alone is off by more than five standard errors."""
    risk, time, event = population(np.random.default_rng(2), 20_000)
    known = event | (time > AT)
    slope, error = slope_of(probability(risk)[known], (time[known] <= AT).astype(float))
    assert abs(slope - 1) > 5 * error
    right, error = slope_of(probability(risk), pseudo_observations(time, event, AT))
    assert right == pytest.approx(1, abs=4 * error)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_relative_slope_undoes_a_factor_on_the_log_hazard(factor):
    """20,000 rows: the standard error is about 0.013 / factor, and the bound at least five of them."""
    risk, time, event = population(np.random.default_rng(3), 20_000)
    found = calibrate(probability(factor * risk), time, event, AT)
    assert found.relative_slope == pytest.approx(1 / factor, rel=0.07)
    assert (found.slope < 0.85) == (factor > 1)
    assert (found.slope > 1.15) == (factor < 1)
