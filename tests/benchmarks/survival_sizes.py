"""From which size on private survival rows carry their hazard ratios: the size study of `bench_survival.py`.

Knows WHAS500 with its three cohort years, each taken for a hospital, and a stand-in for more patients of
its kind than there are: rows drawn from MCM fitted to all 500 without privacy. A stand-in is no population:
it has the relations that MCM found, so it says what noise costs at a size, and nothing of what MCM cannot
learn. Rules: every hospital adds the full noise of its own budget; rows are drawn in plenty, so that what is
left is the model's error; every size is judged by its own interval and its own random halves, and by the
interval that 500 of its patients would have, which does not narrow as patients become more.

A training takes some 50 seconds of a core, and there is one for each cohort, budget and repeat: 15 with three
budgets and `--repeats 1`, some 7 minutes of two cores.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from bench_desk import print_table
from survival_desk import Distance, cox_of, distance, half_distance, mean_distance, table_of
from survival_rivals import fit_unsafe_mcm, private_mcm

from synthkit.data.table import PatientTable
from synthkit.evaluation.concordance import count_pairs
from synthkit.evaluation.cox import CoxFit
from synthkit.evaluation.survival_rows import survival_rows
from synthkit.evaluation.survival_task import SurvivalTask
from synthkit.training.artefact import Model
from synthkit.training.synthesis import synthesize

SITES = 3
SIZES = (500, 2_000, 8_000, 32_000)
"""Stand-in patients in all."""

DRAWN = 20_000
"""Rows of each private model that its Cox model is fitted to."""

TESTED = 5_000
"""Further stand-in patients whose order of events is predicted."""

FEW_HALVES = 20

RULER = 500
"""Patients whose 95 % interval is the same width for every size: as many as WHAS500 has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Patients in several hospitals, others to test Cox models on, and the Cox model of all of them."""

    label: str
    sites: Sequence[PatientTable]
    test: PatientTable
    real: CoxFit
    half: Distance

    @property
    def ruler(self) -> CoxFit:
        """The same coefficients with the standard errors of `RULER` patients."""
        widened = self.real.standard_error * np.sqrt(self.size / RULER)
        return replace(self.real, standard_error=widened)

    @property
    def size(self) -> int:
        """Patients in all."""
        return sum(len(site) for site in self.sites)


def cohort_of(
    label: str, table: PatientTable, places: np.ndarray, test: PatientTable, task: SurvivalTask
) -> Cohort:
    """A table divided into hospitals by `places`, one number a patient."""
    real = cox_of(table.frame, None, task)
    if real is None:
        raise SystemExit(f"there is no Cox model of the real rows: {label}")
    return Cohort(
        label=label,
        sites=[table.take(places == one) for one in np.unique(places)],
        test=test,
        real=real,
        half=half_distance(table, real, task, 0, halves=FEW_HALVES),
    )


def cohorts(
    table: PatientTable, years: np.ndarray, sizes: Sequence[int], task: SurvivalTask, seed: int
) -> list[Cohort]:
    """WHAS500 by cohort year, tested on itself; stand-ins of each size, tested on others of their kind."""
    found = [cohort_of("WHAS500", table, years, table, task)]
    truth = fit_unsafe_mcm(table, seed).model
    test = _patients(truth, TESTED, seed)
    for number, size in enumerate(sizes):
        patients = _patients(truth, size, seed + 1 + number)
        found.append(cohort_of("stand-in", patients, np.arange(size) % SITES, test, task))
    return found


def _patients(truth: Model, count: int, seed: int) -> PatientTable:
    return table_of(synthesize(truth, count, seed=seed).table.frame)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One private model's distance, terms within the ruler's interval, and C on the test rows."""

    distance: Distance
    within_ruler: float
    c_index: float


def measure(cohort: Cohort, epsilon: float, task: SurvivalTask, seed: int) -> Outcome | None:
    """Train the hospitals' private model and judge the Cox model of its rows; None where there is none."""
    torch.set_num_threads(1)
    model = private_mcm(cohort.sites, epsilon, seed)
    fit = cox_of(synthesize(model, DRAWN, seed=seed).table.frame, None, task)
    if fit is None:
        return None
    return Outcome(
        distance=distance(fit.coefficient, cohort.real),
        within_ruler=distance(fit.coefficient, cohort.ruler).within,
        c_index=c_index(fit, cohort.test, task),
    )


def c_index(fit: CoxFit, test: PatientTable, task: SurvivalTask) -> float:
    """Harrell's C of a Cox model on real or stand-in patients."""
    rows = survival_rows(test.frame, task, task.covariates)
    found = count_pairs(rows.time, rows.event, fit.risk(rows.x)).c_index
    return np.nan if found is None else found


def print_sizes(
    found: Sequence[Cohort],
    epsilons: Sequence[float],
    task: SurvivalTask,
    *,
    repeats: int,
    seed: int,
    jobs: int,
) -> None:
    """Train each cohort at each budget, several times with fresh noise, and print the means."""
    lines = []
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=spawned) as pool:
        waiting = {
            (one.label, one.size, epsilon): [
                pool.submit(measure, one, epsilon, task, seed + number) for number in range(repeats)
            ]
            for one in found
            for epsilon in epsilons
        }
        for cohort in found:
            real_c = f"{c_index(cohort.real, cohort.test, task):.3f}"
            label = f"{cohort.label}, {cohort.size:,}"
            lines.append([label, "real halves", *_cells(cohort.half), "", real_c])
            print("measured:", *lines[-1], flush=True)
            for epsilon in epsilons:
                figures = _gathered(waiting[cohort.label, cohort.size, epsilon])
                lines.append([label, f"{epsilon:g}", *figures])
                print("measured:", *lines[-1], flush=True)
    terms = len(found[0].real.terms)
    print(f"\nThree hospitals, federated; {DRAWN:,} rows drawn; mean of {repeats} trainings")
    headings = [
        f"within, of {terms}",
        "signs",
        "log error",
        "RMS",
        "in real errors",
        f"within {RULER}'s",
        "C",
    ]
    print_table(["patients", "epsilon", *headings], lines)


def _gathered(trainings: Sequence[Future[Outcome | None]]) -> list[str]:
    return _figures([one for one in (training.result() for training in trainings) if one is not None])


def _figures(runs: Sequence[Outcome]) -> list[str]:
    """The runs' means; empty cells where no training gave a Cox model."""
    if not runs:
        return [""] * 7
    within, ranked = (
        float(np.mean(x)) for x in zip(*((r.within_ruler, r.c_index) for r in runs), strict=True)
    )
    return [*_cells(mean_distance([r.distance for r in runs])), f"{within:.1f}", f"{ranked:.3f}"]


def _cells(one: Distance) -> list[str]:
    return [
        f"{one.within:.1f}",
        f"{one.signs:.1f}",
        *(f"{x:.3f}" for x in (one.mean, one.rms)),
        f"{one.in_errors:.2f}",
    ]
