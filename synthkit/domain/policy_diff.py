"""Two policies, rule by rule: what changed, and whether that is stricter or looser.

Knows of every rule in which direction it protects. Refuses to weigh one rule against another: each is
judged alone. Rules: a rule whose direction is not written down here cannot be compared; a change that
allows something and forbids something else is neither stricter nor looser.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import ANY_COLUMN, SitePolicy


class Direction(StrEnum):
    """What a change does to the patients' protection."""

    STRICTER = "stricter"
    LOOSER = "looser"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One rule that differs; `old` and `new` are its values as a person writes them."""

    rule: str
    old: str
    new: str
    direction: Direction

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"rule": self.rule, "old": self.old, "new": self.new, "direction": self.direction.value}


LOOSER_WHEN_HIGHER = frozenset(
    {
        "asset.epsilon",
        "asset.delta",
        "study.max_epsilon",
        "study.max_delta",
        "study.max_sample_rate",
        "conditions.max_columns",
        "audit.max_advantage",
        "audit.max_attempts",
        "release.allow_non_private",
        "release.valid_days",
        "expires",
    }
)
"""Numbers, dates and yes or no: more of it allows more."""

STRICTER_WHEN_HIGHER = frozenset(
    {
        "study.min_noise_multiplier",
        "study.min_sites",
        "study.min_patients",
        "conditions.floor",
        "conditions.min_reliability",
        "audit.alpha",
        "release.four_eyes",
        "vault.required",
        "signed",
    }
)
"""More of it forbids more. A larger alpha lets the attacks raise an alarm on weaker evidence."""

LOOSER_WITH_MORE = frozenset(
    {
        "study.allowed_generators",
        "conditions.allowed_columns",
        "vault.readers",
        "egress.recipients",
        "egress.files",
    }
)
"""Lists of what is allowed."""

OFFICER_IS_LOOSER = frozenset({"release.inconclusive", "release.fail"})
"""`refuse`, or `officer`."""

NO_DIRECTION = frozenset({"format", "name", "asset.name", "asset.adjacency"})
"""What the policy is about, not what it allows."""


def differences(old: SitePolicy, new: SitePolicy) -> tuple[Change, ...]:
    """Every rule that differs, in the order of the document; empty when the two say the same."""
    before, after = (dict(_flat(policy.to_json())) for policy in (old, new))
    return tuple(
        Change(
            rule=_written(rule),
            old=_text(before[rule]),
            new=_text(after[rule]),
            direction=_direction(rule, before[rule], after[rule]),
        )
        for rule in before
        if before[rule] != after[rule]
    )


def summary(changes: tuple[Change, ...]) -> str:
    """The changes in one sentence."""
    if not changes:
        return "The two policies say the same."
    counts = {way: sum(change.direction is way for change in changes) for way in Direction}
    words = [f"{counts[way]} {way.value}" for way in Direction if counts[way]]
    return f"The new policy differs in {len(changes)} rule{'s'[: len(changes) > 1]}: {', '.join(words)}."


def _flat(document: JsonObject, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted rule names and their values."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _written(rule: str) -> str:
    """The rule's name in the document that a person writes."""
    return f"policy.{rule}" if rule in ("name", "signed", "expires") else rule


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _direction(rule: str, old: object, new: object) -> Direction:
    if rule in NO_DIRECTION:
        return Direction.OTHER
    if rule in OFFICER_IS_LOOSER:
        return Direction.LOOSER if new == "officer" else Direction.STRICTER
    if rule in LOOSER_WITH_MORE and isinstance(old, list) and isinstance(new, list):
        return _direction_of_lists(frozenset(old), frozenset(new))
    if rule in LOOSER_WHEN_HIGHER | STRICTER_WHEN_HIGHER:
        is_looser = _is_higher(old, new) == (rule in LOOSER_WHEN_HIGHER)
        return Direction.LOOSER if is_looser else Direction.STRICTER
    raise RuntimeError(f"no direction is known for the rule {rule}")


def _is_higher(old: object, new: object) -> bool:
    """Whether a number, a date in ISO form, or a yes or no went up."""
    if isinstance(old, str) and isinstance(new, str):
        return new > old
    if isinstance(old, int | float) and isinstance(new, int | float):
        return new > old
    raise RuntimeError("a rule changed its type")


def _direction_of_lists(old: frozenset[str], new: frozenset[str]) -> Direction:
    if new == old:
        return Direction.OTHER  # another order
    if ANY_COLUMN in new or (new > old and ANY_COLUMN not in old):
        return Direction.LOOSER
    return Direction.STRICTER if ANY_COLUMN in old or new < old else Direction.OTHER
