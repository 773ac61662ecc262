"""Train one generator at one site: reserve, train, fit the prior, store, commit.

Knows a table, a plan and the asset's ledger. The order is the same as in a federation's round, so
that a crash after the reservation leaves it spent and a model without a commit is never silently used.
An encoder that is trained with DP first and then frozen is a round of its own under the same study.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.layout import PatientStates
from synthkit.domain.privacy import Budget, PrivacySpend
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.messages import Weights, digest_weights
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.training.artefact import Model, new_generator, save_model
from synthkit.training.freeze import encoder_digest, encoder_plan, freeze, place_encoder
from synthkit.training.loop import LoopState, Progress, close, finish, train
from synthkit.training.planning import check_plan
from synthkit.training.purchasing import check_bought, check_reviewed
from synthkit.training.unsafe import UnsafeNoPrivacy


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train, and under which names it is accounted."""

    study: str
    site: str
    declared_size: int
    min_patients: int
    seed: int

    def as_study(self, table: PatientTable, plan: TrainingPlan) -> Study:
        """A study of this one site, so that ledger, audit and release name it as any other."""
        roster = (Site(name=self.site, public_key="", declared_size=self.declared_size),)
        return Study(
            name=self.study,
            purpose="training at one site",
            schema=table.schema,
            plan=plan,
            roster=roster,
            expires=date.max,
            initial_seed=self.seed,
        )


def train_privately(
    table: PatientTable,
    plan: TrainingPlan,
    job: Job,
    *,
    ledger: Ledger,
    quota: Budget,
    folder: Path,
    encoder: Weights | None = None,
    progress: Progress | None = None,
) -> Model:
    """Train under the ledger and save the model into `folder`.

    `encoder` is the public encoder's arrays, if the plan freezes one: see `training.freeze`.

    Raises:
        SchemaError: A bound or category was read off the rows, or was not bought under this ledger.
        BudgetExceededError: The asset's cap or the quota has no room; nothing was drawn.
        InputError: Too few patients, another encoder than the plan's, or the folder cannot be written.
    """
    check_plan(plan)
    check_trainable(table, job)
    check_bought(table.schema, ledger)
    study = job.as_study(table, plan)
    generator = new_generator(plan.generator, table.schema, plan.hyperparameters, seed=job.seed)
    place_encoder(generator, plan, encoder)
    if plan.encoder_events():
        ledger.check_room(plan.total_events(), quota=quota)
        _train_encoder(generator, table, study, job, ledger=ledger, quota=quota, progress=progress)
    reservation = ledger.reserve(
        study=study.digest,
        server_round=2 if plan.encoder_events() else 1,
        base_digest=digest_weights(generator.get_weights()),
        events=plan.training_events(),
        study_budget=quota,
    )
    freeze(generator, plan)
    _run(generator, table, plan, job, privacy=None, progress=progress)
    spend = spend_of(ledger.history(study.digest, schema=table.schema.digest), plan.delta)
    model = _model(generator, table, job, study, spend)
    save_model(model, folder)
    ledger.commit(reservation, reply_digest=digest_weights(generator.get_weights()))
    return model


def train_unsafe(
    table: PatientTable, plan: TrainingPlan, job: Job, *, folder: Path, progress: Progress | None = None
) -> Model:
    """Train without privacy, for comparison; the model says so for ever.

    Raises:
        InputError: The folder cannot be written, or the plan freezes an encoder.
    """
    if plan.encoder != "trained":
        raise InputError("a frozen encoder is for private training", where="the plan's encoder")
    study = job.as_study(table, plan)
    generator = new_generator(plan.generator, table.schema, plan.hyperparameters, seed=job.seed)
    _run(generator, table, plan, job, privacy=UnsafeNoPrivacy, progress=progress)
    model = _model(generator, table, job, study, None)
    save_model(model, folder)
    return model


def check_trainable(table: PatientTable, job: Job) -> None:
    """Refuse what neither a purchase nor private training can start from, before any budget is touched.

    Raises:
        SchemaError: A bound or category was read off the rows.
        InputError: Fewer patients than the policy's floor.
    """
    check_reviewed(table.schema)
    _check_enough(table, job)


def _check_enough(table: PatientTable, job: Job) -> None:
    if table.patient_count < job.min_patients:
        raise InputError(
            f"fewer patients than {job.min_patients}: noise would drown them",
            where=f"site {job.site}",
            fix="use more patients, or join a federation",
        )


def _train_encoder(
    generator: Generator,
    table: PatientTable,
    study: Study,
    job: Job,
    *,
    ledger: Ledger,
    quota: Budget,
    progress: Progress | None,
) -> None:
    """The round before the decoder's: all weights take the encoder's steps, and what it learnt is charged."""
    reservation = ledger.reserve(
        study=study.digest,
        server_round=1,
        base_digest=digest_weights(generator.get_weights()),
        events=study.plan.encoder_events(),
        study_budget=quota,
    )
    _steps(generator, table, encoder_plan(study.plan), job, privacy=None, progress=progress)
    ledger.commit(reservation, reply_digest=encoder_digest(generator))


def _run(
    generator: Generator,
    table: PatientTable,
    plan: TrainingPlan,
    job: Job,
    *,
    privacy: type[UnsafeNoPrivacy] | None,
    progress: Progress | None,
) -> None:
    states = _steps(generator, table, plan, job, privacy=privacy, progress=progress)
    close(generator, states, plan, privacy=privacy)
    finish(generator, plan, [job.declared_size], privacy=privacy, progress=progress)


def _steps(
    generator: Generator,
    table: PatientTable,
    plan: TrainingPlan,
    job: Job,
    *,
    privacy: type[UnsafeNoPrivacy] | None,
    progress: Progress | None,
) -> PatientStates:
    """All steps of a plan, if the generator takes any; returns the encoded patients."""
    states = fit_encoding(table.schema).encode_patients(table)
    if isinstance(generator, SteppedGenerator):
        train(
            generator,
            states,
            plan,
            steps=plan.total_steps,
            declared_size=job.declared_size,
            state=LoopState(),
            privacy=privacy,
            progress=progress,
        )
    return states


def _model(
    generator: Generator, table: PatientTable, job: Job, study: Study, spend: PrivacySpend | None
) -> Model:
    return Model(
        schema=table.schema,
        generator=generator,
        spend=spend,
        encoder_provenance=study.plan.encoder_provenance,
        study=job.study,
        study_digest=study.digest,
        site=job.site,
    )
