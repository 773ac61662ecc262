"""The coordinator's attack finds canaries in replies without noise, and none under the noise that is claimed.

False alarms: a bound exceeds a true claim with probability at most 0.001 each.
"""

import logging

import numpy as np
import pytest
from retraining import scale_noise
from small_ward import WARD, make_plan

from synthkit.audit import coordinator
from synthkit.audit.coordinator import Crowd, audit_replies
from synthkit.errors import InputError
from synthkit.training.planning import effort_for, plan_for
from synthkit.training.unsafe import UnsafeNoPrivacy

CROWD = Crowd(patients=50, canaries=200)
NARROW = {
    "medvae-sgd": {"hidden_1": 16, "hidden_2": 12, "hidden_3": 8, "latent": 8},
    "mcm-sgd": {"hidden": 16},
}
TABLES = ("medvae", "mcm")


NOISE = {"medvae-sgd": 4.0, "mcm-sgd": 16.0}
"""Of a claim near 1 and one near 0.25: an update of masked views, ever new ones, shows less of a patient."""


def stepped_plan(kind: str):
    """Three rounds."""
    return make_plan(
        generator=kind,
        rounds=3,
        local_steps=5,
        sample_rate=0.25,
        noise_multiplier=NOISE[kind],
        prior_noise_multiplier=3 * NOISE[kind],
        learning_rate=0.01,
        hyperparameters=NARROW[kind],
    )


def tables_plan(kind: str):
    return plan_for(kind, effort_for(600), target_epsilon=1.0, delta=1e-5)


@pytest.mark.parametrize("kind", TABLES)
def test_bought_tables_without_noise_give_every_canary_away(kind, monkeypatch):
    """Power 1: the sums of a few hundred people's tables resolve into them."""
    plan = tables_plan(kind)
    scale_noise(monkeypatch, 0.0)
    found = audit_replies(WARD, plan, crowd=CROWD)
    assert found.guesses.correct == found.guesses.made
    assert found.shown == found.ceiling > 2.0 > found.claimed
    assert not found.agrees


@pytest.mark.parametrize("kind", TABLES)
def test_bought_tables_under_their_noise_keep_the_claim(kind):
    found = [audit_replies(WARD, tables_plan(kind), crowd=CROWD, seed=seed) for seed in range(3)]
    assert all(one.agrees and one.claimed <= 1.0 for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NARROW)
def test_updates_without_noise_give_canaries_away_and_under_it_keep_the_claim(kind):
    """Power: of a hundred guesses at least 75 are right without noise; near certainty."""
    logging.getLogger("synthkit.unsafe").setLevel(logging.ERROR)
    plan = stepped_plan(kind)
    clean = audit_replies(WARD, plan, crowd=CROWD)
    bare = audit_replies(WARD, plan, crowd=CROWD, privacy=UnsafeNoPrivacy)
    assert clean.rounds == 3
    assert clean.agrees
    assert bare.shown > bare.claimed
    assert bare.guesses.correct > clean.guesses.correct + 10


def test_too_few_canaries_are_refused():
    with pytest.raises(InputError, match="--canaries"):
        Crowd(patients=10, canaries=20)


def test_what_was_seen_is_resolved_into_those_who_made_it():
    """Forty of eighty vectors in a hundred dimensions: the sum says which, but for the ridge."""
    rng = np.random.default_rng(0)
    own, inside = rng.normal(size=(80, 300)), rng.permutation(80) < 40
    seen = own[inside].sum(axis=0)
    shares = coordinator._resolved(own @ own.T, own @ seen)
    assert shares[inside].min() > shares[~inside].max()
