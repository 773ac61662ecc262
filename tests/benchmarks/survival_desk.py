"""WHAS500 and Cox models of it: what the survival benchmarks share.

Knows the paper's six covariates, two strata, and where the data come from. Refuses to bundle them: they have
no licence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column, Kind, Scale, Schema
from synthkit.domain.survival import NORMAL
from synthkit.evaluation.cox import CoxFit, fit_cox
from synthkit.evaluation.rubin import pool
from synthkit.evaluation.survival_rows import survival_rows
from synthkit.evaluation.survival_task import SurvivalTask

STRATA = {"age > 75": "age > 75", "hypertension 2": "sysbp > 140"}
"""The paper's: 216 patients over 75, and systolic pressure above 140 mmHg."""

HALVES = 200
"""Random halves of the real rows whose Cox models are the yardstick of error."""

YES_NO = ("0", "1")

SCHEMA = Schema(
    name="whas500",
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=18, maximum=110),
        Column(name="gender", kind=Kind.BINARY, categories=YES_NO),
        Column(name="bmi", kind=Kind.NUMERIC, minimum=10, maximum=60, decimals=5),
        Column(name="sysbp", kind=Kind.INTEGER, minimum=40, maximum=300),
        Column(name="afb", kind=Kind.BINARY, categories=YES_NO),
        Column(name="chf", kind=Kind.BINARY, categories=YES_NO),
        # Deaths after an infarction crowd in its first weeks: in even bins they would all be in one.
        Column(name="lenfol", kind=Kind.DURATION, minimum=1, maximum=3000, scale=Scale.LOG, unit="days"),
        Column(name="fstat", kind=Kind.EVENT, categories=YES_NO),
    ),
)


def read(path: Path | None) -> PatientTable:
    """WHAS500 from a file or from scikit-survival."""
    raw = _read(path)
    cells = {
        column.name: raw[column.name].astype(float)
        if column.is_numeric
        else raw[column.name].astype(float).astype(int).astype(str).astype(object)
        for column in SCHEMA
    }
    return table_of(pd.DataFrame(cells))


def read_years(path: Path | None) -> np.ndarray:
    """Each patient's cohort, 1, 2 or 3: int64, in the order of `read`."""
    raw = _read(path)
    if "year" not in raw:
        raise SystemExit(
            "the three sites are its column year, which scikit-survival's copy lacks: give --data"
        )
    return raw["year"].to_numpy(dtype=np.int64)


def table_of(frame: pd.DataFrame) -> PatientTable:
    """Rows of this schema as patients, one a row."""
    return PatientTable(schema=SCHEMA, frame=frame, patients=np.arange(len(frame)))


def _read(path: Path | None) -> pd.DataFrame:
    if path is not None:
        return pd.read_csv(path)
    try:
        from sksurv.datasets import load_whas500
    except ImportError:
        raise SystemExit("give --data, or install scikit-survival (GPL-3)") from None
    x, y = load_whas500()
    raw: pd.DataFrame = x.assign(fstat=y["fstat"], lenfol=y["lenfol"])
    return raw


def cox_of(real: pd.DataFrame, added: pd.DataFrame | None, task: SurvivalTask) -> CoxFit | None:
    """The Cox model of real rows, with others added if given; None where there is none."""
    frame = real if added is None else pd.concat([real, added], ignore_index=True)
    return fit_cox(survival_rows(frame, task, task.covariates), "training")[0]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a model's log hazard ratios are from the real one's, over the terms.

    `within`: how many lie in the real 95 % interval; `signs`: how many have the real sign; `mean` and `rms`
    of the logs' differences; `in_errors`: their mean in real standard errors.
    """

    within: float
    signs: float
    mean: float
    rms: float
    in_errors: float


def distance(coefficient: np.ndarray, real: CoxFit) -> Distance:
    """From the real model's coefficients; both (terms,). A term without a coefficient is not within."""
    away = np.abs(coefficient - real.coefficient)
    return Distance(
        within=int((away <= NORMAL * real.standard_error).sum()),
        signs=int((np.sign(coefficient) == np.sign(real.coefficient)).sum()),
        mean=float(np.nanmean(away)),
        rms=float(np.sqrt(np.nanmean(away**2))),
        in_errors=float(np.nanmean(away / real.standard_error)),
    )


def mean_distance(found: Sequence[Distance]) -> Distance:
    """Each figure's mean."""
    return Distance(
        **{name: float(np.mean([getattr(one, name) for one in found])) for name in vars(found[0])}
    )


def pooled_coefficient(fits: Sequence[CoxFit], real_rows: int, made_rows: int) -> np.ndarray:
    """Several synthetic tables' coefficients as `evaluate --survival` pools them, (terms,)."""
    estimates = np.array([fit.coefficient for fit in fits])
    if len(fits) < 2 or not np.isfinite(estimates).all():
        return np.asarray(np.nanmean(estimates, axis=0))
    variances = np.array([fit.standard_error for fit in fits]) ** 2
    return pool(estimates, variances, ratio=made_rows / real_rows).estimate


def half_distance(
    table: PatientTable, real: CoxFit, task: SurvivalTask, seed: int, *, halves: int = HALVES
) -> Distance:
    """What random halves of the real rows differ by from the whole, on average."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(halves):
        half = table.take(rng.permutation(len(table))[: len(table) // 2])
        fit = cox_of(half.frame, None, task)
        if fit is not None:
            found.append(distance(fit.coefficient, real))
    return mean_distance(found)
