"""EVA_c: the prior of a latent follows the conditions, and its bound and draws agree with that prior."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from record_ward import SMALL, encoding_of, records_of, tiny_schema

from synthkit.domain.schema import Column, Kind
from synthkit.errors import InputError
from synthkit.generators.eva_conditional import ConditionalEva
from synthkit.generators.eva_latent import GAMMA, TAU
from synthkit.generators.sequence_base import batch_of
from synthkit.privacy.clipping import PerPatientGradients

SETTINGS = {**SMALL, "dated": 0}


def ward():
    """Forty patients with two conditions, of whom none has a like record."""
    schema = tiny_schema()
    levels = ("no", "yes")
    named = [Column(name=name, kind=Kind.BINARY, categories=levels) for name in ("diabetes", "asthma")]
    schema = replace(schema, columns=(*schema.columns, *named))
    rng = np.random.default_rng(0)
    visits = [[sorted(set(rng.integers(0, 4, 2).tolist())) for _ in range(1 + i % 4)] for i in range(40)]
    records = records_of(visits, schema)
    has = rng.integers(0, 2, (40, 2))
    frame = pd.DataFrame({c.name: np.array(levels, dtype=object)[has[:, i]] for i, c in enumerate(named)})
    return replace(records, statics=frame)


RECORDS = ward()
ENCODING = encoding_of(RECORDS, SETTINGS)
STATES = ENCODING.encode(RECORDS)


def built(**settings):
    torch.manual_seed(1)
    generator = ConditionalEva(ENCODING.layout, {**SETTINGS, **settings})
    torch.nn.init.normal_(generator.representations.weight, std=2.0)
    return generator.eval()


def test_the_conditions_are_the_columns_of_two_states():
    assert built().conditions == [0, 1]


def test_draws_have_the_priors_mean_and_variance():
    """20,000 latents under each set of conditions: mean and variance within 5 standard errors."""
    generator, count = built(), 20_000
    columns = generator.representations.weight.detach()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    gate = 1 / (1 + np.exp(-nodes))
    first = float((weights * gate).sum() / weights.sum())
    spread = float((weights * gate**2).sum() / weights.sum()) - first**2
    for has in ([0, 0], [1, 0], [0, 1], [1, 1]):
        statics = torch.tensor([[*has, 0]]).expand(count, -1)
        rng = torch.Generator().manual_seed(3)
        latent = generator.latent_after_statics(torch.zeros(count, 0), statics, rng)
        y = torch.tensor(has, dtype=torch.float32)
        mean, variance = first * columns @ y, TAU + GAMMA + spread * columns.square() @ y
        assert ((latent.mean(dim=0) - mean).abs() < 5 * (variance / count).sqrt()).all()
        assert ((latent.var(dim=0) / variance - 1).abs() < 5 * math.sqrt(3 / count)).all()


def test_the_divergence_is_what_draws_say():
    """As equation 7 has it: closed form against mean of log q - log p, 4,000 draws, 6 standard errors."""
    generator = built(factored=1)
    batch = batch_of(STATES, ENCODING.layout, np.array([30] * 4000))
    noise = torch.randn(4000, generator.noise_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = generator.infer_latent(batch, noise)
        mean, log_std = generator.posterior(batch)
        drawn = mean + log_std.exp() * noise
        sizes = [generator.latent, generator.latent, 2]
        _, bias, strength = torch.split(drawn, sizes, dim=1)
        normal = torch.distributions.Normal
        log_q = normal(mean, log_std.exp()).log_prob(drawn).sum(dim=1)
        centre = generator._centre(batch.statics, bias, strength)
        log_p = normal(centre, math.sqrt(TAU)).log_prob(found.latent).sum(dim=1)
        log_p = log_p + normal(0.0, math.sqrt(GAMMA)).log_prob(bias).sum(dim=1)
        log_p = log_p + normal(0.0, 1.0).log_prob(strength).sum(dim=1)
    torch.testing.assert_close(found.drawn, log_q - log_p, rtol=1e-4, atol=1e-3)
    gap = found.drawn - found.kl
    assert abs(gap.mean().item()) < 6 * gap.std().item() / math.sqrt(4000)


def test_where_all_is_inferred_together_a_posterior_that_knows_nothing_is_the_prior():
    """Apart, as in equation 7, none is nearer to it than 0.35 nats a dimension, whatever its variances."""
    together, apart = built(), built(factored=1)
    batch = batch_of(STATES, ENCODING.layout, np.arange(40))
    noise = torch.zeros(40, together.noise_size)
    with torch.no_grad():
        for network in (together.infer, together.expert):
            network.weight.zero_()
        assert together.infer_latent(batch, noise).kl.abs().max() < 1e-4
        apart.representations.weight.zero_()
        for network in (apart.infer, apart.expert):
            network.weight.zero_()
            network.bias.zero_()
        draws = torch.randn(1000, apart.noise_size, generator=torch.Generator().manual_seed(2))
        many = batch_of(STATES, ENCODING.layout, np.array([30] * 1000))
        least = np.inf
        for of_latent in np.linspace(0.02, 0.2, 10):
            for of_bias in np.linspace(0.02, 0.2, 10):
                stds = torch.tensor([of_latent] * 4 + [of_bias] * 4 + [1.0, 1.0]).sqrt()
                for network in (apart.infer, apart.expert):
                    network.bias[apart.inferred :] = (stds * math.sqrt(2)).log()
                least = min(least, apart.infer_latent(many, draws).kl.mean().item())
    assert least == pytest.approx(0.5 * math.log(2) * apart.latent, rel=0.15)


@pytest.mark.parametrize("reader", [0, 1])
def test_a_patients_loss_is_the_same_alone_and_in_company(reader):
    generator, patients = built(reader=reader), np.array([0, 7, 20, 39])
    noise = torch.randn(4, generator.noise_size, generator=torch.Generator().manual_seed(2))
    company = batch_of(STATES, ENCODING.layout, patients)
    together = generator.loss_per_patient(company, progress=1.0, noise=noise)
    for row, patient in enumerate(patients):
        batch = batch_of(STATES, ENCODING.layout, np.array([patient]))
        alone = generator.loss_per_patient(batch, progress=1.0, noise=noise[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=2e-5, atol=1e-4)


def test_every_parameter_has_a_measured_gradient():
    generator = built().train()
    watched = PerPatientGradients(generator)
    noise = torch.randn(8, generator.noise_size, generator=torch.Generator().manual_seed(2))
    losses = generator.loss_per_patient(
        batch_of(STATES, ENCODING.layout, np.arange(20, 28)), progress=1.0, noise=noise
    )
    sums = watched.clipped_sum(losses, 1.0)
    watched.close()
    total = torch.sqrt(sum(part.square().sum() for part in sums))
    assert 0 < total.item() <= 8.0
    assert generator.representations.weight.grad is None
    place = [id(p) for p in generator.parameters()].index(id(generator.representations.weight))
    assert sums[place].abs().max() > 0


def test_several_conditions_are_honoured():
    generator = built()
    where = {0: np.array([0.0, 1.0]), 1: np.array([0.0, 1.0])}
    states, reliability = generator.sample(50, rng=torch.Generator().manual_seed(1), where=where)
    assert (states.statics[:, :2] == 1).all()
    assert 0 < reliability <= 1


def test_without_a_condition_it_is_refused():
    plain = encoding_of(records_of([[[0]]], tiny_schema()), SETTINGS)
    with pytest.raises(InputError, match="at least one static column of two categories"):
        ConditionalEva(plain.layout, SETTINGS)
