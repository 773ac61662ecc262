"""Train one generator of records at one site: reserve, buy shares, train, store, commit.

Knows records, a plan and the asset's ledger. The order is that of `single_site`: a crash after the
reservation leaves it spent, and a model without a commit is never silently used. The unit is a patient with
the whole record.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.privacy import Budget, PrivacyEvent, PrivacySpend
from synthkit.domain.schema import Schema
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.messages import digest_weights
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.training.loop import Progress
from synthkit.training.planning import Effort, plan_for
from synthkit.training.purchasing import check_bought
from synthkit.training.sequence_artefact import (
    SequenceModel,
    new_sequence_generator,
    save_sequence_model,
)
from synthkit.training.sequence_loop import TrainedRecords, train_records
from synthkit.training.single_site import Job
from synthkit.training.unsafe import UnsafeNoPrivacy

BATCH_WITHOUT_PRIVACY = 64

RECORD_GRAD_NORM = 15.0
"""Clipping norm of a whole record's gradient. Untrained, records of few codes reach 17 and long ones 80 on
simulated patients: most are clipped, and long ones count for little more than short ones."""


PATIENTS_A_NOISE = 2_500
"""Patients for each standard deviation of a bought number's noise (at sensitivity 1) from which pairs of
codes are bought. On simulated patients log lifts gained .27 and .11 at 3,400, at no cost; at 1,500 .12 and
.01, for a nat a visit."""


@dataclass(frozen=True, kw_only=True)
class _Terms:
    study: Study
    generator: SequenceGenerator


def effort_for_records(declared_size: int) -> Effort:
    """Rounds, steps, rate and learning rate of a private training, by the site's public size.

    Batches of about 600 patients. Hardly tuned: a few runs on 20,000 simulated patients at epsilon 8 and 3
    stand behind these figures. What the training starts from, shares and pairs, and what settles it
    afterwards, mattered more than any of them.
    """
    rate = min(0.5, max(0.03, 600 / declared_size))
    return Effort(rounds=1, local_steps=80, sample_rate=rate, learning_rate=0.006)


def effort_for_records_without_privacy(declared_size: int) -> Effort:
    """About 8 passes over the patients in small batches, within 60 and 6,000 steps.

    More of them over a few hundred patients learn these by heart: on 500 of Diabetes 130, 38 passes cost half
    a nat a visit of what held-out records have after 10.
    """
    rate = min(1.0, BATCH_WITHOUT_PRIVACY / declared_size)
    steps = int(min(6000, max(60, 8 / rate)))
    return Effort(rounds=1, local_steps=steps, sample_rate=rate, learning_rate=0.002)


def plan_for_records(
    generator: str,
    effort: Effort,
    *,
    target_epsilon: float,
    delta: float,
    hyperparameters: dict[str, float],
    history: Sequence[PrivacyEvent] = (),
    sizes: Sequence[int] = (),
) -> TrainingPlan:
    """As `plan_for`, with the clipping norm of whole records; the prior's event pays for the shares.

    `sizes`, the public sizes of the sites that train together, say whether pairs of codes are bought; where
    none are given, the hyperparameters say it.

    Raises:
        InputError: No noise reaches the target, or a figure is out of range.
    """
    plan = plan_for(
        generator,
        effort,
        target_epsilon=target_epsilon,
        delta=delta,
        hyperparameters=hyperparameters,
        history=history,
    )
    if sizes:
        pairs = float(pairs_pay(sizes, plan.prior_noise_multiplier))
        hyperparameters = {**hyperparameters, "pairs": pairs}
    return replace(plan, max_grad_norm=RECORD_GRAD_NORM, hyperparameters=hyperparameters)


def pairs_pay(sizes: Sequence[int], noise: float) -> bool:
    """Whether sites of these public sizes, each with this noise, have patients enough to buy pairs."""
    return sum(sizes) >= PATIENTS_A_NOISE * noise * math.sqrt(len(sizes))


def study_of_records(schema: Schema, plan: TrainingPlan, job: Job) -> Study:
    """A study of this one site, so that ledger, audit and release name it as any other."""
    roster = (Site(name=job.site, public_key="", declared_size=job.declared_size),)
    return Study(
        name=job.study,
        purpose="training at one site",
        schema=schema,
        plan=plan,
        roster=roster,
        expires=date.max,
        initial_seed=job.seed,
    )


def train_records_privately(
    records: PatientSequences,
    plan: TrainingPlan,
    job: Job,
    *,
    ledger: Ledger,
    quota: Budget,
    folder: Path,
    progress: Progress | None = None,
) -> SequenceModel:
    """Train under the ledger and save the model into `folder`.

    Raises:
        SchemaError: A list or bound was read off the rows, or was not bought under this ledger.
        BudgetExceededError: The asset's cap or the quota has no room; nothing was drawn.
        InputError: Too few patients, or the folder cannot be written.
    """
    check_bought(records.schema, ledger)
    if records.patient_count < job.min_patients:
        raise InputError(
            f"fewer patients than {job.min_patients}: noise would drown them",
            where=f"site {job.site}",
            fix="use more patients",
        )
    terms = _terms(records, plan, job)
    reservation = ledger.reserve(
        study=terms.study.digest,
        server_round=1,
        base_digest=digest_weights(terms.generator.get_weights()),
        events=plan.training_events(),
        study_budget=quota,
    )
    trained = _run(records, plan, job, terms.generator, privacy=None, progress=progress)
    spend = spend_of(ledger.history(terms.study.digest, schema=records.schema.digest), plan.delta)
    model = _model(records.schema, terms, job, trained, spend)
    save_sequence_model(model, folder)
    ledger.commit(reservation, reply_digest=digest_weights(terms.generator.get_weights()))
    return model


def train_records_unsafe(
    records: PatientSequences,
    plan: TrainingPlan,
    job: Job,
    *,
    folder: Path,
    progress: Progress | None = None,
) -> SequenceModel:
    """Train without privacy, for comparison; the model says so for ever.

    Raises:
        InputError: The folder cannot be written.
    """
    terms = _terms(records, plan, job)
    trained = _run(records, plan, job, terms.generator, privacy=UnsafeNoPrivacy, progress=progress)
    model = _model(records.schema, terms, job, trained, None)
    save_sequence_model(model, folder)
    return model


def _terms(records: PatientSequences, plan: TrainingPlan, job: Job) -> _Terms:
    generator = new_sequence_generator(plan.generator, records.schema, plan.hyperparameters, seed=job.seed)
    return _Terms(study=study_of_records(records.schema, plan, job), generator=generator)


def _run(
    records: PatientSequences,
    plan: TrainingPlan,
    job: Job,
    generator: SequenceGenerator,
    *,
    privacy: type[UnsafeNoPrivacy] | None,
    progress: Progress | None,
) -> TrainedRecords:
    encoding = fit_sequence_encoding(records.schema, generator.hyperparameters)
    states = encoding.encode(records)
    size = job.declared_size
    return train_records(generator, states, plan, declared_size=size, privacy=privacy, progress=progress)


def _model(
    schema: Schema, terms: _Terms, job: Job, trained: TrainedRecords, spend: PrivacySpend | None
) -> SequenceModel:
    return SequenceModel(
        schema=schema,
        generator=terms.generator,
        spend=spend,
        study=job.study,
        study_digest=terms.study.digest,
        site=job.site,
        samples=trained.samples,
        latent=trained.latent,
    )
