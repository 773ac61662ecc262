"""evaluate --survival: does a survival analysis of synthetic rows come to the result of the real ones?

Knows the order of the measurements and which rows go where. Refuses to call a difference small or large:
each stands beside what real patients differ by among themselves. Rules: hazard ratios and curves of all real
rows given; C and calibration on the real test rows only, which no compared model was trained on; what
cannot be estimated is None and named in a note; nothing here is covered by a privacy budget.

Source: MCM (Kuo, Gallego and Jorm, arXiv 2410.16811), figure 2 (b) and table 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.survival import (
    CalibrationSlope,
    Concordance,
    CurveDistance,
    HazardRatio,
    SurvivalReport,
    Term,
)
from synthkit.errors import InputError
from synthkit.evaluation.calibration import calibrate, times_of
from synthkit.evaluation.concordance import count_pairs, error_of
from synthkit.evaluation.cox import CoxFit, fit_cox
from synthkit.evaluation.curves import Sample, curve_distance, survival_curve
from synthkit.evaluation.rubin import Rule, pool
from synthkit.evaluation.survival_remarks import (
    POOLING,
    repeated_patients,
    stratum_remark,
    table_remarks,
    task_remarks,
)
from synthkit.evaluation.survival_rows import SurvivalRows, mostly_missing, references, survival_rows
from synthkit.evaluation.survival_task import SurvivalTask

MOST_ROWS = 20_000
"""Rows of a table given to a Cox model: a second of lifelines' time with 30 covariates."""

HALVES = 10
"""Random halves of the real patients, as the yardstick."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalTables:
    """Which rows go where. `real`: all that were given; `baseline` trains the real model, `test` tests both.

    `synthetic`: one table or more, of equal size; all but pooled intervals use the first.
    `source_size`: number of real rows that the generator learnt from, as far as is known.
    """

    real: PatientTable
    baseline: PatientTable
    test: PatientTable
    synthetic: tuple[SyntheticTable, ...]
    source_size: int


def evaluate_survival(
    task: SurvivalTask, tables: SurvivalTables, *, seed: int, say: Callable[[str], None]
) -> SurvivalReport:
    """Measure everything about one survival task.

    Args:
        task: What is asked.
        tables: The rows.
        seed: Seeds the halves and, in tables above MOST_ROWS, the sample.
        say: Called with one line before each stage.

    Raises:
        InputError: A table has no row with a time and an event.
    """
    frames = [tables.real.frame, *(table.frame for table in tables.synthetic)]
    missing = mostly_missing(frames, task.covariates)
    kept = replace(task, covariates=tuple(c for c in task.covariates if c.name not in missing))
    work = _Work(task=kept, tables=tables, seed=seed)
    made = tables.synthetic[0]
    notes = [*task_remarks(kept, missing), *repeated_patients(tables.real)]
    say("comparing survival curves")
    lived, made_lived = work.sample(tables.real, "real"), work.sample(made, "synthetic")
    notes += table_remarks("real", lived, work.complete(tables.real))
    notes += table_remarks("synthetic", made_lived, work.complete(made))
    end = max(float(lived[0].max()), float(made_lived[0].max()))
    say("fitting Cox models")
    rows = work.rows(tables.real, 0)
    real, about_real = fit_cox(rows, "real")
    synthetic, about_synthetic = fit_cox(work.rows(made, 1), "synthetic")
    pooled, about_pooling = work.pooled(synthetic)
    ratios = _hazard_ratios(rows, real, synthetic, pooled, work.half_errors(rows, real))
    say("scoring Cox models on real rows")
    baseline, about_baseline = fit_cox(work.rows(tables.baseline, 0), "real training")
    slopes, about_strata = work.calibration(baseline, synthetic)
    notes += [*about_real, *about_synthetic, *about_baseline, *about_pooling, *about_strata]
    return SurvivalReport(
        duration=task.duration.name,
        event=task.event.name,
        event_level=task.event_level,
        unit=task.duration.unit,
        hazard_ratios=ratios,
        c_index=work.concordance(baseline, synthetic),
        calibration_slope=slopes,
        real_curve=survival_curve(lived, end),
        synthetic_curve=survival_curve(made_lived, end),
        distance=curve_distance(lived, made_lived),
        halves_distance=work.halves_distance(),
        censored=(float(1 - lived[1].mean()), float(1 - made_lived[1].mean())),
        references=references(kept.covariates),
        sets=len(tables.synthetic),
        rule=Rule.PARTIAL.value if pooled else "",
        notes=tuple(dict.fromkeys([*notes, *work.about_size()])),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """The task and its tables; every method is one measurement."""

    task: SurvivalTask
    tables: SurvivalTables
    seed: int

    def sample(self, table: PatientTable | SyntheticTable, label: str) -> Sample:
        """Times and events of all rows that have both."""
        known = survival_rows(table.frame, self.task, ())
        if not len(known):
            raise InputError(
                "no row has both a time and an event",
                where=f"the {label} table",
                fix=f"see columns {self.task.duration.name} and {self.task.event.name}",
            )
        return known.time, known.event

    def complete(self, table: PatientTable | SyntheticTable) -> SurvivalRows:
        """All complete cases."""
        return survival_rows(table.frame, self.task, self.task.covariates)

    def rows(self, table: PatientTable | SyntheticTable, salt: int) -> SurvivalRows:
        """Complete cases, at most MOST_ROWS of them."""
        rows = self.complete(table)
        if len(rows) <= MOST_ROWS:
            return rows
        chosen = np.random.default_rng((self.seed, 7, salt)).choice(len(rows), MOST_ROWS, replace=False)
        return rows.take(np.sort(chosen))

    def test_rows(self) -> SurvivalRows:
        """What both models are tested on."""
        return self.rows(self.tables.test, 0)

    def about_size(self) -> tuple[str, ...]:
        """A note where a table was too large to be used whole."""
        if max(len(self.tables.real), *(len(table) for table in self.tables.synthetic)) <= MOST_ROWS:
            return ()
        return (f"Cox models were fitted to a seeded sample of at most {MOST_ROWS} rows of each table.",)

    def halves(self) -> list[np.ndarray]:
        """Masks over the real rows, each of a random half of the patients."""
        real = self.tables.real
        return [
            real.split_masks((0.5, 0.5), seed=self.seed, purpose=f"survival {i}")[0] for i in range(HALVES)
        ]

    def half_errors(self, rows: SurvivalRows, whole: CoxFit | None) -> np.ndarray:
        """Mean distance of a half sample's coefficients from the whole's: (terms,), may be NaN."""
        if whole is None:
            return np.full(len(rows.terms), np.nan)
        fits = [fit_cox(rows.take(mask[rows.source]), "half")[0] for mask in self.halves()]
        errors = [np.abs(fit.coefficient - whole.coefficient) for fit in fits if fit is not None]
        known = np.array(errors).reshape(len(errors), len(rows.terms))
        # A half without one level of a covariate says nothing about that level, and no more.
        counted = np.isfinite(known).sum(axis=0)
        return np.where(counted > 0, np.nansum(known, axis=0) / np.maximum(counted, 1), np.nan)

    def halves_distance(self) -> CurveDistance | None:
        """What two halves of the real patients differ by, on average; None where a half is empty."""
        rows = survival_rows(self.tables.real.frame, self.task, ())
        found = []
        for mask in self.halves():
            first, second = (rows.take(part[rows.source]) for part in (mask, ~mask))
            if len(first) and len(second):
                found.append(curve_distance((first.time, first.event), (second.time, second.event)))
        if not found:
            return None
        return CurveDistance(
            log_rank=float(np.mean([one.log_rank for one in found])),
            p_value=float(np.mean([one.p_value for one in found])),
            largest_gap=float(np.mean([one.largest_gap for one in found])),
            mean_difference=float(np.mean([abs(one.mean_difference) for one in found])),
            horizon=float(np.mean([one.horizon for one in found])),
        )

    def pooled(self, first: CoxFit | None) -> tuple[dict[str, Term], tuple[str, ...]]:
        """Pooled coefficients by term, of the terms that all synthetic tables have."""
        tables = self.tables.synthetic
        if len(tables) == 1 or first is None:
            return {}, ()
        others = [fit_cox(self.rows(t, i + 1), f"synthetic {i + 1}") for i, t in enumerate(tables) if i]
        fits = [first, *(fit for fit, _ in others if fit is not None)]
        notes = [note for _, remarks in others for note in remarks]
        if len(fits) < len(tables):
            notes.append("Not every synthetic table has a Cox model, so nothing was pooled.")
            return {}, tuple(notes)
        estimates = np.array([fit.coefficient for fit in fits])
        errors = np.array([fit.standard_error for fit in fits])
        usable = np.flatnonzero((np.isfinite(estimates) & np.isfinite(errors) & (errors > 0)).all(axis=0))
        if not usable.size:
            return {}, tuple(notes)
        whole = pool(estimates[:, usable], errors[:, usable] ** 2, ratio=self._size_ratio())
        terms = {
            first.terms[place]: Term(
                coefficient=float(whole.estimate[i]),
                standard_error=float(whole.standard_error[i]),
                quantile=float(whole.quantile[i]),
            )
            for i, place in enumerate(usable)
        }
        return terms, (*notes, POOLING)

    def _size_ratio(self) -> float:
        """Rows in a synthetic Cox model over the real rows behind it, complete cases on both sides."""
        made = np.mean([min(len(self.complete(table)), MOST_ROWS) for table in self.tables.synthetic])
        share = len(self.complete(self.tables.real)) / len(self.tables.real)
        return float(made / max(1.0, share * self.tables.source_size))

    def concordance(self, real: CoxFit | None, synthetic: CoxFit | None) -> Concordance:
        """Harrell's C of both models on the test rows."""
        test = self.test_rows()
        counts = [
            None if fit is None else count_pairs(test.time, test.event, fit.risk(test.x))
            for fit in (real, synthetic)
        ]
        known = [one if one is not None and one.c_index is not None else None for one in counts]
        first, second = known
        return Concordance(
            real=None if first is None else first.c_index,
            synthetic=None if second is None else second.c_index,
            real_error=None if first is None else error_of(first.influence),
            synthetic_error=None if second is None else error_of(second.influence),
            difference_error=None
            if first is None or second is None
            else error_of(second.influence - first.influence),
        )

    def calibration(
        self, real: CoxFit | None, synthetic: CoxFit | None
    ) -> tuple[tuple[CalibrationSlope, ...], tuple[str, ...]]:
        """Slopes of both models on the test rows, of everyone and of each stratum."""
        test = self.test_rows()
        frame, schema = self.tables.test.frame, self.tables.test.schema
        slopes: list[CalibrationSlope] = []
        notes: list[str] = []
        for stratum in self.task.strata:
            inside = test.take(stratum.rows(frame, schema)[test.source])
            found = []
            for percentile, at in times_of(test.time, test.event).items():
                pair = [
                    None
                    if fit is None
                    else calibrate(fit.event_probability(inside.x, at), inside.time, inside.event, at)
                    for fit in (real, synthetic)
                ]
                found += [(one, fit is not None) for one, fit in zip(pair, (real, synthetic), strict=True)]
                slopes.append(
                    CalibrationSlope(
                        stratum=stratum.label, percentile=percentile, time=at, real=pair[0], synthetic=pair[1]
                    )
                )
            notes += stratum_remark(stratum.label, stratum.rows(frame, schema), found)
        if not slopes:
            notes.append("No event was seen in the real rows to test on: no C and no calibration.")
        return tuple(slopes), tuple(notes)


def _hazard_ratios(
    rows: SurvivalRows,
    real: CoxFit | None,
    synthetic: CoxFit | None,
    pooled: dict[str, Term],
    errors: np.ndarray,
) -> tuple[HazardRatio, ...]:
    spread = rows.x.std(axis=0) if len(rows) else np.full(len(rows.terms), np.nan)
    return tuple(
        HazardRatio(
            name=name,
            real=_term(real, place),
            synthetic=_term(synthetic, place),
            pooled=pooled.get(name),
            spread=float(spread[place]) if np.isfinite(spread[place]) else None,
            half_sample_error=float(errors[place]) if np.isfinite(errors[place]) else None,
            is_level=bool(np.isin(rows.x[:, place], (0.0, 1.0)).all()),
        )
        for place, name in enumerate(rows.terms)
    )


def _term(fit: CoxFit | None, place: int) -> Term | None:
    """A coefficient, where there is one."""
    if fit is None or not np.isfinite(fit.coefficient[place]) or not np.isfinite(fit.standard_error[place]):
        return None
    return Term(coefficient=float(fit.coefficient[place]), standard_error=float(fit.standard_error[place]))
