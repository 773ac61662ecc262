"""Calibration slope at one time: do predicted event probabilities rise as fast as observed ones?

Knows predicted probabilities, times and events. Refuses to train. Rules: censoring is accounted for, not
dropped; too few rows give None, not a number.

The slope is that of the least-squares line of what happened by time t on the predicted probability of an
event by t. Who was censored before t enters by a pseudo-observation (n F - (n - 1) F without that row,
F being one minus Kaplan-Meier), which without censoring is 0 or 1 itself. A perfect model has slope 1;
`deviation` is |slope - 1|. MCM (Kuo, Gallego and Jorm, arXiv 2410.16811, section 3 and table 1) reports
"deviation from a perfect slope of 1", "computed at the 25th and 75th percentiles of time-to-event durations",
and does not say more. Here the percentiles are those of the times of *events* in the real test rows. Tried
on that paper's data in 5x2 cross-validation, this shows its pattern for models of real rows (poor at the
25th percentile, good at the 75th: 0.35 and 0.21 for age > 75 against its 0.97 and 0.24), though not its
size; percentiles of all times, censored ones included, do not show it. Figures of the two are therefore not
to be set side by side; those of one run are.

`relative_slope` is the usual slope on the scale of log hazards: the coefficient of log(-log(1 - p)) in a
Cox model of the same rows, censored at t. It judges the ranking's strength and is blind to the level.

Source: pseudo-observations: Gerds, Andersen and Kattan, Statistics in Medicine 33 (2014), 3191-3203;
relative slope: Crowson, Atkinson and Therneau, Statistical Methods in Medical Research 25 (2016), 1692-1706.
"""

import numpy as np

from synthkit.domain.survival import Calibration
from synthkit.evaluation.cox import fit_cox
from synthkit.evaluation.survival_rows import SurvivalRows

PERCENTILES = (25, 75)
FEWEST_ROWS = 20
FEWEST_EVENTS = 3
"""Below either a slope says nothing: it is None."""


def times_of(time: np.ndarray, event: np.ndarray) -> dict[int, float]:
    """The percentiles of the times of events; empty where there is none."""
    if not event.any():
        return {}
    return {one: float(np.percentile(time[event], one)) for one in PERCENTILES}


def calibrate(predicted: np.ndarray, time: np.ndarray, event: np.ndarray, at: float) -> Calibration | None:
    """Calibration of predicted probabilities of an event up to and with time `at`.

    Args:
        predicted: float64, shape (rows,), within [0, 1].
        time: float64, shape (rows,).
        event: bool, shape (rows,).
        at: In the unit of time; rows should be followed beyond it.

    Returns:
        None with fewer than FEWEST_ROWS rows or FEWEST_EVENTS events by then, where nobody is followed
        that long, or where all predictions are alike.
    """
    is_by_then = event & (time <= at)
    if time.size < FEWEST_ROWS or is_by_then.sum() < FEWEST_EVENTS or not (time >= at).any():
        return None
    if predicted.var() <= 1e-12:
        return None
    happened = pseudo_observations(time, event, at)
    slope, error = slope_of(predicted, happened)
    return Calibration(
        slope=slope,
        standard_error=error,
        relative_slope=_relative_slope(predicted, time, is_by_then, at),
        observed=float(happened.mean()),
        predicted=float(predicted.mean()),
    )


def slope_of(predicted: np.ndarray, happened: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line of `happened` on `predicted`, both (rows,), and its standard error."""
    away = predicted - predicted.mean()
    spread = float((away**2).sum())
    slope = float((away * happened).sum() / spread)
    rest = happened - happened.mean() - slope * away
    # Residuals differ in spread from row to row: the sandwich, with the correction for two parameters.
    variance = (away**2 * rest**2).sum() / spread**2 * predicted.size / (predicted.size - 2)
    return slope, float(np.sqrt(variance))


def pseudo_observations(time: np.ndarray, event: np.ndarray, at: float) -> np.ndarray:
    """Each row's part in the Kaplan-Meier probability of an event by `at`, float64 (rows,).

    Their mean is that probability, but for terms of order 1 / rows; 0 or 1 where nobody is censored.
    """
    count = time.size
    moments, places = np.unique(time, return_inverse=True)
    died = np.bincount(places, weights=event, minlength=moments.size)
    followed = count - np.concatenate([[0], np.cumsum(np.bincount(places))[:-1]])
    inside = moments <= at
    died = np.where(inside, died, 0.0)
    survival = float(np.prod(1 - died / followed))
    # Without one row: one fewer at risk up to its own time, then everything as it was.
    before = np.concatenate([[1.0], np.cumprod(_share_left(died, followed - 1))])
    after = np.concatenate([np.cumprod((1 - died / followed)[::-1])[::-1], [1.0]])
    own = died[places] - (event & (time <= at))
    without = before[places] * _share_left(own, followed[places] - 1) * after[places + 1]
    return np.asarray(1 - (count * survival - (count - 1) * without))


def _share_left(died: np.ndarray, followed: np.ndarray) -> np.ndarray:
    """1 - died / followed; 1 where nobody is followed."""
    return np.where(followed > 0, np.maximum(0.0, 1 - died / np.maximum(followed, 1)), 1.0)


def _relative_slope(predicted: np.ndarray, time: np.ndarray, happened: np.ndarray, at: float) -> float | None:
    inner = np.clip(predicted, 1e-9, 1 - 1e-9)
    rows = SurvivalRows(
        terms=("risk",),
        time=np.minimum(time, at),
        event=happened,
        x=np.log(-np.log1p(-inner))[:, None],
        source=np.arange(time.size),
    )
    fit, _ = fit_cox(rows, "tested")
    return None if fit is None else float(fit.coefficient[0])
