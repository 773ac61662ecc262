"""One patient moves the sum behind the noise by at most C, for honest and for hostile weights."""

import numpy as np
import pytest
import torch
from dpsgd_bench import Bench, silence
from small_ward import make_plan, ward_model, ward_states

from synthkit.generators.medvae import MedVae
from synthkit.training.loop import LoopState, train

CLIP = 0.7
SLACK = 1 + 1e-4
"""float32 rounding of sums of at most 40 vectors of norm C."""


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    silence(monkeypatch)


def brute_force_sum(bench, sample, clip):
    """Each patient alone through autograd, clipped, added up: nothing of Opacus in it."""
    total = np.zeros(sum(bench.blocks()))
    for patient in sample:
        loss = bench.loss(np.array([patient])).sum()
        gradient = torch.autograd.grad(loss, bench.step.parameters)
        flat = torch.cat([g.flatten() for g in gradient]).double().numpy()
        total += flat * min(1.0, clip / (np.linalg.norm(flat) + 1e-6))
    return total


@pytest.mark.parametrize("clip", [0.05, 1.0, 30.0, 1e6])
def test_ghost_clipping_is_the_loop_over_patients(clip):
    """The default architecture, from all patients clipped (0.05) to none (1e6)."""
    bench = Bench(30, model=ward_model({}), clip=clip)
    ours, brute = bench.released(bench.everyone), brute_force_sum(bench, bench.everyone, clip)
    assert np.linalg.norm(ours - brute) <= 1e-5 * np.linalg.norm(brute)


def test_a_sample_larger_than_a_physical_batch_is_summed_over_chunks():
    bench = Bench(40, clip=CLIP)
    whole = bench.released(bench.everyone)
    bench.step.max_physical_batch = 7
    np.testing.assert_allclose(bench.released(bench.everyone), whole, rtol=1e-4, atol=1e-6)


def worst_change(bench, removed=range(6)):
    """Largest change of the sum when one patient leaves, over several patients."""
    whole = bench.released(bench.everyone)
    assert np.isfinite(whole).all()
    rest = [bench.released(np.delete(bench.everyone, patient)) for patient in removed]
    return max(np.linalg.norm(whole - other) for other in rest)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("seed", range(3))
def test_one_patient_moves_the_sum_by_at_most_c(scale, seed):
    bench = Bench(40, model=with_scaled_weights(scale, seed), clip=CLIP)
    assert worst_change(bench) <= CLIP * SLACK


def with_scaled_weights(scale: float, seed: int) -> MedVae:
    model = ward_model(seed=seed)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=drawn))
    return model


def only_patient_zero_overflows(value: float) -> Bench:
    """Weights crafted so that a mark that patient 0 alone bears drives the network to `value`."""
    bench = Bench(40, clip=CLIP)
    bench.states[:, 5] = 1
    bench.states[0, 5] = 0
    mark = bench.model.layout.offsets[5]
    with torch.no_grad():
        bench.model.encoder[0].weight[:, mark] = value
    return bench


@pytest.mark.parametrize("value", [1e6, 1e19, 1e30, 3e38, float("inf"), float("nan")])
def test_one_patient_who_overflows_leaves_the_sum_finite_and_within_c(value):
    bench = only_patient_zero_overflows(value)
    with torch.no_grad():
        others = bench.loss(bench.everyone[1:])
        alone = bench.loss(bench.everyone[:1])
    if np.isfinite(value):
        assert torch.isfinite(others).all()
    if value >= 3e38:
        assert not torch.isfinite(alone).all()
    assert worst_change(bench, removed=(0, 1, 2)) <= CLIP * SLACK


def test_every_patient_overflowing_releases_noise_and_no_error():
    """A crash, or a sum of zero by another way, would tell whether anybody was drawn."""
    bench = Bench(10)
    with torch.no_grad():
        for parameter in bench.model.parameters():
            parameter.fill_(3e38)
    assert not bench.released(bench.everyone).any()


class Watched(MedVae):
    """Notes which noise each patient's loss was computed with; patient in state 0 of sex overflows."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen: list[tuple[tuple[int, ...], bytes]] = []
        self.calls = 0

    def loss_per_patient(self, states, *, progress, noise):
        self.calls += 1
        for row, own in zip(states.tolist(), noise, strict=True):
            self.seen.append((tuple(row), own.numpy().tobytes()))
        losses = super().loss_per_patient(states, progress=progress, noise=noise)
        return losses * torch.where(states[:, 5] == 0, torch.inf, 1.0)


def test_leaving_one_patient_out_changes_nobody_elses_loss():
    """Otherwise who overflows would decide what the others contribute, which no clipping bounds."""
    states = np.unique(ward_states(60), axis=0)
    bad = int((states[:, 5] == 0).sum())
    assert 0 < bad < len(states)
    model = Watched(ward_model().layout, {"latent": 6})
    plan = make_plan(local_steps=1, sample_rate=1.0)
    train(model, states, plan, steps=1, declared_size=60, state=LoopState())
    assert model.calls == 2
    assert len(model.seen) == 2 * len(states) - bad
    assert len(set(model.seen)) == len(states)
    noises = {noise for _, noise in model.seen}
    assert len(noises) == len(states)


def test_each_step_draws_the_models_noise_anew():
    states = np.unique(ward_states(20), axis=0)
    model = Watched(ward_model().layout, {"latent": 6})
    states = states[states[:, 5] == 1]
    train(
        model, states, make_plan(local_steps=3, sample_rate=1.0), steps=3, declared_size=20, state=LoopState()
    )
    assert len({noise for _, noise in model.seen}) == 3 * len(states)


def test_the_check_fails_when_clipping_is_off(monkeypatch):
    """Coefficients of 1: the same measurement then exceeds C many times over."""
    bench = Bench(40, clip=CLIP)
    measure = bench.step._measure

    def without_norms(chunk, loss):
        losses, norms = measure(chunk, loss)
        return losses, torch.zeros_like(norms)

    monkeypatch.setattr(bench.step, "_measure", without_norms)
    assert worst_change(bench) > 5 * CLIP


def test_the_check_fails_when_only_the_mean_is_clipped():
    """Clipping after averaging, the classic mistake, bounds nothing per patient."""
    bench = Bench(40, clip=CLIP)

    def clipped_after(sample):
        loss = bench.loss(sample).sum()
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, bench.step.parameters)]).double()
        return (flat * min(1.0, 40 * CLIP / float(flat.norm()))).numpy()

    crowd = np.repeat(bench.everyone[:1], 10)
    changes = [
        np.linalg.norm(clipped_after(np.append(crowd, p)) - clipped_after(crowd)) for p in bench.everyone[1:]
    ]
    assert max(changes) > CLIP * 2
