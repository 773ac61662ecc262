"""The statistics an audit decides with: intervals, one-sided tests, Holm, detectable effects.

Knows counts and levels only; refuses to know tables, attacks or policies. Every function is pure. A count
is a number of patients, a rate lies in [0, 1], an advantage (rate minus rate) in [-1, 1].
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from synthkit.domain.audit import Interval

QUADRATURE_POINTS = 61
MAX_SAMPLE_FACTOR = 1024.0


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a proportion.

    Source: Clopper and Pearson 1934, Biometrika 26:404.
    """
    tail = (1.0 - confidence) / 2.0
    lower = 0.0 if successes == 0 else stats.beta.ppf(tail, successes, trials - successes + 1)
    upper = 1.0 if successes == trials else stats.beta.ppf(1.0 - tail, successes + 1, trials - successes)
    return Interval(lower=float(lower), upper=float(upper), confidence=confidence)


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion, without continuity correction.

    Source: Wilson 1927, JASA 22:209.
    """
    z = float(stats.norm.ppf(1.0 - (1.0 - confidence) / 2.0))
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return Interval(
        lower=max(0.0, min(rate, float(centre - half))),
        upper=min(1.0, max(rate, float(centre + half))),
        confidence=confidence,
    )


def newcombe(
    successes: int, trials: int, control: int, control_trials: int, *, confidence: float
) -> Interval:
    """Interval of the difference of two independent proportions, from their Wilson limits.

    Its upper end is a one-sided limit at level (1 - confidence) / 2.

    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10.
    """
    first = wilson(successes, trials, confidence=confidence)
    second = wilson(control, control_trials, confidence=confidence)
    rate, control_rate = successes / trials, control / control_trials
    below = np.hypot(rate - first.lower, second.upper - control_rate)
    above = np.hypot(first.upper - rate, control_rate - second.lower)
    difference = rate - control_rate
    return Interval(
        lower=float(max(-1.0, difference - below)),
        upper=float(min(1.0, difference + above)),
        confidence=confidence,
    )


def fisher_greater(successes: int, trials: int, control: int, control_trials: int) -> float:
    """One-sided exact p value of "the first rate is not larger than the control rate".

    Source: Fisher 1935; the upper tail of the hypergeometric distribution.
    """
    total, claims = trials + control_trials, successes + control
    return float(min(1.0, stats.hypergeom.sf(successes - 1, total, claims, trials)))


def holm(p_values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, ...]:
    """Holm's adjusted p values, in the order given.

    Args:
        p_values: One a hypothesis.
        weights: Positive, summing to 1: each hypothesis' share of the level before any is rejected. Equal
            if None.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65, section 3 for the weights.
    """
    shares = np.full(len(p_values), 1.0 / max(1, len(p_values))) if weights is None else np.asarray(weights)
    ratios = np.asarray(p_values, dtype=float) / shares
    order = np.argsort(ratios, kind="stable")
    adjusted = np.empty(len(p_values))
    running, left = 0.0, 1.0
    for index in order:
        running = max(running, left * float(ratios[index]))
        adjusted[index] = min(1.0, running)
        left -= float(shares[index])
    return tuple(float(value) for value in adjusted)


@lru_cache(maxsize=256)
def minimum_detectable_effect(
    trials: int, control_trials: int, *, control_rate: float, level: float, power: float = 0.8
) -> float:
    """Smallest advantage that `fisher_greater` finds at `level` with probability `power`.

    The control count is averaged over quantiles of its binomial law, so the figure includes the noise of
    the control group and the discreteness of the exact test. 1.0 when nothing could be found.
    """
    points = (np.arange(QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS
    quantiles = stats.binom.ppf(points, control_trials, control_rate).astype(np.int64)
    controls, places = np.unique(quantiles, return_inverse=True)
    needed = _critical_counts(trials, controls, control_trials, level)[places]

    def found(advantage: float) -> float:
        return float(np.mean(stats.binom.sf(needed - 1, trials, min(1.0, control_rate + advantage))))

    ceiling = 1.0 - control_rate
    if found(ceiling) < power:
        return 1.0
    low, high = 0.0, ceiling
    while high - low > 1e-5:
        middle = (low + high) / 2.0
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


def _critical_counts(trials: int, controls: np.ndarray, control_trials: int, level: float) -> np.ndarray:
    """Smallest member counts that reject, one for each control count; trials + 1 where none does."""
    low = np.zeros(controls.size, dtype=np.int64)
    high = np.full(controls.size, trials + 1, dtype=np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        p_values = stats.hypergeom.sf(middle - 1, trials + control_trials, middle + controls, trials)
        rejects = (p_values < level) | (middle > trials)
        open_ = low < high
        high = np.where(open_ & rejects, middle, high)
        low = np.where(open_ & ~rejects, middle + 1, low)
    return low


def needed_sample_factor(
    trials: int, control_trials: int, *, control_rate: float, level: float, target: float
) -> float:
    """By about how much both groups must grow until the detectable effect is at most `target`.

    Doubles, then halves the bracket to a tenth; infinite when over a thousand times is not enough.
    """

    def reached(factor: float) -> bool:
        sizes = round(trials * factor), round(control_trials * factor)
        return minimum_detectable_effect(*sizes, control_rate=control_rate, level=level) <= target

    high = 1.0
    while not reached(high):
        high *= 2.0
        if high > MAX_SAMPLE_FACTOR:
            return float("inf")
    low = high / 2.0 if high > 1.0 else 1.0
    while high / low > 1.1:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def auc(members: np.ndarray, controls: np.ndarray) -> float:
    """Probability that a member's score exceeds a control's, ties counted half."""
    u = stats.mannwhitneyu(members, controls, alternative="two-sided", method="asymptotic").statistic
    return float(u) / (members.size * controls.size)


def exponential_tail(controls: np.ndarray, values: np.ndarray, *, share: float = 0.1) -> np.ndarray:
    """Probability that a control exceeds each value, by an exponential law above the controls' top `share`.

    The scale is the mean excess (Hill's estimator when the values are logarithms), enlarged by 1.64 of its
    standard errors so that a short list of controls makes the answer larger, never smaller. Values below
    the start of the tail get 1.0.

    Source: Hill 1975, Annals of Statistics 3:1163.
    """
    start = float(np.quantile(controls, 1.0 - share))
    excess = controls[controls > start] - start
    if excess.size == 0:
        return np.ones(values.size)
    scale = float(excess.mean()) * (1.0 + 1.64 / np.sqrt(excess.size))
    tail = excess.size / controls.size * np.exp(-(values - start) / scale)
    return np.where(values > start, np.minimum(tail, 1.0), 1.0)
