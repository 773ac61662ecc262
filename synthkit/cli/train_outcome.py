"""What `train` says at its end: the spend, what it went to, and what was frozen.

Knows models and plans. Refuses to know rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.domain.canonical import JsonObject
from synthkit.domain.privacy import PrivacyEvent, PrivacySpend
from synthkit.privacy.accounting import reported_epsilon

if TYPE_CHECKING:
    from synthkit.domain.study import TrainingPlan
    from synthkit.training.artefact import Model


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training made. `bought` is what its schema was bought with, `share` what was asked for it."""

    model: "Model"
    plan: "TrainingPlan"
    bought: tuple[PrivacyEvent, ...] = ()
    share: float | None = None
    schema_file: Path | None = None


def show(console: Console, outcome: Outcome, folder: Path) -> None:
    """Print how a training ended, and hand over the machine's object."""
    model, plan, spend = outcome.model, outcome.plan, outcome.model.spend
    document: JsonObject = {
        "model": str(folder),
        "study": model.study,
        "study_digest": model.study_digest,
        "encoder_provenance": model.encoder_provenance.value,
        **_encoder(plan),
        "unsafe": not model.is_private,
        "spend": None,
        "preprocessing": _preprocessing(outcome),
    }
    if spend is None:
        console.verdict("NOT PRIVATE", "nothing made from this model may be called private")
    else:
        document["spend"] = spend_document(spend, plan)
        console.heading(f"Trained {model.generator.kind} into {folder}")
        console.pairs(
            {
                "epsilon": f"{epsilon_text(spend.epsilon)} at delta {figure(spend.delta)}, for one patient",
                **_preprocessing_words(outcome),
                **_training_words(plan),
                **_encoder_words(plan),
            }
        )
    console.result(document)


def spend_document(spend: PrivacySpend, plan: "TrainingPlan") -> JsonObject:
    """What a training cost, for `--json`: others rely on these names. One release counts as one step."""
    return {
        "epsilon": spend.epsilon,
        "delta": spend.delta,
        "accountant": spend.accountant,
        "adjacency": spend.adjacency.value,
        "noise_multiplier": plan.noise_multiplier,
        "prior_noise_multiplier": plan.prior_noise_multiplier,
        "sample_rate": plan.sample_rate,
        "steps": plan.total_steps or 1,
    }


def _training_words(plan: "TrainingPlan") -> dict[str, str]:
    """What was released from the patients, and how noisy it was."""
    prior = figure(plan.prior_noise_multiplier)
    if not plan.total_steps:
        return {"noise_multiplier": f"{prior}, on one release of all two-way tables"}
    return {
        "noise_multiplier": f"{figure(plan.noise_multiplier)}, and {prior} for the prior",
        "sample_rate": figure(plan.sample_rate),
        "steps": str(plan.total_steps),
    }


def _encoder(plan: "TrainingPlan") -> JsonObject:
    """What was frozen; nothing where nothing was. A public encoder's digest, or what a DP one cost alone."""
    if plan.encoder == "trained":
        return {}
    cost = reported_epsilon(plan.encoder_events(), plan.delta) if plan.encoder_events() else None
    return {"encoder": {"kind": plan.encoder, "digest": plan.encoder_digest or None, "epsilon": cost}}


def _encoder_words(plan: "TrainingPlan") -> dict[str, str]:
    if plan.encoder == "trained":
        return {}
    words = {
        "public": f"public and frozen, weights {plan.encoder_digest[:12]}",
        "random": "fixed random features, nothing learnt",
    }
    events = plan.encoder_events()
    if events:
        cost = epsilon_text(reported_epsilon(events, plan.delta))
        words["dp"] = f"trained first, with {cost} of it, then frozen"
    return {"encoder": words[plan.encoder]}


def _preprocessing(outcome: Outcome) -> JsonObject | None:
    """What the schema was bought with; None when all of it is public."""
    spend, schema = outcome.model.spend, outcome.model.schema
    if spend is None or not outcome.bought:
        return None
    return {
        "share": outcome.share,
        "epsilon": reported_epsilon(outcome.bought, spend.delta),
        "events": [event.to_json() for event in outcome.bought],
        "columns": list(schema.bought()),
        "schema": str(outcome.schema_file) if outcome.schema_file is not None else None,
        "schema_digest": schema.digest,
    }


def _preprocessing_words(outcome: Outcome) -> dict[str, str]:
    document = _preprocessing(outcome)
    if document is None:
        return {}
    share = f" (share {figure(outcome.share)})" if outcome.share is not None else ""
    words = {
        "of it bought": f"{', '.join(document['columns'])}, with {epsilon_text(document['epsilon'])}{share}"
    }
    if outcome.schema_file is not None:
        words["schema"] = f"{outcome.schema_file}: give this one to later commands"
    return words
