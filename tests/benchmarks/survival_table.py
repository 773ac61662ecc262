"""Table 1: what a method's rows, added to a fold's real ones, do to Cox models of real test rows.

Knows folds, makers of rows and Cox models. Refuses to choose: everything is fitted inside the fold, and every
figure is a mean over tables that were drawn with seeds fixed before. Rules: a method is set against real rows
alone fold by fold, and what it gains or loses stands with an interval that knows that folds share patients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bench_desk import print_table
from scipy.stats import t as student
from survival_desk import SCHEMA, STRATA, cox_of
from survival_rivals import Maker
from survival_shared import Shared, bins_of, cells_of, combined_p, shared

from synthkit.data.table import PatientTable
from synthkit.evaluation.calibration import PERCENTILES, calibrate, times_of
from synthkit.evaluation.concordance import count_pairs
from synthkit.evaluation.cox import CoxFit
from synthkit.evaluation.survival_rows import SurvivalRows, survival_rows
from synthkit.evaluation.survival_task import Stratum, SurvivalTask

ADDED, MANY, PER_STRATUM = 500, 5_000, 5
"""Rows of everyone as in the paper, so many that their own chance is gone, and rows of a stratum for each of
its training rows."""

NEXT_TABLE = 1_000
"""Between the seeds of one fold's tables; above the number of folds."""

PLACES = tuple((label, percentile) for label in STRATA.values() for percentile in PERCENTILES)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """One fold's calibration at one place: means over its tables, NaN where there is none."""

    deviation: float = np.nan
    slope: float = np.nan
    error: float = np.nan


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold's figures: means over its tables, but for `many` rows and the shared cells of the first."""

    c_index: float
    c_many: float
    calibrated: dict[tuple[str, int], Calibrated]
    cells: Shared | None
    bins: Shared | None


def judged(
    train: PatientTable,
    test: PatientTable,
    maker: Maker | None,
    task: SurvivalTask,
    *,
    tables: int,
    seed: int,
) -> Fold:
    """Add a fitted method's rows to the training rows and judge Cox models by the real test rows."""
    rows = survival_rows(test.frame, task, task.covariates)
    seeds = [seed + NEXT_TABLE * place for place in range(tables)] if maker is not None else [seed]
    made = [None if maker is None else maker.rows(ADDED, seed=one) for one in seeds]
    c_index = [_c_index(cox_of(train.frame, one, task), rows) for one in made]
    many = np.nan
    if maker is not None:
        many = _c_index(cox_of(train.frame, maker.rows(MANY, seed=seed), task), rows)
    calibrated: dict[tuple[str, int], Calibrated] = {}
    for stratum in task.strata[1:]:
        inside = rows.take(stratum.rows(test.frame, SCHEMA)[rows.source])
        models = [cox_of(train.frame, _of_stratum(maker, stratum, train, one), task) for one in seeds]
        for percentile, at in times_of(rows.time, rows.event).items():
            calibrated[stratum.label, percentile] = _calibrated(models, inside, at)
    cells, bins = (
        None if made[0] is None else shared(code(made[0]), code(train.frame), code(test.frame), seed=seed)
        for code in (cells_of, bins_of)
    )
    return Fold(c_index=float(np.mean(c_index)), c_many=many, calibrated=calibrated, cells=cells, bins=bins)


def _of_stratum(maker: Maker | None, stratum: Stratum, train: PatientTable, seed: int) -> pd.DataFrame | None:
    if maker is None:
        return None
    wanted = PER_STRATUM * int(stratum.rows(train.frame, SCHEMA).sum())
    return maker.stratum(stratum, wanted, seed=seed)


def _c_index(cox: CoxFit | None, rows: SurvivalRows) -> float:
    found = None if cox is None else count_pairs(rows.time, rows.event, cox.risk(rows.x)).c_index
    return np.nan if found is None else found


def _calibrated(models: Sequence[CoxFit | None], inside: SurvivalRows, at: float) -> Calibrated:
    found = [
        calibrate(cox.event_probability(inside.x, at), inside.time, inside.event, at)
        for cox in models
        if cox is not None
    ]
    known = [one for one in found if one is not None]
    if not known:
        return Calibrated()
    return Calibrated(
        deviation=float(np.mean([abs(one.slope - 1) for one in known])),
        slope=float(np.mean([one.slope for one in known])),
        error=float(np.mean([one.standard_error for one in known])),
    )


def paired_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Mean difference over folds, and its 95 % interval.

    The variance of the folds is enlarged by test rows over training rows, 1 in two folds: their training rows
    overlap from one repeat to the next. Source: Nadeau and Bengio, Machine Learning 52 (2003), 239-281.
    """
    away = np.asarray(first) - np.asarray(second)
    away = away[np.isfinite(away)]
    if away.size < 2:
        return (float(away.mean()) if away.size else np.nan), np.nan, np.nan
    reach = float(student.ppf(0.975, away.size - 1) * np.sqrt((1 / away.size + 1) * away.var(ddof=1)))
    mean = float(away.mean())
    return mean, mean - reach, mean + reach


Figure = Callable[[Fold], float]


def figures() -> dict[str, tuple[Figure, int]]:
    """What a fold is asked, by heading, and with how many decimals it is printed."""
    shown = {text: label for label, text in STRATA.items()}
    found: dict[str, tuple[Figure, int]] = {"C": (lambda fold: fold.c_index, 4)}
    found[f"C, {MANY:,} rows"] = (lambda fold: fold.c_many, 4)
    for place in PLACES:
        found[f"{shown[place[0]]}, {place[1]}th"] = (_deviation_at(place), 2)
    return found


def _deviation_at(place: tuple[str, int]) -> Figure:
    return lambda fold: fold.calibrated.get(place, Calibrated()).deviation


def row_of(name: str, folds: Sequence[Fold]) -> list[str]:
    """A method's line of Table 1: mean (standard deviation) of its folds, and how many are missing."""
    asked = figures().values()
    columns = [[figure(fold) for fold in folds] for figure, _ in asked]
    cells = [mean_of(column, decimals) for column, (_, decimals) in zip(columns, asked, strict=True)]
    missing = int(np.isnan([one for at, one in enumerate(columns) if at != 1]).sum())
    return [name, *cells, str(missing)]


def mean_of(values: Sequence[float], decimals: int) -> str:
    """Mean (standard deviation) of the known ones."""
    known = np.asarray(values)[np.isfinite(values)]
    if not known.size:
        return "-"
    spread = f" ({known.std(ddof=1):.{decimals}f})" if known.size > 1 else ""
    return f"{known.mean():.{decimals}f}{spread}"


def print_table_1(found: dict[str, list[Fold]], *, repeats: int, tables: int) -> None:
    """The table, then each method less real rows alone, then slopes, then shared cells."""
    print(
        f"\nTable 1: {repeats}x2 cross-validation, mean (standard deviation) of folds, each the mean of "
        f"{tables} tables;\nthe C, then |slope - 1|"
    )
    print_table(["trained on", *figures(), "left out"], [row_of(*one) for one in found.items()])
    if "real" in found:
        _print_differences(found)
    _print_slopes(found)
    _print_shared(found)


def _print_differences(found: dict[str, list[Fold]]) -> None:
    print("\nLess real rows alone, fold by fold: mean [95 % interval]; C higher is better, deviation lower")
    real, lines = found["real"], []
    for name, folds in found.items():
        if name == "real":
            continue
        cells = []
        for heading, (figure, decimals) in figures().items():
            alone: Figure = figures()["C"][0] if heading.startswith("C") else figure
            mean, low, high = paired_interval([figure(one) for one in folds], [alone(one) for one in real])
            cells.append(f"{mean:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]")
        lines.append([name, *cells])
    print_table(["trained on", *figures()], lines)


def _print_slopes(found: dict[str, list[Fold]]) -> None:
    print("\nThe slopes themselves: mean (standard deviation) of folds / mean of their standard errors")
    shown = {text: label for label, text in STRATA.items()}
    lines = []
    for name, folds in found.items():
        here = [[fold.calibrated.get(place, Calibrated()) for fold in folds] for place in PLACES]
        cells = [
            f"{mean_of([one.slope for one in at], 2)} / {mean_of([one.error for one in at], 2).split()[0]}"
            for at in here
        ]
        lines.append([name, *cells])
    print_table(["trained on", *(f"{shown[label]}, {percentile}th" for label, percentile in PLACES)], lines)


def _print_shared(found: dict[str, list[Fold]]) -> None:
    lines = []
    for name, folds in found.items():
        for what, known in (
            ("cells", [fold.cells for fold in folds if fold.cells is not None]),
            ("bins", [fold.bins for fold in folds if fold.bins is not None]),
        ):
            if known:
                means = [
                    mean_of([getattr(one, side) for one in known], 2)
                    for side in ("trained_on", "held_out", "fresh")
                ]
                lines.append([name, what, *means, f"{combined_p([one.p_value for one in known]):.2g}"])
    print(
        f"\nMost of {len(SCHEMA.names)} cells (or bins) that an added row has in common with one patient; "
        "p: that rows share\nmore with those trained on than fresh patients do"
    )
    print_table(["rows", "of", "trained on", "held out", "fresh on trained on", "p"], lines)
