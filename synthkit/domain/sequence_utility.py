"""SequenceReport: how good generated records are, every score beside a floor and a ceiling.

Knows figures and names of codes and conditions. Refuses records: shares and scores only, no count of
patients. Rule: a score of which nothing can be said is None or NaN, and stands as null in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from synthkit.domain.canonical import JsonObject
from synthkit.domain.utility import Estimate


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """How alike two sets of records are in pairs of codes.

    `bigram`: correlation of the pairs' probabilities. `lift`: correlation of log lifts over pairs seen at
    least `SEEN` times in both; NaN where there are fewer than three. `lift_all`: the same over all pairs
    that the real records have `SEEN` times, an absent one counted as half seen. `lift_either`: over those
    that either side has `SEEN` times per as many visits, one added to what was observed. `covered`: share of
    the real ones that the synthetic records have at least `SEEN` times per as many visits.
    """

    bigram: float
    lift: float
    lift_all: float
    lift_either: float
    covered: float


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Scores of one comparison; `within` and `across` are of one visit and of a visit and its next."""

    unigram: float
    within: PairScores
    across: PairScores

    def to_json(self) -> JsonObject:
        """All scores, by name."""
        return {"unigram": self.unigram, "within": vars(self.within), "across": vars(self.across)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One set of records described; means, and for lengths their quantiles at 5, 50 and 95 %.

    `jaccard`: of consecutive visits, pairs without any code left out; a patient's mean first.
    `unique_ratio`: a patient's distinct codes over all their codes. `gaps`: days, without first visits;
    empty without times.
    """

    jaccard: float
    unique_ratio: float
    visits: tuple[float, ...]
    codes: tuple[float, ...]
    gaps: tuple[float, ...]

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class SequenceFidelity:
    """A synthetic set of records against the real one, with floor and ceiling, and distances.

    `distances`: largest difference of the distribution functions (Kolmogorov-Smirnov) of visits a patient,
    codes a visit and gaps, by name; `ceiling_distances` are those of the ceiling's two sets of real records.
    """

    synthetic: Likeness
    floor: Likeness
    ceiling: Likeness
    real_shape: Shape
    synthetic_shape: Shape
    floor_shape: Shape
    ceiling_shape: Shape
    distances: Mapping[str, float]
    ceiling_distances: Mapping[str, float]

    def to_json(self) -> JsonObject:
        """Everything, by name."""
        return {
            **{name: getattr(self, name).to_json() for name in ("synthetic", "floor", "ceiling")},
            "shape": {
                name: getattr(self, f"{name}_shape").to_json()
                for name in ("real", "synthetic", "floor", "ceiling")
            },
            "distances": dict(self.distances),
            "ceiling_distances": dict(self.ceiling_distances),
        }


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One task: trained on each kind of records, tested on the same real patients, with 95 % intervals.

    `floor` is trained on the real training records with their codes dealt out at random, `real` on them as
    they are: what no synthetic set is expected to pass. `ratio` and `floor_ratio` are over `real`.
    """

    real: Estimate | None
    synthetic: Estimate | None
    floor: Estimate | None
    ratio: Estimate | None
    floor_ratio: Estimate | None

    def to_json(self) -> JsonObject:
        """All estimates, by name."""
        return {entry.name: _estimate(getattr(self, entry.name)) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class NextVisit:
    """Recall of the codes of next visits. `top`: by how many codes are named; `repeats`: trainings each."""

    top: Mapping[int, Transfer]
    repeats: int

    def to_json(self) -> JsonObject:
        """`top_20`, `top_30` and so on."""
        tops = {f"top_{count}": transfer.to_json() for count, transfer in self.top.items()}
        return {**tops, "repeats": self.repeats, "confidence": 0.95}


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """A small real cohort with `factor` times as many generated records beside it; 0: alone.

    `recall` and `gain` by how many codes are named; `gain` is the recall less that of the cohort alone.
    """

    factor: int
    recall: Mapping[int, Estimate | None]
    gain: Mapping[int, Estimate | None]

    def to_json(self) -> JsonObject:
        """Recall and gain by `top_20` and so on."""
        return {
            "factor": self.factor,
            "recall": {f"top_{count}": _estimate(value) for count, value in self.recall.items()},
            "gain": {f"top_{count}": _estimate(value) for count, value in self.gain.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What generated records add to a real cohort of `cohort` patients: a size that was asked for."""

    cohort: int
    repeats: int
    steps: tuple[Augmented, ...]

    def to_json(self) -> JsonObject:
        """All steps, the cohort alone first."""
        return {
            "cohort": self.cohort,
            "repeats": self.repeats,
            "confidence": 0.95,
            "steps": [step.to_json() for step in self.steps],
        }


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How alike two sets of records are in what a condition's patients carry.

    `shares`: correlation of the shares of the condition's patients who carry each code. `lifts`: correlation
    of log(share with the condition / share without it), over codes that enough real patients carry.
    `contrary`: share of the condition's patients with a code that real ones of that condition never carry,
    though chance would have given it to many.
    """

    shares: float
    lifts: float
    contrary: float

    def to_json(self) -> JsonObject:
        """All three, by name."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class CodeShare:
    """A code that sets a condition apart: shares of real patients with and without the condition who
    carry it, and of generated ones.
    """

    code: str
    real: float
    real_without: float
    synthetic: float
    synthetic_without: float


@dataclass(frozen=True, kw_only=True)
class ConditionScores:
    """One condition: what its patients carry, and whether it can be told from what they carry."""

    label: str
    synthetic: Profile
    floor: Profile
    ceiling: Profile
    auc: Transfer | None
    codes: tuple[CodeShare, ...]

    def to_json(self) -> JsonObject:
        """All scores; `codes` are those that set the condition most apart in the real records."""
        return {
            **{name: getattr(self, name).to_json() for name in ("synthetic", "floor", "ceiling")},
            "auc": None if self.auc is None else self.auc.to_json(),
            "codes": [dict(vars(code)) for code in self.codes],
        }


@dataclass(frozen=True, kw_only=True)
class SequenceReport:
    """Everything `evaluate` says of records. None: was not asked for, or nothing can be said."""

    fidelity: SequenceFidelity
    next_visit: NextVisit | None = None
    augmentation: Augmentation | None = None
    conditions: tuple[ConditionScores, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The fidelity's figures, and beside them each task's."""
        return {
            **self.fidelity.to_json(),
            "next_visit": None if self.next_visit is None else self.next_visit.to_json(),
            "augmentation": None if self.augmentation is None else self.augmentation.to_json(),
            "conditions": {one.label: one.to_json() for one in self.conditions},
            "notes": list(self.notes),
        }


def _estimate(estimate: Estimate | None) -> JsonObject | None:
    return None if estimate is None else estimate.to_json()
