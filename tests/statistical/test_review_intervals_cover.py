"""A review's interval covers one half for who guesses and excludes it for who sees through.

Statistical, with fixed seeds; each docstring states the probability that another seed would fail.
"""

import numpy as np
import pytest

from synthkit.evaluation import review_score
from synthkit.evaluation.review_pack import ReviewKey
from synthkit.evaluation.review_score import Answer, score

RECORDS, PACKS = 40, 150


def tossed(rng):
    coins = rng.random(RECORDS) < 0.5
    return ReviewKey(pack="P", is_real={f"P-{n:03d}": bool(coin) for n, coin in enumerate(coins)})


def answers(key, reviewers, rng, *, right):
    """Reviewers who are right about each record with this probability, each for themselves."""
    return [
        Answer(reviewer=name, record=record, says_real=is_real == bool(rng.random() < right))
        for name in reviewers
        for record, is_real in key.is_real.items()
    ]


def covers(found):
    return found.accuracy.lower <= 0.5 <= found.accuracy.upper


def test_the_interval_of_one_who_guesses_covers_one_half():
    """An exact 95 % interval fails at most 5 times in 100: of 150 packs at most 17, but with a probability
    below 1e-3. It is no wider than need be either: of 40 answers it fails 3.8 times in 100, so at least once,
    but with a probability of 3e-3.
    """
    rng = np.random.default_rng(11)
    failed = 0
    for _ in range(PACKS):
        key = tossed(rng)
        found = score(answers(key, "a", rng, right=0.5), key).pooled
        failed += not covers(found)
        assert covers(found) is (found.p_value >= 0.05)
    assert 1 <= failed <= 17


def test_whether_a_guesser_always_says_real_makes_no_difference():
    """Who calls everything real is right as often as the coins fell so: the same bounds as above."""
    rng = np.random.default_rng(12)
    failed = 0
    for _ in range(PACKS):
        key = tossed(rng)
        said = [Answer(reviewer="a", record=record, says_real=True) for record in key.is_real]
        failed += not covers(score(said, key).pooled)
    assert 1 <= failed <= 17


def test_the_interval_of_three_who_guess_covers_one_half(monkeypatch):
    """The pooled interval is approximate: it may fail in 7.5 of 100 packs, at most 23 of 150, but with a
    probability below 1e-3."""
    monkeypatch.setattr(review_score, "TOSSES", 100)  # the test's, not the interval's
    rng = np.random.default_rng(13)
    failed = 0
    for _ in range(PACKS):
        key = tossed(rng)
        failed += not covers(score(answers(key, "abc", rng, right=0.5), key).pooled)
    assert failed <= 23


@pytest.mark.parametrize("reviewers", ["a", "abc"])
@pytest.mark.parametrize("right", [1.0, 0.9])
def test_the_interval_of_one_who_sees_through_excludes_one_half(reviewers, right):
    """Right nine times in ten of 40 leaves the interval above one half unless 13 are wrong: below 1e-4 a
    pack. And it covers the true rate in nine of ten of 30 packs at least, below 1e-2 otherwise."""
    rng = np.random.default_rng(14)
    covered = 0
    for _ in range(30):
        key = tossed(rng)
        found = score(answers(key, reviewers, rng, right=right), key).pooled
        assert found.accuracy.lower > 0.5
        assert found.p_value < 0.01
        covered += found.accuracy.lower <= right <= found.accuracy.upper
    assert covered >= 25


def test_who_is_always_wrong_sees_through_as_well():
    """They tell the two apart and have the names the wrong way round: below one half, and significant."""
    rng = np.random.default_rng(15)
    key = tossed(rng)
    found = score(answers(key, "a", rng, right=0.0), key).pooled
    assert found.accuracy.upper < 0.5
    assert found.p_value < 1e-9
