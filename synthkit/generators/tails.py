"""What runs of states below the noise hold together, and how it falls off.

Knows a run's noisy shares, how far each of its states is from one that was told from absence, and the
noise. Refuses to know patients: everything here is post-processing of bought counts.

One such state says nothing, but all of them together say how much lies beyond the last state that was
told and how far out it reaches, which is most of a skewed column's spread. Kept as they are, dozens of
noisy states would make a long tail of every column; put to zero, every column would lose its own.
"""

import math

import torch

USUAL_RATE, RATE_WIDTH = 0.5, 0.3
"""Prior of the factor from one state of a tail to the next: median, and the standard deviation of its
log-odds. Over 24 bins a wider one lets noise far out, where a patient weighs most, pull the tail."""

STEADY = 0.5
"""Prior probability that a tail goes on from the last state told; else it drops to any level."""

LEVEL_POWER = 0.5
"""Prior of a level after a drop, per unit of its logarithm: to this power. At 0 small tails are taken for
none; at 1 each run of empty states keeps almost a state's noise."""

RATES = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
LEVELS = 41
"""Values of the first state's share on the grid, evenly in its logarithm."""


def tail_shares(noisy: torch.Tensor, steps: torch.Tensor, *, edge: float, noise: float) -> torch.Tensor:
    """Posterior mean of the shares of a run of states that fall off geometrically.

    The share of a state `steps` away is a * r^(steps - 1). Both are averaged over a grid with the
    likelihood of the noisy shares, whose noise is Gaussian and of known width.

    Args:
        noisy: Shares with noise, float64, shape (n,).
        steps: Distance of each to the nearest state that was told, at least 1, shape (n,).
        edge: Share of that state: the first of the run has at most as much.
        noise: Standard deviation of each noisy share, above 0.

    Returns:
        Shape (n,), each between 0 and `edge`.
    """
    rates = RATES.to(noisy)
    first = edge * torch.logspace(math.log10(min(0.1, 0.01 * noise / edge)), 0.0, LEVELS).to(noisy)
    shapes = rates[:, None] ** (steps.to(noisy) - 1)  # (rates, n)
    # |y - a s|^2 = |y|^2 - 2 a (y s) + a^2 |s|^2, and |y|^2 is the same everywhere.
    agreement, length = shapes @ noisy, shapes.square().sum(dim=1)
    misfit = first[:, None] ** 2 * length - 2 * first[:, None] * agreement  # (levels, rates)
    weights = torch.softmax((_log_prior(first / edge, rates) - misfit / (2 * noise**2)).flatten(), 0)
    by_rate = (weights.reshape(misfit.shape) * first[:, None]).sum(dim=0)
    shares: torch.Tensor = by_rate @ shapes
    return shares


def _log_prior(drop: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """Of a first state's share over the edge's, and of the rate; shape (levels, rates)."""
    odds = torch.log(rates / (1 - rates)) - math.log(USUAL_RATE / (1 - USUAL_RATE))
    of_rate = torch.softmax(-0.5 * (odds / RATE_WIDTH) ** 2 - torch.log(rates * (1 - rates)), 0)
    steady = torch.softmax(-0.5 * (drop.log()[:, None] - rates.log()) ** 2, 0)
    dropped = torch.softmax(LEVEL_POWER * drop.log(), 0)[:, None]
    return (of_rate * (STEADY * steady + (1 - STEADY) * dropped)).log()
