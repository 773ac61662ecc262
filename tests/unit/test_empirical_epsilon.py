"""The epsilon bounds against closed forms, published values, other implementations and exact mechanisms."""

import math
from functools import cache, partial

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from scipy import stats

from synthkit.audit.empirical_epsilon import (
    AttackErrors,
    Guesses,
    ThresholdTest,
    choose_threshold,
    epsilon_ceiling,
    epsilon_from_errors,
    epsilon_from_scores,
    epsilon_of_gaussian,
    gaussian_epsilon_from_errors,
    guess,
    mu_from_errors,
    one_run_epsilon,
    one_run_p_value,
    upper_limits,
)

REFERENCE = [
    # missed, runs with, false alarms, runs without, delta, confidence, many-run bound, one-run bound
    (159, 1707, 580, 1288, 1e-2, 0.9, 1.58789985, 0.0),
    (0, 967, 273, 1043, 1e-6, 0.99, 4.85525045, 1.10477132),
    (695, 1681, 50, 552, 1e-4, 0.9, 1.60951872, 2.77229583),
    (621, 1630, 34, 207, 1e-7, 0.95, 0.98628472, 3.09859668),
    (691, 1463, 8, 1888, 1e-7, 0.9, 4.19382204, 4.08110274),
    (30, 1354, 33, 1617, 1e-5, 0.9, 3.57435362, 3.45280765),
    (132, 912, 297, 1094, 1e-5, 0.95, 1.42119599, 0.85121147),
    (310, 1892, 0, 1265, 1e-7, 0.9, 5.85020713, 6.53100474),
    (0, 1450, 50, 680, 1e-5, 0.99, 5.50487646, 3.03085338),
    (248, 866, 372, 1745, 1e-6, 0.99, 1.03227906, 0.35336617),
    (698, 1562, 336, 1913, 1e-5, 0.9, 1.02668443, 0.85971257),
    (45, 302, 17, 291, 1e-6, 0.9, 2.24250062, 2.37476517),
    (0, 1240, 102, 531, 1e-3, 0.9, 5.77405015, 2.27003846),
    (363, 1796, 0, 1735, 1e-7, 0.9, 6.11610565, 6.43192864),
    (85, 334, 169, 1668, 1e-4, 0.99, 1.71855667, 0.09130404),
    (5, 1865, 96, 1397, 1e-3, 0.9, 5.09443067, 2.55891824),
    (28, 1095, 502, 1151, 1e-5, 0.95, 2.67754804, 0.66346526),
    (534, 1492, 554, 1696, 1e-6, 0.95, 0.56849294, 0.45864673),
    (12, 1791, 130, 822, 1e-4, 0.9, 4.32584081, 2.48893289),
    (0, 1194, 84, 863, 1e-7, 0.9, 5.86634105, 2.50489005),
]
"""What jax_privacy 2.0.0 (`epsilon_clopper_pearson(one_sided=False)` and `epsilon_one_run`, both with an
`Explicit` threshold) returns for twenty pairs of normal score files; its search stops at 1e-6."""


@pytest.mark.parametrize("case", REFERENCE)
def test_both_bounds_agree_with_jax_privacy(case):
    missed, ins, alarms, outs, delta, confidence, many, one = case
    errors = AttackErrors(missed=missed, runs_with=ins, false_alarms=alarms, runs_without=outs)
    assert epsilon_from_errors(errors, delta=delta, confidence=confidence) == pytest.approx(many, abs=1e-6)
    guesses = Guesses(canaries=ins + outs, made=ins - missed + alarms, correct=ins - missed)
    assert one_run_epsilon(guesses, delta=delta, confidence=confidence) == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize(
    ("thresholds", "made", "correct", "published"),
    [(386, 3376, 2807, 1.13346), (374, 4666, 4499, 2.311945), (140, 8233, 8223, 4.395568)],
)
def test_the_one_run_bound_is_the_one_in_jax_privacys_own_tests(thresholds, made, correct, published):
    """Its `test_epsilon_one_run_close`: 10,000 normal scores a side, apart by 1, 2 and 4, delta 1e-6; the
    best of that many thresholds, each at 0.05 over their number."""
    guesses = Guesses(canaries=20_000, made=made, correct=correct)
    bound = one_run_epsilon(guesses, delta=1e-6, confidence=1 - 0.05 / thresholds)
    assert bound == pytest.approx(published, rel=1e-5)


def test_the_one_run_bound_is_the_papers_worked_example():
    """Steinke et al., appendix D: 75 of 100 guesses right, at confidence 95 %."""
    one = Guesses(canaries=100, made=100, correct=75)
    assert one_run_p_value(one, epsilon=math.log(3), delta=0.0) == pytest.approx(0.553, abs=1e-3)
    assert one_run_epsilon(one, delta=0.0) == pytest.approx(0.702, abs=1e-3)
    assert one_run_epsilon(one, delta=1e-4) == pytest.approx(0.699, abs=1e-3)
    abstaining = Guesses(canaries=1000, made=100, correct=75)
    assert one_run_epsilon(abstaining, delta=1e-4) == pytest.approx(0.673, abs=1e-3)


@pytest.mark.parametrize(
    ("runs", "ceiling"), [(50, 2.57), (100, 3.28), (200, 3.98), (500, 4.91), (1000, 5.60), (5000, 7.21)]
)
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_a_perfect_attack_meets_its_ceiling_and_no_more(runs, ceiling, delta):
    assert epsilon_ceiling(runs, delta=delta) == pytest.approx(ceiling, abs=0.005)
    apart = epsilon_from_scores(np.full(2 * runs, 1.0), np.zeros(2 * runs), delta=delta)
    assert apart == epsilon_ceiling(runs, delta=delta)


@pytest.mark.parametrize(
    ("canaries", "without_delta", "with_delta"), [(100, 3.49, 3.49), (1000, 5.81, 5.78), (5000, 7.42, 7.28)]
)
def test_one_run_has_a_ceiling_too_and_delta_lowers_it(canaries, without_delta, with_delta):
    """The left figures are at delta 0, the right ones at delta 1e-5."""
    perfect = Guesses(canaries=canaries, made=canaries, correct=canaries)
    assert one_run_epsilon(perfect, delta=0.0) == pytest.approx(without_delta, abs=0.005)
    assert one_run_epsilon(perfect, delta=1e-5) == pytest.approx(with_delta, abs=0.005)


def naive_p_value(guesses, epsilon, delta):
    """The appendix's loop, term by term."""
    rate = 1 / (1 + math.exp(-epsilon))
    beta = stats.binom.sf(guesses.correct - 1, guesses.made, rate)
    alpha = total = 0.0
    for i in range(1, guesses.correct + 1):
        total += stats.binom.pmf(guesses.correct - i, guesses.made, rate)
        alpha = max(alpha, total / i)
    return min(1.0, beta + alpha * delta * 2 * guesses.canaries)


@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize(
    ("canaries", "made", "correct"),
    [(10, 1, 0), (10, 1, 1), (100, 10, 9), (1000, 100, 100), (1000, 1000, 700)],
)
def test_the_p_value_is_the_papers_loop(canaries, made, correct, epsilon, delta):
    guesses = Guesses(canaries=canaries, made=made, correct=correct)
    expected = naive_p_value(guesses, epsilon, delta)
    assert one_run_p_value(guesses, epsilon=epsilon, delta=delta) == pytest.approx(
        expected, rel=1e-9, abs=1e-13
    )


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3, 1e-2])
def test_below_the_one_run_bound_every_epsilon_is_refuted_and_above_none(delta):
    for correct in (55, 70, 90, 100):
        guesses = Guesses(canaries=150, made=100, correct=correct)
        bound = one_run_epsilon(guesses, delta=delta)
        grid = np.linspace(0.0, 12.0, 400)
        refuted = [one_run_p_value(guesses, epsilon=float(e), delta=delta) < 0.05 for e in grid]
        assert refuted == [bool(e < bound) for e in grid]


def flipped(rng, truth, epsilon):
    """Randomised response: each bit told truly with probability e^epsilon / (1 + e^epsilon)."""
    lie = rng.random(truth.shape) >= 1 / (1 + math.exp(-epsilon))
    return np.where(lie, 1 - truth, truth).astype(float)


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
def test_many_runs_of_randomised_response_are_covered(epsilon):
    """1,000 audits of 300 runs a side, seeds fixed. A bound above the true epsilon may come up in 5 % of
    them: more than 85 by chance has probability 1.3e-6.
    """
    rng = np.random.default_rng(int(epsilon))
    bounds = [
        epsilon_from_scores(
            flipped(rng, np.ones(300), epsilon), flipped(rng, np.zeros(300), epsilon), delta=0.0
        )
        for _ in range(1000)
    ]
    assert np.sum(np.array(bounds) > epsilon) <= 85
    if epsilon == 1.0:
        assert np.median(bounds) > 0.4  # and the bound is not safe by being empty


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_one_run_of_randomised_response_is_covered(epsilon, delta):
    """1,000 audits of 500 canaries, seeds fixed; with probability delta the mechanism tells everything.

    More than 85 bounds above the true epsilon by chance: probability at most 1.3e-6.
    """
    rng = np.random.default_rng(10 + int(epsilon))
    bound = cache(partial(one_run_epsilon, delta=delta))
    bounds = []
    for _ in range(1000):
        coins = rng.random(500) < 0.5
        scores = flipped(rng, coins.astype(float), epsilon if rng.random() >= delta else 50.0)
        bounds.append(bound(guess(scores, coins, called_in=200, called_out=200)))
    assert np.sum(np.array(bounds) > epsilon) <= 85
    if epsilon == 1.0 and delta == 0.0:
        assert np.median(bounds) > 0.5


def revealing(rng, coins, delta):
    """(0, delta)-DP for each coin: pure noise, save that with probability m delta one of m is told."""
    scores = rng.random(coins.size)
    if rng.random() < coins.size * delta:
        chosen = rng.integers(coins.size)
        scores[chosen] = 2.0 if coins[chosen] else 0.5
    return scores


def test_without_the_delta_term_a_private_mechanism_is_accused():
    """One guess, 100 canaries, a mechanism that is (0, 0.004)-DP for each canary: it points at an inserted
    one with probability 0.2. A p value without the delta term puts the correct guess at 0.5 whatever the
    mechanism does; the true rate is 0.6. 4,000 draws: off by 0.05 by chance with probability below 1e-9.
    """
    rng = np.random.default_rng(3)
    right = 0
    for _ in range(4000):
        coins = rng.random(100) < 0.5
        right += guess(revealing(rng, coins, 0.004), coins, called_in=1, called_out=0).correct
    one = Guesses(canaries=100, made=1, correct=1)
    assert right / 4000 > 0.55
    assert one_run_p_value(one, epsilon=0.0, delta=0.0) == 0.5  # below the true rate: no p value at all
    assert one_run_p_value(one, epsilon=0.0, delta=0.004) >= right / 4000


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-5, 1e-2])
def test_the_gaussian_conversion_is_dp_accountings(mu, delta):
    assert epsilon_of_gaussian(mu, delta) == pytest.approx(get_epsilon_gaussian(1 / mu, delta), abs=1e-5)
    assert epsilon_of_gaussian(0.0, delta) == 0.0


def test_the_gaussian_conversion_is_zero_where_delta_pays_for_everything():
    assert epsilon_of_gaussian(0.1, 0.2) == 0.0


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.5])
def test_gaussian_bounds_cover_a_gaussian_mechanism(mu):
    """1,000 audits of 400 runs a side at a fixed threshold, seeds fixed; at most 85 misses as above."""
    rng = np.random.default_rng(int(10 * mu))
    test = ThresholdTest(threshold=mu / 2, sign=1.0)
    found = [mu_from_errors(test.errors(rng.normal(mu, 1, 400), rng.normal(0, 1, 400))) for _ in range(1000)]
    assert np.sum(np.array(found) > mu) <= 85
    assert np.median(found) > mu - 0.35


def test_the_gaussian_bound_exceeds_the_many_run_bound_and_may_be_wrong_elsewhere():
    """Randomised response of epsilon 1 is not Gaussian: read as Gaussian it is accused of over 5."""
    rng = np.random.default_rng(0)
    errors = ThresholdTest(threshold=0.5, sign=1.0).errors(
        flipped(rng, np.ones(5000), 1.0), flipped(rng, np.zeros(5000), 1.0)
    )
    assert 0.9 < epsilon_from_errors(errors, delta=1e-5) <= 1.0
    assert gaussian_epsilon_from_errors(errors, delta=1e-5) > 5.0


def test_limits_hold_together_at_the_stated_confidence():
    """Each is one-sided at half of the error."""
    errors = AttackErrors(missed=3, runs_with=40, false_alarms=0, runs_without=60)
    miss, alarm = upper_limits(errors, confidence=0.9)
    assert stats.binom.cdf(3, 40, miss) == pytest.approx(0.05)
    assert (1 - alarm) ** 60 == pytest.approx(0.05)


def test_both_directions_count():
    """Without false alarms the first ratio is large, without misses the second."""
    one = AttackErrors(missed=50, runs_with=100, false_alarms=0, runs_without=100)
    other = AttackErrors(missed=0, runs_with=100, false_alarms=50, runs_without=100)
    assert epsilon_from_errors(one, delta=0.0) == pytest.approx(epsilon_from_errors(other, delta=0.0))
    assert epsilon_from_errors(one, delta=0.0) > 2.0


def test_the_threshold_is_chosen_on_the_first_half_only():
    """In the first half high scores mean "with"; in the second they mean nothing: the bound is 0."""
    rng = np.random.default_rng(1)
    ins, outs = rng.normal(size=400), rng.normal(size=400)
    ins[:200] += 100.0
    assert epsilon_from_scores(ins, outs, delta=0.0) == 0.0
    ins[200:] += 100.0
    assert epsilon_from_scores(ins, outs, delta=0.0) == epsilon_ceiling(200, delta=0.0)


def test_either_sign_is_found():
    rng = np.random.default_rng(2)
    low, high = rng.normal(0, 1, 200), rng.normal(20, 1, 200)
    assert choose_threshold(low, high, delta=0.0).sign == -1.0
    assert choose_threshold(high, low, delta=0.0).sign == 1.0
    assert epsilon_from_scores(low, high, delta=0.0) == epsilon_from_scores(high, low, delta=0.0)


def test_nothing_shown_is_zero_and_never_negative():
    errors = AttackErrors(missed=50, runs_with=100, false_alarms=50, runs_without=100)
    assert epsilon_from_errors(errors, delta=0.0) == 0.0
    assert mu_from_errors(errors) == 0.0
    assert gaussian_epsilon_from_errors(errors, delta=1e-5) == 0.0
    hopeless = AttackErrors(missed=5, runs_with=5, false_alarms=5, runs_without=5)
    assert epsilon_from_errors(hopeless, delta=0.5) == 0.0
    assert one_run_epsilon(Guesses(canaries=10, made=0, correct=0), delta=0.0) == 0.0
    assert epsilon_from_scores(np.ones(10), np.ones(10), delta=0.0) == 0.0


def test_guessing_takes_the_highest_as_in_and_the_lowest_as_out():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    coins = np.array([True, False, False, False, True])
    assert guess(scores, coins, called_in=2, called_out=2) == Guesses(canaries=5, made=4, correct=3)
    assert guess(scores, coins, called_in=0, called_out=0) == Guesses(canaries=5, made=0, correct=0)
    assert guess(scores, coins, called_in=1, called_out=0).correct == 1


NONSENSE = {
    "more misses than runs": lambda: AttackErrors(missed=2, runs_with=1, false_alarms=0, runs_without=1),
    "negative alarms": lambda: AttackErrors(missed=0, runs_with=1, false_alarms=-1, runs_without=1),
    "no runs": lambda: AttackErrors(missed=0, runs_with=0, false_alarms=0, runs_without=1),
    "more right than made": lambda: Guesses(canaries=5, made=2, correct=3),
    "more guesses than canaries": lambda: Guesses(canaries=1, made=2, correct=1),
    "too many calls": lambda: guess(np.zeros(3), np.zeros(3, bool), called_in=2, called_out=2),
    "NaN score": lambda: epsilon_from_scores(np.array([1.0, math.nan]), np.zeros(2), delta=0.0),
    "NaN canary": lambda: guess(np.array([math.nan]), np.zeros(1, bool), called_in=1, called_out=0),
    "delta of one": lambda: epsilon_ceiling(10, delta=1.0),
    "negative delta": lambda: one_run_epsilon(Guesses(canaries=1, made=1, correct=1), delta=-0.1),
    "certainty": lambda: epsilon_ceiling(10, delta=0.0, confidence=1.0),
}


@pytest.mark.parametrize("make", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_no_evidence(make):
    with pytest.raises(ValueError, match=r"."):
        make()
