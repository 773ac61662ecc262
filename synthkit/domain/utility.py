"""UtilityReport: how good synthetic rows are, beside a floor and a ceiling."""

from dataclasses import dataclass, field

from synthkit.domain.canonical import JsonObject
from synthkit.domain.survival import SurvivalReport

SPREAD_TOLERANCE = 0.02
"""How far a column's standard deviation may be from the real one before the report marks it."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """sdmetrics' quality report, each within [0, 1], higher is better."""

    overall: float
    column_shapes: float
    column_pairs: float

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Score:
    """A classifier's score on held-out real rows, each within [0, 1]."""

    accuracy: float
    auc: float

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over repeats, with the 95 % interval of its replicates."""

    mean: float
    lower: float
    upper: float

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class ScoreEstimate:
    """A score with intervals; None where nothing can be said, as of AUC where all answers are one."""

    accuracy: Estimate | None
    auc: Estimate | None

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "auc": None if self.auc is None else self.auc.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """One prediction task asked `count` times; `ratio` is synthetic over real, on the same test patients."""

    count: int
    real: ScoreEstimate
    synthetic: ScoreEstimate
    ratio: ScoreEstimate

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "count": self.count,
            "confidence": 0.95,
            "real": self.real.to_json(),
            "synthetic": self.synthetic.to_json(),
            "ratio": self.ratio.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class TargetUtility:
    """One prediction task: trained on real and on synthetic rows, tested on the same real rows.

    `others` holds further training sets by label, for example each hospital on its own. `repeats` holds
    intervals, where they were asked for; `real` and `synthetic` are the same figures with and without.
    """

    target: str
    real: Score
    synthetic: Score
    others: dict[str, Score] = field(default_factory=dict)
    repeats: Repeats | None = None

    def to_json(self) -> JsonObject:
        """Canonical form; `repeats` only where there are some."""
        repeated = {} if self.repeats is None else {"repeats": self.repeats.to_json()}
        return repeated | {
            "real": self.real.to_json(),
            "synthetic": self.synthetic.to_json(),
            "others": {label: score.to_json() for label, score in self.others.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean, standard deviation, skewness and excess kurtosis of one numeric column, missing left out."""

    mean: float
    std: float
    skewness: float
    kurtosis: float

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Synthetic over real standard deviation of one numeric column.

    `ratio` is None where the real column is constant and the synthetic one is not. `chance` is how far
    from 1 two samples of these sizes from one population would lie in 19 of 20 cases.
    """

    ratio: float | None
    chance: float

    @property
    def is_outside(self) -> bool:
        """Whether the spread differs by more than SPREAD_TOLERANCE."""
        return self.ratio is None or abs(self.ratio - 1) > SPREAD_TOLERANCE

    @property
    def is_chance(self) -> bool:
        """Whether samples of these sizes differ as much by chance alone."""
        return self.ratio is not None and abs(self.ratio - 1) <= self.chance

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"ratio": self.ratio, "chance": self.chance, "outside": self.is_outside}


@dataclass(frozen=True, kw_only=True)
class UtilityReport:
    """What `synthkit evaluate` measured.

    `floor` is the quality of independent columns (every relation destroyed), `ceiling` that of other
    real rows in the synthetic table's place: sdmetrics' scale is compressed and means little without both.
    `total_variation` holds the mean total variation distance of one- and two-way tables.
    """

    quality: Quality
    floor: Quality
    ceiling: Quality
    total_variation: dict[str, float]
    utility: tuple[TargetUtility, ...]
    moments: dict[str, tuple[Moments, Moments]]
    """By column: real, synthetic."""
    missing_rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By column that may be missing: real, synthetic."""
    spread: dict[str, Spread] = field(default_factory=dict)
    """By column, the columns of `moments`."""
    survival: SurvivalReport | None = None
    """Time to an event, where it was asked for."""
    notes: tuple[str, ...] = ()
    """Plain words on whatever departs from the plain case, for example rows split for want of a holdout."""

    def to_json(self) -> JsonObject:
        """Canonical form; the field names are the command line's contract."""
        return self._survival_json() | {
            "quality": {
                **self.quality.to_json(),
                "floor": self.floor.to_json(),
                "ceiling": self.ceiling.to_json(),
            },
            "total_variation": dict(self.total_variation),
            "utility": {entry.target: entry.to_json() for entry in self.utility},
            "moments": {
                name: {"real": real.to_json(), "synthetic": synthetic.to_json()}
                for name, (real, synthetic) in self.moments.items()
            },
            "spread": {name: spread.to_json() for name, spread in self.spread.items()},
            "missing": {
                name: {"real": real, "synthetic": synthetic}
                for name, (real, synthetic) in self.missing_rates.items()
            },
            "notes": list(self.notes),
        }

    def _survival_json(self) -> JsonObject:
        """All of `survival`, and at the top those of its figures that are relied on from outside."""
        if self.survival is None:
            return {}
        whole = self.survival.to_json()
        relied_on = ("hazard_ratios", "c_index", "calibration_slope")
        return {"survival": whole} | {name: whole[name] for name in relied_on}
