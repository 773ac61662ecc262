"""The prior's one Gaussian mechanism: bounded rows, noise of the accounted width, exact without noise."""

import numpy as np
import pytest
import torch
from dpsgd_bench import silence
from small_ward import make_plan, ward_model, ward_states

from synthkit.domain.layout import PatientStates
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.loop import close


def rows(count, width, *, seed=0, scale=1.0):
    return scale * torch.randn(
        count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def test_noise_has_the_accounted_width():
    """2,000 sums of 40 coordinates: six standard errors, false alarm below 2e-9."""
    vectors = rows(5, 40)
    exact = (vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1)).sum(0).numpy()
    noise = np.stack([gaussian_sum(vectors, noise_multiplier=3.0) for _ in range(2000)]) - exact
    assert abs(noise.std() / 3.0 - 1) < 6 / np.sqrt(2 * noise.size)
    assert abs(noise.mean()) < 6 * 3.0 / np.sqrt(noise.size)
    assert abs((noise[1:] * noise[:-1]).mean() / 9) < 6 / np.sqrt(noise.size)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1.0, 50.0, 1e150, 1e300, float("inf"), float("nan")])
def test_one_row_moves_the_sum_by_at_most_one(monkeypatch, scale):
    silence(monkeypatch)
    others = rows(20, 30)
    for one in (rows(1, 30, seed=1, scale=scale), torch.full((1, 30), scale, dtype=torch.float64)):
        whole = gaussian_sum(torch.cat([others, one]), noise_multiplier=1.0)
        assert np.isfinite(whole).all()
        assert np.linalg.norm(whole - gaussian_sum(others, noise_multiplier=1.0)) <= 1 + 1e-12


def test_rows_within_the_bound_are_summed_as_they_are(monkeypatch):
    silence(monkeypatch)
    vectors = rows(20, 30, scale=0.05)
    np.testing.assert_allclose(
        gaussian_sum(vectors, noise_multiplier=1.0), vectors.sum(0).numpy(), rtol=1e-12
    )


def test_the_check_fails_without_the_bound(monkeypatch):
    silence(monkeypatch)
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, **_: torch.ones_like(self))
    one = rows(1, 30, scale=50.0)
    assert np.linalg.norm(gaussian_sum(one, noise_multiplier=1.0)) > 50


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 1e3, 1e10, 1e30, 3e38, float("inf"), float("nan")])
def test_statistics_never_exceed_norm_one(scale):
    states = torch.from_numpy(ward_states(200))
    for seed in range(3):
        model = ward_model(seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter * scale if scale else torch.zeros_like(parameter))
        vectors = model.statistics(states, noise=torch.randn(len(states), model.noise_size))
        assert vectors.dtype == torch.float64
        assert torch.isfinite(vectors).all()
        assert float(vectors.norm(dim=1).max()) <= 1 + 1e-12


def test_the_prior_is_recovered_exactly_without_noise():
    """Mean and second moment of the codes, to float32: nothing is lost in packing the triangle."""
    # With next to no posterior noise the codes are a function of the rows, and none is clipped.
    model = ward_model({"latent": 6, "posterior_std": 1e-7, "hidden_1": 12, "hidden_2": 10, "hidden_3": 8})
    states = torch.from_numpy(ward_states(500))
    with torch.no_grad():
        model.projection.mul_(0.5)
        codes = model._encode(states)[0].double().numpy()
    assert np.linalg.norm(codes, axis=1).max() < model._code_bound
    model.fit_prior(model.statistics(states, noise=torch.randn(len(states), model.noise_size)).sum(0).numpy())
    np.testing.assert_allclose(model.prior_mean.numpy(), codes.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.prior_moment.numpy(), codes.T @ codes / len(codes), rtol=1e-4, atol=1e-5)


def test_generated_codes_follow_the_fitted_prior():
    """20,000 codes of a fitted Gaussian: six standard errors a moment, false alarm below 1e-6."""
    model = ward_model()
    states = torch.from_numpy(ward_states(500))
    model.fit_prior(model.statistics(states, noise=torch.randn(len(states), model.noise_size)).sum(0).numpy())
    codes = model._draw_prior(20_000, torch.Generator().manual_seed(3)).double().numpy()
    deviations = codes.std(axis=0)
    assert np.abs((codes.mean(0) - model.prior_mean.numpy()) / deviations).max() < 6 / np.sqrt(20_000)
    moment = codes.T @ codes / len(codes)
    spread = np.sqrt(np.outer((codes**2).mean(0), (codes**2).mean(0)))
    assert np.abs((moment - model.prior_moment.numpy()) / spread).max() < 6 * np.sqrt(3 / 20_000)


def test_a_prior_drowned_in_noise_still_samples():
    """A total with a negative count and an indefinite moment is still a Gaussian to draw from."""
    model = ward_model()
    drawn = np.random.default_rng(0)
    size = 1 + model.latent + model.latent * (model.latent + 1) // 2
    for count in (-40.0, 0.0, 1e-9, 3.0):
        total = drawn.normal(0, 30, size)
        total[0] = count
        model.fit_prior(total)
        states, share = model.sample(50, rng=torch.Generator().manual_seed(0))
        assert states.shape == (50, len(model.layout.states))
        assert share == 1.0


def test_the_private_fit_is_noised_and_differs_each_time():
    states = PatientStates.one_row_each(ward_states(100))
    fits = []
    for _ in range(2):
        model = ward_model()
        torch.manual_seed(0)
        np.random.seed(0)
        close(model, states, make_plan(prior_noise_multiplier=2.0))
        fits.append(model.get_weights())
    assert not np.array_equal(fits[0]["prior_mean"], fits[1]["prior_mean"])
    assert not np.array_equal(fits[0]["prior_moment"], fits[1]["prior_moment"])
    assert np.array_equal(fits[0]["decoder.linear.weight"], fits[1]["decoder.linear.weight"])
