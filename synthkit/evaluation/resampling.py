"""How far could a score be off by chance? Patients drawn again, whole, and percentiles of what comes of it.

Knows sums a patient and seeds. Refuses to know what is scored. Rules: a patient is drawn with everything
of theirs, and one draw of patients serves every score of a replicate, so that a ratio or a difference is
of like and like.

Source: percentile bootstrap, Efron and Tibshirani 1993, section 13.3.
"""

import numpy as np

from synthkit.domain.utility import Estimate

RESAMPLES = 200
"""Draws of the test patients per training."""

TAILS = (0.025, 0.975)


def draws(patients: int, rng: np.random.Generator, count: int = RESAMPLES) -> np.ndarray:
    """How often each patient is in each draw: float64 (count, patients), rows summing to `patients`."""
    return rng.multinomial(patients, np.full(patients, 1.0 / patients), size=count).astype(float)


def estimate(point: float, values: np.ndarray) -> Estimate | None:
    """A score with the 95 % interval of its replicates; None where it is not defined."""
    finite = values[np.isfinite(values)]
    if not np.isfinite(point) or not finite.size:
        return None
    lower, upper = np.quantile(finite, TAILS)
    return Estimate(mean=float(point), lower=float(lower), upper=float(upper))


def pooled(points: list[float], values: list[np.ndarray]) -> Estimate | None:
    """One estimate of several trainings: the mean of their scores, and the interval of all replicates."""
    return estimate(float(np.mean(points)), np.concatenate(values))
