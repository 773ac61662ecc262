"""The MCM paper's Table 1 and Figure 2: Cox models of real rows, and of real rows with synthetic ones added.

    python tests/benchmarks/bench_survival.py --data whas500.csv [--methods NAME ...] [--epsilon E ...]
    python tests/benchmarks/bench_survival.py --data whas500.csv --figure figure2.svg --sets 10 --repeats 0
    python tests/benchmarks/bench_survival.py --data whas500.csv --sizes [N ...] [--epsilon 1 3 8]

WHAS500 (500 patients, 215 deaths) has no licence and is not bundled: `--data` names a CSV with its columns
age, gender, bmi, sysbp, afb, chf, lenfol and fstat; without it scikit-survival's copy is read, if that is
installed. Six covariates, as in the paper.

Table 1 is a 5x2 cross-validation, mean (standard deviation) of ten folds. Everything is fitted inside the
fold: Box-Cox, imputer, network, Cox model. C is Harrell's, of real test rows, after 500 rows of everyone were
added to the training rows (MICE and published MCM mask 50 % of real ones; SMOTE levels deaths and survivors).
The calibration slope's deviation from 1 is that of the test rows of a stratum, after five times the stratum's
training rows were added (SMOTE levels stratum and rest). Percentiles are those of the times of death in the
test rows; see `synthkit.evaluation.calibration`. The last columns say how many of its eight cells an added
row shares with the patient most like it, of those trained on and of as many who were not.

Figure 2 is all 500 patients against `--sets` tables of 500 rows of each method, MCM masking 75 % (and 25 %,
as the authors' notebook does): hazard ratios of the pooled tables, how far their logarithms are from the real
ones beside a random half of the patients, for one table and pooled, means and standard deviations, and how
many rows of the published MCM lead back to the patient they were made from. 500 rows of a perfect model would
differ from the patients by as much as a half does, by chance alone; the pooled ones differ by less.

"MCM any order" is without privacy, "MCM epsilon E" with E for the fold's training rows at delta 1e-5. With
`--sizes` neither table is printed but the size study: see `survival_sizes`.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_desk import print_machine, print_table
from sklearn.model_selection import RepeatedStratifiedKFold
from survival_desk import (
    SCHEMA,
    STRATA,
    YES_NO,
    Distance,
    cox_of,
    distance,
    half_distance,
    mean_distance,
    pooled_coefficient,
    read,
    read_years,
)
from survival_figure import ratio_figure
from survival_rivals import (
    Fit,
    Maker,
    fit_mcm,
    fit_mice,
    fit_private_mcm,
    fit_smote,
    fit_unsafe_mcm,
    fit_vae,
)
from survival_sizes import SIZES, cohorts, print_sizes

from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column
from synthkit.domain.survival import NORMAL
from synthkit.evaluation.calibration import PERCENTILES, calibrate, times_of
from synthkit.evaluation.concordance import count_pairs
from synthkit.evaluation.cox import CoxFit
from synthkit.evaluation.survival_rows import SurvivalRows, survival_rows
from synthkit.evaluation.survival_task import SurvivalTask, survival_task
from synthkit.training.paper import PaperModel
from synthkit.training.paper_mcm import PublishedMcm

ADDED, PER_STRATUM = 500, 5
"""Rows of everyone, and rows of a stratum for each of its training rows."""

NOTEBOOK_MASK = 0.25
"""What the authors' notebook masks where the paper says 75 %."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold's figures: C, and the deviation of the slope by stratum and percentile, NaN where none."""

    c_index: float
    deviations: dict[tuple[str, int], float]
    shared: tuple[float, float]
    """Mean most cells that an added row has in common with a patient trained on, and with one who was not."""


def methods(names: Sequence[str], epsilons: Sequence[float]) -> dict[str, tuple[Fit | None, Fit | None]]:
    """Each method as Table 1 and as Figure 2 has it; None: real rows alone, or no figure."""
    found: dict[str, tuple[Fit | None, Fit | None]] = {
        "real": (None, None),
        "SMOTE": (partial(fit_smote, classes="fstat"), None),
        "VAE": (fit_vae, fit_vae),
        "MICE": (fit_mice, partial(fit_mice, mask_share=0.75)),
        "MCM published": (fit_mcm, partial(fit_mcm, mask_share=0.75)),
        "MCM any order": (fit_unsafe_mcm, fit_unsafe_mcm),
    }
    for epsilon in epsilons:
        private = partial(fit_private_mcm, epsilon=epsilon)
        found[f"MCM epsilon {epsilon:g}"] = (private, private)
    return {name: fits for name, fits in found.items() if not names or name in names}


def judged(train: PatientTable, test: PatientTable, fit: Fit | None, task: SurvivalTask, seed: int) -> Fold:
    """Fit a method inside the fold, add its rows, and judge Cox models by the real test rows."""
    maker = fit(train, seed) if fit is not None else None
    rows = survival_rows(test.frame, task, task.covariates)
    added = maker.rows(ADDED, seed=seed) if maker is not None else None
    cox = cox_of(train.frame, added, task)
    c_index = count_pairs(rows.time, rows.event, cox.risk(rows.x)).c_index if cox is not None else None
    deviations: dict[tuple[str, int], float] = {}
    for stratum in task.strata[1:]:
        inside = rows.take(stratum.rows(test.frame, SCHEMA)[rows.source])
        if maker is not None:
            wanted = PER_STRATUM * int(stratum.rows(train.frame, SCHEMA).sum())
            cox = cox_of(train.frame, maker.stratum(stratum, wanted, seed=seed), task)
        for percentile, at in times_of(rows.time, rows.event).items():
            deviations[stratum.label, percentile] = _deviation(cox, inside, at)
    shared = (np.nan, np.nan) if added is None else (most_shared(added, train), most_shared(added, test))
    return Fold(c_index=np.nan if c_index is None else c_index, deviations=deviations, shared=shared)


def most_shared(made: pd.DataFrame, patients: PatientTable) -> float:
    """Mean over the made rows of the most cells that are exactly those of one patient."""
    equal = sum(
        (made[column.name].to_numpy()[:, None] == patients.frame[column.name].to_numpy()).astype(int)
        for column in SCHEMA
    )
    return float(np.asarray(equal).max(axis=1).mean())


def _deviation(cox: CoxFit | None, inside: SurvivalRows, at: float) -> float:
    found = (
        None if cox is None else calibrate(cox.event_probability(inside.x, at), inside.time, inside.event, at)
    )
    return np.nan if found is None else abs(found.slope - 1)


def table_1(
    table: PatientTable,
    found: dict[str, tuple[Fit | None, Fit | None]],
    task: SurvivalTask,
    repeats: int,
    seed: int,
) -> None:
    """Cross-validate and print; a figure that a fold has not is left out of the mean, and counted."""
    splits = RepeatedStratifiedKFold(n_splits=2, n_repeats=repeats, random_state=seed)
    folds = list(splits.split(table.frame, table.frame["fstat"]))
    places = [(stratum.label, percentile) for stratum in task.strata[1:] for percentile in PERCENTILES]
    lines = []
    for name, (fit, _) in found.items():
        figures = [
            judged(table.take(train), table.take(test), fit, task, seed + number)
            for number, (train, test) in enumerate(folds)
        ]
        columns = [[fold.c_index for fold in figures]]
        columns += [[fold.deviations.get(place, np.nan) for fold in figures] for place in places]
        left_out = int(np.isnan(columns).sum())
        columns += [[fold.shared[i] for fold in figures] for i in (0, 1)]
        means = [_mean(column, 4 - 2 * (place > 0)) for place, column in enumerate(columns)]
        lines.append([name, *means, str(left_out)])
        print("measured:", *lines[-1], flush=True)
    shown = {text: label for label, text in STRATA.items()}
    headings = [f"{shown[label]}, {percentile}th" for label, percentile in places]
    headings += ["cells trained on", "cells held out", "left out"]
    print(f"\nTable 1: {repeats}x2 cross-validation, mean (standard deviation); the C, then |slope - 1|")
    print_table(["trained on", "C", *headings], lines)


def _mean(figures: Sequence[float], decimals: int) -> str:
    if np.isnan(figures).all():
        return "-"
    return f"{np.nanmean(figures):.{decimals}f} ({np.nanstd(figures, ddof=1):.{decimals}f})"


def figure_2(
    table: PatientTable,
    found: dict[str, tuple[Fit | None, Fit | None]],
    task: SurvivalTask,
    *,
    sets: int,
    seed: int,
) -> tuple[CoxFit, dict[str, np.ndarray]]:
    """All patients against as many rows of each method, `sets` times; the real model, and pooled logs."""
    makers: dict[str, Maker] = {name: fit(table, seed) for name, (_, fit) in found.items() if fit is not None}
    tables = {
        name: [maker.rows(len(table), seed=seed + i) for i in range(sets)] for name, maker in makers.items()
    }
    published = getattr(makers.get("MCM published"), "model", None)
    if isinstance(published, PublishedMcm):
        less = published.with_mask_share(NOTEBOOK_MASK)
        tables["MCM, mask 25 %"] = [less.draw(len(table), seed=seed + i)[0].frame for i in range(sets)]
    real = cox_of(table.frame, None, task)
    if real is None:
        raise SystemExit("there is no Cox model of the real rows")
    pooled = _print_hazard_ratios(table, tables, real, task, seed)
    lines = [
        [column.name, *(_moments(cells[column.name], column) for cells in _first_tables(table, tables))]
        for column in SCHEMA
    ]
    print("\nFigure 2(a): mean (standard deviation), or share of 1, of the first table")
    print_table(["", "real", *tables], lines)
    for name, maker in makers.items():
        model = getattr(maker, "model", None)
        if isinstance(model, PaperModel) and model.linkage:
            print(f"\n{name}:")
            print("\n".join(f"  {one.words}" for one in model.linkage))
    return real, pooled


def _first_tables(table: PatientTable, tables: dict[str, list[pd.DataFrame]]) -> list[pd.DataFrame]:
    return [table.frame, *(frames[0] for frames in tables.values())]


def _print_hazard_ratios(
    table: PatientTable, tables: dict[str, list[pd.DataFrame]], real: CoxFit, task: SurvivalTask, seed: int
) -> dict[str, np.ndarray]:
    """Print Figure 2(b); the methods' pooled coefficients."""
    pooled: dict[str, np.ndarray] = {}
    lines = []
    for name, frames in tables.items():
        fits = [fit for fit in (cox_of(frame, None, task) for frame in frames) if fit is not None]
        if not fits:
            lines.append([name, *("" for _ in real.terms), "no Cox model", *[""] * 7])
            continue
        pooled[name] = pooled_coefficient(fits, len(table), len(table))
        ratios = [f"{ratio:.3f}" for ratio in np.exp(pooled[name])]
        single = mean_distance([distance(fit.coefficient, real) for fit in fits])
        lines.append([name, *ratios, *_cells(single), *_cells(distance(pooled[name], real))])
    half = half_distance(table, real, task, seed)
    reach = NORMAL * real.standard_error
    intervals = zip(np.exp(real.coefficient - reach), np.exp(real.coefficient + reach), strict=True)
    lines = [
        ["real", *(f"{ratio:.3f}" for ratio in np.exp(real.coefficient)), *[""] * 8],
        ["its interval", *(f"{low:.2f}-{high:.2f}" for low, high in intervals), *[""] * 8],
        ["half of real", *("" for _ in real.terms), *_cells(half), *[""] * 4],
        *lines,
    ]
    print(
        "\nFigure 2(b): hazard ratios, pooled; then of one table on average, and of the pooled ones:\n"
        "how many within the real 95 % interval / of the same sign; mean and root mean square of the logs'\n"
        "errors, and their mean in real standard errors"
    )
    headings = ["within / sign", "log error", "RMS", "in errors"]
    print_table(["", *real.terms, *headings, *(f"pooled: {one}" for one in headings)], lines)
    return pooled


def _cells(one: Distance) -> list[str]:
    return [
        f"{one.within:.2g} / {one.signs:.2g}",
        f"{one.mean:.3f}",
        f"{one.rms:.3f}",
        f"{one.in_errors:.2f}",
    ]


def _moments(cells: pd.Series, column: Column) -> str:
    if column.is_numeric:
        return f"{cells.mean():.1f} ({cells.std():.1f})"
    return f"{(cells == YES_NO[1]).mean():.3f}"


def main() -> None:
    """Parse, read, print Table 1 and Figure 2, or the size study."""
    given = _parsed()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print_machine()
    table = read(given.data)
    task = survival_task("lenfol,fstat", SCHEMA, strata=tuple(STRATA.values()))
    if given.sizes is not None:
        years = read_years(given.data)
        found = cohorts(table, years, given.sizes or SIZES, task, given.seed)
        print_sizes(found, given.epsilon or (1, 3, 8), task, repeats=given.repeats, seed=given.seed)
        return
    compared = methods(given.methods, given.epsilon)
    if given.sets:
        real, pooled = figure_2(table, compared, task, sets=given.sets, seed=given.seed)
        if given.figure is not None:
            given.figure.write_text(str(ratio_figure(real, pooled)), encoding="utf-8")
    if given.repeats:
        table_1(table, compared, task, given.repeats, given.seed)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="WHAS500 as a CSV, or a CSV.GZ")
    parser.add_argument("--methods", nargs="+", default=[], help="some of them, by name; default: all")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[], help="budgets of MCM in private form")
    parser.add_argument("--sets", type=int, default=5, help="tables of each method in Figure 2; 0: no figure")
    parser.add_argument("--figure", type=Path, help="also draw the hazard ratios into this SVG file")
    parser.add_argument(
        "--repeats", type=int, default=5, help="of Table 1, 0: none; with --sizes: trainings of each"
    )
    parser.add_argument("--sizes", nargs="*", type=int, help="the size study, with stand-ins of these sizes")
    parser.add_argument("--seed", type=int, default=0, help="folds, training and rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
