"""`synthkit train` on records of visits: a longitudinal schema, one row a code.

Rule kept here: everything that can be refused is refused before the ledger is touched, an option that
would be ignored too. Imports that take a second or more stand inside the functions that need them; see the
package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.buy_records import RecordPurchase, buy_before_training
from synthkit.cli.console import Console, Progress, epsilon_text, figure
from synthkit.cli.ledgers import TEMPLATE_ASSET, TEMPLATE_NOTE, open_ledger
from synthkit.cli.loading import check_in_force, load_policy, load_schema, name_of
from synthkit.cli.tables import default_ledger
from synthkit.cli.train_outcome import spend_document
from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.data.sequences import PatientSequences
    from synthkit.data.sources import TableSource
    from synthkit.domain.study import TrainingPlan
    from synthkit.training.planning import Effort
    from synthkit.training.sequence_artefact import SequenceModel
    from synthkit.training.single_site import Job

RECORD_GENERATORS = ("eva", "eva-c", "lstm", "vae-lstm", "vae-deconv")
WEIGHTS = ("point", "posterior")
POSTERIOR_SAMPLES = 10
"""Draws of the weights that a model keeps."""

MOST_VISITS = 200
MOST_CODES = 500


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """What to train on and how; None where not given."""

    generator: str
    table: "TableSource"
    patients: "TableSource | None"
    folder: Path
    epsilon: float | None
    delta: float
    ledger: Path | None
    site: str
    study: str
    declared_size: int
    most_visits: int | None
    weights: str | None
    steps: int | None
    sample_rate: float | None
    learning_rate: float | None
    seed: int
    preprocessing_share: float | None = None

    @property
    def cap(self) -> int:
        """Visits of one patient that are trained on."""
        return self.most_visits if self.most_visits is not None else MOST_VISITS

    @property
    def is_posterior(self) -> bool:
        """Whether draws of the weights are kept, as published.

        A point estimate keeps pairs of codes better in the runs made so far, with privacy and without.

        Raises:
            InputError: No such kind of weights.
        """
        if self.weights is not None and self.weights not in WEIGHTS:
            raise InputError(
                f"no weights {self.weights!r}", where="option --weights", fix=f"one of {', '.join(WEIGHTS)}"
            )
        return self.weights == "posterior"


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
    if schema.is_file() and load_schema(schema).is_longitudinal:
        raise InputError(
            f"{options.generator} is no generator of records of visits, and this is a schema of them",
            where=name_of(schema),
            fix=f"--generator {', '.join(RECORD_GENERATORS[:-1])} or {RECORD_GENERATORS[-1]}",
        )
    of_records: JsonObject = {"--weights": options.weights, "--patients": options.patients}
    of_records["--most-visits"] = options.most_visits
    for option, value in of_records.items():
        if value is not None:
            raise InputError("belongs to records of visits", where=f"option {option}", fix="leave it out")
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
    _ = options.is_posterior  # refused before anything is read
    if refused:
        what = "says nothing of records of visits"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")
    if schema.caps is not None and options.most_visits is not None:
        raise InputError("the schema states its caps", where="option --most-visits", fix="leave it out")
    rules = load_policy(policy)
    check_in_force(rules)
    job = Job(
        study=options.study,
        site=options.site,
        declared_size=options.declared_size,
        min_patients=rules.study.min_patients,
        seed=options.seed,
    )
    if options.preprocessing_share is not None:
        _check_share(options.preprocessing_share, is_draft=bool(schema.to_buy()))
    with console.progress("reading the records") as progress:
        if schema.to_buy():
            schema = buy_before_training(
                schema,
                _purchase(options, rules),
                job,
                rules,
                effort=_effort(options),
                console=console,
                progress=progress,
            )
        caps = Caps(visits=int(_caps(schema, options)["most_visits"]), codes=MOST_CODES, is_cut=True)
        records = read_sequences(options.table, schema, patients=options.patients, caps=caps)
        if options.epsilon is None:
            plan, model = _unsafely(records, options, job, progress)
        else:
            plan, model = _privately(records, options, job, rules, console=console, progress=progress)
    _show(console, model, plan, options.folder)


def _check_share(share: float, *, is_draft: bool) -> None:
    where = "option --preprocessing-share"
    if not 0 < share < 1:
        raise InputError("must lie between 0 and 1", where=where, fix="for example 0.1")
    if not is_draft:
        raise InputError("the schema leaves nothing to be bought", where=where, fix="leave it out")


def _purchase(options: SequenceOptions, rules: SitePolicy) -> RecordPurchase:
    return RecordPurchase(
        table=options.table,
        patients=options.patients,
        ledger=options.ledger or default_ledger(options.table, rules.asset),
        target=options.folder.with_name(options.folder.name + ".schema.toml"),
        generator=options.generator,
        epsilon=options.epsilon,
        delta=options.delta,
        share=options.preprocessing_share,
    )


def _caps(schema: Schema, options: SequenceOptions) -> dict[str, float]:
    """Caps on visits and on codes a visit: the schema's, bought or public, or else the options'."""
    if schema.caps is not None:
        return schema.caps.hyperparameters()
    most_codes = min(MOST_CODES, len(schema.vocabulary))
    return {"most_visits": float(options.cap), "most_codes": float(most_codes)}


def _hyperparameters(records: "PatientSequences", options: SequenceOptions) -> dict[str, float]:
    """What the plan has to say of records: caps, and whether times are calendar dates; a rival's widths."""
    from synthkit.training.sequence_artefact import matched_to_eva

    caps = {
        **_caps(records.schema, options),
        "dated": float(records.is_dated),
        "posterior": float(POSTERIOR_SAMPLES if options.is_posterior else 0),
    }
    return matched_to_eva(options.generator, records.schema, caps)


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

    path = options.ledger or default_ledger(options.table, rules.asset)
    known = Ledger.open(path, asset=rules.asset) if path.exists() else None
    bought = check_bought(records.schema, known)
    plan = plan_for_records(
        options.generator,
        _effort(options),
        target_epsilon=options.epsilon or 0.0,
        delta=options.delta,
        hyperparameters=_hyperparameters(records, options),
        history=bought,
        sizes=(job.declared_size,),
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
        "latent": model.latent.to_json() if model.latent is not None else None,
        "posterior": posterior_document(model),
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
                "noise_multiplier": f"{figure(plan.noise_multiplier)}, and {shares} for the shares",
                "sample_rate": figure(plan.sample_rate),
                "steps": str(plan.total_steps),
            }
        )
    _show_chain(console, model)
    console.result(document)


def posterior_document(model: "SequenceModel") -> JsonObject | None:
    """The posterior samples kept; in a private training with what each would have cost on its own.

    All of them together cost what the training cost: each is computed from the noised gradients of the
    steps up to its own, and these are charged once.
    """
    from synthkit.domain.privacy import DpSgdEvent
    from synthkit.privacy.accounting import reported_epsilon

    if not model.samples:
        return None
    steps = [sample.step for sample in model.samples]
    document: JsonObject = {"samples": len(steps), "steps": steps, "epsilon_of_each": None}
    spend = model.spend
    if spend is not None:
        document["epsilon_of_each"] = [
            reported_epsilon(
                tuple(replace(e, steps=step) if isinstance(e, DpSgdEvent) else e for e in spend.events),
                spend.delta,
            )
            for step in steps
        ]
    return document


def _show_chain(console: Console, model: "SequenceModel") -> None:
    """What was kept of the training's way, and whether the latent is used."""
    words: dict[str, str] = {}
    if model.samples:
        steps = f"after steps {model.samples[0].step} to {model.samples[-1].step}"
        charged = ", covered by the steps above: no further charge" if model.is_private else ""
        words["posterior samples"] = f"{len(model.samples)}, {steps}{charged}"
    if model.latent is not None:
        share = f"{100 * model.latent.kl_share:.2f} % of the bound, {model.latent.kl_nats:.2f} nats a patient"
        words["latent (KL)"] = f"{share}, on {model.latent.measured_on}"
    console.pairs(words)
    if model.latent is not None and model.latent.is_collapsed:
        console.note("the latent has collapsed: records hardly depend on it")
