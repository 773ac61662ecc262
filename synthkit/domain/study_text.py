"""A study for people: its draft as TOML, and what it asks in plain words.

Knows the study alone; what it costs is handed in, for a price is the privacy package's to name. Refuses to
soften: whoever approves reads what leaves the site, how often, and what that tells about a patient at most.
"""

import json
import math
import textwrap
from dataclasses import dataclass

from synthkit.domain.documents import PLAN_KEYS
from synthkit.domain.study import Study, TrainingPlan

WIDTH = 92

MOST_NAMES = 12
"""Columns that are named one by one; of more, the first of them."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """Epsilon of a whole study at `delta`: the admission's bound, and the tight figure of a receipt."""

    delta: float
    planned: float
    reported: float


def study_to_toml(study: Study, *, note: str = "") -> str:
    """Write a draft; `study_from_toml` of the result, with the same schema, equals it.

    Args:
        study: The draft. Its schema is a document of its own and only named here.
        note: Further lines of comment at the top.
    """
    head = [
        "# A study's draft. It binds nobody before it is signed (synthkit study sign) and approved by every",
        "# site (synthkit site approve). The noise belongs to rounds, steps and rate: after a change of",
        "# these draft again, or read with synthkit study explain what it costs now.",
        f"# Schema {study.schema.digest[:16]}, {len(study.schema.columns)} columns.",
        *(f"# {line}" for line in note.splitlines()),
    ]
    study_lines = [
        "[study]",
        f"name = {_text(study.name)}",
        f"purpose = {_text(study.purpose)}",
        f"expires = {study.expires.isoformat()}",
        f"initial_seed = {study.initial_seed}",
    ]
    blocks = [head, study_lines, _plan_lines(study.plan), *map(_site_lines, study.to_json()["roster"])]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _plan_lines(plan: TrainingPlan) -> list[str]:
    values = plan.to_json()
    lines = ["[training]", *(f"{name} = {_value(values[name])}" for name in PLAN_KEYS)]
    kept = {*PLAN_KEYS, "hyperparameters"}
    lines += [f"{name} = {_value(value)}" for name, value in values.items() if name not in kept]
    if plan.hyperparameters:
        lines += ["", "[training.hyperparameters]"]
        lines += [f"{_text(name)} = {_value(float(value))}" for name, value in plan.hyperparameters.items()]
    return lines


def _site_lines(site: dict[str, str | int]) -> list[str]:
    return ["[[roster]]", *(f"{name} = {_value(value)}" for name, value in site.items())]


def _value(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def explain_study(study: Study, price: Price) -> str:
    """What a study asks, of whom and at what price; plain text, lines ending in LF."""
    blocks = (
        [f"Study {study.name} ({study.digest[:16]}), good to {study.expires.isoformat()}"],
        [f"Purpose: {study.purpose}"],
        _who(study),
        [_what(study)],
        [_leaves(study)],
        [_price_words(price)],
        [
            "Nothing else is asked. Of the coordinator a site takes this study's digest, a round's number, "
            "weights, and its word on the ledger: noise, steps, rate and clipping are the site's own, from "
            "this signed text."
        ],
    )
    return "\n\n".join("\n".join(_wrapped(line) for line in block) for block in blocks) + "\n"


def _who(study: Study) -> list[str]:
    count = len(study.roster)
    lines = [f"Asked of {count} site{'s' if count > 1 else ''}, by the sizes they declared:"]
    for site in study.roster:
        key = f"key {site.public_key[:16]}" if site.public_key else "key still to be filled in"
        lines.append(f"  {site.name}: {site.declared_size} patients, {key}")
    return lines


def _what(study: Study) -> str:
    names = [column.name for column in study.schema]
    shown = ", ".join(names[:MOST_NAMES]) + (" and others" if len(names) > MOST_NAMES else "")
    unit = "the records of visits" if study.schema.is_longitudinal else "one row a patient"
    return (
        f"What is learnt: {study.plan.generator}, from {unit}, {len(names)} columns ({shown}). Every bound "
        "and category that it uses stands in the signed schema."
    )


def _leaves(study: Study) -> str:
    plan = study.plan
    if not plan.total_steps:
        return (
            "What leaves each site: once, sums over its patients in which each counts for a bounded amount, "
            f"with Gaussian noise {plan.prior_noise_multiplier:g} times the largest one patient can make."
        )
    return (
        f"What leaves each site: {plan.rounds} times the weights after {plan.local_steps} steps. At each "
        f"step a patient is drawn with probability {plan.sample_rate:g}, counts for at most "
        f"{plan.max_grad_norm:g}, and noise {plan.noise_multiplier:g} times that is added. Once more, sums "
        f"with noise {plan.prior_noise_multiplier:g} times the largest one patient can make."
    )


def _price_words(price: Price) -> str:
    if not math.isfinite(price.planned):
        return "What it costs: no finite epsilon. No site may take part."
    return (
        f"What it costs every patient of every site: at most epsilon {_up(price.planned)} at delta "
        f"{price.delta:g} as the ledger's admission counts it, {_up(price.reported)} on the receipt. Who "
        "knows everything but whether one patient took part can raise the odds of being right at most by a "
        f"factor of {_odds(price.planned)}, but for that delta."
    )


def _odds(epsilon: float) -> str:
    """The exponential of epsilon, never rounded down."""
    if epsilon > math.log(1e6):
        return "more than a million"
    factor = math.exp(epsilon)
    return f"{math.ceil(factor * 10) / 10:g}" if factor < 100 else f"{math.ceil(factor)}"


def _up(epsilon: float) -> str:
    """Three decimals, never rounded down."""
    return f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:g}"


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
