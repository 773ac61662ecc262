"""Averages of weights, and sums of what sites buy before them.

Knows arrays and public factors. Refuses to know who claims what: a site's factor is its declared size
in the signed roster, never a number in its reply. Sums run in float64, results are float32.
"""

from collections.abc import Sequence

import numpy as np

from synthkit.federation.bought_sum import added, taken_apart
from synthkit.federation.messages import Weights


def weighted_average(weights: Sequence[Weights], factors: Sequence[float]) -> Weights:
    """Average arrays of equal names and shapes.

    Args:
        weights: One entry per site, float32.
        factors: One positive number per site; only their ratios matter.

    Returns:
        Arrays of the same names and shapes, float32.

    Source: McMahan et al., AISTATS 2017, Algorithm 1 (FedAvg), with declared in place of exact sizes.
    """
    if not weights or len(weights) != len(factors) or min(factors) <= 0:
        raise ValueError("an average needs one positive factor for each of at least one entry")
    shares = np.asarray(factors, dtype=np.float64) / float(np.sum(factors, dtype=np.float64))
    average: Weights = {}
    for name in weights[0]:
        total = np.zeros(weights[0][name].shape, dtype=np.float64)
        for entry, share in zip(weights, shares, strict=True):
            total += share * entry[name].astype(np.float64)
        average[name] = total.astype(np.float32)
    return average


def plain_average(weights: Sequence[Weights]) -> Weights:
    """Average with equal factors: the mean of the last rounds' weights."""
    return weighted_average(weights, [1.0] * len(weights))


def pooled(replies: Sequence[Weights], base: Weights) -> Weights:
    """The base's weights with the sum of what all sites bought beside them; see `federation.bought_sum`.

    Args:
        replies: One entry per site, checked (`validation.check_bought`): the base's weights, and a sum.
        base: What they started from.

    Raises:
        InputError: A sum is missing or malformed.
    """
    sums = [taken_apart(reply, where="train reply")[1] for reply in replies]
    return added(sums).beside(taken_apart(base, where="checkpoint")[0])


def update_norm(base: Weights, trained: Weights) -> float:
    """Euclidean norm of the difference over all arrays, in float64."""
    squares = (
        float(np.sum((trained[name].astype(np.float64) - base[name].astype(np.float64)) ** 2))
        for name in base
    )
    return float(np.sqrt(sum(squares)))
