"""What in the tables makes a figure say little: columns without values or variety, one-sided targets.

Knows column names, whether a column varies, and whether a target has both answers. Refuses to stop an
evaluation over one column: what cannot be judged is left out and named. Rule: a remark names columns and
targets, never a cell.
"""

import numpy as np
import pandas as pd

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.schema import Schema
from synthkit.evaluation.targets import Target
from synthkit.evaluation.utility import Examples


def column_remarks(real: PatientTable, synthetic: SyntheticTable) -> tuple[str, ...]:
    """One remark for each table and each way in which columns of it say nothing."""
    remarks = []
    for table, frame in (("real", real.frame), ("synthetic", synthetic.frame)):
        varieties = {name: int(frame[name].nunique()) for name in real.schema.names}
        empty = [name for name, values in varieties.items() if values == 0]
        constant = [name for name, values in varieties.items() if values == 1]
        if empty:
            remarks.append(
                f"Without any value in the {table} rows, so without moments or relations: {', '.join(empty)}."
            )
        if constant:
            remarks.append(
                f"Of one value only in the {table} rows, so without relations to show: {', '.join(constant)}."
            )
    return tuple(remarks)


def target_remarks(
    targets: tuple[Target, ...], test: Examples, trains: dict[str, Examples]
) -> tuple[str, ...]:
    """Which targets cannot be asked, or have one answer only, in the test rows or in training rows."""
    remarks = []
    for place, target in enumerate(targets):
        answers = _answers(test, place)
        if not answers.size:
            remarks.append(f"{target.label} is not asked: no real row to test on has an answer.")
            continue
        if answers.size == 1:
            remarks.append(
                f"{target.label} has one answer only in the real rows tested on: its AUC is set to 0.5 "
                "and says nothing."
            )
        remarks += [
            f"{target.label} has fewer than two answers in the {name} rows: they teach one answer."
            for name, examples in trains.items()
            if _answers(examples, place).size < 2
        ]
    return tuple(remarks)


def can_be_asked(test: Examples, place: int) -> bool:
    """Whether any real row to test on has an answer."""
    return bool(_answers(test, place).size)


def _answers(examples: Examples, place: int) -> np.ndarray:
    """The distinct answers that occur, missing ones left out."""
    answers = examples.answers[:, place]
    return np.unique(answers[~np.isnan(answers)])


def skipped_targets(schema: Schema, frame: pd.DataFrame) -> tuple[str, ...]:
    """One remark on the marked target columns of which no task can be made, or none."""
    names = [column.name for column in schema if column.target and frame[column.name].nunique() < 2]
    if not names:
        return ()
    return (
        f"Marked as a target but without two values in the rows that train the baseline: {', '.join(names)}.",
    )
