"""Lower bounds on epsilon from what an attacker achieved: a claim below the bound is contradicted.

Knows counts and scores only; refuses to know models, tables or policies. Every function is pure. A bound
of 0.0 says that nothing was shown, never that the mechanism is private; each bound has a ceiling that even
a perfect attack cannot pass (`epsilon_ceiling`), so a claim above the ceiling was not tested at all.

Three attackers. Many runs: retrain with and without one patient, and tell the two apart. One run: insert
many canaries by coin flips, and guess the flips. Gaussian: many runs of a mechanism whose trade-off is
known to be Gaussian; only then is its bound valid.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
LARGEST_EPSILON = 100.0
"""Bounds are searched up to here; e^100 exceeds every count."""


@dataclass(frozen=True, kw_only=True)
class AttackErrors:
    """How often a test of "the patient was in" erred, over independent runs of each kind.

    `missed` of `runs_with` runs with the patient were called without; `false_alarms` of `runs_without`
    runs without the patient were called with.
    """

    missed: int
    runs_with: int
    false_alarms: int
    runs_without: int

    def __post_init__(self) -> None:
        if not (0 <= self.missed <= self.runs_with and 0 <= self.false_alarms <= self.runs_without):
            raise ValueError("an error count exceeds its number of runs")
        if not (self.runs_with and self.runs_without):
            raise ValueError("both kinds of run are needed")


def upper_limits(errors: AttackErrors, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Upper limits of (miss rate, false-alarm rate) that hold together with `confidence`.

    Source: Clopper and Pearson 1934, one-sided at (1 - confidence) / 2 each.
    """
    tail = (1.0 - confidence) / 2.0
    missed = _upper_limit(errors.missed, errors.runs_with, tail)
    return missed, _upper_limit(errors.false_alarms, errors.runs_without, tail)


def epsilon_from_errors(errors: AttackErrors, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """Lower bound on epsilon at `delta` from one test that was fixed before these runs.

    The two limits hold together, so the larger of both directions costs no further correction.

    Source: Kairouz, Oh and Viswanath 2015, Theorem 2.1, with Clopper-Pearson limits as in Nasr et al.,
    arXiv 2101.04535.
    """
    _check(delta, confidence)
    return max(0.0, _log_bound(errors, delta, confidence))


def epsilon_ceiling(runs: int, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """The bound of a perfect attack with this many runs of each kind: no claim above it can be refuted."""
    perfect = AttackErrors(missed=0, runs_with=runs, false_alarms=0, runs_without=runs)
    return epsilon_from_errors(perfect, delta=delta, confidence=confidence)


@dataclass(frozen=True, kw_only=True)
class ThresholdTest:
    """Says "the patient was in" where `sign * score > sign * threshold`."""

    threshold: float
    sign: float

    def errors(self, scores_with: np.ndarray, scores_without: np.ndarray) -> AttackErrors:
        """Its errors on scores, each float64, shape (runs,); NaN raises ValueError."""
        _check_scores(scores_with, scores_without)
        cut = self.sign * self.threshold
        return AttackErrors(
            missed=int(np.sum(self.sign * scores_with <= cut)),
            runs_with=scores_with.size,
            false_alarms=int(np.sum(self.sign * scores_without > cut)),
            runs_without=scores_without.size,
        )


def choose_threshold(
    scores_with: np.ndarray, scores_without: np.ndarray, *, delta: float, confidence: float = CONFIDENCE
) -> ThresholdTest:
    """The test, of either sign, with the largest bound on these runs. Never evaluate it on the same runs.

    Args:
        scores_with: Float64, shape (runs,): of trainings with the patient.
        scores_without: Float64, shape (runs,): of trainings without.
        delta: The claim's delta.
        confidence: Of the bound that is maximised.
    """
    _check(delta, confidence)
    _check_scores(scores_with, scores_without)
    values = np.unique(np.concatenate([scores_with, scores_without]))
    # Between neighbouring scores: the evaluation's scores are others, and may fall on either side.
    cuts = [values[0] - 1.0, *(values[1:] + values[:-1]) / 2.0, values[-1] + 1.0]
    tests = [ThresholdTest(threshold=float(cut), sign=sign) for sign in (1.0, -1.0) for cut in cuts]
    return max(
        tests, key=lambda test: _log_bound(test.errors(scores_with, scores_without), delta, confidence)
    )


def epsilon_from_scores(
    scores_with: np.ndarray, scores_without: np.ndarray, *, delta: float, confidence: float = CONFIDENCE
) -> float:
    """Lower bound on epsilon from many retrainings, each summed up in one score.

    The first half of each array chooses the threshold and sign, the second half bears the bound, so the
    choice costs nothing. Scores must be in an order that does not depend on them, for example of training.

    Args:
        scores_with: Float64, shape (runs,): of trainings with the patient.
        scores_without: Float64, shape (runs,): of trainings without.
        delta: The claim's delta.
        confidence: Of the bound.
    """
    first, second = scores_with.size // 2, scores_without.size // 2
    test = choose_threshold(scores_with[:first], scores_without[:second], delta=delta, confidence=confidence)
    errors = test.errors(scores_with[first:], scores_without[second:])
    return epsilon_from_errors(errors, delta=delta, confidence=confidence)


def mu_from_errors(errors: AttackErrors, *, confidence: float = CONFIDENCE) -> float:
    """Lower bound on mu of Gaussian differential privacy, from one test that was fixed before.

    Valid only if the mechanism's trade-off function really is Gaussian, as for one Gaussian mechanism, or
    many that compose without sampling. For any other mechanism the figure is an extrapolation from one
    point of its trade-off and may exceed the true epsilon once converted.

    Source: Nasr et al., arXiv 2302.07956, section 4; Dong, Roth and Su, arXiv 1905.02383, equation 6.
    """
    miss, alarm = upper_limits(errors, confidence=confidence)
    if miss + alarm >= 1.0:
        return 0.0
    return float(stats.norm.isf(alarm) - stats.norm.ppf(miss))


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """The epsilon at which a mechanism of exactly mu-Gaussian differential privacy has this delta.

    Source: Dong, Roth and Su, arXiv 1905.02383, corollary 2.13.
    """
    if mu <= 0.0:
        return 0.0

    def excess(epsilon: float) -> float:
        first = stats.norm.logcdf(-epsilon / mu + mu / 2.0)
        second = epsilon + stats.norm.logcdf(-epsilon / mu - mu / 2.0)
        return float(first + math.log(-math.expm1(second - first)) - math.log(delta))

    if excess(0.0) <= 0.0:
        return 0.0
    high = 1.0
    while excess(high) > 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))


def gaussian_epsilon_from_errors(
    errors: AttackErrors, *, delta: float, confidence: float = CONFIDENCE
) -> float:
    """`mu_from_errors` as epsilon at `delta`. Valid only if the trade-off really is Gaussian."""
    _check(delta, confidence)
    return epsilon_of_gaussian(mu_from_errors(errors, confidence=confidence), delta)


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """Outcome of one run: of `canaries` coin flips the attacker guessed `made` and got `correct` right.

    `made` is fixed beforehand; on the other canaries the attacker abstains.
    """

    canaries: int
    made: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.made <= self.canaries:
            raise ValueError("needs correct <= made <= canaries")


def guess(scores: np.ndarray, included: np.ndarray, *, called_in: int, called_out: int) -> Guesses:
    """Call the `called_in` highest scores inserted and the `called_out` lowest left out.

    Args:
        scores: Float64, shape (canaries,); the larger, the likelier the canary was inserted.
        included: Bool, shape (canaries,): the coin flips, each fair and independent.
        called_in: Fixed before the scores were seen.
        called_out: Likewise; the two together are at most the number of canaries.
    """
    _check_scores(scores)
    if called_in < 0 or called_out < 0 or called_in + called_out > scores.size:
        raise ValueError("more guesses than canaries")
    order = np.argsort(scores, kind="stable")
    lowest, highest = order[:called_out], order[scores.size - called_in :]
    correct = int(np.sum(~included[lowest]) + np.sum(included[highest]))
    return Guesses(canaries=scores.size, made=called_in + called_out, correct=correct)


def one_run_p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """Probability bound of so many correct guesses under (epsilon, delta)-DP, add-or-remove one canary.

    beta + 2 m delta max_i P[v > W >= v - i] / i, with W binomial of the guesses made at rate
    e^epsilon / (1 + e^epsilon) and beta = P[W >= v]. Without the second term a mechanism that fails with
    probability delta would be accused.

    Source: Steinke, Nasr and Jagielski, arXiv 2305.08846, Theorem 5.2 and appendix D.
    """
    rate = 1.0 / (1.0 + math.exp(-epsilon))
    beta = float(stats.binom.sf(guesses.correct - 1, guesses.made, rate))
    if delta == 0.0 or guesses.correct == 0:
        return min(1.0, beta)
    steps = np.arange(1, guesses.correct + 1)
    mass = stats.binom.sf(guesses.correct - steps - 1, guesses.made, rate) - beta  # P[v > W >= v - i]
    return min(1.0, beta + 2.0 * guesses.canaries * delta * float(np.max(mass / steps)))


def one_run_epsilon(guesses: Guesses, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """Lower bound on epsilon at `delta` from one training: where the p value reaches 1 - confidence.

    Rounded down by at most 1e-9; 0.0 if even epsilon 0 is not contradicted.
    """
    _check(delta, confidence)
    level = 1.0 - confidence

    def is_refuted(epsilon: float) -> bool:
        return one_run_p_value(guesses, epsilon=epsilon, delta=delta) < level

    if not is_refuted(0.0):
        return 0.0
    refuted, standing = 0.0, LARGEST_EPSILON
    while standing - refuted > 1e-9:
        middle = (refuted + standing) / 2.0
        refuted, standing = (middle, standing) if is_refuted(middle) else (refuted, middle)
    return refuted


def _log_bound(errors: AttackErrors, delta: float, confidence: float) -> float:
    """`epsilon_from_errors` before it is cut off at zero."""
    miss, alarm = upper_limits(errors, confidence=confidence)
    return max(_log_ratio(1.0 - delta - miss, alarm), _log_ratio(1.0 - delta - alarm, miss))


def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log(numerator / denominator) if numerator > 0.0 else -math.inf


@lru_cache(maxsize=65_536)
def _upper_limit(successes: int, trials: int, tail: float) -> float:
    return 1.0 if successes == trials else float(stats.beta.isf(tail, successes + 1, trials - successes))


def _check(delta: float, confidence: float) -> None:
    if not 0.0 <= delta < 1.0:
        raise ValueError("delta must be within [0, 1)")
    if not 0.0 < confidence < 1.0:
        raise ValueError("confidence must be within (0, 1)")


def _check_scores(*arrays: np.ndarray) -> None:
    """A NaN is no score: comparisons with it would quietly count as "without"."""
    if any(np.isnan(scores).any() for scores in arrays):
        raise ValueError("a score is NaN")
