"""The audit's statistics against hand-checked tables and published values."""

import numpy as np
import pytest
from scipy import stats

from synthkit.audit import statistics


def test_clopper_pearson_matches_closed_forms_at_the_ends() -> None:
    none = statistics.clopper_pearson(0, 10)
    assert none.lower == 0.0
    assert none.upper == pytest.approx(1 - 0.025 ** (1 / 10))
    every = statistics.clopper_pearson(10, 10)
    assert (every.lower, every.upper) == (pytest.approx(0.025 ** (1 / 10)), 1.0)


def test_wilson_and_newcombe_match_newcombes_published_examples() -> None:
    """Newcombe 1998, part I table I (81/263) and part II table II case (a), 56/70 against 48/80."""
    single = statistics.wilson(81, 263)
    assert (round(single.lower, 4), round(single.upper, 4)) == (0.2553, 0.3662)
    difference = statistics.newcombe(56, 70, 48, 80, confidence=0.95)
    assert (round(difference.lower, 4), round(difference.upper, 4)) == (0.0524, 0.3339)


def test_fisher_matches_the_tea_tasting() -> None:
    """Three of four cups right: 17 / 70; all four: 1 / 70."""
    assert statistics.fisher_greater(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert statistics.fisher_greater(4, 4, 0, 4) == pytest.approx(1 / 70)


def test_fisher_is_one_when_nothing_is_claimed() -> None:
    assert statistics.fisher_greater(0, 50, 0, 20) == 1.0


def test_holm_on_a_hand_checked_family() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx((0.04, 0.09, 0.09, 0.5))
    assert statistics.holm([0.9, 0.8]) == (1.0, 1.0)


@pytest.mark.parametrize(("trials", "controls"), [(1000, 1000), (1957, 560)])
def test_the_detectable_effect_is_found_as_often_as_it_says(trials: int, controls: int) -> None:
    """4,000 draws: the share found has standard deviation 0.0063, so 0.03 is off by chance 2e-6."""
    level, rate = 0.002, 0.01
    effect = statistics.minimum_detectable_effect(trials, controls, control_rate=rate, level=level)
    rng = np.random.default_rng(0)
    hits, false_hits = rng.binomial(trials, rate + effect, 4000), rng.binomial(controls, rate, 4000)
    p_values = stats.hypergeom.sf(hits - 1, trials + controls, hits + false_hits, trials)
    assert np.mean(p_values < level) == pytest.approx(0.8, abs=0.03)


def test_the_detectable_effect_shrinks_with_patients_and_is_one_when_nothing_can_be_found() -> None:
    effects = [
        statistics.minimum_detectable_effect(n, n, control_rate=0.01, level=0.005) for n in (100, 500, 2000)
    ]
    assert effects[0] > effects[1] > effects[2]
    assert statistics.minimum_detectable_effect(3, 3, control_rate=0.01, level=0.005) == 1.0


def test_the_needed_factor_reaches_the_target_and_is_not_far_above() -> None:
    level, rate, target = 0.002, 0.01, 0.05
    factor = statistics.needed_sample_factor(212, 60, control_rate=rate, level=level, target=target)

    def effect(scale: float) -> float:
        sizes = round(212 * scale), round(60 * scale)
        return statistics.minimum_detectable_effect(*sizes, control_rate=rate, level=level)

    assert effect(factor) <= target < effect(factor / 1.25)


def test_auc_counts_ties_half() -> None:
    assert statistics.auc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(3.5 / 4)


def test_the_exponential_tail_covers_an_exponential_law() -> None:
    """The estimate is enlarged on purpose: at the true 1e-4 point it says at least that, seed fixed."""
    controls = np.random.default_rng(0).exponential(size=5000)
    estimate = statistics.exponential_tail(controls, np.array([-np.log(1e-4), 0.0]))
    assert 1e-4 <= estimate[0] <= 1e-3
    assert estimate[1] == 1.0
    assert statistics.exponential_tail(np.zeros(10), np.array([5.0])) == pytest.approx(1.0)
