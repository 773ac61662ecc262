"""Kaplan-Meier curves and how far two of them lie apart.

Knows times and events of two tables. Refuses to say "the same": a p value above a threshold shows that
the tables are small, not that they agree, so it stands beside distances that do not grow with the number of
rows. Rule: curves leave as values on an even grid of times, never as the times at which someone had an event.
"""

import numpy as np

from synthkit.domain.survival import CurveDistance, SurvivalCurve

GRID = 201
TICKS = 6
"""About as many times at which it is said how many are still followed."""
LAST = 0.95
"""Distances go up to the time by which this share of the shorter-followed table has left."""

Sample = tuple[np.ndarray, np.ndarray]
"""Times float64 (rows,) and events bool (rows,)."""


def survival_curve(sample: Sample, end: float) -> SurvivalCurve:
    """The curve from 0 to `end`, with lifelines' 95 % band (exponential Greenwood)."""
    from lifelines import KaplanMeierFitter  # noqa: PLC0415 - for survival tables only

    time, event = sample
    fitter = KaplanMeierFitter().fit(time, event)
    grid, ticks = np.linspace(0.0, end, GRID), _ticks(end)
    band = fitter.confidence_interval_
    known = band.index.to_numpy(dtype=float)
    survival, lower, upper = (
        _step(known, values.to_numpy(dtype=float), grid)
        for values in (fitter.survival_function_.iloc[:, 0], band.iloc[:, 0], band.iloc[:, 1])
    )
    return SurvivalCurve(
        times=tuple(grid.tolist()),
        survival=tuple(survival.tolist()),
        lower=tuple(np.where(np.isnan(lower), survival, lower).tolist()),
        upper=tuple(np.where(np.isnan(upper), survival, upper).tolist()),
        ticks=tuple(ticks.tolist()),
        at_risk=tuple(int((time >= tick).sum()) for tick in ticks),
    )


def curve_distance(first: Sample, second: Sample) -> CurveDistance:
    """Log-rank test, largest gap and difference in restricted mean time, `second` minus `first`."""
    from lifelines.statistics import logrank_test  # noqa: PLC0415 - for survival tables only

    horizon = min(float(np.quantile(time, LAST)) for time, _ in (first, second))
    moments = np.unique(
        np.concatenate([[0.0, horizon], *(time[time < horizon] for time, _ in (first, second))])
    )
    one, two = (kaplan_meier(sample, moments) for sample in (first, second))
    widths = np.diff(moments)
    statistic, p_value = 0.0, 1.0
    if first[1].any() or second[1].any():
        test = logrank_test(first[0], second[0], event_observed_A=first[1], event_observed_B=second[1])
        statistic, p_value = float(test.test_statistic), float(test.p_value)
    return CurveDistance(
        log_rank=statistic,
        p_value=p_value,
        largest_gap=float(np.abs(one - two).max()),
        mean_difference=float(((two - one)[:-1] * widths).sum()),
        horizon=horizon,
    )


def kaplan_meier(sample: Sample, moments: np.ndarray) -> np.ndarray:
    """Share without the event just after each moment, float64 (moments,)."""
    time, event = sample
    known, places = np.unique(time, return_inverse=True)
    died = np.bincount(places, weights=event, minlength=known.size)
    followed = time.size - np.concatenate([[0], np.cumsum(np.bincount(places))[:-1]])
    return _step(
        np.concatenate([[0.0], known]), np.concatenate([[1.0], np.cumprod(1 - died / followed)]), moments
    )


def _ticks(end: float) -> np.ndarray:
    """Round times from 0 up to at most `end`."""
    rough = end / TICKS
    unit = 10.0 ** np.floor(np.log10(rough))
    step = next(unit * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if unit * factor >= rough)
    return np.asarray(np.arange(0.0, end * (1 + 1e-9), step))


def _step(known: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A right-continuous step function; `known` is ascending and starts at 0 or below `at`."""
    return np.asarray(values[np.searchsorted(known, at, side="right") - 1])
