"""UtilityReport: how good synthetic rows are, beside a floor and a ceiling."""

from dataclasses import dataclass, field

from synthkit.domain.canonical import JsonObject


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
class TargetUtility:
    """One prediction task: trained on real and on synthetic rows, tested on the same real rows.

    `others` holds further training sets by label, for example each hospital on its own.
    """

    target: str
    real: Score
    synthetic: Score
    others: dict[str, Score] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
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
    notes: tuple[str, ...] = ()
    """Plain words on whatever departs from the plain case, for example rows split for want of a holdout."""

    def to_json(self) -> JsonObject:
        """Canonical form; the field names are the command line's contract."""
        return {
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
            "missing": {
                name: {"real": real, "synthetic": synthetic}
                for name, (real, synthetic) in self.missing_rates.items()
            },
            "notes": list(self.notes),
        }
