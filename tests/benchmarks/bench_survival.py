"""The MCM paper's Table 1 and Figure 2: Cox models of real rows, and of real rows with synthetic ones added.

    python tests/benchmarks/bench_survival.py --data whas500.csv [--methods NAME ...] [--epsilon E ...]
    python tests/benchmarks/bench_survival.py --data whas500.csv --figure figure2.svg --sets 10 --repeats 0
    python tests/benchmarks/bench_survival.py --data whas500.csv --sizes [N ...] [--epsilon 1 3 8]

The first prints everything, in about 12 minutes of two cores; most of them are 33 private fits, so fewer
budgets are quicker. WHAS500 (500 patients, 215 deaths) has no licence and is not bundled: `--data` names a
CSV with its columns age, gender, bmi, sysbp, afb, chf, lenfol and fstat; without it scikit-survival's copy is
read, if that is installed. Six covariates, as in the paper.

Table 1 is a 5x2 cross-validation, mean (standard deviation) of ten folds. Everything is fitted inside the
fold: Box-Cox, imputer, network, Cox model. C is Harrell's, of real test rows, after 500 rows of everyone were
added to the training rows (MICE and published MCM mask 50 % of real ones; SMOTE levels deaths and survivors),
and after so many that the chance of the rows themselves is gone. The calibration slope's deviation from 1 is
that of the test rows of a stratum, after five times the stratum's training rows were added (SMOTE levels
stratum and rest). A fold's figure is the mean over `--tables` tables, whose chance is larger than what the
methods differ by. Percentiles are those of the times of death in the test rows; see
`synthkit.evaluation.calibration`. "All 500 patients" adds the real patients themselves, those tested on
included: no generator knows as much, so what this does not reach is not missing for want of a better one.
Below stand each method's differences from real rows alone with intervals, the slopes with their standard
errors, and how many of its eight cells an added row shares with the patient most like it, beside what fresh
real patients share (`survival_shared`).

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
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
    Everyone,
    Fit,
    fit_mcm,
    fit_mice,
    fit_private_mcm,
    fit_smote,
    fit_unsafe_mcm,
    fit_vae,
)
from survival_sizes import SIZES, cohorts, print_sizes
from survival_table import Fold, judged, print_table_1, row_of

from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column
from synthkit.domain.survival import NORMAL
from synthkit.evaluation.cox import CoxFit
from synthkit.evaluation.survival_task import SurvivalTask, survival_task
from synthkit.training.paper import PaperModel
from synthkit.training.paper_mcm import PublishedMcm

NOTEBOOK_MASK = 0.25
"""What the authors' notebook masks where the paper says 75 %."""

EPSILONS = (1.0, 3.0, 8.0)


@dataclass(frozen=True)
class Desk:
    """What every process works from: the options, and the same patients and folds from them."""

    data: Path | None
    epsilons: Sequence[float]
    repeats: int
    tables: int
    sets: int
    seed: int

    @cached_property
    def table(self) -> PatientTable:
        """All patients."""
        return read(self.data)

    @cached_property
    def task(self) -> SurvivalTask:
        """Six covariates, two strata."""
        return survival_task("lenfol,fstat", SCHEMA, strata=tuple(STRATA.values()))

    @cached_property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and test rows, each half of them in turn, `repeats` times."""
        splits = RepeatedStratifiedKFold(n_splits=2, n_repeats=self.repeats, random_state=self.seed)
        return list(splits.split(self.table.frame, self.table.frame["fstat"]))

    @cached_property
    def methods(self) -> dict[str, tuple[Fit | None, Fit | None]]:
        """Each method as Table 1 and as Figure 2 has it; None: real rows alone, or no figure."""
        found: dict[str, tuple[Fit | None, Fit | None]] = {
            "real": (None, None),
            "SMOTE": (partial(fit_smote, classes="fstat"), None),
            "VAE": (fit_vae, fit_vae),
            "MICE": (fit_mice, partial(fit_mice, mask_share=0.75)),
            "MCM published": (fit_mcm, partial(fit_mcm, mask_share=0.75)),
            "MCM any order": (fit_unsafe_mcm, fit_unsafe_mcm),
        }
        for epsilon in self.epsilons:
            private = partial(fit_private_mcm, epsilon=epsilon)
            found[f"MCM epsilon {epsilon:g}"] = (private, private)
        found["all 500 patients"] = (lambda _table, _seed: Everyone(table=self.table), None)
        return found

    def fold(self, name: str, number: int) -> Fold:
        """Fit a method inside a fold and judge it."""
        train, test = (self.table.take(rows) for rows in self.folds[number])
        fit, seed = self.methods[name][0], self.seed + number
        maker = None if fit is None else fit(train, seed)
        return judged(train, test, maker, self.task, tables=self.tables, seed=seed)

    def drawn(self, name: str) -> "DrawnTables":
        """Fit a method to all patients and draw its tables."""
        fit = self.methods[name][1]
        if fit is None:
            return DrawnTables(frames={}, words=())
        maker, size = fit(self.table, self.seed), len(self.table)
        seeds = [self.seed + i for i in range(self.sets)]
        frames = {name: [maker.rows(size, seed=one) for one in seeds]}
        model = getattr(maker, "model", None)
        if isinstance(model, PublishedMcm):
            less = model.with_mask_share(NOTEBOOK_MASK)
            frames["MCM, mask 25 %"] = [less.draw(size, seed=one)[0].frame for one in seeds]
        words = [one.words for one in model.linkage] if isinstance(model, PaperModel) else []
        return DrawnTables(frames=frames, words=tuple(words))


@dataclass(frozen=True, kw_only=True)
class DrawnTables:
    """Tables by what they are called in Figure 2, and what is known of a model's leading back to patients."""

    frames: dict[str, list[pd.DataFrame]]
    words: tuple[str, ...]


_desk: Desk
"""A worker's own."""


def _sit_down(desk: Desk) -> None:
    global _desk  # noqa: PLW0603 - one worker, one desk: the patients are read once a process
    _desk = desk
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def _fold(name: str, number: int) -> Fold:
    return _desk.fold(name, number)


def _drawn(name: str) -> DrawnTables:
    return _desk.drawn(name)


def measure(
    desk: Desk, names: Sequence[str], jobs: int
) -> tuple[dict[str, list[Fold]], dict[str, DrawnTables]]:
    """All folds of Table 1 and all tables of Figure 2, `jobs` processes at work; prints what is done."""
    # A copy of the desk: what this process has read and built stays here.
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_sit_down, initargs=(replace(desk),)
    ) as workers:
        tables = {name: workers.submit(_drawn, name) for name in names if desk.sets}
        numbers = range(2 * desk.repeats)
        folds = {name: [workers.submit(_fold, name, one) for one in numbers] for name in names}
        drawn = {name: future.result() for name, future in tables.items()}
        return {name: _gathered(name, futures) for name, futures in folds.items() if futures}, drawn


def _gathered(name: str, futures: Sequence[Future[Fold]]) -> list[Fold]:
    found = [future.result() for future in futures]
    print("measured:", *row_of(name, found), flush=True)
    return found


def figure_2(desk: Desk, found: dict[str, DrawnTables]) -> tuple[CoxFit, dict[str, np.ndarray]]:
    """All patients against as many rows of each method; the real model, and pooled logs."""
    tables = {label: frames for one in found.values() for label, frames in one.frames.items()}
    real = cox_of(desk.table.frame, None, desk.task)
    if real is None:
        raise SystemExit("there is no Cox model of the real rows")
    pooled = _print_hazard_ratios(desk.table, tables, real, desk.task, desk.seed)
    lines = [
        [column.name, *(_moments(cells[column.name], column) for cells in _first_tables(desk.table, tables))]
        for column in SCHEMA
    ]
    print("\nFigure 2(a): mean (standard deviation), or share of 1, of the first table")
    print_table(["", "real", *tables], lines)
    for name, one in found.items():
        if one.words:
            print(f"\n{name}:")
            print("\n".join(f"  {words}" for words in one.words))
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
    desk = Desk(given.data, given.epsilon, given.repeats, given.tables, given.sets, given.seed)
    if given.sizes is not None:
        found = cohorts(desk.table, read_years(given.data), given.sizes or SIZES, desk.task, given.seed)
        print_sizes(found, given.epsilon, desk.task, repeats=given.repeats, seed=given.seed, jobs=given.jobs)
        return
    unknown = set(given.methods) - set(desk.methods)
    if unknown:
        raise SystemExit(f"no such method: {min(unknown)}; there are {', '.join(desk.methods)}")
    names = [name for name in desk.methods if not given.methods or name in given.methods]
    folds, drawn = measure(desk, names, given.jobs)
    if drawn:
        real, pooled = figure_2(desk, drawn)
        if given.figure is not None:
            given.figure.write_text(str(ratio_figure(real, pooled)), encoding="utf-8")
    if folds:
        print_table_1(folds, repeats=given.repeats, tables=given.tables)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="WHAS500 as a CSV, or a CSV.GZ")
    parser.add_argument("--methods", nargs="+", default=[], help="some of them, by name; default: all")
    parser.add_argument(
        "--epsilon", nargs="*", type=float, default=EPSILONS, help="budgets of MCM in private form: 1 3 8"
    )
    parser.add_argument(
        "--sets", type=int, default=10, help="tables of each method in Figure 2; 0: no figure"
    )
    parser.add_argument("--figure", type=Path, help="also draw the hazard ratios into this SVG file")
    parser.add_argument(
        "--repeats", type=int, default=5, help="of Table 1, 0: none; with --sizes: trainings of each"
    )
    parser.add_argument("--tables", type=int, default=5, help="tables a fold of Table 1 is the mean of")
    parser.add_argument("--sizes", nargs="*", type=int, help="the size study, with stand-ins of these sizes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: all cores")
    parser.add_argument("--seed", type=int, default=0, help="folds, training and rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
