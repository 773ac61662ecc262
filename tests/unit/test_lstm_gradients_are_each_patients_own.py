"""What has an LSTM or a transposed convolution is measured patient by patient, as a loop would; the LSTM
written out is torch's own function; models of the first version, whose LSTMs had other names, still load."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, simulated
from torch import nn

from synthkit.generators.sequence_base import batch_of
from synthkit.generators.sequence_layers import BothWays, Lookup, Recurrence, RecurrentStack, present_name
from synthkit.generators.sequence_registry import SEQUENCE_BUILDERS
from synthkit.privacy.clipping import PerPatientGradients

RECORDS = simulated(40)
ENCODING = encoding_of(RECORDS)
STATES = ENCODING.encode(RECORDS)
PATIENTS = np.array([0, 9, 23, 31, 39])
KINDS = [("eva", {}), ("eva", {"reader": 1}), ("eva-c", {}), ("lstm", {"latent": 0}), ("vae-lstm", {})]
KINDS += [("vae-deconv", {}), ("vae-lstm", {"reader": 1})]


@pytest.fixture
def float64():
    """What the network makes itself is float64, too: differences are then of the rule, not of rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def doubled(batch):
    changed = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{k: v.double() for k, v in changed.items() if v.is_floating_point()})


def built(kind, settings):
    torch.manual_seed(0)
    generator = SEQUENCE_BUILDERS[kind](ENCODING.layout, {**SMALL, **settings})
    for parameter in generator.parameters():  # nothing may be zero by chance of the start
        nn.init.normal_(parameter, std=0.3)
    return generator.double().train()


def losses_of(generator, patients, noise):
    batch = doubled(batch_of(STATES, ENCODING.layout, patients))
    return generator.loss_per_patient(batch, progress=1.0, noise=noise)


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.usefixtures("float64")
def test_norms_are_those_of_a_loop_over_patients(kind, settings):
    generator = built(kind, settings)
    names = [name for name, _ in generator.named_parameters()]
    noise = torch.randn(len(PATIENTS), generator.noise_size)
    watched = PerPatientGradients(generator)
    found = watched.norms(losses_of(generator, PATIENTS, noise))
    watched.forget()
    bound = float(found.median())
    clipped = watched.clipped_sum(losses_of(generator, PATIENTS, noise), bound)
    watched.close()
    sums = [torch.zeros_like(p) for p in generator.parameters()]
    for row, patient in enumerate(PATIENTS):
        loss = losses_of(generator, np.array([patient]), noise[row : row + 1])
        grads = torch.autograd.grad(loss.sum(), list(generator.parameters()), allow_unused=True)
        recurrent = [g for g, n in zip(grads, names, strict=True) if "reader" in n or "lstm" in n]
        assert patient != PATIENTS[-1] or all(g is not None and bool(g.any()) for g in recurrent)
        norm = torch.sqrt(sum(g.square().sum() for g in grads if g is not None))
        assert found[row].item() == pytest.approx(norm.item(), rel=1e-5)
        scale = min(1.0, bound / norm.item())
        sums = [s if g is None else s + scale * g for s, g in zip(sums, grads, strict=True)]
    for one, other in zip(clipped, sums, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()) + 1e-12)


def torch_lstm(layer, *, names):
    """torch's LSTM with the same numbers."""
    own = dict(layer.named_parameters())
    width, size = own[f"{names[0]}inputs.weight"].shape[1], own[f"{names[0]}hidden.weight"].shape[1]
    lstm = nn.LSTM(width, size, batch_first=True, bidirectional=len(names) == 2)
    with torch.no_grad():
        for suffix, owner in zip(("", "_reverse"), names, strict=False):
            for what in ("weight", "bias"):
                getattr(lstm, f"{what}_ih_l0{suffix}").copy_(own[f"{owner}inputs.{what}"])
                getattr(lstm, f"{what}_hh_l0{suffix}").copy_(own[f"{owner}hidden.{what}"])
    return lstm


def test_the_lstm_written_out_is_torchs():
    torch.manual_seed(1)
    layer, h = Recurrence(5, 7), torch.randn(4, 11, 5)
    expected, _ = torch_lstm(layer, names=("",))(h)
    torch.testing.assert_close(layer(h), expected, rtol=1e-5, atol=1e-6)


def test_both_ways_read_each_record_to_its_own_end():
    torch.manual_seed(2)
    layer, h, lengths = BothWays(5, 7), torch.randn(4, 9, 5), torch.tensor([9, 1, 4, 8])
    packed = nn.utils.rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    ends = torch_lstm(layer, names=("forwards.", "backwards."))(packed)[1][0]
    torch.testing.assert_close(layer(h, lengths), torch.cat([ends[0], ends[1]], dim=1), rtol=1e-5, atol=1e-6)
    padded = h.clone()
    padded[1, 1:] = 100.0
    torch.testing.assert_close(layer(padded, lengths)[1], layer(h, lengths)[1])


def test_former_names_are_those_of_torchs_lstm():
    for module, prefix, owner in (
        (RecurrentStack(4, 6), "stack.", nn.LSTM(4, 6)),
        (BothWays(4, 6), "reader.", nn.LSTM(4, 6, bidirectional=True)),
    ):
        inner = "lstm." if prefix == "stack." else ""
        former = {present_name(f"{prefix}{inner}{name}"): p.shape for name, p in owner.named_parameters()}
        now = {f"{prefix}{name}": p.shape for name, p in module.named_parameters()}
        assert former.items() <= now.items()
        assert set(now) - set(former) <= {"stack.out.weight", "stack.out.bias"}
    assert present_name("out.weight") == "out.weight"


def test_a_lookup_is_an_embedding_with_the_same_gradient():
    torch.manual_seed(3)
    lookup, plain = Lookup(9), nn.Embedding(9, 1)
    lookup.weight.data.copy_(plain.weight.data)
    states, weight = torch.randint(0, 8, (4, 6, 5)), torch.randn(4, 6, 5, 1)
    for layer in (lookup, plain):
        (layer(states) * weight).sum().backward()
    torch.testing.assert_close(lookup(states), plain(states))
    torch.testing.assert_close(lookup.weight.grad, plain.weight.grad)
