"""`synthkit train` on records whose schema leaves something to be bought: the code list, a bound, a category.

Rule kept here, as for tables: whatever can be refused is refused before either purchase or training; the
completed schema lies beside the model before a step is taken. Imports that take a second or more stand
inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console, Progress
from synthkit.cli.ledgers import open_ledger
from synthkit.cli.loading import check_target, name_of, save_text
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.errors import InputError, SchemaError

if TYPE_CHECKING:
    from synthkit.data.purchase import Purchase
    from synthkit.data.sources import TableSource
    from synthkit.domain.study import TrainingPlan
    from synthkit.training.planning import Effort
    from synthkit.training.single_site import Job


@dataclass(frozen=True, kw_only=True)
class RecordPurchase:
    """On which terms to buy before a training; all public, all as given by options."""

    table: "TableSource"
    patients: "TableSource | None"
    ledger: Path
    target: Path
    """Where the completed schema is written."""

    generator: str
    epsilon: float | None
    """Of purchase and training together; None: without privacy."""

    delta: float
    share: float | None
    """Of epsilon, for the purchase; None: the usual one."""


def buy_before_training(
    draft: Schema,
    terms: RecordPurchase,
    job: "Job",
    rules: SitePolicy,
    *,
    effort: "Effort",
    console: Console,
    progress: Progress,
) -> Schema:
    """The completed schema, stored and charged.

    Raises:
        SchemaError: A bound or list was read off the rows; noise hides a range; or the training is without
            privacy, which buys nothing.
        PolicyError: The policy does not allow purchase and training.
        BudgetExceededError: The cap has no room for both; nothing was drawn.
        InputError: Too few patients, or a file cannot be used.
    """
    from synthkit.data.sequence_reading import read_code_rows
    from synthkit.training.purchasing import buy_schema

    purchase, plan = _planned(draft, terms, job, rules, effort)
    check_target(terms.target)
    rows = read_code_rows(terms.table, draft, patients=terms.patients)
    if rows.patient_count < job.min_patients:
        raise InputError(
            f"fewer patients than {job.min_patients}: noise would drown them",
            where=f"site {job.site}",
            fix="use more patients",
        )
    book = open_ledger(terms.ledger, rules, job.site, reference=plan.total_events()[0])
    quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
    # The training first: the quota's leading order is chosen for it.
    book.check_room((*plan.total_events(), *purchase.events), quota=quota)
    progress("buying the schema")
    completed = buy_schema(
        rows, purchase, ledger=book, quota=quota, store=lambda s: save_text(terms.target, schema_to_toml(s))
    )
    console.line(
        f"Bought {', '.join(draft.to_buy())} into {name_of(terms.target)}; use that schema from now on."
    )
    return completed


def _planned(
    draft: Schema, terms: RecordPurchase, job: "Job", rules: SitePolicy, effort: "Effort"
) -> "tuple[Purchase, TrainingPlan]":
    """Purchase and training as the policy allows them, together within epsilon."""
    from synthkit.training.planning import PREPROCESSING_SHARE, purchase_for
    from synthkit.training.purchasing import check_reviewed
    from synthkit.training.sequence_site import plan_for_records

    if terms.epsilon is None:
        raise SchemaError(
            "its bounds or categories are still to be bought",
            where=f"column {draft.to_buy()[0]}",
            fix="list them, or train with --epsilon",
        )
    check_reviewed(draft)
    share = terms.share if terms.share is not None else PREPROCESSING_SHARE
    purchase = purchase_for(draft, target_epsilon=share * terms.epsilon, delta=terms.delta)
    plan = plan_for_records(
        terms.generator,
        effort,
        target_epsilon=terms.epsilon,
        delta=terms.delta,
        hyperparameters={},
        history=purchase.events,
    )
    _check_policy(draft, plan, job, rules, purchase.events)
    return purchase, plan


def _check_policy(
    draft: Schema, plan: "TrainingPlan", job: "Job", rules: SitePolicy, bought: tuple[PrivacyEvent, ...]
) -> None:
    from synthkit.domain.policy_check import check_study_against_policy
    from synthkit.privacy.accounting import admission_epsilon, check_delta
    from synthkit.training.sequence_site import study_of_records

    check_delta(plan.delta, job.declared_size)
    planned = admission_epsilon((*bought, *plan.total_events()), rules.budget.delta)
    today = dt.datetime.now(dt.UTC).date()
    study = study_of_records(draft, plan, job)
    check_study_against_policy(study, rules, planned_epsilon=planned, today=today)
