"""What was released, what it may cost, and what it did cost.

Events say what happened; `synthkit.privacy.accounting` says what it costs. The two are apart so that
an old history can be re-accounted by a tighter accountant.

Compatibility promise: an event kind is never removed and never changes its meaning; a reader that
meets an unknown kind refuses the history instead of skipping it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from synthkit.domain.canonical import JsonObject
from synthkit.errors import InputError


class Adjacency(StrEnum):
    """Which two data sets the guarantee compares. The unit is one patient with all their rows."""

    ADD_OR_REMOVE_ONE_PATIENT = "add_or_remove_one_patient"
    REPLACE_ONE_PATIENT = "replace_one_patient"


@dataclass(frozen=True, kw_only=True)
class DpSgdEvent:
    """`steps` Gaussian steps, each on an independent Poisson sample of the patients.

    `noise_multiplier` is the noise's standard deviation divided by the clipping norm; `sample_rate`
    is each patient's own, public probability of being drawn at a step.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise InputError("noise_multiplier must be positive", fix="noise 0 is no privacy")
        if not 0 < self.sample_rate <= 1:
            raise InputError("sample_rate must be within (0, 1]")
        if self.steps < 1:
            raise InputError("steps must be at least 1")

    def to_json(self) -> JsonObject:
        """Canonical form, with its kind."""
        return {
            "kind": "dp_sgd",
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": self.steps,
        }


@dataclass(frozen=True, kw_only=True)
class GaussianEvent:
    """`count` Gaussian mechanisms on all patients; noise_multiplier = sigma / L2 sensitivity."""

    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise InputError("noise_multiplier must be positive", fix="noise 0 is no privacy")
        if self.count < 1:
            raise InputError("count must be at least 1")

    def to_json(self) -> JsonObject:
        """Canonical form, with its kind."""
        return {"kind": "gaussian", "noise_multiplier": self.noise_multiplier, "count": self.count}


@dataclass(frozen=True, kw_only=True)
class GaussianThresholdEvent:
    """One Gaussian mechanism on all patients, published only where it exceeds a threshold.

    For lists of names that are not public, such as the categories of a column. `noise_multiplier` is
    sigma / L2 sensitivity; with probability at most `failure_delta`, whatever else is published, some
    name that one patient alone holds is published too. It costs a GaussianEvent and `failure_delta`.
    """

    noise_multiplier: float
    failure_delta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise InputError("noise_multiplier must be positive", fix="noise 0 is no privacy")
        if not 0 < self.failure_delta < 1:
            raise InputError("failure_delta must be within (0, 1)", fix="a hundredth of delta, or less")

    def to_json(self) -> JsonObject:
        """Canonical form, with its kind."""
        return {
            "kind": "gaussian_threshold",
            "noise_multiplier": self.noise_multiplier,
            "failure_delta": self.failure_delta,
        }


PrivacyEvent = DpSgdEvent | GaussianEvent | GaussianThresholdEvent


def event_from_json(document: JsonObject) -> PrivacyEvent:
    """Inverse of an event's `to_json`.

    Raises:
        InputError: The kind is unknown: the history was written by a newer version.
    """
    kind = document.get("kind")
    fields = {key: value for key, value in document.items() if key != "kind"}
    if kind == "dp_sgd":
        return DpSgdEvent(**fields)
    if kind == "gaussian":
        return GaussianEvent(**fields)
    if kind == "gaussian_threshold":
        return GaussianThresholdEvent(**fields)
    raise InputError(f"unknown privacy event {kind!r}", fix="read it with the version that wrote it")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A cap on epsilon at a given delta, for one patient."""

    epsilon: float
    delta: float
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE_PATIENT

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise InputError("epsilon must be positive and finite", fix="for example 3.0")
        if not 0 < self.delta < 1:
            raise InputError("delta must be within (0, 1)", fix="for example 1e-05")


@dataclass(frozen=True, kw_only=True)
class PrivacySpend:
    """A receipt, recomputable from its events. Spends are composed, never added by hand."""

    events: tuple[PrivacyEvent, ...]
    epsilon: float
    delta: float
    accountant: str
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE_PATIENT

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "events": [event.to_json() for event in self.events],
            "epsilon": self.epsilon,
            "delta": self.delta,
            "accountant": self.accountant,
            "adjacency": self.adjacency.value,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "PrivacySpend":
        """Inverse of `to_json`."""
        return cls(
            events=tuple(event_from_json(entry) for entry in document["events"]),
            epsilon=document["epsilon"],
            delta=document["delta"],
            accountant=document["accountant"],
            adjacency=Adjacency(document["adjacency"]),
        )


class EncoderProvenance(StrEnum):
    """Where the parameters came from that the private training did not learn itself.

    TRAINED: nothing was frozen, all weights are the private training's own. PUBLIC and DP are the
    sound frozen encoders. NON_DP: learnt from these patients without DP; every claim is refused.
    """

    TRAINED = "trained"
    PUBLIC = "public"
    DP = "dp"
    NON_DP = "non_dp"

    @property
    def allows_claim(self) -> bool:
        """Whether an epsilon can be claimed at all for a model with parameters of this provenance."""
        return self is not EncoderProvenance.NON_DP
