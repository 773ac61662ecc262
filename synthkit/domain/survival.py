"""SurvivalReport: do synthetic rows tell the same story about time to an event as real ones?

Knows figures and curves on a coarse grid of times. Refuses rows and exact event times. Rules: every
figure of synthetic rows stands beside that of real rows, and where chance has a part beside what two
halves of the real rows differ by; what could not be estimated is None and has a note.
"""

import math
from dataclasses import dataclass, field

from synthkit.domain.canonical import JsonObject

NORMAL = 1.959963984540054
"""97.5 % quantile of the standard normal distribution: of a 95 % interval."""

LARGEST_LOG = 700.0
"""exp() of more is not a number any more; a coefficient of this size is one that did not converge."""

BOUNDLESS_LOG = 10.0
"""An interval that reaches further than this on the log scale says nothing: its ends are not printed."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One coefficient of a Cox model: the log of a hazard ratio, per unit of its covariate.

    `quantile` makes the 95 % interval; above NORMAL where there are few degrees of freedom.
    """

    coefficient: float
    standard_error: float
    quantile: float = NORMAL

    @property
    def hazard_ratio(self) -> float:
        """exp(coefficient)."""
        return _exp(self.coefficient)

    @property
    def log_interval(self) -> tuple[float, float]:
        """95 % interval of the coefficient."""
        reach = self.quantile * self.standard_error
        return self.coefficient - reach, self.coefficient + reach

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the hazard ratio."""
        lower, upper = self.log_interval
        return _exp(lower), _exp(upper)

    @property
    def text(self) -> str:
        """Hazard ratio and interval, with as many decimals as the interval's width deserves."""
        lower, upper = self.interval
        width = upper - lower
        if self.quantile * self.standard_error > BOUNDLESS_LOG:
            return f"{self.hazard_ratio:.3g} [without bound]"
        if width > 100:
            return f"{self.hazard_ratio:.3g} [{lower:.3g}, {upper:.3g}]"
        decimals = min(max(math.ceil(1.5 - math.log10(max(width, 1e-6))), 2), 6)
        return f"{self.hazard_ratio:.{decimals}f} [{lower:.{decimals}f}, {upper:.{decimals}f}]"

    def to_json(self) -> JsonObject:
        """Canonical form."""
        lower, upper = self.interval
        return {
            "hazard_ratio": self.hazard_ratio,
            "lower": lower,
            "upper": upper,
            "coefficient": self.coefficient,
            "standard_error": self.standard_error,
        }


def _exp(value: float) -> float:
    return math.exp(min(max(value, -LARGEST_LOG), LARGEST_LOG))


@dataclass(frozen=True, kw_only=True)
class HazardRatio:
    """One covariate, or one level of it against the reference level.

    `real` and `synthetic`: one Cox model each on all covariates. `pooled`: over several synthetic
    tables. `spread`: the covariate's standard deviation in the real rows. `half_sample_error`: how far
    the coefficient of a random half of the real patients lies from that of all of them, on average.
    """

    name: str
    real: Term | None
    synthetic: Term | None
    pooled: Term | None = None
    spread: float | None = None
    half_sample_error: float | None = None
    is_level: bool = False
    """Whether the covariate is 0 or 1: one level against the reference."""

    @property
    def log_error(self) -> float | None:
        """Absolute difference of the two coefficients."""
        if self.real is None or self.synthetic is None:
            return None
        return abs(self.synthetic.coefficient - self.real.coefficient)

    @property
    def is_same_sign(self) -> bool | None:
        """Whether both point the same way."""
        if self.real is None or self.synthetic is None:
            return None
        return self.real.coefficient * self.synthetic.coefficient > 0

    @property
    def is_inside(self) -> bool | None:
        """Whether the synthetic estimate lies in the real 95 % interval."""
        if self.real is None or self.synthetic is None:
            return None
        lower, upper = self.real.log_interval
        return lower <= self.synthetic.coefficient <= upper

    @property
    def overlap(self) -> float | None:
        """Mean share of the two 95 % intervals that both cover, within [0, 1], on the log scale.

        Source: Karr et al., The American Statistician 60 (2006), 224-232; a negative one counts as 0.
        """
        if self.real is None or self.synthetic is None:
            return None
        (low_a, high_a), (low_b, high_b) = self.real.log_interval, self.synthetic.log_interval
        if high_a <= low_a or high_b <= low_b:
            return None
        common = max(0.0, min(high_a, high_b) - max(low_a, low_b))
        return 0.5 * (common / (high_a - low_a) + common / (high_b - low_b))

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "real": None if self.real is None else self.real.to_json(),
            "synthetic": None if self.synthetic is None else self.synthetic.to_json(),
            "pooled": None if self.pooled is None else self.pooled.to_json(),
            "log_error": self.log_error,
            "half_sample_error": self.half_sample_error,
            "spread": self.spread,
            "overlap": self.overlap,
            "inside_real_interval": self.is_inside,
            "same_sign": self.is_same_sign,
        }


@dataclass(frozen=True, kw_only=True)
class Concordance:
    """Harrell's C of two Cox models on the same real test rows, with their standard errors.

    `difference_error` is the standard error of synthetic minus real. It counts the choice of test
    patients only, not that of training rows.
    """

    real: float | None
    synthetic: float | None
    real_error: float | None = None
    synthetic_error: float | None = None
    difference_error: float | None = None

    @property
    def difference(self) -> float | None:
        """Synthetic minus real."""
        return None if self.real is None or self.synthetic is None else self.synthetic - self.real

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self)) | {"difference": self.difference}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A model's event probability at one time against what happened: see `synthkit.evaluation.calibration`.

    `slope` 1 is perfect. `observed` and `predicted`: mean event probability by that time.
    """

    slope: float
    standard_error: float
    relative_slope: float | None
    observed: float
    predicted: float

    @property
    def deviation(self) -> float:
        """Distance of the slope from 1, the figure of MCM's table 1."""
        return abs(self.slope - 1)

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self)) | {"deviation": self.deviation}


@dataclass(frozen=True, kw_only=True)
class CalibrationSlope:
    """One stratum of the real test rows at one percentile of time; None where nothing can be said."""

    stratum: str
    percentile: int
    time: float
    real: Calibration | None
    synthetic: Calibration | None

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "time": self.time,
            "real": None if self.real is None else self.real.to_json(),
            "synthetic": None if self.synthetic is None else self.synthetic.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class CurveDistance:
    """How far two Kaplan-Meier curves lie apart, up to a time both tables reach.

    `log_rank` is the chi-squared statistic of one degree of freedom, over all times. `p_value` falls with
    the number of rows at any difference. `largest_gap`: largest vertical distance. `mean_difference`: of
    the restricted mean times, second minus first, in the unit of time.
    """

    log_rank: float
    p_value: float
    largest_gap: float
    mean_difference: float
    horizon: float

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalCurve:
    """A Kaplan-Meier curve read off on a grid of times.

    `times` (grid,), `survival`, `lower` and `upper` (grid,): share within [0, 1] without the event yet,
    and the 95 % band at each time. `ticks` and `at_risk`: how many were still followed.
    """

    times: tuple[float, ...]
    survival: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    ticks: tuple[float, ...]
    at_risk: tuple[int, ...]

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {name: list(values) for name, values in vars(self).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalReport:
    """What `synthkit evaluate --survival` measured.

    `distance` compares real with synthetic rows, `halves_distance` two halves of the real ones.
    `censored`: share of rows without the event, real and synthetic. `rule` names how several synthetic
    tables were pooled, `sets` how many there were.
    """

    duration: str
    event: str
    event_level: str
    unit: str
    hazard_ratios: tuple[HazardRatio, ...]
    c_index: Concordance
    calibration_slope: tuple[CalibrationSlope, ...]
    real_curve: SurvivalCurve
    synthetic_curve: SurvivalCurve
    distance: CurveDistance
    halves_distance: CurveDistance | None
    censored: tuple[float, float]
    references: dict[str, str] = field(default_factory=dict)
    """By column of categories: the level that its hazard ratios compare with."""
    sets: int = 1
    rule: str = ""
    notes: tuple[str, ...] = ()

    @property
    def log_hazard_error(self) -> float | None:
        """Mean error of a coefficient, each per standard deviation of its covariate: units cancel."""
        return _mean([_scaled(one.log_error, one.spread) for one in self.hazard_ratios])

    @property
    def half_sample_error(self) -> float | None:
        """The same of a random half of the real patients: what to stay below."""
        return _mean([_scaled(one.half_sample_error, one.spread) for one in self.hazard_ratios])

    def to_json(self) -> JsonObject:
        """Canonical form; `hazard_ratios`, `c_index` and `calibration_slope` are relied on from outside."""
        slopes: dict[str, JsonObject] = {}
        for one in self.calibration_slope:
            slopes.setdefault(one.stratum, {})[f"p{one.percentile}"] = one.to_json()
        return {
            "duration": self.duration,
            "event": self.event,
            "event_level": self.event_level,
            "unit": self.unit,
            "hazard_ratios": {one.name: one.to_json() for one in self.hazard_ratios},
            "log_hazard_error": {"synthetic": self.log_hazard_error, "half_sample": self.half_sample_error},
            "references": dict(self.references),
            "c_index": self.c_index.to_json(),
            "calibration_slope": slopes,
            "kaplan_meier": {
                "real": self.real_curve.to_json(),
                "synthetic": self.synthetic_curve.to_json(),
                "distance": self.distance.to_json(),
                "halves": None if self.halves_distance is None else self.halves_distance.to_json(),
            },
            "censored": {"real": self.censored[0], "synthetic": self.censored[1]},
            "pooling": {"sets": self.sets, "rule": self.rule},
            "notes": list(self.notes),
        }


def _scaled(value: float | None, spread: float | None) -> float | None:
    return None if value is None or spread is None else value * spread


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
