"""evaluate: everything `synthkit evaluate` measures about one synthetic table.

Knows the order of the measurements and which rows go where. Refuses to compare tables of different
schemas. Rules: no figure stands alone, each has a floor (the real rows with every relation destroyed)
and a ceiling (other real rows in the synthetic table's place); nothing here writes, releases or
decides; the report is about real patients and is not covered by any privacy budget.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from synthkit.data.table import PatientTable, SyntheticTable, pool
from synthkit.domain.survival import SurvivalReport
from synthkit.domain.utility import Quality, Repeats, TargetUtility, UtilityReport
from synthkit.errors import InputError, SchemaError
from synthkit.evaluation.fidelity import has_strong_pair, quality, quality_frame, total_variation
from synthkit.evaluation.moments import missing_rates, moments_by_column, spread_by_column
from synthkit.evaluation.remarks import can_be_asked, column_remarks, skipped_targets, target_remarks
from synthkit.evaluation.repeats import repeated
from synthkit.evaluation.states import Levels, levels_of, shuffled, states_of
from synthkit.evaluation.survival import SurvivalTables, evaluate_survival
from synthkit.evaluation.survival_task import SurvivalTask
from synthkit.evaluation.targets import Target, default_targets
from synthkit.evaluation.utility import Examples, examples_of, train_and_test

Progress = Callable[[str], None]

THREADS = 2
"""Classifiers trained at a time."""

OTHER = "other "
"""Keeps the labels of further training sets apart from "real" and "synthetic"."""


def evaluate(
    *,
    real: PatientTable,
    synthetic: SyntheticTable,
    train: PatientTable | None = None,
    targets: tuple[Target, ...] | None = None,
    others: dict[str, PatientTable] | None = None,
    seed: int = 0,
    max_rows: int | None = None,
    repeats: int = 1,
    survival: SurvivalTask | None = None,
    more_synthetic: tuple[SyntheticTable, ...] = (),
    progress: Progress | None = None,
) -> UtilityReport:
    """Measure fidelity and usefulness of a synthetic table.

    Args:
        real: Real rows the generator did not see: what is compared with, and tested on.
        synthetic: The table to judge, of the same columns.
        train: Real rows of patients that are not in `real`. They train the real baseline, and as many of
            them as the synthetic table has rows make the ceiling. Without them `real` is split by
            patient: one half trains the baseline and the other half tests every model; the ceiling
            compares the two halves, so it is a little low, being made of fewer rows. The report's notes
            say so.
        targets: Prediction tasks; by default those of the columns that the schema marks as targets.
        others: Further real training sets by label, for example each hospital on its own.
        seed: Seeds the halves, the permutations, the subsample and the classifiers.
        max_rows: Largest number of rows per table given to sdmetrics; a seeded sample of each table
            beyond it. All rows by default.
        repeats: Classifiers per target and training set; above 1 the report holds intervals too.
        survival: Time to an event, if it is to be compared; see `synthkit.evaluation.survival_task`.
        more_synthetic: Further tables of the same generator, for pooled intervals of hazard ratios alone.
        progress: Called with one line before each stage.

    Returns:
        The report; `notes` says in plain words whatever departs from the plain case.

    Raises:
        SchemaError: The tables do not have the same columns.
        InputError: A table is empty, there are fewer than two columns or two real patients, or
            `max_rows` is below 2, or `repeats` below 1.
    """
    others, say = others or {}, progress or _silent
    if max_rows is not None and max_rows < 2:
        raise InputError("it is below 2", where="max_rows", fix="give at least 2, or leave it out")
    if repeats < 1:
        raise InputError("it is below 1", where="repeats", fix="give at least 1, or leave it out")
    _check(real, synthetic, train, others, more_synthetic)
    halves = real.split((0.5, 0.5), seed=seed, purpose="halves")
    baseline, test = (halves[0], halves[1]) if train is None else (train, real)
    sets = {"real": baseline.frame, "synthetic": synthetic.frame}
    sets |= {OTHER + label: table.frame for label, table in others.items()}
    levels = levels_of(real.schema, real.frame, *sets.values())
    say("comparing columns and pairs of columns")
    fresh = baseline.frame if train is None else _rows(baseline.frame, len(synthetic), seed)
    ceiling = (test.frame, fresh)
    fidelity = _fidelity(real, synthetic, ceiling, levels, seed=seed, max_rows=max_rows)
    say("training on synthetic and on real rows, testing on real rows")
    wanted = default_targets(real.schema, baseline.frame) if targets is None else targets
    tasks = _Tasks(sets=sets, test=test, levels=levels, targets=wanted, seed=seed, repeats=repeats)
    utility, remarks = tasks.run(say)
    if targets is None:
        remarks = skipped_targets(real.schema, baseline.frame) + remarks
    lived = None
    if survival is not None:
        made = (synthetic, *more_synthetic)
        lived = _survival(survival, real, train, halves, made, seed=seed, say=say)
    notes = _notes(fidelity, has_train=train is not None, has_targets=bool(wanted), max_rows=max_rows)
    return UtilityReport(
        quality=fidelity.quality,
        floor=fidelity.floor,
        ceiling=fidelity.ceiling,
        total_variation=fidelity.total_variation,
        utility=utility,
        moments=moments_by_column(real, synthetic),
        spread=spread_by_column(real, synthetic),
        missing_rates=missing_rates(real, synthetic),
        survival=lived,
        notes=notes + column_remarks(real, synthetic) + remarks,
    )


@dataclass(frozen=True, kw_only=True)
class _Fidelity:
    quality: Quality
    floor: Quality
    ceiling: Quality
    total_variation: dict[str, float]
    all_pairs: bool
    sampled: bool


def _survival(
    task: SurvivalTask,
    real: PatientTable,
    train: PatientTable | None,
    halves: tuple[PatientTable, ...],
    synthetic: tuple[SyntheticTable, ...],
    *,
    seed: int,
    say: Progress,
) -> SurvivalReport:
    """Hazard ratios of all real rows given; models trained and tested on disjoint patients."""
    tables = SurvivalTables(
        real=real if train is None else pool((train, real)),
        baseline=halves[0] if train is None else train,
        test=halves[1] if train is None else real,
        synthetic=synthetic,
        source_size=len(real if train is None else train),
    )
    return evaluate_survival(task, tables, seed=seed, say=say)


def _silent(line: str) -> None:
    """No progress wanted."""


def _fidelity(
    real: PatientTable,
    synthetic: SyntheticTable,
    ceiling: tuple[pd.DataFrame, pd.DataFrame],
    levels: Levels,
    *,
    seed: int,
    max_rows: int | None,
) -> _Fidelity:
    """Synthetic, floor and ceiling by both measures, all cut and sampled in the same way."""
    schema = real.schema
    frames = {"real": real.frame, "synthetic": synthetic.frame}
    frames |= {"reference": ceiling[0], "fresh": ceiling[1]}
    states = {name: states_of(frame, schema, levels) for name, frame in frames.items()}
    states["floor"] = shuffled(states["real"], np.random.default_rng((seed, 1)))
    scored = {name: quality_frame(frame, schema, levels) for name, frame in frames.items()}
    scored["floor"] = _permuted(scored["real"], np.random.default_rng((seed, 2)))
    scored = {name: _rows(frame, max_rows, seed) for name, frame in scored.items()}
    judged = ("real",) if ceiling[0] is real.frame else ("real", "reference")
    all_pairs = not all(has_strong_pair(scored[name], schema) for name in judged)
    distances = {
        prefix + way: value
        for prefix, first, second in (
            ("", "real", "synthetic"),
            ("floor_", "real", "floor"),
            ("ceiling_", "reference", "fresh"),
        )
        for way, value in zip(
            ("one_way", "two_way"), total_variation(states[first], states[second]), strict=True
        )
    }
    return _Fidelity(
        quality=quality(scored["real"], scored["synthetic"], schema, all_pairs=all_pairs),
        floor=quality(scored["real"], scored["floor"], schema, all_pairs=all_pairs),
        ceiling=quality(scored["reference"], scored["fresh"], schema, all_pairs=all_pairs),
        total_variation=distances,
        all_pairs=all_pairs,
        sampled=max_rows is not None and max(len(real), len(synthetic)) > max_rows,
    )


def _permuted(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each column permuted on its own, dtypes kept."""
    return pd.DataFrame({name: rng.permutation(frame[name].to_numpy()) for name in frame})


def _rows(frame: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most `most` rows, drawn without replacement; fewer are kept as they are."""
    if most is None or len(frame) <= most:
        return frame
    rows = np.random.default_rng((seed, 3)).choice(len(frame), size=most, replace=False)
    return frame.iloc[np.sort(rows)].reset_index(drop=True)


@dataclass(frozen=True, kw_only=True)
class _Tasks:
    """Every training set on every target, tested on the same rows."""

    sets: dict[str, pd.DataFrame]
    test: PatientTable
    levels: Levels
    targets: tuple[Target, ...]
    seed: int
    repeats: int

    def run(self, say: Progress) -> tuple[tuple[TargetUtility, ...], tuple[str, ...]]:
        """The scores, and remarks on the targets that say little."""
        if not self.targets:
            return (), ()
        test = self._examples(self.test.frame)
        trains = {name: self._examples(frame) for name, frame in self.sets.items()}
        results = []
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            for position, target in enumerate(self.targets):
                if not can_be_asked(test, position):
                    continue
                say(f"predicting {target.label}")
                columns = target.features(self.test.schema)
                fit = partial(train_and_test, test=test, target=position, columns=columns, seed=self.seed)
                scores = dict(zip(trains, pool.map(fit, trains.values()), strict=True))
                results.append(
                    TargetUtility(
                        target=target.label,
                        real=scores["real"],
                        synthetic=scores["synthetic"],
                        others={_label(n): s for n, s in scores.items() if n.startswith(OTHER)},
                        repeats=self._repeats(trains, test, position, columns),
                    )
                )
        named = {"real training" if name == "real" else _label(name): rows for name, rows in trains.items()}
        return tuple(results), target_remarks(self.targets, test, named)

    def _examples(self, frame: pd.DataFrame) -> Examples:
        return examples_of(frame, self.test.schema, self.levels, self.targets)

    def _repeats(
        self, trains: dict[str, Examples], test: Examples, position: int, columns: tuple[int, ...]
    ) -> Repeats | None:
        if self.repeats == 1:
            return None
        return repeated(
            trains["real"],
            trains["synthetic"],
            test=test,
            patients=self.test.patients,
            target=position,
            columns=columns,
            seed=self.seed,
            count=self.repeats,
        )


def _label(name: str) -> str:
    return name.removeprefix(OTHER)


def _check(
    real: PatientTable,
    synthetic: SyntheticTable,
    train: PatientTable | None,
    others: dict[str, PatientTable],
    more_synthetic: tuple[SyntheticTable, ...],
) -> None:
    """Refuse before any work."""
    named: dict[str, PatientTable | SyntheticTable] = {"the synthetic table": synthetic}
    named |= {f"synthetic table {place}": table for place, table in enumerate(more_synthetic, start=2)}
    named |= {"the training table": train} if train is not None else {}
    named |= {f"the table of {label}": table for label, table in others.items()}
    for label, table in named.items():
        if table.schema.columns != real.schema.columns:
            raise SchemaError("its columns are not the real table's", where=label, fix="use one schema")
        if len(table) == 0:
            raise InputError("it has no rows", where=label)
    if len(real.schema) < 2:
        raise InputError("evaluation needs at least two columns", where=f"schema {real.schema.name}")
    if real.patient_count < 2:
        raise InputError("it has fewer than two patients", where="the real table", fix="give more rows")


def _notes(
    fidelity: _Fidelity, *, has_train: bool, has_targets: bool, max_rows: int | None
) -> tuple[str, ...]:
    """What a reader has to know to read the figures rightly."""
    notes = []
    if not has_train:
        notes.append(
            "No separate real training rows were given: the real rows were split by patient, one half "
            "trained the real baseline and the other half tested every model; the ceiling compares the two "
            "halves and is a little low, being made of fewer rows."
        )
    if not has_targets:
        notes.append("No prediction task was asked for, and no column marked as a target makes one.")
    if fidelity.all_pairs:
        notes.append(
            "No pair of columns is strongly related in the real rows, so sdmetrics' thresholds were set "
            "to 0 and all pairs were scored."
        )
    if fidelity.sampled:
        notes.append(f"sdmetrics scored a seeded sample of at most {max_rows} rows of each table.")
    return tuple(notes)
