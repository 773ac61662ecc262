"""Where a batch is cut decides what padding costs, and nothing else."""

from itertools import combinations

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, simulated

from synthkit.generators.eva import Eva
from synthkit.training.sequence_loop import APART, _losses_in_groups, like_sized, losses_of


def cost(steps, cuts):
    return sum(APART + part.size * part.max() for part in np.split(steps, list(cuts)))


@pytest.mark.parametrize("seed", range(4))
def test_no_other_cut_costs_less(seed):
    steps = np.sort(np.random.default_rng(seed).lognormal(4.0, 1.5, size=9).astype(np.int64) + 1)
    cuts = like_sized(steps)
    ways = [some for count in range(9) for some in combinations(range(1, 9), count)]
    assert cost(steps, cuts) == min(cost(steps, way) for way in ways)


@pytest.mark.parametrize(
    ("steps", "cuts"), [([7], []), ([5] * 64, []), ([10] * 60 + [1000] * 4, [60]), ([1000, 10, 10], [])]
)
def test_cuts_stand_where_sizes_part(steps, cuts):
    assert like_sized(np.array(steps)).tolist() == cuts


def test_a_patients_loss_is_the_same_in_any_group():
    """Without a latent a loss has no chance in it."""
    records, settings = simulated(30), {**SMALL, "latent": 0}
    encoding = encoding_of(records, settings)
    states = encoding.encode(records)
    states = states.take(np.argsort(states.steps, kind="stable"))
    generator = Eva(encoding.layout, settings)
    some = np.array([0, 3, 15, 16, 28, 29])
    found = _losses_in_groups(generator, states, 0.5, torch.Generator(), np.repeat(some, 8))
    whole = losses_of(generator, states, 0.5, torch.Generator(), np.repeat(some, 8))
    assert like_sized(states.steps[np.repeat(some, 8)]).size
    np.testing.assert_allclose(found.detach().numpy(), whole.detach().numpy(), rtol=2e-5)
