"""The Langevin chain's draws have the mean and the variance of a posterior that is known in closed form.

1,500 independent Gaussian means of unlike precision, 1,000 patients, batches of 100. Each coordinate is a
chain of its own, so their last states are independent draws, and standardised by the exact posterior they
are standard normal but for what batches and steps of finite length add to the variance, computed below.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from synthkit.training.langevin import PreconditionedLangevin, UnsafeAlternation

COORDINATES, PATIENTS, BATCH, STEPS = 1500, 1000, 100, 1800
PULL = 0.005
"""Share of the way to the mode that one step goes."""

LIMIT = 4.5
"""Standard deviations: one bound of either sign fails by chance with probability 7e-6."""

PRECISION = torch.logspace(-1, 1, COORDINATES)


def problem():
    rng = torch.Generator().manual_seed(1)
    truth = torch.randn(COORDINATES, generator=rng)
    rows = truth + torch.randn(PATIENTS, COORDINATES, generator=rng) / PRECISION.sqrt()
    precision = PATIENTS * PRECISION + 1.0  # the prior's 1
    return rows, PATIENTS * PRECISION * rows.mean(dim=0) / precision, precision


def standardised(temperature, centre=0.0):
    """Last states of all chains, less the posterior's mean, over its standard deviation."""
    rows, mean, precision = problem()
    parameter = nn.Parameter(mean + 3.0 / precision.sqrt())
    chain = PreconditionedLangevin(
        [parameter],
        patients=PATIENTS,
        rate=PULL / math.sqrt(BATCH),
        rng=torch.Generator().manual_seed(2),
        squares=[PRECISION / BATCH],
        centres=[torch.full((COORDINATES,), centre)],
        temperature=temperature,
    )
    draws = np.random.default_rng(3)
    for _ in range(STEPS):
        some = torch.from_numpy(draws.integers(0, PATIENTS, BATCH))
        with torch.no_grad():
            gradient = PRECISION * (parameter - rows.index_select(0, some).mean(dim=0))
        chain.step([gradient])
    mean = mean + centre / precision
    return ((parameter.detach() - mean) * precision.sqrt()).double().numpy()


def deviations(draws):
    """Of mean and variance from a standard normal's, in standard deviations of chance.

    sqrt(V) of normal gradients is sqrt(PRECISION / BATCH), so a step's pull is PULL * sqrt(PRECISION). Per
    step the chain adds a variance of 2 * pull (in units of the posterior's), the batch pull^2 * N / BATCH.
    """
    pull = PULL * PRECISION.sqrt().numpy()
    variance = ((1.0 + pull * PATIENTS / (2 * BATCH)) / (1.0 - pull / 2)).mean()
    size = math.sqrt(draws.size)
    return draws.mean() * size / math.sqrt(variance), (draws.var() / variance - 1.0) * size / math.sqrt(2.0)


def test_mean_and_variance_are_the_posteriors():
    """False alarm: 1.4e-5, two bounds of 4.5 standard deviations; seeds are fixed."""
    mean, variance = deviations(standardised(1.0))
    assert abs(mean) < LIMIT
    assert abs(variance) < LIMIT


def test_a_priors_centre_moves_the_mean_as_it_should():
    """False alarm: 7e-6. A centre of 30 moves the loosest coordinate by 3 standard deviations."""
    mean, _ = deviations(standardised(1.0, centre=30.0))
    assert abs(mean) < LIMIT


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_noise_switched_off_halved_or_doubled_is_noticed(temperature):
    """The very check above fails: what is off by half lies more than ten standard deviations away."""
    _, variance = deviations(standardised(temperature))
    assert abs(variance) > 10


def test_the_inference_networks_learn_of_what_was_just_drawn():
    """Algorithm 1, line 7: its gradient is taken at the new theta, on the same mini-batch."""
    theta, phi, seen = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3)), []

    def losses(sample, seen=seen):
        seen.append((sample.copy(), theta.detach().clone(), phi.detach().clone()))
        return ((theta + phi - 1.0).square().sum() * torch.ones(sample.size)) / 3.0

    rng = torch.Generator().manual_seed(0)
    chain = PreconditionedLangevin([theta], patients=40, rate=0.01, rng=rng)
    alternate = UnsafeAlternation(chain, torch.optim.Adam([phi], lr=0.01), sample_rate=0.2)
    for _ in range(3):
        partial(alternate, 40)(losses)
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert np.array_equal(first[0], second[0])
        assert first[0].size == 8
        assert not torch.equal(first[1], second[1])
        assert torch.equal(first[2], second[2])
    assert not torch.equal(seen[1][2], seen[2][2])
