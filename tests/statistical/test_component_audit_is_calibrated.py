"""The audit's intervals have the width they state, and its epsilon follows the step that was taken."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_ward import WARD
from training_claims import CLINIC, SHORT, claimed

from synthkit.audit.component import FEWEST_STEPS, audit_steps
from synthkit.audit.component_checks import (
    LEVEL,
    clipping_checks,
    empty_check,
    noise_checks,
    sampling_checks,
    site_check,
)
from synthkit.audit.component_runs import NARROW, Effort
from synthkit.audit.component_watch import CANARY_ROWS, Observation, is_canary
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent
from synthkit.errors import InputError
from synthkit.privacy import rng
from synthkit.privacy.accounting import reported_epsilon
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings

CLAIM = DpSgdEvent(noise_multiplier=1.3, sample_rate=0.2, steps=100)
SIZES = np.array([300, 12, 240, 8])
REPETITIONS = 200
HALF_WIDTHS = 3.98
"""Standard errors in half an interval at LEVEL."""


def sound(generator, *, steps=100, patients=300, canaries=False):
    """What a sound step would have shown, drawn from the distributions themselves."""
    drawn = generator.random((steps, patients)) < CLAIM.sample_rate
    noise = CLAIM.noise_multiplier * generator.standard_normal((steps, SIZES.sum()))
    if canaries:
        loud = [(row * is_canary(np.arange(patients), step)).sum() for step, row in enumerate(drawn)]
        direction = np.ones(SIZES.sum()) / np.sqrt(SIZES.sum())
        noise = noise + np.array(loud)[:, None] * direction
    return Observation(
        settings=StepSettings(sample_rate=0.2, noise_multiplier=1.3, max_grad_norm=1.0, expected_batch=60.0),
        normaliser=60.0,
        told=steps,
        patients=patients,
        counted=np.full(steps, patients),
        drawn=drawn.astype(np.uint8),
        releases=np.ones(steps, dtype=np.int64),
        coordinates=noise.astype(np.float32),
        squares=np.column_stack([(part**2).sum(axis=1) for part in np.split(noise, SIZES.cumsum()[:-1], 1)]),
        sizes=SIZES,
        is_fresh=True,
        strays=0,
    )


@pytest.fixture(scope="module")
def scores():
    """By check: how many standard errors each of 200 sound measurements lay from the claim."""
    generator = np.random.default_rng(7)
    found = {}
    for _ in range(REPETITIONS):
        quiet, loud = sound(generator), sound(generator, steps=45, canaries=True)
        checks = (
            *noise_checks(quiet, CLAIM),
            *sampling_checks(quiet, CLAIM),
            *clipping_checks(loud, quiet, CLAIM),
            site_check(quiet, sound(generator, steps=8)),
            empty_check(sound(generator, steps=60, patients=3), CLAIM),
        )
        for check in checks:
            assert check.agrees, check
            if check.interval is not None:
                half = (check.interval.upper - check.interval.lower) / 2 / HALF_WIDTHS
                found.setdefault(check.name, []).append((check.measured - check.claimed) / half)
    return {name: np.array(values) for name, values in found.items()}


DIRECT = (
    *("noise", "noise is normal", "divisor blind to the batch", "sampling rate", "patients drawn alike"),
    *("batch sizes vary", "drawn afresh at each step", "clipped one by one", "noise once a step"),
    *(f"sensitivity, rows {rows}" for rows in CANARY_ROWS),
)


@pytest.mark.parametrize("name", DIRECT)
def test_errors_are_as_large_as_the_interval_says(scores, name):
    """Standard deviation of 200 standardised errors within a fifth of 1, which is four standard errors;
    mean within 0.4. False alarm below 1e-4 for each check; the seed is fixed.
    """
    assert 0.8 < scores[name].std() < 1.2
    assert abs(scores[name].mean()) < 0.4


def test_every_statistical_check_has_its_share_of_the_false_alarms(scores):
    """17 checks of one level; `scores` itself found 200 sound measurements of each to agree."""
    assert len(scores) == 17
    assert abs(LEVEL * len(scores) - 1e-3) < 1e-12


class HalfNoise(DpSgdStep):
    def __init__(self, module, settings):
        super().__init__(module, replace(settings, noise_multiplier=settings.noise_multiplier / 2))


class NoRelease(DpSgdStep):
    def __call__(self, patients, loss_per_patient, optimizer):
        del optimizer
        self.release_gradient(rng.poisson_sample(patients, sample_rate=0.25), loss_per_patient)


class NotANumber(DpSgdStep):
    def release_gradient(self, sample, loss_per_patient):
        super().release_gradient(sample, loss_per_patient)
        self.parameters[0].grad = self.parameters[0].grad * torch.nan


class Shuffled(DpSgdStep):
    deck: tuple = ()

    def __call__(self, patients, loss_per_patient, optimizer):
        self.deck = self.deck or tuple(np.array_split(np.random.permutation(patients), 4))
        self.release_gradient(self.deck[0], loss_per_patient)
        self.deck = self.deck[1:]
        optimizer.step()


def names(report):
    return {check.name for check in report.contradicted}


def test_epsilon_of_a_sound_step_holds_the_claim():
    """False alarm below 1e-3."""
    report = audit_steps(CLINIC, claimed(), effort=SHORT)
    assert report.agrees
    assert report.epsilon.agrees
    assert report.epsilon.claimed == reported_epsilon([report.claim], report.delta)
    assert report.epsilon.interval.confidence > 0.999


def test_half_the_noise_costs_more_than_claimed():
    report = audit_steps(CLINIC, claimed(), effort=SHORT, step=HalfNoise)
    assert "noise" in names(report)
    assert report.epsilon.interval.lower > 1.5 * report.epsilon.claimed


def test_shuffled_batches_are_given_no_amplification():
    report = audit_steps(CLINIC, claimed(), effort=SHORT, step=Shuffled)
    assert names(report) >= {"patients drawn alike", "batch sizes vary"}
    full = reported_epsilon([GaussianEvent(noise_multiplier=1.3, count=25)], report.delta)
    assert report.epsilon.interval.upper >= full > 1.5 * report.epsilon.claimed


def test_noise_that_can_be_predicted_bounds_nothing(monkeypatch):
    def seeded(count, *, std):
        return np.random.default_rng(1).normal(0.0, std, count)

    monkeypatch.setattr(rng, "normal", seeded)
    report = audit_steps(CLINIC, claimed(), effort=SHORT)
    assert "noise fresh at each step" in names(report)
    assert report.epsilon.interval.upper == np.inf


def test_a_step_that_releases_nothing_agrees_with_nothing():
    report = audit_steps(CLINIC, claimed(), effort=SHORT, step=NoRelease)
    assert names(report) >= {"noise", "one release a step", "releases as accounted", "sensitivity, rows 1"}
    assert report.epsilon.interval.upper == np.inf


def test_what_is_no_number_is_contradicted():
    found = names(audit_steps(CLINIC, claimed(), effort=SHORT, step=NotANumber))
    assert found >= {"noise", "noise is normal", "sensitivity, rows 1"}


def test_a_loop_that_does_not_use_the_step_is_no_audit(monkeypatch):
    def other_loop(*arguments, **options):
        return None

    monkeypatch.setattr("synthkit.audit.component_watch.train", other_loop)
    with pytest.raises(RuntimeError, match="no step to watch"):
        audit_steps(CLINIC, claimed(), effort=SHORT)


def test_everybody_at_every_step_can_be_audited_too():
    """A rate of 1 has nothing random about its batches. False alarm below 1e-3."""
    report = audit_steps(CLINIC, claimed(sample_rate=1.0), effort=SHORT)
    assert report.agrees
    assert report["sampling rate"].measured == 1.0


def test_too_few_steps_are_refused():
    with pytest.raises(InputError, match="too few steps"):
        audit_steps(CLINIC, claimed(), effort=Effort(quiet_steps=FEWEST_STEPS - 1))


@pytest.mark.slow
def test_two_thousand_steps_pin_epsilon_to_two_per_cent():
    """Half-width of an interval at confidence above 0.999; false alarm below 1e-3."""
    plan = claimed(noise_multiplier=1.0, sample_rate=0.05, local_steps=2000)
    epsilon = audit_steps(WARD, replace(plan, hyperparameters=NARROW["medvae-sgd"])).epsilon
    assert epsilon.agrees
    assert (epsilon.interval.upper - epsilon.interval.lower) / 2 <= 0.02 * epsilon.claimed
