"""Each step draws each patient by itself; empty draws are kept; the divisor is public."""

import numpy as np
import pytest
import torch
from dpsgd_bench import Bench, silence
from scipy import stats
from small_ward import make_plan, ward_model, ward_states

from synthkit.domain.layout import PatientStates
from synthkit.privacy import rng
from synthkit.training.loop import LoopState, train

PATIENTS, RATE, STEPS = 400, 0.13, 4000


@pytest.fixture(scope="module")
def membership():
    """Who was in which of 4,000 samples, bool, shape (steps, patients)."""
    drawn = np.zeros((STEPS, PATIENTS), dtype=bool)
    for row in drawn:
        row[rng.poisson_sample(PATIENTS, sample_rate=RATE)] = True
    return drawn


def two_sided(statistic, freedom):
    return 2 * min(stats.chi2.cdf(statistic, freedom), stats.chi2.sf(statistic, freedom))


def test_every_patient_is_drawn_at_the_rate(membership):
    """Chi-square over patients, two-sided, alpha 1e-6; and no single patient beyond six deviations."""
    counts = membership.sum(axis=0)
    spread = STEPS * RATE * (1 - RATE)
    assert two_sided(((counts - STEPS * RATE) ** 2 / spread).sum(), PATIENTS) > 1e-6
    assert np.abs(counts - STEPS * RATE).max() < 6 * np.sqrt(spread)


def test_batch_sizes_vary_as_independent_draws_do(membership):
    """Variance n q (1 - q), chi-square, two-sided, alpha 1e-6. A fixed batch size has variance 0, a
    shuffled pass over the patients nearly so.
    """
    sizes = membership.sum(axis=1)
    statistic = (STEPS - 1) * sizes.var(ddof=1) / (PATIENTS * RATE * (1 - RATE))
    assert two_sided(statistic, STEPS - 1) > 1e-6


def test_steps_do_not_take_turns(membership):
    """A patient drawn now is as likely as any other at the next step: six standard errors, below 2e-9."""
    centred = (membership - RATE) / np.sqrt(RATE * (1 - RATE))
    products = centred[1:] * centred[:-1]
    assert abs(products.mean()) < 6 / np.sqrt(products.size)


def test_rates_at_the_ends():
    """Rate 1 takes everybody; three patients at 0.2 leave 51.2 % of samples empty (six deviations)."""
    assert rng.poisson_sample(50, sample_rate=1.0).size == 50
    empty = np.mean([rng.poisson_sample(3, sample_rate=0.2).size == 0 for _ in range(20_000)])
    assert abs(empty - 0.512) < 6 * np.sqrt(0.512 * 0.488 / 20_000)


class Counting(torch.optim.SGD):
    """Counts its steps."""

    taken = 0

    def step(self, closure=None):
        self.taken += 1
        return super().step(closure)


def test_a_step_samples_by_poisson_and_keeps_empty_samples():
    """The step itself, not only its sampler: three patients at rate 0.2, 600 steps, each one taken.

    Number of samples with anybody in them: six deviations of a binomial, false alarm below 2e-9.
    """
    bench = Bench(3, sample_rate=0.2, expected_batch=1e6)
    optimizer, asked = Counting(bench.step.parameters, lr=1e-9), []

    def loss(sample):
        asked.append(sample)
        return bench.loss(sample)

    for _ in range(600):
        bench.step(3, loss, optimizer)
    assert optimizer.taken == 600
    assert abs(len(asked) - 600 * 0.488) < 6 * np.sqrt(600 * 0.488 * 0.512)
    assert {sample.size for sample in asked} == {1, 2, 3}


def test_an_empty_sample_releases_noise_alone(monkeypatch):
    bench = Bench(5)
    assert np.abs(bench.released(np.zeros(0, dtype=np.int64))).min() > 0
    silence(monkeypatch)
    assert not bench.released(np.zeros(0, dtype=np.int64)).any()


def gradient_of_training(monkeypatch, *, patients, declared_size):
    """The last gradient of one step that always draws the same ten patients, without noise."""
    silence(monkeypatch)

    def same_ten(count, *, sample_rate):
        return np.arange(10)

    monkeypatch.setattr(rng, "poisson_sample", same_ten)
    # With next to no latent noise the loss is a function of the rows.
    model = ward_model({"latent": 6, "hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "posterior_std": 1e-7})
    plan = make_plan(local_steps=1, sample_rate=0.3)
    states = PatientStates.one_row_each(ward_states(200)[:patients])
    train(model, states, plan, steps=1, declared_size=declared_size, state=LoopState())
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).numpy()


def test_the_divisor_is_rate_times_declared_size_and_not_the_batch(monkeypatch):
    base = gradient_of_training(monkeypatch, patients=200, declared_size=200)
    fewer = gradient_of_training(monkeypatch, patients=50, declared_size=200)
    double = gradient_of_training(monkeypatch, patients=200, declared_size=400)
    np.testing.assert_allclose(fewer, base, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(2 * double, base, rtol=1e-3, atol=1e-6)
    assert np.linalg.norm(base) > 0
    assert np.linalg.norm(base) * 0.3 * 200 <= 10 * (1 + 1e-4)
