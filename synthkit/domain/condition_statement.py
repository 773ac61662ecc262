"""ConditionStatement: the public conditions a table was generated under, and what its model says of them.

Knows conditions as text and two figures of the model. Refuses rows, and counts of them: the share of
patients is the model's own, which is post-processing. Rules: both figures are rounded before anyone
judges them, so that generation, sealing and the recipient judge the same numbers; every condition stands
in the one form that `str(Condition)` writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.condition_text import Condition, parse_text

MASS_DIGITS = 2
"""Significant digits of a stated share; a model knows no more."""

MOST_CONDITIONS = 200
MOST_CHARACTERS = 10_000
"""Of one condition: a list of categories may be long."""

SMALLEST_SHOWN = 1e-6
"""A smaller share is called less than this."""


@dataclass(frozen=True, kw_only=True)
class ConditionStatement:
    """The conditions, all of which every row meets.

    `mass` is the share of patients who meet all of them, by the model; 0 to 1. `reliability` is what the
    model says of its rows under them, 0 to 1; see `Generator.sample`.

    Raises:
        ValueError: A condition is not one in its canonical form, there is none or too many, or a figure
            is not a rounded share. (Of a document; `of` makes none such.)
    """

    conditions: tuple[str, ...]
    mass: float
    reliability: float

    def __post_init__(self) -> None:
        if not 1 <= len(self.conditions) <= MOST_CONDITIONS:
            raise ValueError("no conditions, or more than any table needs")
        for text in self.conditions:
            if not isinstance(text, str) or len(text) > MOST_CHARACTERS or not text.isprintable():
                raise ValueError("a condition is not one printable line")
            if [str(condition) for condition in parse_text(text)] != [text]:
                raise ValueError("a condition is not in canonical form")
        for figure, rounded in ((self.mass, _rounded_mass), (self.reliability, _rounded_reliability)):
            if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 <= figure <= 1:
                raise ValueError("a figure is not a share")
            if rounded(figure) != figure:
                raise ValueError("a figure is not rounded")

    @classmethod
    def of(
        cls, conditions: Sequence[Condition], *, mass: float, reliability: float = 1.0
    ) -> "ConditionStatement":
        """State at least one (checked) condition, with a model's figures."""
        return cls(
            conditions=tuple(dict.fromkeys(str(condition) for condition in conditions)),
            mass=_rounded_mass(min(1.0, mass)),
            reliability=_rounded_reliability(min(1.0, reliability)),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are conditioned on, each once, in the order of their conditions."""
        return tuple(dict.fromkeys(parse_text(text)[0].column for text in self.conditions))

    @property
    def share_words(self) -> str:
        """The share of patients, as a person reads it: `1.2 %`."""
        return share_text(self.mass)

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "all_of": list(self.conditions),
            "mass": self.mass,
            "reliability": self.reliability,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "ConditionStatement":
        """Inverse of `to_json`; KeyError, TypeError, ValueError or a ConditionError when malformed."""
        return cls(
            conditions=tuple(document["all_of"]),
            mass=document["mass"],
            reliability=document["reliability"],
        )


def share_text(share: float) -> str:
    """A share in per cent, two significant digits: `12 %`, `0.031 %`."""
    if share < SMALLEST_SHOWN:
        return f"less than {100 * SMALLEST_SHOWN:g} %"
    return f"{_rounded_mass(100 * share):.10g} %"


def _rounded_mass(mass: float) -> float:
    return float(f"{mass:.{MASS_DIGITS}g}")


def _rounded_reliability(reliability: float) -> float:
    return round(reliability, 2)
