"""The weighted bound on held-out records lies between the evidence bound and the exact log-likelihood."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, simulated

from synthkit.generators.sequence_base import batch_of
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator
from synthkit.training.sequence_likelihood import bound_parts, record_likelihood, weighted_bounds
from synthkit.training.weight_trail import PosteriorSample

RECORDS = simulated(12)
SETTINGS = {**SMALL, "latent": 1}


def model_of(seed=3, **settings):
    """Untrained, of a single latent dimension that matters; its posterior is a poor one."""
    generator = new_sequence_generator("eva", RECORDS.schema, {**SETTINGS, **settings}, seed=seed).eval()
    if generator.has_latent:
        with torch.no_grad():
            generator.upsample.first.weight.mul_(4.0)
            generator.heads()[1].weight.mul_(20.0)
            generator.infer.bias[1] = -0.7
    return SequenceModel(
        schema=RECORDS.schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="north"
    )


@torch.no_grad()
def exact(model):
    """Log-likelihood of each patient's record and of its static columns, by quadrature over the latent."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    logs = torch.from_numpy(np.log(weights / weights.sum()))
    generator = model.generator
    kept = {name: w.copy() for name, w in generator.get_weights().items()}
    generator.infer.weight.zero_()
    generator.infer.bias.zero_()  # the posterior is now the prior: what is drawn is the noise itself
    rows = []
    for patient in range(len(RECORDS)):
        states = encoding_of(RECORDS, SETTINGS).encode(RECORDS.take(np.array([patient] * len(nodes))))
        batch = batch_of(states, generator.layout, np.arange(len(nodes)))
        noise = torch.from_numpy(nodes).float()[:, None]
        misfit = generator.bound(batch, noise=noise).misfit
        statics = generator.statics_misfit(batch, noise=noise)
        rows.append([torch.logsumexp(logs - part.double(), dim=0).item() for part in (misfit, statics)])
    generator.set_weights(kept)
    return np.array(rows)


def test_it_is_between_the_evidence_bound_and_the_truth():
    """Gaps closed by the patients' mean; 2,000 draws are within 0.02 nats of the truth, seeds fixed."""
    model = model_of()
    truth = exact(model)
    evidence = -bound_parts(model, RECORDS).sum(axis=1).mean()
    few, many = (weighted_bounds(model, RECORDS, draws=n).mean(axis=0) for n in (20, 2000))
    assert truth[:, 0].mean() - evidence > 0.2  # the test has something to see
    assert evidence < few[0] <= truth[:, 0].mean() + 0.02
    assert many == pytest.approx(truth.mean(axis=0), abs=0.02)
    found = record_likelihood(model, RECORDS)
    assert found.weighted == pytest.approx(few[0])
    assert found.given_statics == pytest.approx(few[0] - few[1])


def test_a_draws_log_ratio_has_the_divergence_for_its_mean():
    """Over 4,000 draws, within 6 standard errors."""
    generator = model_of(latent=3).generator
    states = encoding_of(RECORDS, SETTINGS).encode(RECORDS)
    batch = batch_of(states, generator.layout, np.array([5] * 4000))
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = generator.infer_latent(batch, noise)
    gap = found.drawn - found.kl
    assert gap.std() > 0.1
    assert abs(gap.mean().item()) < 6 * gap.std().item() / 4000**0.5


def test_without_a_latent_it_is_the_likelihood():
    model = model_of(latent=0)
    parts = bound_parts(model, RECORDS)
    found = weighted_bounds(model, RECORDS)
    assert found[:, 0] == pytest.approx(-parts.sum(axis=1), rel=1e-5)
    assert found[:, 1] == pytest.approx(-parts[:, 2], rel=1e-5)


def test_posterior_samples_are_averaged_as_probabilities():
    """Of two samples each patient's is the log of the mean, and the generator leaves as it came."""
    first, second = model_of(latent=0), model_of(seed=8, latent=0)
    alone = [weighted_bounds(one, RECORDS)[:, 0] for one in (first, second)]
    samples = tuple(
        PosteriorSample(step=step, weights=one.generator.get_weights())
        for step, one in enumerate((first, second))
    )
    own = first.generator.get_weights()
    both = weighted_bounds(replace(first, samples=samples), RECORDS)[:, 0]
    assert both == pytest.approx(np.logaddexp(*alone) - np.log(2), rel=1e-6)
    assert np.abs(alone[0] - alone[1]).min() > 1e-3
    assert all((own[name] == w).all() for name, w in first.generator.get_weights().items())
