"""The estimate of `audit --shadow`: a training begun, timed, and left; of any generator."""

import re
import time
from dataclasses import replace

import pytest
from small_ward import WARD, ward_table

from synthkit.audit import shadow_training
from synthkit.audit.shadow import _trained
from synthkit.audit.shadow_training import _Watch, shadowing
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance, GaussianEvent
from synthkit.privacy.accounting import spend_of
from synthkit.training.artefact import Model, new_generator

SMALL = {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}
STEPS = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.25, steps=400)


def model_of(kind, settings, events):
    return Model(
        schema=WARD,
        generator=new_generator(kind, WARD, settings, seed=0),
        spend=spend_of([*events, GaussianEvent(noise_multiplier=5.0)], 1e-5),
        encoder_provenance=EncoderProvenance.TRAINED,
        study="s",
        study_digest="0" * 64,
        site="north",
    )


def test_a_long_training_is_left_and_its_length_told(monkeypatch):
    """100 steps of 10 ms each: about 1 s, told after a tenth of it."""
    monkeypatch.setattr(shadow_training, "TIMED_SECONDS", 0.1)
    taken = []

    def train(watch):
        for step in range(100):
            time.sleep(0.01)
            taken.append(step)
            watch(step + 1, 100)

    seconds = _Watch().of(train)
    assert 1.0 <= seconds < 20
    assert len(taken) < 50


def test_a_short_training_is_timed_to_its_end():
    assert 0.02 <= _Watch().of(lambda _: time.sleep(0.02)) < 10


def test_an_error_of_the_training_is_not_taken_for_the_end():
    def train(watch):
        watch(1, 2)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _Watch().of(train)


def test_the_length_is_said_before_the_first_shadow(monkeypatch):
    monkeypatch.setattr(shadow_training, "TIMED_SECONDS", 0.05)
    said = []
    tables = (ward_table(40, seed=seed) for seed in range(2))
    asked = shadowing(model_of("medvae-sgd", SMALL, (replace(STEPS, steps=20),)), 8)
    assert len(_trained(asked, tables, 30, said.append)) == 2
    assert said[0] == "shadow trainings: timing the beginning of one"
    assert re.fullmatch(r"shadow training 1 of 8, about \d+ (s|min) to go", said[1])
    assert re.fullmatch(r"shadow training 2 of 8, about \d+ (s|min) to go", said[2])


@pytest.mark.parametrize(
    ("kind", "settings", "events"),
    [
        ("medvae-sgd", SMALL, (STEPS,)),
        ("medvae", {}, ()),
        ("mcm", {}, ()),
    ],
)
def test_every_generators_training_can_be_timed(monkeypatch, kind, settings, events):
    monkeypatch.setattr(shadow_training, "TIMED_SECONDS", 0.05)
    asked = shadowing(model_of(kind, settings, events), 8)
    start = time.monotonic()
    assert asked.seconds is not None
    told = asked.seconds(ward_table(60))
    assert 0 < told < 3600
    assert time.monotonic() - start < max(told, 30)
