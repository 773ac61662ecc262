"""From which size on private survival rows carry their hazard ratios: the size study of `bench_survival.py`.

Knows WHAS500 with its three cohort years, each taken for a hospital, and a stand-in for more patients of
its kind than there are: rows drawn from MCM fitted to all 500 without privacy. A stand-in is no population:
it has the relations that MCM found, so it says what noise costs at a size, and nothing of what MCM cannot
learn. Rules: every hospital adds the full noise of its own budget; rows are drawn in plenty, so that what is
left is the model's error; every size is judged by its own interval and its own random halves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Patients in several hospitals, others to test Cox models on, and the Cox model of all of them."""

    label: str
    sites: Sequence[PatientTable]
    test: PatientTable
    real: CoxFit
    half: Distance

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


def measure(cohort: Cohort, epsilon: float, task: SurvivalTask, seed: int) -> tuple[Distance, float]:
    """Distance of the federated private model's hazard ratios, and C of their Cox model on the test rows."""
    model = private_mcm(cohort.sites, epsilon, seed)
    fit = cox_of(synthesize(model, DRAWN, seed=seed).table.frame, None, task)
    if fit is None:
        return Distance(within=0, signs=0, mean=np.nan, rms=np.nan, in_errors=np.nan), np.nan
    return distance(fit.coefficient, cohort.real), c_index(fit, cohort.test, task)


def c_index(fit: CoxFit, test: PatientTable, task: SurvivalTask) -> float:
    """Harrell's C of a Cox model on real or stand-in patients."""
    rows = survival_rows(test.frame, task, task.covariates)
    found = count_pairs(rows.time, rows.event, fit.risk(rows.x)).c_index
    return np.nan if found is None else found


def print_sizes(
    found: Sequence[Cohort], epsilons: Sequence[float], task: SurvivalTask, *, repeats: int, seed: int
) -> None:
    """Train each cohort at each budget, several times with fresh noise, and print the means."""
    lines = []
    for cohort in found:
        real_c = f"{c_index(cohort.real, cohort.test, task):.3f}"
        label = f"{cohort.label}, {cohort.size:,}"
        lines.append([label, "real halves", *_cells(cohort.half), real_c])
        for epsilon in epsilons:
            runs = [measure(cohort, epsilon, task, seed + one) for one in range(repeats)]
            ranked = f"{np.mean([c for _, c in runs]):.3f}"
            lines.append([label, f"{epsilon:g}", *_cells(mean_distance([one for one, _ in runs])), ranked])
            print("measured:", *lines[-1], flush=True)
    terms = len(found[0].real.terms)
    print(f"\nThree hospitals, federated; {DRAWN:,} rows drawn; mean of {repeats} trainings")
    print_table(
        ["patients", "epsilon", f"within, of {terms}", "signs", "log error", "RMS", "in real errors", "C"],
        lines,
    )


def _cells(one: Distance) -> list[str]:
    return [
        f"{one.within:.1f}",
        f"{one.signs:.1f}",
        *(f"{x:.3f}" for x in (one.mean, one.rms)),
        f"{one.in_errors:.2f}",
    ]
