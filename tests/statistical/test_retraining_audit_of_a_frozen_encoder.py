"""The frozen encoder: learnt from the patients without DP, then only the decoder and the prior with it.

The claim that only the decoder costs is in the literature (Med-VAE, section 3; DP2-VAE). It is false: one
patient more moves the encoder, the encoder moves every other patient's code, and clipping each patient's
gradient no longer bounds what one patient does to the sum. Post-processing does not apply, because the
decoder is trained on the codes of the private rows.

Here it is the product's own Med-VAE. The encoder is trained full-batch and with next to no posterior
noise, so that the patient is all in which two fits differ; the decoder starts from public weights; the
attacker sees the released decoder and prior, never the encoder. False alarms: as in the audit of faults.
"""

import copy
from functools import cache

import numpy as np
import pytest
from retraining import (
    TINY,
    audit_plan,
    audited_epsilon,
    claimed_epsilon,
    clipped_gradient,
    collect,
    look,
    retrain,
    unheard_of,
    with_patient,
)
from small_ward import ward_model, ward_states

from synthkit.domain.layout import PatientStates
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.training.unsafe import UnsafeNoPrivacy

pytestmark = pytest.mark.slow

PATIENTS, RUNS = 1000, 200
CONFIDENCE = 0.999
HYPERPARAMETERS = {**TINY, "posterior_std": 1e-6}
FIT = audit_plan(local_steps=300, learning_rate=0.03, hyperparameters=HYPERPARAMETERS)
PLAN = audit_plan(noise_multiplier=6.2, prior_noise_multiplier=5.0, hyperparameters=HYPERPARAMETERS)


@cache
def public_start() -> MedVaeSgd:
    return ward_model(HYPERPARAMETERS)


@cache
def sides() -> tuple[PatientStates, PatientStates]:
    """The ward with and without the patient."""
    ward = ward_states(PATIENTS)
    return with_patient(ward, unheard_of(public_start())), PatientStates.one_row_each(ward)


def frozen(states: PatientStates) -> MedVaeSgd:
    """A model whose encoder was fitted to `states` without DP and frozen, with the public decoder."""
    start = public_start()
    model = retrain(start, states, FIT, privacy=UnsafeNoPrivacy, prior_privacy=UnsafeNoPrivacy)
    model.decoder.load_state_dict(start.decoder.state_dict())
    model.prior_mean.data.copy_(start.prior_mean)
    model.prior_moment.data.copy_(start.prior_moment)
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(requires_grad=False)
    return model


@cache
def encoders(kind: str) -> tuple[MedVaeSgd, MedVaeSgd]:
    """What the decoder's training starts from, with the patient and without."""
    if kind == "fitted to the patients":
        together, alone = sides()
        return frozen(together), frozen(alone)
    simulated = frozen(PatientStates.one_row_each(ward_states(PATIENTS, seed=7)))
    return simulated, copy.deepcopy(simulated)


def shift(kind: str) -> np.ndarray:
    """What the patient changes in the decoder's clipped gradient sum, before any noise."""
    pairs = zip(encoders(kind), sides(), strict=True)
    with_it, without = (clipped_gradient(model, states) for model, states in pairs)
    return with_it - without


def test_one_patient_moves_the_clipped_sum_far_more_than_the_clipping_norm():
    """The reason, without any statistics: a sensitivity of 1 is what the noise was scaled to."""
    assert np.linalg.norm(shift("public")) <= 1 + 1e-4
    assert np.linalg.norm(shift("fitted to the patients")) > 10


def audited(kind: str, *, runs: int = RUNS, confidence: float = CONFIDENCE) -> float:
    direction = shift(kind)
    looks = [
        lambda start=start, states=states: look(retrain(start, states, PLAN), start, direction)
        for start, states in zip(encoders(kind), sides(), strict=True)
    ]
    return audited_epsilon(*collect(looks, runs), confidence=confidence)


def test_an_encoder_fitted_to_the_patients_breaks_the_claim():
    """Claimed 1, audited above 1.9; the attack could show at most 2.5 with these runs, and 4.91 with the
    benchmark's.
    """
    assert claimed_epsilon(PLAN) <= 1.0
    assert audited("fitted to the patients") > 1.9


def test_the_same_encoder_fitted_to_simulated_patients_keeps_it():
    assert audited("public") <= 1.0
