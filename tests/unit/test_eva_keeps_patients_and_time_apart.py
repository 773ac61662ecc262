"""No visit is decoded from a later one, no patient from another: what clipping and sampling rest on."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from memory_by_hand import states_before
from record_ward import SMALL, encoding_of, records_of, simulated, tiny_schema

from synthkit.generators.eva import Eva
from synthkit.generators.eva_rivals import LstmRival, VaeDeconvRival, VaeLstmRival
from synthkit.generators.sequence_base import batch_of
from synthkit.generators.sequence_layers import CausalStack, RecurrentStack, Upsampler
from synthkit.privacy.clipping import PerPatientGradients

RECORDS = simulated(40)
ENCODING = encoding_of(RECORDS)
STATES = ENCODING.encode(RECORDS)


def built(kind=Eva, **settings):
    torch.manual_seed(0)
    given = {**SMALL, **({"latent": 0} if kind is LstmRival else {}), **settings}
    return kind(ENCODING.layout, given)


def noise_of(generator, count):
    return torch.randn(count, generator.noise_size, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", [Eva, LstmRival, VaeLstmRival, VaeDeconvRival])
def test_a_patients_loss_is_the_same_alone_and_in_company(kind):
    generator, patients = built(kind), np.array([0, 7, 20, 39])
    noise = noise_of(generator, 4)
    together = generator.loss_per_patient(
        batch_of(STATES, ENCODING.layout, patients), progress=1.0, noise=noise
    )
    for row, patient in enumerate(patients):
        batch = batch_of(STATES, ENCODING.layout, np.array([patient]))
        alone = generator.loss_per_patient(batch, progress=1.0, noise=noise[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=2e-5, atol=1e-4)


def test_clipped_gradients_are_each_patients_own():
    """The clipped sum over a batch is the sum of the gradients of patients taken alone, each scaled."""
    generator, patients = built().train(), np.array([3, 11, 30])
    noise, bound = noise_of(generator, 3), 0.7
    expected = [torch.zeros_like(p) for p in generator.parameters()]
    for row, patient in enumerate(patients):
        batch = batch_of(STATES, ENCODING.layout, np.array([patient]))
        loss = generator.loss_per_patient(batch, progress=1.0, noise=noise[row : row + 1])
        grads = torch.autograd.grad(loss.sum(), list(generator.parameters()))
        norm = torch.sqrt(sum(g.square().sum() for g in grads))
        assert norm > bound
        expected = [e + g * bound / norm for e, g in zip(expected, grads, strict=True)]
    watched = PerPatientGradients(generator)
    losses = generator.loss_per_patient(
        batch_of(STATES, ENCODING.layout, patients), progress=1.0, noise=noise
    )
    found = watched.clipped_sum(losses, bound)
    watched.close()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Eva, VaeLstmRival])
def test_the_future_changes_nothing_before_it(kind):
    """Contexts up to visit t are the same whatever visits t, t + 1 ... hold; that of t + 1 is not."""
    generator = built(kind)
    batch = batch_of(STATES, ENCODING.layout, np.array([39]))
    latent = torch.randn(1, generator.latent, generator=torch.Generator().manual_seed(1))
    place = 5
    present = batch.present.clone()
    present[:, place:] = 1.0 - present[:, place:]
    changed = replace(batch, present=present)
    with torch.no_grad():
        before, _ = generator._contexts(batch, latent)
        after, _ = generator._contexts(changed, latent)
        memory = [states_before(one.present) for one in (batch, changed)]
    torch.testing.assert_close(before[:, : place + 1], after[:, : place + 1])
    assert not torch.allclose(before[:, place + 1], after[:, place + 1])
    assert torch.equal(memory[0][:, : place + 1], memory[1][:, : place + 1])
    assert not torch.equal(memory[0][:, place + 1], memory[1][:, place + 1])


@pytest.mark.parametrize("stack", [CausalStack(6, 4), RecurrentStack(6, 9)])
def test_visit_by_visit_is_the_whole_record(stack):
    h = torch.randn(3, 25, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole, past = stack(h), stack.start(3)
        for place in range(25):
            one, past = stack.step(h[:, place], past)
            torch.testing.assert_close(one, whole[:, place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 3, 17, 64, 65, 200])
def test_upsampling_does_not_depend_on_the_records_length(most):
    upsampler = Upsampler(4, 6, most)
    latent = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = upsampler(latent, most)
        assert whole.shape == (2, 6, most)
        for visits in {1, most // 2 or 1, most}:
            torch.testing.assert_close(upsampler(latent, visits), whole[:, :, :visits], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pairs", [0, 1])
@pytest.mark.parametrize("missing", [True, False])
def test_probabilities_of_all_visits_add_up_to_one(missing, pairs):
    """Over all 16 sets of four codes, at the first visit and after another one."""
    schema = tiny_schema(missing=missing)
    encoding = encoding_of(records_of([[[0]]], schema), {**SMALL, "dated": 0})
    torch.manual_seed(5)
    generator = Eva(encoding.layout, {**SMALL, "dated": 0, "latent": 0, "pairs": pairs})
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    sets = [list(some) for size in range(0 if missing else 1, 5) for some in combinations(range(4), size)]
    base = [[1, 3]]
    one, two = ([[*before, visit] for visit in sets] for before in ([], base))
    with torch.no_grad():
        found = [
            generator.bound(
                batch_of(encoding.in_order(records_of(part, schema)), encoding.layout, np.arange(len(part))),
                noise=torch.zeros(len(part), 1),
            ).codes
            for part in (one, two, [base])
        ]
    assert (-found[0]).exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    assert (-(found[1] - found[2])).exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    states, _ = generator.sample(2000, rng=torch.Generator().manual_seed(1))
    assert (np.diff(states.visit_starts).min() > 0) is not missing


def test_every_ones_shares_have_a_norm_of_at_most_one():
    vectors = built().statistics(STATES)
    assert vectors.norm(dim=1).max().item() <= 1.0
