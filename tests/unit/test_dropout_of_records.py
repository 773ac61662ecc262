"""What training leaves out of a patient is the patient's own affair, and nothing is left out with privacy."""

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, simulated

from synthkit.generators.eva_dropout import ALL, kept_of
from synthkit.generators.sequence_base import batch_of
from synthkit.training.planning import Effort
from synthkit.training.sequence_artefact import new_sequence_generator
from synthkit.training.sequence_loop import train_records
from synthkit.training.sequence_site import plan_for_records
from synthkit.training.unsafe import UnsafeNoPrivacy

RECORDS = simulated(40)
SETTINGS = {**SMALL, "dropout": 0.4}
STATES = encoding_of(RECORDS).encode(RECORDS)


def built(kind="eva", **settings):
    generator = new_sequence_generator(kind, RECORDS.schema, {**SETTINGS, **settings}, seed=1)
    generator.drops = True
    return generator


def noise_of(generator, patients):
    return torch.randn(patients, generator.noise_size, generator=torch.Generator().manual_seed(2))


def test_as_many_channels_are_left_out_as_was_said_and_means_stay():
    """Of 40,000 channels, within 5 standard errors."""
    noise = torch.randn(1000, 40, generator=torch.Generator().manual_seed(1))
    parts = kept_of(noise, 0.3)
    assert [part.shape for part in parts] == [(1000, 1, 20), (1000, 1, 20)]
    kept = torch.cat(parts, dim=2)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert abs((kept == 0).float().mean().item() - 0.3) < 5 * (0.21 / 40_000) ** 0.5
    assert abs(kept.mean().item() - 1.0) < 5 * (0.3 / 0.7 / 40_000) ** 0.5


@pytest.mark.parametrize("kind", ["eva", "lstm", "vae-deconv"])
def test_a_patients_loss_is_the_same_alone_and_in_company(kind):
    generator, patients = built(kind), np.array([0, 7, 20, 39])
    noise = noise_of(generator, 4)
    together = generator.loss_per_patient(
        batch_of(STATES, generator.layout, patients), progress=1.0, noise=noise
    )
    for row, patient in enumerate(patients):
        batch = batch_of(STATES, generator.layout, np.array([patient]))
        alone = generator.loss_per_patient(batch, progress=1.0, noise=noise[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], rtol=2e-5, atol=1e-4)


def test_losses_leave_something_out_and_bounds_nothing():
    generator, patients = built(), np.arange(8)
    batch, noise = batch_of(STATES, generator.layout, patients), noise_of(generator, 8)
    with torch.no_grad():
        whole = generator.bound(batch, noise=noise)
        loss = generator.loss_per_patient(batch, progress=1.0, noise=noise)
        assert (loss - whole.misfit - whole.kl).abs().min() > 1e-3
        generator.drops = False
        assert generator.noise_size == generator.inferred
        again = generator.loss_per_patient(batch, progress=1.0, noise=noise)
        torch.testing.assert_close(again, whole.misfit + whole.kl)
        torch.testing.assert_close(generator.bound(batch, noise=noise, kept=ALL).misfit, whole.misfit)


@pytest.mark.parametrize(("privacy", "seen"), [(UnsafeNoPrivacy, {True}), (None, {False})])
def test_only_a_training_without_privacy_leaves_something_out(privacy, seen):
    generator = built()
    generator.drops = False
    effort = Effort(rounds=1, local_steps=3, sample_rate=0.2, learning_rate=0.001)
    plan = plan_for_records("eva", effort, target_epsilon=8.0, delta=1e-5, hyperparameters=SETTINGS)
    states = []
    train_records(
        generator,
        STATES,
        plan,
        declared_size=40,
        privacy=privacy,
        progress=lambda _done, _of: states.append(generator.drops),
    )
    assert len(states) == 3
    assert set(states) == seen
    assert not generator.drops


def test_the_chain_of_posterior_samples_leaves_nothing_out():
    """It samples the posterior of the whole likelihood, which dropout is not."""
    generator = built()
    effort = Effort(rounds=1, local_steps=10, sample_rate=0.2, learning_rate=0.001)
    given = {**SETTINGS, "posterior": 2.0}
    plan = plan_for_records("eva", effort, target_epsilon=8.0, delta=1e-5, hyperparameters=given)
    states = []
    train_records(
        generator,
        STATES,
        plan,
        declared_size=40,
        privacy=UnsafeNoPrivacy,
        progress=lambda _done, _of: states.append(generator.drops),
    )
    assert states == [True] * 6 + [False] * 4
