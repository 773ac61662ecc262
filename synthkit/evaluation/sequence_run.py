"""Everything `synthkit evaluate` says of records, in one call.

Knows real and generated records of one schema. Refuses to stop over one task: what cannot be asked is left
out and named. Rules: what trains is never what is tested on; without other real records one half of the
given ones trains and the other is tested on; the same seed gives the same figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.data.sequences import Sequences
from synthkit.domain.sequence_utility import ConditionScores, NextVisit, SequenceReport
from synthkit.evaluation.condition_codes import matter_of, profile, telling_codes
from synthkit.evaluation.condition_transfer import condition_auc
from synthkit.evaluation.next_visit_transfer import FACTORS, NextVisitTask, has_next_visits
from synthkit.evaluation.record_conditions import FEW, RecordCondition, askable, default_conditions
from synthkit.evaluation.sequences import sequence_fidelity, shuffled

REPEATS = 3
GIVEN_AWAY = 0.999
"""An AUC of real patients from which on the codes state a condition instead of pointing to it."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Real records that train the baseline, others that are tested on, and generated ones."""

    trained: Sequences
    test: Sequences
    synthetic: Sequences


def evaluate_sequences(
    real: Sequences,
    synthetic: Sequences,
    *,
    train: Sequences | None = None,
    conditions: Sequence[RecordCondition] | None = None,
    cohort: int | None = None,
    seed: int = 0,
    repeats: int = REPEATS,
    is_quick: bool = False,
    progress: Progress = lambda _: None,
) -> SequenceReport:
    """Measure fidelity and usefulness of generated records.

    Args:
        real: Real records, at best ones that the generator never saw; what is tested on.
        synthetic: Generated ones, of the same code list.
        train: Real records of other patients, which train the baseline; None: one half of `real` does.
        conditions: What to ask about patients; None: the levels of the static columns.
        cohort: Size of the small real cohort that generated records augment; None: not asked.
        seed: Of every choice.
        repeats: Trainings per training set.
        is_quick: Whether to leave out all that has to be trained, and the conditions.
        progress: Told each stage.

    Raises:
        InputError: The code lists differ, there are fewer than two real patients, or the cohort is larger
            than the real patients to train on.
    """
    progress("comparing codes and pairs of codes")
    fidelity = sequence_fidelity(real, synthetic, seed=seed, holdout=train)
    if is_quick:
        return SequenceReport(fidelity=fidelity, notes=("Nothing was trained: asked for what is quick.",))
    sides, notes = _sides(real, synthetic, train, seed)
    next_visit, augmentation = None, None
    if all(has_next_visits(records) for records in (sides.trained, sides.test, sides.synthetic)):
        task = NextVisitTask(
            sides.trained, sides.test, sides.synthetic, seed=seed, repeats=repeats, progress=progress
        )
        if cohort is not None:
            task.check_cohort(cohort)
        next_visit = task.transfer()
        if cohort is not None:
            augmentation = task.augmentation(cohort)
            notes += _left_factors(len(augmentation.steps) - 1)
    else:
        notes.append("Next visits are not asked about: too few patients have a second visit with codes.")
    asked, more = _conditions(sides, conditions, seed=seed, repeats=repeats, progress=progress)
    return SequenceReport(
        fidelity=fidelity,
        next_visit=next_visit,
        augmentation=augmentation,
        conditions=asked,
        notes=(*notes, *more, *_about(next_visit)),
    )


def _sides(
    real: Sequences, synthetic: Sequences, train: Sequences | None, seed: int
) -> tuple[Sides, list[str]]:
    if train is not None:
        return Sides(trained=train, test=real, synthetic=synthetic), []
    order = np.random.default_rng((seed, 31)).permutation(real.patient_count)
    half = real.patient_count // 2
    sides = Sides(
        trained=real.take(np.sort(order[:half])), test=real.take(np.sort(order[half:])), synthetic=synthetic
    )
    return sides, ["No other real records were given: one half of the patients trains, the other is tested."]


def _left_factors(done: int) -> list[str]:
    left = FACTORS[done:]
    if not left:
        return []
    times = " and ".join(f"{factor} times" for factor in left)
    return [f"The cohort is not augmented {times}: there are too few generated patients."]


def _conditions(
    sides: Sides,
    conditions: Sequence[RecordCondition] | None,
    *,
    seed: int,
    repeats: int,
    progress: Progress,
) -> tuple[tuple[ConditionScores, ...], list[str]]:
    """Scores of each condition, and what is to be said of those left out."""
    wanted = default_conditions(sides.test.schema) if conditions is None else tuple(conditions)
    if not wanted:
        return (), [
            "No condition is asked about: no static column has few categories. --target asks about codes."
        ]
    most = {} if conditions is None else {"most": len(wanted)}
    asked, left = askable(wanted, (sides.trained, sides.test, sides.synthetic), **most)
    if asked:
        progress("counting who carries what")
    trained, test, synthetic = (matter_of(side) for side in (sides.trained, sides.test, sides.synthetic))
    mixed = matter_of(shuffled(sides.trained, np.random.default_rng((seed, 32))))
    found = []
    for condition in asked:
        progress(f"telling patients apart: {condition.label}")
        found.append(
            ConditionScores(
                label=condition.label,
                synthetic=profile(test, synthetic, condition),
                floor=profile(test, mixed, condition),
                ceiling=profile(test, trained, condition),
                auc=condition_auc(
                    condition,
                    trained=trained,
                    test=test,
                    synthetic=synthetic,
                    floor=mixed,
                    seed=seed,
                    repeats=repeats,
                ),
                codes=telling_codes(test, synthetic, condition),
            )
        )
    reason = f"fewer than {FEW} patients with or without it in one set of records, or too many conditions"
    notes = [f"Not asked about, {reason}: {', '.join(left)}."] if left else []
    return tuple(found), notes + _given_away(found, sides.test.schema.code.name)


def _given_away(found: Sequence[ConditionScores], name: str) -> list[str]:
    """What is to be said of conditions that a code states outright: an AUC of 1 is no merit of anybody's."""
    told = [one.label for one in found if one.auc and one.auc.real and one.auc.real.mean >= GIVEN_AWAY]
    if not told:
        return []
    return [
        f"Codes state {', '.join(told)} outright, so that its AUC says nothing: ask about those codes with "
        f"--target '{name} in [...]', which leaves them out of what it is told from."
    ]


def _about(next_visit: NextVisit | None) -> tuple[str, ...]:
    if next_visit is None:
        return ()
    words = (
        "The intervals cover the choice of training and test patients and the networks; they do not cover "
        "another training of the generator, or another set of generated records."
    )
    return (words,)
