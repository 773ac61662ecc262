"""What sites buy before the first step travels beside weights, and adds up."""

import math

import numpy as np
import pytest

from synthkit.errors import InputError
from synthkit.federation.bought_sum import TOTAL, VARIANCE, BoughtSum, added, taken_apart
from synthkit_server.aggregation import pooled

WEIGHTS = {"bias": np.arange(3, dtype=np.float32)}


def test_a_sum_comes_back_from_beside_its_weights():
    bought = BoughtSum.of_noise(np.array([1.5, -2.25]), noise_multiplier=3.0)
    weights, found = taken_apart(bought.beside(WEIGHTS), where="here")
    assert weights == WEIGHTS
    assert (found.total.tolist(), found.variance, found.std) == ([1.5, -2.25], 9.0, 3.0)
    assert {array.dtype for array in bought.beside(WEIGHTS).values()} == {np.dtype(np.float32)}


def test_sums_and_variances_of_sites_add_up_and_weights_stay_the_bases():
    sites = [BoughtSum.of_noise(np.array([10.0 * n, 1.0]), noise_multiplier=n) for n in (1.0, 2.0, 3.0)]
    whole = added(sites)
    assert whole.total.tolist() == [60.0, 3.0]
    assert whole.std == pytest.approx(math.sqrt(14.0))
    start = BoughtSum.nothing(2).beside(WEIGHTS)
    found = pooled([one.beside(WEIGHTS) for one in sites], start)
    assert found["bias"] is WEIGHTS["bias"]
    assert (found[TOTAL].tolist(), found[VARIANCE].tolist()) == ([60.0, 3.0], [14.0])


def test_a_large_site_and_a_small_one_are_not_averaged():
    """Ten thousand patients with a share of 0.1 and a hundred with 0.9: 0.108 of all, not 0.5."""
    sums = [BoughtSum.of_noise(np.array(pair), noise_multiplier=1.0) for pair in ((1e4, 1e3), (1e2, 90.0))]
    patients, carriers = added(sums).total.tolist()
    assert carriers / patients == pytest.approx(1090 / 10100)


def test_sums_are_added_beyond_the_digits_of_float32():
    tiny = BoughtSum.of_noise(np.full(1, 0.75), noise_multiplier=1.0)
    sums = [BoughtSum.of_noise(np.full(1, 2.0**24), noise_multiplier=1.0), *[tiny] * 4]
    assert added(sums).total.tolist() == [2.0**24 + 4]  # 2^24 + 3 has no float32; one by one it stays 2^24


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (TOTAL, None, "no bought sum"),
        (VARIANCE, None, "no bought sum"),
        (TOTAL, np.zeros(2), "another form"),
        (TOTAL, np.zeros((1, 2), np.float32), "another form"),
        (VARIANCE, np.zeros(2, np.float32), "another form"),
        (VARIANCE, np.array(1.0, np.float32), "another form"),
        (TOTAL, np.array([np.nan, 0], np.float32), "not finite"),
        (VARIANCE, np.array([-1], np.float32), "not finite"),
        (VARIANCE, np.array([np.inf], np.float32), "not finite"),
    ],
)
def test_a_sum_of_another_form_is_refused(name, array, words):
    arrays = {**BoughtSum.nothing(2).beside(WEIGHTS), name: array}
    arrays = {key: value for key, value in arrays.items() if value is not None}
    with pytest.raises(InputError, match=words):
        taken_apart(arrays, where="train reply")


def test_sums_of_different_widths_are_never_added():
    with pytest.raises(ValueError, match="one width"):
        added([BoughtSum.nothing(2), BoughtSum.nothing(3)])
