"""One training, a thousand canary patients inserted by coin flips, and an attacker who guesses the flips.

Each canary is the only patient with a code of its own, so its gradient has coordinates that no other
patient's has: the output biases of that code. The attacker scores a canary by how far these moved. One
run bounds epsilon as many retrainings of one patient do (Steinke, Nasr and Jagielski, arXiv 2305.08846).

False alarms: at confidence 99.9 % a clean run exceeds its claim with probability at most 0.001. The coin
flips are drawn from fixed seeds, the noise from the operating system.
"""

import numpy as np
import pytest
import torch
from retraining import DELTA, TINY, audit_plan, claimed_epsilon, retrain, scale_noise

from synthkit.audit.empirical_epsilon import guess, one_run_epsilon
from synthkit.domain.layout import Layout, PatientStates
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.training.loop import StepKind
from synthkit.training.unsafe import UnsafeNoPrivacy

pytestmark = pytest.mark.slow

CANARIES, CALLED = 1000, 400
"""Of the scores the highest 400 are called inserted, the lowest 400 left out; both fixed beforehand."""
CODES = Layout(names=("code",), states=(CANARIES + 1,))
COMMON = np.full(40, CANARIES)
"""Forty ordinary patients share the last code."""
CONFIDENCE = 0.999
PLAN = audit_plan(local_steps=4, noise_multiplier=4.4, prior_noise_multiplier=30.0)
LOOSE = audit_plan(local_steps=4, noise_multiplier=1.0, prior_noise_multiplier=10.0)


def audited(plan=PLAN, *, seed: int = 0, privacy: StepKind | None = None) -> float:
    coins = np.random.default_rng(seed).random(CANARIES) < 0.5
    inserted = np.concatenate([np.flatnonzero(coins), COMMON])[:, None]
    torch.manual_seed(0)
    start = MedVaeSgd(CODES, TINY)
    model = retrain(start, PatientStates.one_row_each(inserted), plan, privacy=privacy)
    moved = {name: after - start.get_weights()[name] for name, after in model.get_weights().items()}
    biases = [moved["decoder.linear.bias"], moved["decoder.perceptron.6.bias"]]
    scores = np.sum(biases, axis=0, dtype=float)[:CANARIES]
    guesses = guess(scores, coins, called_in=CALLED, called_out=CALLED)
    return one_run_epsilon(guesses, delta=DELTA, confidence=CONFIDENCE)


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_run_keeps_its_claim(seed):
    assert 1.7 < claimed_epsilon(PLAN) < 1.9
    assert audited(seed=seed) <= claimed_epsilon(PLAN)


def test_a_clean_run_keeps_a_loose_claim_and_the_attack_sees_some_of_it():
    bounds = [audited(LOOSE, seed=seed) for seed in range(3)]
    assert 0.3 < max(bounds) <= claimed_epsilon(LOOSE)


@pytest.mark.parametrize("factor", [0.0, 1 / 40], ids=["no noise", "noise divided by the batch twice"])
def test_missing_noise_is_found(monkeypatch, factor):
    scale_noise(monkeypatch, factor)
    assert audited() > claimed_epsilon(PLAN)


def test_training_without_privacy_is_found():
    assert audited(privacy=UnsafeNoPrivacy) > claimed_epsilon(PLAN)
