"""One exponential variate instead of a coin for each code: the same law."""

import numpy as np
import pytest
import torch
from scipy import stats

from synthkit.generators.eva_drawing import _next_codes

CHANCES = torch.tensor([0.02, 0.6, 1e-6, 0.3, 0.05])
DRAWS = 200_000


def law(last: int, *, at_least_one: bool) -> np.ndarray:
    """Chance of each next code, and of none, by the chain of coins."""
    chances = np.where(np.arange(5) > last, CHANCES.numpy().astype(float), 0.0)
    misses = np.cumprod(1.0 - chances)
    found = np.append(chances * np.append(1.0, misses[:-1]), misses[-1])
    if at_least_one:
        found[-1] = 0.0
        found /= found.sum()
    return found


@pytest.mark.parametrize(
    ("last", "at_least_one"), [(-1, False), (-1, True), (0, False), (1, False), (3, False)]
)
def test_next_codes_follow_the_chain_of_coins(last, at_least_one):
    """Chi-square over the outcomes expected at least five times; 5 cases at 1e-5 each: false alarm 5e-5."""
    hazards = -torch.log1p(-CHANCES).repeat(DRAWS, 1)
    codes = _next_codes(
        hazards, torch.full((DRAWS,), last), torch.Generator().manual_seed(7), at_least_one=at_least_one
    ).numpy()
    counts, expected = np.bincount(codes, minlength=6), DRAWS * law(last, at_least_one=at_least_one)
    assert counts[expected == 0].sum() == 0
    usual = expected >= 5
    assert (
        stats.chisquare(counts[usual], expected[usual] * counts[usual].sum() / expected[usual].sum()).pvalue
        > 1e-5
    )


def test_after_the_last_code_there_is_none():
    hazards = torch.full((1000, 5), 50.0)
    codes = _next_codes(hazards, torch.full((1000,), 4), torch.Generator().manual_seed(1), at_least_one=False)
    assert set(codes.tolist()) == {5}


def test_a_visit_whose_codes_are_all_next_to_impossible_has_one_all_the_same():
    hazards = torch.full((1000, 5), 1e-30)
    codes = _next_codes(hazards, torch.full((1000,), -1), torch.Generator().manual_seed(1), at_least_one=True)
    assert int(codes.max()) < 5
