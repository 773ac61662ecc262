"""Conditions of a patient: a question about a static column, or a group of codes they carry.

Knows the schema's static columns and code list. Refuses a question that fewer than `FEW` patients of either
answer have in any set of records: a share of them would be chance, and its figure about few. Rules: codes
of the condition's own group never count as a sign of it; a patient whose column is missing is neither with
the condition nor without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.data.sequences import Sequences
from synthkit.domain.condition_text import COLUMN, Operator
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError
from synthkit.evaluation.targets import Target, parse_target

FEW = 50
MOST_LEVELS, MOST_CONDITIONS = 8, 8
LEVELED = (Kind.BINARY, Kind.CATEGORICAL, Kind.ORDINAL, Kind.EVENT)


@dataclass(frozen=True, kw_only=True)
class RecordCondition:
    """`target` asks about a static column; without it, whether any of `codes` (numbers) is carried."""

    label: str
    target: Target | None = None
    codes: tuple[int, ...] = ()

    def answers(self, records: Sequences) -> np.ndarray:
        """float64 (patients,): 1 yes, 0 no, NaN where the column is missing."""
        if self.target is not None:
            return self.target.answers(records.statics)
        found = np.zeros(records.patient_count)
        carries = np.isin(records.codes, self.codes)
        found[records.patient_of_visit[records.visit_of_code[carries]]] = 1.0
        return found


def parse_record_condition(text: str, schema: Schema) -> RecordCondition:
    """A condition as it is written: "sex = Female", "age >= 70", or "code in [I50, I11]".

    Raises:
        ConditionError: It asks about no column, level or code of the schema, or says nothing.
    """
    name = schema.code.name
    first = COLUMN.match(text)
    if first is None or first[1].strip("\"'`") != name:
        if schema.statics is None:
            raise ConditionError("there is no static column", fix=f"ask about codes: '{name} in [...]'")
        target = parse_target(text, schema.statics)
        return RecordCondition(label=target.label, target=target)
    conditions = parse_conditions([text], schema)
    listed = [one for one in conditions if one.operator in (Operator.EQUAL, Operator.IN)]
    if len(conditions) != 1 or not listed:
        raise ConditionError("a group of codes is a list", fix=f"write it like '{name} in [A, B]'")
    places = schema.vocabulary.places
    return RecordCondition(label=str(listed[0]), codes=tuple(places[value] for value in listed[0].values))


def default_conditions(schema: Schema) -> tuple[RecordCondition, ...]:
    """Each level of the static columns of few categories; of two categories the second alone."""
    found = []
    for column in schema.statics or ():
        if column.kind in LEVELED and len(column.categories) <= MOST_LEVELS:
            levels = column.categories[1:] if len(column.categories) == 2 else column.categories
            found += [_level(column, level) for level in levels]
    return tuple(found)


def _level(column: Column, level: str) -> RecordCondition:
    target = Target(column=column.name, value=level)
    return RecordCondition(label=target.label, target=target)


def askable(
    conditions: Sequence[RecordCondition], sets: Sequence[Sequences], *, most: int = MOST_CONDITIONS
) -> tuple[tuple[RecordCondition, ...], tuple[str, ...]]:
    """The conditions that enough patients of every set have and have not; and the labels of the others.

    At most `most`, in the order given.
    """
    kept: list[RecordCondition] = []
    left: list[RecordCondition] = []
    for condition in conditions:
        answers = [condition.answers(records) for records in sets]
        is_common = all(min((a == 1).sum(), (a == 0).sum()) >= FEW for a in answers)
        (kept if is_common and len(kept) < most else left).append(condition)
    return tuple(kept), tuple(condition.label for condition in left)
