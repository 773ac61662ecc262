"""`synthkit train` on records of visits: a longitudinal schema, one row a code.

Rule kept here: everything that can be refused is refused before the ledger is touched, an option that
would be ignored too. Imports that take a second or more stand inside the functions that need them; see the
package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console, Progress, epsilon_text, figure
from synthkit.cli.ledgers import TEMPLATE_ASSET, TEMPLATE_NOTE, open_ledger
from synthkit.cli.loading import check_in_force, load_policy, load_schema, name_of
from synthkit.cli.train_outcome import spend_document
from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.data.sequences import PatientSequences
    from synthkit.domain.study import TrainingPlan
    from synthkit.training.planning import Effort
    from synthkit.training.sequence_artefact import SequenceModel
    from synthkit.training.single_site import Job

RECORD_GENERATORS = ("eva", "eva-c", "lstm", "vae-lstm", "vae-deconv")
MOST_VISITS = 200
MOST_CODES = 500


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """What to train on and how; None where not given."""

    generator: str
    table: Path
    patients: Path | None
    folder: Path
    epsilon: float | None
    delta: float
    ledger: Path | None
    site: str
    study: str
    declared_size: int
    most_visits: int | None
    steps: int | None
    sample_rate: float | None
    learning_rate: float | None
    seed: int

    @property
    def cap(self) -> int:
        """Visits of one patient that are trained on."""
        return self.most_visits if self.most_visits is not None else MOST_VISITS


def is_of_records(schema: Path, options: SequenceOptions) -> bool:
    """Whether a training is of records.

    Raises:
        InputError: The generator and the schema do not go together, or an option of records stands beside
            a table's generator.
        SchemaError: The schema contradicts itself.
    """
    if options.generator in RECORD_GENERATORS:
        if not load_schema(schema).is_longitudinal:
            raise InputError(
                f"{options.generator} takes records of visits, and this is a schema of one row a patient",
                where=name_of(schema),
                fix="name patient_id, visit and a column of kind code, or --generator medvae",
            )
        return True
    for option, value in (("--patients", options.patients), ("--most-visits", options.most_visits)):
        if value is not None:
            raise InputError("belongs to records of visits", where=f"option {option}", fix="leave it out")
    if schema.is_file() and load_schema(schema).is_longitudinal:
        raise InputError(
            f"{options.generator} takes one row a patient, and this is a schema of records of visits",
            where=name_of(schema),
            fix="--generator eva",
        )
    return False


def train_on_records(
    options: SequenceOptions,
    schema: Schema,
    *,
    policy: str,
    is_unsafe: bool,
    refused: Sequence[str],
    console: Console,
) -> None:
    """Train, and say what came of it."""
    from synthkit.data.sequence_reading import Caps, read_sequences
    from synthkit.training.single_site import Job

    if (options.epsilon is None) is not is_unsafe:
        raise InputError(
            "give either --epsilon or --unsafe-no-dp", where="option --epsilon", fix="for example --epsilon 8"
        )
    if refused:
        what = "says nothing of records of visits"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")
    rules = load_policy(policy)
    check_in_force(rules)
    job = Job(
        study=options.study,
        site=options.site,
        declared_size=options.declared_size,
        min_patients=rules.study.min_patients,
        seed=options.seed,
    )
    with console.progress("reading the records") as progress:
        caps = Caps(visits=options.cap, codes=MOST_CODES, is_cut=True)
        records = read_sequences(options.table, schema, patients=options.patients, caps=caps)
        if options.epsilon is None:
            plan, model = _unsafely(records, options, job, progress)
        else:
            plan, model = _privately(records, options, job, rules, console=console, progress=progress)
    _show(console, model, plan, options.folder)


def _hyperparameters(records: "PatientSequences", options: SequenceOptions) -> dict[str, float]:
    """What the plan has to say of records: caps, and whether times are calendar dates."""
    return {
        "most_visits": float(options.cap),
        "most_codes": float(min(MOST_CODES, len(records.schema.vocabulary))),
        "dated": float(records.is_dated),
    }


def _effort(options: SequenceOptions) -> "Effort":
    """The usual effort for this size, with what the options override."""
    from synthkit.training.planning import Effort
    from synthkit.training.sequence_site import effort_for_records, effort_for_records_without_privacy

    of_size = effort_for_records_without_privacy if options.epsilon is None else effort_for_records
    usual = of_size(options.declared_size)
    return Effort(
        rounds=1,
        local_steps=options.steps or usual.local_steps,
        sample_rate=options.sample_rate if options.sample_rate is not None else usual.sample_rate,
        learning_rate=options.learning_rate if options.learning_rate is not None else usual.learning_rate,
    )


def _unsafely(
    records: "PatientSequences", options: SequenceOptions, job: "Job", progress: Progress
) -> "tuple[TrainingPlan, SequenceModel]":
    from synthkit.training.sequence_site import plan_for_records, train_records_unsafe

    plan = plan_for_records(
        options.generator,
        _effort(options),
        target_epsilon=1.0,
        delta=options.delta,
        hyperparameters=_hyperparameters(records, options),
    )
    progress("training WITHOUT privacy")
    return plan, train_records_unsafe(records, plan, job, folder=options.folder, progress=progress.at)


def _privately(
    records: "PatientSequences",
    options: SequenceOptions,
    job: "Job",
    rules: SitePolicy,
    *,
    console: Console,
    progress: Progress,
) -> "tuple[TrainingPlan, SequenceModel]":
    """Plan, ask the policy, open the ledger, train."""
    from synthkit.domain.policy_check import check_study_against_policy
    from synthkit.privacy.accounting import admission_epsilon, check_delta
    from synthkit.training.purchasing import check_bought
    from synthkit.training.sequence_site import (
        plan_for_records,
        study_of_records,
        train_records_privately,
    )

    path = options.ledger or options.table.with_name(f"{rules.asset}.ledger")
    known = Ledger.open(path, asset=rules.asset) if path.exists() else None
    bought = check_bought(records.schema, known)
    plan = plan_for_records(
        options.generator,
        _effort(options),
        target_epsilon=options.epsilon or 0.0,
        delta=options.delta,
        hyperparameters=_hyperparameters(records, options),
        history=bought,
    )
    check_delta(plan.delta, job.declared_size)
    planned = admission_epsilon((*bought, *plan.total_events()), rules.budget.delta)
    today = dt.datetime.now(dt.UTC).date()
    study = study_of_records(records.schema, plan, job)
    check_study_against_policy(study, rules, planned_epsilon=planned, today=today)
    if rules.asset == TEMPLATE_ASSET:
        console.note(TEMPLATE_NOTE)
    book = open_ledger(path, rules, job.site, reference=plan.total_events()[0])
    quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
    progress("training privately")
    return plan, train_records_privately(
        records, plan, job, ledger=book, quota=quota, folder=options.folder, progress=progress.at
    )


def _show(console: Console, model: "SequenceModel", plan: "TrainingPlan", folder: Path) -> None:
    spend = model.spend
    document: JsonObject = {
        "model": str(folder),
        "generator": model.generator.kind,
        "study": model.study,
        "study_digest": model.study_digest,
        "encoder_provenance": model.encoder_provenance.value,
        "unsafe": not model.is_private,
        "spend": None,
    }
    if spend is None:
        console.verdict("NOT PRIVATE", "nothing made from this model may be called private")
    else:
        document["spend"] = spend_document(spend, plan)
        console.heading(f"Trained {model.generator.kind} into {folder}")
        epsilon = f"{epsilon_text(spend.epsilon)} at delta {figure(spend.delta)}"
        shares = figure(plan.prior_noise_multiplier)
        console.pairs(
            {
                "epsilon": f"{epsilon}, for one patient's whole record",
                "noise_multiplier": f"{figure(plan.noise_multiplier)}, and {shares} for the one-way shares",
                "sample_rate": figure(plan.sample_rate),
                "steps": str(plan.total_steps),
            }
        )
    console.result(document)
