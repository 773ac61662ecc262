"""One patient, with all their rows, moves the sum behind the noise by at most C, whatever the weights."""

import numpy as np
import pytest
import torch
from dpsgd_bench import Bench, silence
from small_ward import make_plan, ward_model, ward_states
from torch import nn

from synthkit.domain.layout import PatientStates
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy.clipping import PerPatientGradients
from synthkit.training.loop import LoopState, train

CLIP = 0.7
SLACK = 1 + 1e-4
"""float32 rounding of sums of at most 40 vectors of norm C."""


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    silence(monkeypatch)


def brute_force_sum(bench, sample, clip):
    """Each patient alone through autograd, clipped, added up: nothing of `privacy.clipping` in it."""
    total = np.zeros(sum(bench.blocks()))
    for patient in sample:
        loss = bench.loss(np.array([patient])).sum()
        gradient = torch.autograd.grad(loss, bench.step.parameters)
        flat = torch.cat([g.flatten() for g in gradient]).double().numpy()
        total += flat * min(1.0, clip / (np.linalg.norm(flat) + 1e-6))
    return total


@pytest.fixture
def _float64():
    """float32 rounding would hide a difference of 1e-6."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SEVERAL_ROWS = [1, 50, 2, 7, 1, 31, 3, 3, 12, 50]


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("rows", [[1] * 10, [4] * 10, SEVERAL_ROWS], ids=["one", "four", "1 to 50"])
@pytest.mark.parametrize("clip", [0.05, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("hyperparameters", [{}, {"latent": 3, "hidden_1": 4, "hidden_2": 4, "hidden_3": 4}])
def test_ghost_clipping_is_the_loop_over_patients(hyperparameters, clip, rows):
    """To 1e-6, from all patients clipped (0.05) to none (1e6). Narrow layers take the other formula."""
    bench = Bench(10, model=ward_model(hyperparameters).double(), clip=clip, rows=rows)
    bench.noise = bench.noise.double()
    ours, brute = bench.released(bench.everyone), brute_force_sum(bench, bench.everyone, clip)
    assert np.linalg.norm(ours - brute) <= 1e-6 * np.linalg.norm(brute)


def test_a_sample_larger_than_a_physical_batch_is_summed_over_chunks():
    whole, parts = Bench(40, clip=CLIP), Bench(40, clip=CLIP, physical_batch=7)
    expected = whole.released(whole.everyone)
    np.testing.assert_allclose(parts.released(parts.everyone), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1e3, 1e9])
def test_a_patient_with_fifty_rows_moves_the_sum_by_at_most_c(scale):
    rows = [50, 1, 2, 17, *[1] * 20]
    bench = Bench(len(rows), model=with_scaled_weights(scale, 0), clip=CLIP, rows=rows)
    assert worst_change(bench, removed=range(4)) <= CLIP * SLACK


def test_rows_counted_as_patients_move_the_sum_by_more_than_c():
    """The mistake of privacy.md, item 8: the same 50 rows as 50 units exceed C many times over."""
    bench = Bench(60, clip=CLIP)
    rest = bench.released(bench.everyone[50:])
    assert np.linalg.norm(bench.released(bench.everyone) - rest) > 10 * CLIP


def test_rows_that_cancel_cannot_be_measured_small_and_summed_large():
    """Two opposite rows of gradient 1e9 each leave rounding alone, which clipping has to bound too."""
    layer = nn.Linear(64, 64)
    gradients = PerPatientGradients(layer)
    drawn = torch.Generator().manual_seed(3)
    inputs = torch.randn(1, 1, 64, generator=drawn)
    rows = torch.cat([inputs, inputs * (1 + 1e-7)], dim=1)
    outward = torch.randn(1, 1, 64, generator=drawn) * 1e9
    losses = (layer(rows) * torch.cat([outward, -outward], dim=1)).sum(dim=(1, 2))
    summed = gradients.clipped_sum(losses, CLIP)
    assert torch.cat([g.flatten() for g in summed]).norm() <= CLIP


def test_layers_that_mix_patients_or_cannot_be_measured_are_refused():
    for layer in (nn.BatchNorm1d(3), nn.LSTM(3, 3), _Bare()):
        with pytest.raises(RuntimeError, match="private step"):
            PerPatientGradients(nn.Sequential(layer))


class _Bare(nn.Module):
    """A parameter outside any layer: nothing measures what a patient does to it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(5, 4),
        nn.LayerNorm(4),
        nn.GroupNorm(2, 4),
        nn.Conv1d(4, 3, 2),
        nn.ConvTranspose1d(4, 3, 2),
        nn.ConvTranspose1d(4, 3, 4, stride=4),
        nn.ConvTranspose1d(4, 3, 3, stride=2, padding=2, output_padding=1, dilation=2, bias=False),
    ],
    ids=repr,
)
def test_other_layers_are_clipped_like_the_loop_over_patients(layer):
    """Called twice in one forward pass, so that both calls' gradients are one patient's."""
    drawn = torch.Generator().manual_seed(1)
    whole = torch.randn(6, 4, 4, generator=drawn)
    if isinstance(layer, nn.Embedding):
        whole = torch.randint(0, 5, (6, 4), generator=drawn)
    gradients = PerPatientGradients(layer)

    def losses(rows):
        return (layer(rows).square() + layer(rows.flip(1))).flatten(1).sum(dim=1)

    expected = [torch.zeros_like(p) for p in layer.parameters()]
    for row in whole:
        gradient = torch.autograd.grad(losses(row[None]).sum(), tuple(layer.parameters()))
        norm = torch.cat([g.flatten() for g in gradient]).norm()
        scale = float((CLIP / (norm + 1e-6)).clamp(max=1.0))
        expected = [total + scale * g for total, g in zip(expected, gradient, strict=True)]
    gradients.forget()
    for ours, brute in zip(gradients.clipped_sum(losses(whole), CLIP), expected, strict=True):
        torch.testing.assert_close(ours, brute, rtol=1e-4, atol=1e-5)


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


def with_scaled_weights(scale: float, seed: int) -> MedVaeSgd:
    model = ward_model(seed=seed)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=drawn))
    return model


def only_patient_zero_overflows(value: float) -> Bench:
    """Weights crafted so that a mark that patient 0 alone bears drives the network to `value`."""
    bench = Bench(40, clip=CLIP)
    bench.states.states[:, 5] = 1
    bench.states.states[0, 5] = 0
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


class Watched(MedVaeSgd):
    """Notes which noise each view's loss was computed with."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen: list[bytes] = []

    def loss_per_view(self, states, *, progress, noise):
        self.seen += [own.numpy().tobytes() for own in noise.flatten(0, 1)]
        return super().loss_per_view(states, progress=progress, noise=noise)


def test_each_step_draws_the_models_noise_anew():
    states = ward_states(20)
    model = Watched(ward_model().layout, {"latent": 6})
    plan = make_plan(local_steps=3, sample_rate=1.0)
    train(model, PatientStates.one_row_each(states), plan, steps=3, declared_size=20, state=LoopState())
    assert len(set(model.seen)) == len(model.seen) == 3 * len(states)


def test_the_check_fails_when_clipping_is_off(monkeypatch):
    """A bound of a million: the same measurement then exceeds C many times over."""
    bench = Bench(40, clip=CLIP)
    clipped_sum = PerPatientGradients.clipped_sum
    monkeypatch.setattr(
        PerPatientGradients, "clipped_sum", lambda own, losses, _: clipped_sum(own, losses, 1e6)
    )
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
