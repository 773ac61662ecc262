"""Med-VAE: one loss a patient, of that patient alone; draws by generator; conditions held to."""

import numpy as np
import pytest
import torch
from small_ward import SMALL, ward_model, ward_states
from torch import nn

from synthkit.domain.layout import Layout
from synthkit.errors import InputError
from synthkit.generators.medvae_sgd import DEFAULTS, MedVaeSgd, draw_states, log_mass
from synthkit.generators.registry import build

ROWS = torch.from_numpy(ward_states(128)).reshape(64, 2, -1)
NOISE = torch.randn(64, 2, 6, generator=torch.Generator().manual_seed(1))


def loss(model, rows, noise):
    weights = torch.tensor([0.25, 0.75]).expand(len(rows), 2)
    return model.loss_per_patient(rows, weights, progress=0.3, noise=noise)


def test_a_patients_loss_does_not_depend_on_the_others():
    model = ward_model().train()
    together = loss(model, ROWS, NOISE)
    assert together.shape == (64,)
    assert together.dtype == torch.float32
    alone = torch.cat([loss(model, ROWS[i : i + 1], NOISE[i : i + 1]) for i in range(64)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    backwards = loss(model, ROWS.flip(0), NOISE.flip(0)).flip(0)
    torch.testing.assert_close(backwards, together, rtol=1e-5, atol=1e-5)


def test_a_patients_loss_has_no_gradient_of_anothers_noise():
    noise = NOISE.clone().requires_grad_()
    gradient = torch.autograd.grad(loss(ward_model(), ROWS, noise)[3], noise)[0]
    assert gradient[3].abs().min() > 0
    assert not gradient[:3].any()
    assert not gradient[4:].any()


def test_no_layer_mixes_patients():
    """Everything that is trained sits in Linear layers; nothing keeps statistics of a batch."""
    model = ward_model({})
    allowed = (MedVaeSgd, nn.Linear, nn.LeakyReLU, nn.Sequential)
    for module in model.modules():
        assert isinstance(module, allowed) or type(module).__name__ == "_Decoder"
    assert not list(model.buffers())
    linear = {id(p) for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == linear


def test_gradients_are_those_of_the_loss():
    """Central differences in float64, over every trained parameter."""
    layout = Layout(names=("a", "b"), states=(3, 2))
    torch.manual_seed(2)
    hyperparameters = {"hidden_1": 4, "hidden_2": 3, "hidden_3": 3, "latent": 2}
    model = MedVaeSgd(layout, hyperparameters).double()
    rows, noise = torch.tensor([[[0, 1], [2, 0]]]), torch.randn(1, 2, 2, dtype=torch.float64)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    others = {name: p for name, p in model.named_parameters() if not p.requires_grad}

    def value(*given):
        named = dict(zip(weights, given, strict=True)) | others
        arguments = {"progress": 0.0, "noise": noise}

        def call(states):
            return model.loss_per_view(states, **arguments)

        with torch.nn.utils.stateless._reparametrize_module(model, named):
            return call(rows).sum()

    # One-hot vectors are float32 by contract; the encoder's first layer meets them as float64 here.
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.autograd.gradcheck(value, tuple(weights.values()), atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_seed_decides_the_rows():
    model = ward_model()

    def draw(seed):
        return model.sample(200, rng=torch.Generator().manual_seed(seed))[0]

    first = draw(1)
    assert first.dtype == np.int64
    assert np.array_equal(first, draw(1))
    assert not np.array_equal(first, draw(2))
    assert (first >= 0).all()
    assert (first < np.array(model.layout.states)).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_conditions_hold_in_every_row_and_reliability_is_a_share(scale):
    """Also where the decoder gives the allowed states no mass that a float32 can hold."""
    model = ward_model()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(scale)
    states = model.layout.states
    one = np.zeros(states[0])
    one[7] = 1.0
    some = np.zeros(states[6])
    some[[1, 2]] = 0.25, 1.0
    drawn, share = model.sample(500, rng=torch.Generator().manual_seed(0), where={0: one, 6: some})
    assert set(drawn[:, 0]) == {7}
    assert set(drawn[:, 6]) <= {1, 2}
    assert 0 < share <= 1


def test_without_conditions_reliability_is_one():
    assert ward_model().sample(10, rng=torch.Generator().manual_seed(0))[1] == 1.0


def test_conditional_draws_follow_the_weights():
    """A column of two equally likely states, one at weight 0.25: 20 % of draws, six deviations.

    False alarm below 2e-9.
    """
    layout = Layout(names=("a",), states=(3,))
    logits = torch.zeros(20_000, 3)
    where = {0: np.array([1.0, 0.0, 0.25])}
    drawn = draw_states(logits, layout, torch.Generator().manual_seed(0), where)[:, 0]
    assert not (drawn == 1).any()
    assert abs((drawn == 2).mean() - 0.2) < 6 * np.sqrt(0.2 * 0.8 / 20_000)
    assert float(log_mass(logits[:1], layout, where)) == pytest.approx(np.log(1.25 / 3))


def test_sampling_in_parts_draws_the_number_asked_for(monkeypatch):
    monkeypatch.setattr("synthkit.generators.medvae_sgd.SAMPLE_CHUNK", 7)
    model = ward_model()
    rng = torch.Generator().manual_seed(0)
    assert model.sample(20, rng=rng)[0].shape == (20, len(model.layout.states))
    weights = {0: np.ones(model.layout.states[0])}
    assert model.sample(20, rng=rng, where=weights)[0].shape == (20, len(model.layout.states))


def test_hyperparameters_are_all_there_and_unknown_ones_refused():
    model = ward_model()
    assert model.hyperparameters == {**DEFAULTS, **SMALL}
    with pytest.raises(InputError, match="unknown hyperparameter depth"):
        build("medvae-sgd", model.layout, {"depth": 3})
    with pytest.raises(InputError, match="no generator 'gan'"):
        build("gan", model.layout, {})


def test_weights_go_in_as_they_come_out():
    one, other = ward_model(seed=1), ward_model(seed=2)
    other.set_weights(one.get_weights())
    assert torch.equal(loss(one, ROWS, NOISE), loss(other, ROWS, NOISE))
    missing = one.get_weights()
    del missing["projection"]
    with pytest.raises(ValueError, match="architecture"):
        other.set_weights(missing)
    short = one.get_weights() | {"prior_mean": np.zeros(5, dtype=np.float32)}
    with pytest.raises(ValueError, match="architecture"):
        other.set_weights(short)
