"""A Cox model, fitted by lifelines, as plain arrays; and what went wrong, in words.

Knows times, events and covariates. Refuses to stop over a model that cannot be fitted: the caller gets
None and the reason. Rules: a covariate that does not vary has no coefficient (NaN) and is said so; ties
are handled by Efron's method; no warning of the library is lost; lifelines is imported when a model is
fitted and not before.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthkit.evaluation.survival_rows import SurvivalRows

EVENTS_PER_TERM = 10
"""Fewer events per coefficient make coefficients unsteady: Peduzzi et al., J Clin Epidemiol 48 (1995)."""

HUGE_LOG = 5.0
"""A coefficient beyond this, per standard deviation, separates events from others: it has no maximum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CoxFit:
    """One fitted model.

    `coefficient` and `standard_error`: float64 (terms,), NaN where a term did not vary. `centre`
    (terms,): the covariates at which `hazard`, the cumulative baseline hazard just after each of
    `times`, holds.
    """

    terms: tuple[str, ...]
    coefficient: np.ndarray
    standard_error: np.ndarray
    centre: np.ndarray
    times: np.ndarray
    hazard: np.ndarray

    def risk(self, x: np.ndarray) -> np.ndarray:
        """Log partial hazard, float64 (rows,): higher is earlier. A term without coefficient adds nothing."""
        return np.asarray((x - self.centre) @ np.nan_to_num(self.coefficient))

    def event_probability(self, x: np.ndarray, at: float) -> np.ndarray:
        """Probability of the event up to and with time `at`, float64 (rows,)."""
        place = int(np.searchsorted(self.times, at, side="right"))
        baseline = float(self.hazard[place - 1]) if place else 0.0
        return np.asarray(-np.expm1(-baseline * np.exp(np.clip(self.risk(x), -50, 50))))


def fit_cox(rows: SurvivalRows, label: str) -> tuple[CoxFit | None, tuple[str, ...]]:
    """Fit all terms that vary.

    Args:
        rows: Complete cases.
        label: What remarks call the table, for example "real".

    Returns:
        The model, or None where there is none; and remarks on it.
    """
    if not rows.event.any():
        return None, (f"No event was seen in the {label} rows: there is no Cox model of them.",)
    varies = np.ptp(rows.x, axis=0) > 0 if len(rows) else np.zeros(len(rows.terms), dtype=bool)
    remarks = _before(rows, varies, label)
    if not varies.any():
        return None, (*remarks, f"No covariate varies in the {label} rows: there is no Cox model of them.")
    fitter, problem = _fitted(rows, np.flatnonzero(varies))
    if fitter is None:
        return None, (*remarks, f"The Cox model of the {label} rows could not be fitted: {problem}.")
    fit = _plain(fitter, rows, varies)
    return fit, (*remarks, *_after(fit, rows, label, problem))


def _fitted(rows: SurvivalRows, places: np.ndarray) -> tuple[Any, str]:
    """The library's fitter, and its complaint if any."""
    from lifelines import CoxPHFitter  # noqa: PLC0415 - a second of imports, for survival tables only
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning  # noqa: PLC0415

    frame = pd.DataFrame(rows.x[:, places], columns=[f"x{place}" for place in places])
    frame = frame.assign(time=rows.time, event=rows.event)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitter = CoxPHFitter().fit(frame, duration_col="time", event_col="event")
        except (ConvergenceError, np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return None, "it did not converge, as happens with collinear covariates or too few events"
    complaints = [one for one in caught if issubclass(one.category, ConvergenceWarning)]
    return fitter, "lifelines doubts that it converged" if complaints else ""


def _plain(fitter: Any, rows: SurvivalRows, varies: np.ndarray) -> CoxFit:  # noqa: ANN401 - no types there
    coefficient, error = np.full(len(rows.terms), np.nan), np.full(len(rows.terms), np.nan)
    coefficient[varies] = np.asarray(fitter.params_, dtype=float)
    error[varies] = np.asarray(fitter.standard_errors_, dtype=float)
    baseline = fitter.baseline_cumulative_hazard_
    return CoxFit(
        terms=rows.terms,
        coefficient=coefficient,
        standard_error=error,
        centre=rows.x.mean(axis=0),
        times=baseline.index.to_numpy(dtype=float),
        hazard=baseline.iloc[:, 0].to_numpy(dtype=float),
    )


def _before(rows: SurvivalRows, varies: np.ndarray, label: str) -> tuple[str, ...]:
    remarks = []
    if not varies.all():
        names = ", ".join(name for name, moves in zip(rows.terms, varies, strict=True) if not moves)
        remarks.append(f"Of one value only in the {label} rows, so without a hazard ratio there: {names}.")
    if rows.event.sum() < EVENTS_PER_TERM * varies.sum():
        remarks.append(
            f"The {label} rows have fewer than {EVENTS_PER_TERM} events per coefficient: their hazard ratios "
            "are unsteady and their intervals too narrow."
        )
    return tuple(remarks)


def _after(fit: CoxFit, rows: SurvivalRows, label: str, problem: str) -> tuple[str, ...]:
    remarks = []
    with np.errstate(invalid="ignore"):
        separated = np.abs(fit.coefficient) * rows.x.std(axis=0) > HUGE_LOG
        separated |= ~np.isnan(fit.coefficient) & ~(
            np.isfinite(fit.standard_error) & (fit.standard_error > 0)
        )
    if separated.any():
        names = ", ".join(name for name, bad in zip(fit.terms, separated, strict=True) if bad)
        remarks.append(f"In the {label} rows a covariate tells the events apart completely: {names}.")
    if problem or separated.any():
        remarks.append(
            f"The Cox model of the {label} rows did not converge safely: do not rely on its hazard ratios."
        )
    return tuple(remarks)
