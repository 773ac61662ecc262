"""The tight figure: epsilon of a fixed history, from privacy loss distributions on a grid.

Knows a tally, a delta and Google's dp_accounting, which does the convolutions. Refuses to admit anything:
these distributions describe a list that was fixed beforehand.

Rules that keep the figure at or above both the truth and Google's own figure:

1. The grid is Google's default one or a coarsening of it by a whole number. Every coarse point is then a
   fine one too, and connecting fewer dots of a convex curve only raises it. Ours is finer than Google's
   only where that grid alone would cost more than `MOST_GRID_COST`: very many, very small losses. There,
   and where even the Renyi figure is lower, Google's default is not matched but beaten.
2. The Fourier transforms round. Their error grows with the number of steps; so does the slack that is
   taken off delta for it. (Measured against the closed form of a Gaussian composed up to a million times:
   at most 6e-17 a step, a sixteenth of the slack.)
3. `MARGIN` is added for what splitting one history into other pieces changes: each piece is truncated and
   rounded to the grid anew.

Source: Doroshenko et al., arXiv 2207.04380 (connect the dots), pessimistic, as in dp_accounting.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.privacy.renyi import LARGEST_NOISE_MULTIPLIER, SMALLEST_SAMPLE_RATE, Tally

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

SMALLEST_DELTA = 1e-9
"""Below this the Fourier transforms' rounding is no longer small against delta."""

LARGEST_EPSILON = 10_000.0

MOST_DISTRIBUTIONS = 100
"""Most distinct events convolved."""

COMMON_INTERVAL = 1e-4
"""Discretisation of the privacy loss in nats: dp_accounting's default."""

GRID_POINTS = 20_000
"""Grid steps per epsilon: the discretisation then costs about one ten-thousandth of epsilon."""

MOST_GRID_POINTS = 150_000
"""Most grid points of one step's distribution: keeps any history within seconds."""

MOST_GRID_COST = 0.01
"""Above this estimate of what the grid adds to epsilon, a finer grid is used."""

MOST_HALVINGS = 7
"""Finer still, and the distribution's own probabilities are lost to cancellation."""

SLACK = 1e-12
SLACK_PER_STEP = 1e-15
"""Both are taken off delta before epsilon is read."""

MARGIN = 1e-4
"""Nats added to the figure."""

Distribution = tuple[float, float, int]
"""(noise_multiplier, sample_rate, steps), within the range where a grid is computable."""


def pld_epsilon(tally: Tally, delta: float, ceiling: float) -> float:
    """Epsilon of this history at `delta`, never below the truth.

    Args:
        tally: The history; its failures are already taken off `delta`.
        delta: Within (0, 1).
        ceiling: Any sound epsilon of the same history, for the width of the grid.

    Returns:
        Epsilon; infinity where a grid can say nothing, and the ceiling is what is known.
    """
    if delta < SMALLEST_DELTA or not 0 < ceiling < LARGEST_EPSILON:
        return math.inf
    parts = _distributions(tally)
    left = delta - SLACK - SLACK_PER_STEP * sum(steps for _, _, steps in parts)
    if left <= 0 or len(parts) > MOST_DISTRIBUTIONS:
        return math.inf
    epsilon = composed_epsilon(parts, left, grid_interval(parts, delta, ceiling))
    return epsilon + MARGIN if math.isfinite(epsilon) and epsilon >= 0 else math.inf


def grid_interval(parts: list[Distribution], delta: float, ceiling: float) -> float:
    """Discretisation for these distributions, in nats: rule 1."""
    widest = max(_largest_loss(sigma, rate) for sigma, rate, _ in parts)
    narrowest = math.ceil(widest / MOST_GRID_POINTS / COMMON_INTERVAL)
    multiple = max(1, math.ceil(ceiling / GRID_POINTS / COMMON_INTERVAL))
    while multiple > 1 and _grid_cost(parts, delta, multiple * COMMON_INTERVAL) > MOST_GRID_COST:
        multiple = math.ceil(multiple / 2)
    if max(multiple, narrowest) > 1:
        return max(multiple, narrowest) * COMMON_INTERVAL
    halvings = 0
    while (
        halvings < MOST_HALVINGS
        and _grid_cost(parts, delta, COMMON_INTERVAL * 0.5**halvings) > MOST_GRID_COST
    ):
        halvings += 1
    return COMMON_INTERVAL * 0.5**halvings


def _grid_cost(parts: list[Distribution], delta: float, interval: float) -> float:
    """Estimate of what the grid adds to epsilon: the variance that moving losses to its points adds.

    A loss between two points moves to either, which adds interval^2 / 6 on average; a loss much smaller
    than the interval mostly moves to 0, which adds about interval * its mean size.
    """
    variance = added = 0.0
    for sigma, rate, steps in parts:
        loss_variance = rate**2 * math.expm1(min(1 / sigma**2, 50.0))
        variance += steps * loss_variance
        added += steps * min(interval**2 / 6, 0.8 * interval * math.sqrt(loss_variance))
    deviations = math.sqrt(-2 * math.log(delta))
    return added / 2 * (1 + deviations / math.sqrt(variance)) if variance > 0 else 0.0


def _largest_loss(sigma: float, rate: float) -> float:
    """A step's privacy loss ten standard deviations out, in nats."""
    log_ratio = 10 / sigma + 1 / (2 * sigma**2)
    return float(math.log1p(rate * math.expm1(log_ratio))) if log_ratio < 500 else log_ratio


def _distributions(tally: Tally) -> list[Distribution]:
    """Each distribution to convolve; all full-batch events are one Gaussian."""
    found = [
        (min(sigma, LARGEST_NOISE_MULTIPLIER), max(rate, SMALLEST_SAMPLE_RATE), steps)
        for (sigma, rate), steps in sorted(tally.sampled.items())
    ]
    precision = math.fsum(
        count / min(sigma, LARGEST_NOISE_MULTIPLIER) ** 2 for sigma, count in sorted(tally.full.items())
    )
    return [*found, (1 / math.sqrt(precision), 1.0, 1)] if precision > 0 else found


def composed_epsilon(parts: list[Distribution], delta: float, interval: float) -> float:
    """Epsilon by composing pessimistic privacy loss distributions on a grid of width `interval`."""
    total: Any = None
    for sigma, rate, steps in parts:
        part = _one_step(sigma, rate, interval)
        part = part.self_compose(steps) if steps > 1 else part
        total = part if total is None else total.compose(part)
    with np.errstate(over="ignore"):  # what underflows reads as infinity, which the caller refuses
        return float(total.get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)
def _one_step(sigma: float, rate: float, interval: float) -> "PrivacyLossDistribution":
    """One step's distribution: the slow part, and the same one for every study of one plan."""
    # Imported here: it takes most of a second, and admission never needs it.
    from dp_accounting.pld import privacy_loss_distribution  # noqa: PLC0415

    return privacy_loss_distribution.from_gaussian_mechanism(
        sigma, value_discretization_interval=interval, sampling_prob=rate
    )
