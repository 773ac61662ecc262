"""How a shadow is trained: as the model at hand was, on other patients.

Knows a model's kind, settings and receipt. Refuses to guess what neither states: a training without privacy
takes the usual steps for its size, and the learning rate is the usual one always, for no model's folder says
either. Rules: private shadows are trained with the noise that was accounted; no ledger counts them, for
nothing of them leaves; no shadow outlives the audit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthkit.audit.shadow import LEAST_TRAININGS, Likelihood, Shadow, Shadowing
from synthkit.data.encoding import Encoding, fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.privacy import DpSgdEvent, EncoderProvenance, GaussianEvent, PrivacySpend
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.generators.registry import is_stepped
from synthkit.training.artefact import Model, new_generator
from synthkit.training.loop import LoopState, Progress, close, finish, train
from synthkit.training.paper import PaperModel
from synthkit.training.paper_mcm import PublishedMcm, train_mcm
from synthkit.training.paper_medvae import PublishedMedVae, train_medvae
from synthkit.training.planning import MAX_GRAD_NORM, effort_for, effort_without_privacy, plan_for
from synthkit.training.synthesis import synthesize
from synthkit.training.unsafe import UnsafeNoPrivacy

TIMED_SECONDS = 2.0
"""How much of a training is timed to say how long all of them will take."""

USUAL_DELTA = 1e-5
USUAL_SIZE = 1000


def shadowing(model: Model | PaperModel, trainings: int) -> Shadowing:
    """What is needed for so many shadows of a model.

    Raises:
        InputError: Too few trainings, an odd number, or a model that nobody can train again: its encoder
            was frozen, or its receipt does not say how it was trained.
    """
    if trainings < LEAST_TRAININGS or trainings % 2:
        raise InputError(
            "is not an even number of trainings that could tell anything",
            where="option --shadow",
            fix=f"{LEAST_TRAININGS} or more; 32 tell more than 16",
        )
    if isinstance(model, PaperModel):
        published = _Published(model=model)
        return Shadowing(trainings=trainings, train=published, seconds=published.seconds)
    if model.encoder_provenance is not EncoderProvenance.TRAINED:
        raise InputError(
            "a frozen encoder is not at hand to be trained again",
            where="option --shadow",
            fix="leave it out, or audit a model without a frozen encoder",
        )
    spend, kind = model.spend, model.generator.kind
    # A receipt that does not say enough is refused before any training.
    plan_again(kind, model.generator.hyperparameters, spend, USUAL_SIZE)
    again = _Again(model=model)
    return Shadowing(
        trainings=trainings,
        train=again,
        seconds=again.seconds,
        epsilon=None if spend is None else spend.epsilon,
        delta=USUAL_DELTA if spend is None else spend.delta,
        likelihood=_likelihood(model.generator, model.encoding),
    )


class _EnoughError(Exception):
    """A training was begun in order to be timed, and its pace is known."""


class _Watch:
    """Told of a training's progress; ends it once it knows how long the whole would take.

    The first step stands apart: it pays for what is built once.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.seconds = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
            return
        place, start = self._first
        pace = (now - start) / max(1, done - place)
        self.seconds = start - self._begun + pace * (total - place)
        if now - self._begun >= TIMED_SECONDS:
            raise _EnoughError

    def of(self, train: Callable[["_Watch"], object]) -> float:
        """Seconds that this training takes, or would take."""
        try:
            train(self)
        except _EnoughError:
            return self.seconds
        return time.monotonic() - self._begun


@dataclass(frozen=True, kw_only=True, eq=False)
class _Published:
    """Trains a published system again; such a model is attacked by its rows alone."""

    model: PaperModel

    def __call__(self, patients: PatientTable, rows: int, seed: int) -> Shadow:
        found = self._trained(patients, seed)
        return Shadow(table=synthesize(found, rows, seed=seed).table, likelihood=lambda _: None)

    def seconds(self, patients: PatientTable) -> float:
        return _Watch().of(lambda watch: self._trained(patients, 0, watch))

    def _trained(self, patients: PatientTable, seed: int, progress: Progress | None = None) -> PaperModel:
        model = self.model
        if isinstance(model, PublishedMedVae):
            settings = model.settings
            return train_medvae(
                patients, settings=settings, seed=seed, study="shadow", site="shadow", progress=progress
            )
        if isinstance(model, PublishedMcm):
            return train_mcm(
                patients, settings=model.settings, seed=seed, study="shadow", site="shadow", progress=progress
            )
        raise TypeError("no such published system")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Again:
    """Trains a model's generator anew, on other patients."""

    model: Model

    def __call__(self, patients: PatientTable, rows: int, seed: int) -> Shadow:
        shadow = self._trained(patients, seed)
        table = synthesize(shadow, rows, seed=seed).table
        return Shadow(table=table, likelihood=_likelihood(shadow.generator, shadow.encoding))

    def seconds(self, patients: PatientTable) -> float:
        return _Watch().of(lambda watch: self._trained(patients, 0, watch))

    def _trained(self, patients: PatientTable, seed: int, progress: Progress | None = None) -> Model:
        model, size = self.model, patients.patient_count
        kind, schema = model.generator.kind, patients.schema
        plan = plan_again(kind, model.generator.hyperparameters, model.spend, size)
        privacy = UnsafeNoPrivacy if model.spend is None else None
        generator = new_generator(kind, schema, plan.hyperparameters, seed=seed)
        states = fit_encoding(schema).encode_patients(patients)
        if isinstance(generator, SteppedGenerator):
            train(
                generator,
                states,
                plan,
                steps=plan.total_steps,
                declared_size=size,
                state=LoopState(),
                privacy=privacy,
                progress=progress,
            )
        close(generator, states, plan, privacy=privacy)
        finish(generator, plan, [size], privacy=privacy, progress=progress)
        return Model(
            schema=schema,
            generator=generator,
            spend=None,
            encoder_provenance=EncoderProvenance.TRAINED,
            study="shadow",
            study_digest="0" * 64,
            site="shadow",
        )


def plan_again(
    kind: str, hyperparameters: dict[str, float], spend: PrivacySpend | None, size: int
) -> TrainingPlan:
    """The plan of a shadow: the receipt's noise, rate and steps where there is one, else the usual ones."""
    if spend is None:
        effort = effort_without_privacy(size, kind)
        return plan_for(kind, effort, target_epsilon=1.0, delta=USUAL_DELTA, hyperparameters=hyperparameters)
    usual = effort_for(size)
    # What was bought before a training stands before its own events.
    steps = [event for event in spend.events if isinstance(event, DpSgdEvent)]
    closing = [event for event in spend.events if isinstance(event, GaussianEvent)]
    if not closing or (is_stepped(kind) and not steps):
        raise InputError("does not say what its training cost", where="the model", fix="leave --shadow out")
    last = closing[-1].noise_multiplier
    return TrainingPlan(
        generator=kind,
        rounds=1 if steps else 0,
        local_steps=sum(event.steps for event in steps),
        sample_rate=steps[-1].sample_rate if steps else 1.0,
        noise_multiplier=steps[-1].noise_multiplier if steps else last,
        prior_noise_multiplier=last,
        max_grad_norm=MAX_GRAD_NORM,
        delta=spend.delta,
        learning_rate=usual.learning_rate if steps else 1.0,
        hyperparameters=dict(hyperparameters),
    )


def _likelihood(generator: Generator, encoding: Encoding) -> Likelihood:
    def of(table: PatientTable) -> np.ndarray | None:
        states = encoding.encode(table)
        # A level outside the schema has no state of its own.
        return generator.log_likelihood(np.minimum(states, np.array(encoding.layout.states) - 1))

    return of
