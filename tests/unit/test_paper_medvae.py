"""The published network and its loss: shapes, terms, gradient, calibration, annealing, batches."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from synthkit.domain.mixed import MixedLayout
from synthkit.generators.base import Generator
from synthkit.generators.medvae_paper import LossTerms, MixedBatch, PaperMedVae, beta_at
from synthkit.training.paper import batches

torch.set_num_threads(1)

LAYOUT = MixedLayout(numeric=3, binary=2, levels=(4, 2, 5))


def make_network(layout: MixedLayout = LAYOUT, *, seed: int = 0) -> PaperMedVae:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperMedVae(layout)


def make_batch(layout: MixedLayout = LAYOUT, rows: int = 16, *, seed: int = 0) -> MixedBatch:
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, count, rows) for count in layout.levels]
    return MixedBatch(
        numeric=torch.from_numpy(rng.random((rows, layout.numeric), dtype=np.float32)),
        binary=torch.from_numpy(rng.integers(0, 2, (rows, layout.binary)).astype(np.float32)),
        categories=torch.from_numpy(np.stack(codes, axis=1) if codes else np.zeros((rows, 0), np.int64)),
    )


def make_noise(rows: int = 16) -> torch.Tensor:
    return torch.randn(rows, 32, generator=torch.Generator().manual_seed(1))


def linear_widths(module) -> list[int]:
    return [part.out_features for part in module if isinstance(part, torch.nn.Linear)]


def test_the_layers_are_the_published_ones():
    network = make_network()
    assert linear_widths(network.encoder) == [88, 60, 32]
    assert linear_widths(network.decoder) == [32, 60, 88]
    assert network.encoder[0].in_features == 3 + 2 + 3 * 3
    assert (network.mean.out_features, network.log_variance.out_features) == (32, 32)
    assert network.embedding.weight.shape == (4 + 2 + 5, 3)
    for side in (network.encoder, network.decoder):
        kinds = [type(part).__name__ for part in side]
        assert kinds == ["Linear", "BatchNorm1d", "LeakyReLU"] * 3


@pytest.mark.parametrize(
    "layout",
    [
        LAYOUT,
        MixedLayout(numeric=1, binary=0, levels=()),
        MixedLayout(numeric=0, binary=1, levels=()),
        MixedLayout(numeric=0, binary=0, levels=(2,)),
    ],
)
def test_shapes_whatever_groups_there_are(layout):
    network, batch = make_network(layout), make_batch(layout)
    mean, log_variance = network.encode(batch)
    assert mean.shape == log_variance.shape == (16, 32)
    numeric, binary, levels = network.decode(mean)
    assert numeric.shape == (16, layout.numeric)
    assert binary.shape == (16, layout.binary)
    assert levels.shape == (16, sum(layout.levels))
    terms = network.loss_terms(batch, noise=make_noise())
    assert terms.categorical.shape == (len(layout.levels),)
    total = terms.total(binary_weight=1.0, beta=1.0)
    assert total.shape == ()
    assert torch.isfinite(total)
    drawn = network.eval().most_probable(mean)
    assert drawn.categories.shape == (16, len(layout.levels))
    assert set(drawn.binary.unique().tolist()) <= {0.0, 1.0}


def test_each_term_is_what_its_name_says():
    """Against torch's own losses, column by column; large logits included."""
    network, batch, noise = make_network().eval(), make_batch(), make_noise()
    with torch.no_grad():
        network.heads.weight.mul_(500)
        mean, log_variance = network.encode(batch)
        numeric, binary, levels = network.decode(mean + (0.5 * log_variance).exp() * noise)
        terms = network.loss_terms(batch, noise=noise)
    blocks = torch.split(levels, [4, 2, 5], dim=1)
    expected = [functional.cross_entropy(block, batch.categories[:, i]) for i, block in enumerate(blocks)]
    assert levels.abs().max() > 50
    torch.testing.assert_close(terms.categorical, torch.stack(expected))
    torch.testing.assert_close(terms.numeric, functional.mse_loss(numeric, batch.numeric))
    chance = torch.sigmoid(torch.where(batch.binary == 1, binary, -binary).double())
    reference = -chance.log().mean()
    torch.testing.assert_close(terms.binary.double(), reference, rtol=1e-4, atol=1e-5)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(normal, standard).sum(dim=1).mean()
    torch.testing.assert_close(terms.kl, kl, rtol=1e-4, atol=1e-5)


def test_the_weights_are_the_published_ones():
    terms = LossTerms(
        numeric=torch.tensor(0.5),
        binary=torch.tensor(2.0),
        categorical=torch.tensor([1.0, 3.0]),
        kl=torch.tensor(7.0),
    )
    total = terms.total(binary_weight=10.0, beta=0.5)
    assert total.item() == pytest.approx(100 * 0.5 + 10 * 2.0 + 1 * (1.0 + 3.0) + 0.5 * 7.0)
    # The other terms weigh 50, 1 and 3, in the mean 18.
    assert terms.comparable_binary_weight() * 2.0 == pytest.approx(18.0)


def test_the_gradient_is_the_finite_differences():
    """Every kind of parameter, in double precision, BatchNorm in training mode."""
    network, batch, noise = make_network().double(), make_batch(), make_noise().double()
    batch = MixedBatch(
        numeric=batch.numeric.double(), binary=batch.binary.double(), categories=batch.categories
    )

    def loss() -> torch.Tensor:
        return network.loss_terms(batch, noise=noise).total(binary_weight=3.0, beta=0.7)

    torch.autograd.backward(loss())
    for name, parameter in network.named_parameters():
        flat, place = parameter.detach().view(-1), parameter.numel() // 2
        before, step = flat[place].item(), 1e-6
        with torch.no_grad():
            flat[place] = before + step
            above = loss().item()
            flat[place] = before - step
            below = loss().item()
            flat[place] = before
        slope = (above - below) / (2 * step)
        assert parameter.grad is not None
        assert parameter.grad.view(-1)[place].item() == pytest.approx(slope, rel=2e-4, abs=2e-6), name


def test_the_kl_term_has_a_gradient_and_beta_scales_it():
    """In the authors' notebook it has none."""
    network, batch = make_network(), make_batch()
    gradients = []
    for beta in (0.0, 1.0, 2.0):
        network.zero_grad()
        total = network.loss_terms(batch, noise=make_noise()).total(binary_weight=1.0, beta=beta)
        torch.autograd.backward(total)
        assert network.log_variance.bias.grad is not None
        gradients.append(network.log_variance.bias.grad.clone())
    torch.testing.assert_close(gradients[2] - gradients[0], 2 * (gradients[1] - gradients[0]))
    assert (gradients[1] - gradients[0]).abs().max() > 1e-3


def test_beta_rises_linearly_from_zero_to_one():
    betas = [beta_at(epoch, 200) for epoch in range(200)]
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert np.diff(betas) == pytest.approx(1 / 199)
    assert beta_at(0, 1) == 0.0


@pytest.mark.parametrize(("patients", "size"), [(12, 32), (64, 32), (65, 32), (66, 32), (2, 2), (3, 2)])
def test_an_epoch_has_every_patient_once_and_no_batch_of_one(patients, size):
    found = list(batches(patients, size, np.random.default_rng(0)))
    assert sorted(torch.cat(found).tolist()) == list(range(patients))
    assert min(len(batch) for batch in found) >= 2
    assert max(len(batch) for batch in found) <= size + 1


def test_the_published_network_is_no_private_generator():
    """BatchNorm mixes patients: another patient's row moves this one's loss, so no type may clip it."""
    assert not issubclass(PaperMedVae, Generator)
    network, batch = make_network(), make_batch()
    other = MixedBatch(
        numeric=batch.numeric.clone(), binary=batch.binary.clone(), categories=batch.categories.clone()
    )
    other.numeric[1] += 5.0
    first, second = network.encode(batch)[0][0], network.encode(other)[0][0]
    assert not torch.allclose(first, second, atol=1e-4)
