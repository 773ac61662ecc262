"""Are the real sets a random split of one population? Two checks before any attack on records.

Knows the real sets alone; refuses to see the synthetic records. *Disjoint*: no two sets share patients
beyond chance. *Blind*: members and holdout cannot be told apart by themselves, from numbers of visits and
codes, days, frequent codes and static columns. Both are the table audit's own tests, asked about what a
record is in short.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from synthkit.audit.baseline import BlindBaseline, blind_baseline
from synthkit.audit.overlap import LEVEL, chance_of_split
from synthkit.audit.sequences.records import canonical
from synthkit.data.sequences import PatientSequences, Sequences
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column, Kind, Schema

FREQUENT = 60
"""Codes whose presence the blind baseline looks at: the most frequent in both sets together."""
LARGEST = 10_000_000
"""Bound of the counts and days, for a schema's sake."""


def overlapping_records(sets: dict[str, PatientSequences], *, seed: int) -> tuple[str, ...]:
    """In words, each pair of sets that share patients far beyond chance; see `overlap`.

    Two records are one if visits, days and static columns are the same.
    """
    records = canonical(list(sets.values()))[0]
    prints = {name: [key.tobytes() for key in part.whole] for name, part in zip(sets, records, strict=True)}
    rng = np.random.default_rng(seed)
    return tuple(
        f"{first} and {second} share patients: identical records far beyond chance"
        for first, second in combinations(prints, 2)
        if chance_of_split(prints[first], prints[second], rng) < LEVEL
    )


def blind_to_records(members: PatientSequences, holdout: PatientSequences, *, seed: int) -> BlindBaseline:
    """Try to tell the two sets apart by themselves."""
    counts = sum(np.bincount(part.codes, minlength=_size(part)) for part in (members, holdout))
    frequent = np.argsort(-np.asarray(counts), kind="stable")[:FREQUENT]
    return blind_baseline(_in_short(members, frequent), _in_short(holdout, frequent), seed=seed)


def _size(part: Sequences) -> int:
    return len(part.schema.code.categories)


def _in_short(part: PatientSequences, frequent: np.ndarray) -> PatientTable:
    """One row a patient: counts, days, whether each frequent code occurs, static columns."""
    owners = np.repeat(part.patient_of_visit, part.codes_per_visit)
    visits, codes = part.visits_per_patient, np.bincount(owners, minlength=part.patient_count)
    cells: dict[str, np.ndarray] = {"visits": visits, "codes": codes}
    if part.days is not None:
        first, last = part.days[part.patient_starts[:-1]], part.days[part.patient_starts[1:] - 1]
        cells |= {"first day": first, "days": last - first}
    numbers = {name: values.astype(float) for name, values in cells.items()}
    columns = [Column(name=name, kind=Kind.INTEGER, minimum=-LARGEST, maximum=LARGEST) for name in numbers]
    texts: dict[str, np.ndarray] = {}
    for code in frequent:
        has = np.zeros(part.patient_count, dtype=bool)
        has[owners[part.codes == code]] = True
        texts[f"code {code}"] = np.where(has, "yes", "no").astype(object)
        columns.append(Column(name=f"code {code}", kind=Kind.BINARY, categories=("no", "yes")))
    return _with_statics(part, columns, {**numbers, **texts})


def _with_statics(
    part: PatientSequences, columns: list[Column], cells: dict[str, np.ndarray]
) -> PatientTable:
    """The table of these columns and the static ones, renamed so that no two are called the same."""
    frame = pd.DataFrame(cells)
    table = part.static_table
    if table is not None:
        for place, column in enumerate(table.schema.columns):
            name = f"static {place}"
            frame[name] = table.frame[column.name].to_numpy()
            columns = [*columns, _renamed(column, name)]
    schema = Schema(name="records in short", columns=tuple(columns))
    return PatientTable(schema=schema, frame=frame, patients=np.arange(len(frame)))


def _renamed(column: Column, name: str) -> Column:
    """The same column under another name; its roles in training play no part here."""
    if column.is_numeric:
        return Column(
            name=name,
            kind=column.kind,
            minimum=column.minimum,
            maximum=column.maximum,
            missing=column.missing,
            decimals=column.decimals,
        )
    return Column(name=name, kind=Kind.CATEGORICAL, categories=column.categories, missing=column.missing)
