"""What in survival tables makes a figure say less than it seems to.

Knows shares and column names. Refuses to stop an evaluation. Rule: a remark names columns, levels of the
schema and shares; never a cell, a patient or a number of rows.
"""

import numpy as np

from synthkit.data.table import PatientTable
from synthkit.domain.survival import Calibration
from synthkit.evaluation.curves import Sample
from synthkit.evaluation.survival_rows import SurvivalRows
from synthkit.evaluation.survival_task import ALL, MOST_LEVELS, SurvivalTask

MANY_TIES = 0.01
"""A larger share of the pairs of events at one and the same time is worth a word."""

POOLING = (
    "Several synthetic tables were given: the pooled intervals follow the rule for partially synthetic data "
    "(Reiter 2003). They cover the choice of real patients and the drawing of the tables. Where all tables "
    "come from one trained model, they do not cover its training: neither what it cannot express, nor, if "
    "it was trained with differential privacy, the noise that all its tables share, so they are still too "
    "narrow. Tables of models that were trained anew, each with a budget of its own, do bring that noise in."
)


def task_remarks(task: SurvivalTask, missing: tuple[str, ...]) -> tuple[str, ...]:
    """On the columns asked for."""
    remarks = []
    if task.is_event_assumed:
        remarks.append(
            f"The categories of {task.event.name} do not say which one is the event: {task.event_level}, "
            "listed second, was taken for it. If it is the other one, say --event-level."
        )
    if not task.duration.unit:
        remarks.append(
            f"The schema gives no unit for {task.duration.name}: times are printed without one, "
            "and two tables in different units would look like different survival."
        )
    if task.left_out:
        remarks.append(
            f"No covariate, being a date, a code, or of more than {MOST_LEVELS} categories: "
            f"{', '.join(task.left_out)}."
        )
    if missing:
        remarks.append(
            f"No covariate, being missing more often than present in one of the tables: {', '.join(missing)}."
        )
    return tuple(remarks)


def table_remarks(label: str, sample: Sample, rows: SurvivalRows) -> tuple[str, ...]:
    """On one table: its censoring, ties and incomplete rows."""
    time, event = sample
    remarks = []
    if event.all():
        remarks.append(f"No row is censored in the {label} rows: every event was seen.")
    elif event.any() and _tied(time[event]) > MANY_TIES:
        remarks.append(
            f"Of the pairs of events in the {label} rows {100 * _tied(time[event]):.1f} % share their time: "
            "the Cox models handle ties by Efron's method, and C leaves such pairs out."
        )
    left = 1 - len(rows) / time.size
    if left > 0:
        remarks.append(
            f"{100 * left:.1f} % of the {label} rows miss a covariate. They are left out of the Cox models "
            "(complete cases), which is unbiased only where the gaps do not depend on the outcome; the "
            "curves keep them."
        )
    return tuple(remarks)


def repeated_patients(real: PatientTable) -> tuple[str, ...]:
    """On patients with several rows."""
    if real.patient_count == len(real):
        return ()
    return (
        "Some patients have several rows: Cox models take them for different patients, so the intervals "
        "are too narrow.",
    )


def stratum_remark(
    label: str, rows: np.ndarray, found: list[tuple[Calibration | None, bool]]
) -> tuple[str, ...]:
    """On a stratum of the real test rows; `found` holds each slope and whether its model exists."""
    if label != ALL and not rows.any():
        return (f"No real patient to test on is in the stratum {label}: it has no calibration.",)
    if any(one is None and has_model for one, has_model in found):
        name = "all real rows tested on" if label == ALL else f"the stratum {label}"
        return (f"Too few rows or events in {name}: not every calibration slope can be given.",)
    return ()


def _tied(times: np.ndarray) -> float:
    """Share of pairs of times that are equal."""
    _, counts = np.unique(times, return_counts=True)
    return float((counts * (counts - 1)).sum() / max(1, times.size * (times.size - 1)))
