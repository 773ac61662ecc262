"""MCM by steps: one loss a patient, of that patient alone; gradients are those of the loss."""

import numpy as np
import torch
from small_ward import WARD, ward_states
from torch import nn

from synthkit.data.encoding import fit_encoding
from synthkit.domain.layout import Layout
from synthkit.generators.mcm import McmSgd
from synthkit.generators.registry import build
from synthkit.privacy.clipping import PerPatientGradients
from synthkit.training.artefact import new_generator

ROWS = torch.from_numpy(ward_states(128)).reshape(64, 2, -1)
NOISE = torch.randn(64, 2, 1 + ROWS.shape[2], generator=torch.Generator().manual_seed(1))


def ward_mcm(**changes):
    return new_generator("mcm-sgd", WARD, {"hidden": 12, **changes}, seed=0).train()


def loss(model, rows, noise):
    weights = torch.tensor([0.25, 0.75]).expand(len(rows), 2)
    return model.loss_per_patient(rows, weights, progress=0.3, noise=noise)


def test_a_patients_loss_does_not_depend_on_the_others():
    model = ward_mcm()
    together = loss(model, ROWS, NOISE)
    assert together.shape == (64,)
    assert together.dtype == torch.float32
    alone = torch.cat([loss(model, ROWS[i : i + 1], NOISE[i : i + 1]) for i in range(64)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-4)
    backwards = loss(model, ROWS.flip(0), NOISE.flip(0)).flip(0)
    torch.testing.assert_close(backwards, together, rtol=1e-5, atol=1e-4)


def test_the_clipped_sum_is_that_of_each_patients_own_gradient():
    """Each patient's gradient by itself, scaled by hand, against the one pass over all of them."""
    model, most = ward_mcm(), 0.7
    watch = PerPatientGradients(model)
    watch.forget()
    together = watch.clipped_sum(loss(model, ROWS[:9], NOISE[:9]), most)
    watch.close()
    trained = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in trained]
    for i in range(9):
        own = torch.autograd.grad(loss(model, ROWS[i : i + 1], NOISE[i : i + 1]).sum(), trained)
        norm = torch.sqrt(sum(g.square().sum() for g in own))
        assert norm > most
        total = [t + g * (most / norm) for t, g in zip(total, own, strict=True)]
    for one, other in zip(together, total, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_no_layer_mixes_patients():
    """Everything that is trained sits in Linear layers; what is kept besides is a function of the layout."""
    model = ward_mcm()
    assert all(isinstance(module, McmSgd | nn.Linear) for module in model.modules())
    linear = {id(p) for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == linear
    assert not list(model.buffers())
    other = build("mcm-sgd", fit_encoding(WARD).layout, {"hidden": 12})
    assert torch.equal(model._blur, other._blur)


def test_gradients_are_those_of_the_loss():
    """Central differences in float64, over every trained parameter."""
    layout = Layout(names=("a", "b", "c"), states=(3, 2, 4), bins=(0, 0, 4))
    torch.manual_seed(2)
    model = build("mcm-sgd", layout, {"hidden": 5}).double()
    rows = torch.tensor([[[0, 1, 2], [2, 0, 3]]])
    noise = torch.randn(1, 2, 4, dtype=torch.float64)
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    others = {name: p for name, p in model.named_parameters() if not p.requires_grad}

    def value(*given):
        named = dict(zip(weights, given, strict=True)) | others
        with torch.nn.utils.stateless._reparametrize_module(model, named):
            return model.loss_per_view(rows, progress=0.0, noise=noise).sum()

    assert torch.autograd.gradcheck(value, tuple(weights.values()), atol=1e-6)


def test_a_hidden_cell_is_no_input():
    """Two rows that differ in one cell lose the same elsewhere, wherever that cell is hidden."""
    model = ward_mcm()
    hot = torch.zeros(1, model.layout.width)
    known = torch.ones(1, len(model.layout.states))
    known[0, 2] = 0.0
    cells = model.complete(np.array([[-1] * len(model.layout.states)]), rng=torch.Generator().manual_seed(0))
    twice = np.repeat(cells, 2, axis=0)
    twice[1, 2] = (twice[1, 2] + 1) % model.layout.states[2]
    # A mask of one hidden column: all but one cell known. Find noise that hides column 2 alone.
    noise = torch.zeros(1, 1, 1 + len(model.layout.states))
    noise[0, 0, 0], noise[0, 0, 1 + 2] = 20.0, 9.0
    turned = build("mcm-sgd", model.layout, {"hidden": 12, "masks": 1})
    turned.set_weights(model.get_weights())
    both = turned.loss_per_view(torch.from_numpy(twice)[:, None], progress=0.0, noise=noise.expand(2, -1, -1))
    block = slice(model.layout.offsets[2], model.layout.offsets[2] + model.layout.states[2])
    hot[0, torch.from_numpy(cells[0]) + torch.tensor(model.layout.offsets)] = 1.0
    hot[0, block] = 0.0
    logits = torch.log_softmax(model._logits(hot, known)[0, block], 0) * len(model.layout.states)
    torch.testing.assert_close(both[:, 0], -logits[torch.from_numpy(twice[:, 2])], rtol=1e-4, atol=1e-3)
