"""PatientSequences and SyntheticSequences: records of visits, real and made, which the types keep apart.

Both hold the codes of all visits of all patients one after the other, with the places where visits and
patients begin. Rules: a visit is a set, its codes ascend and none stands twice; a patient has at least
one visit; PatientSequences never shows its rows in a repr or message, and cannot be released; only
SyntheticSequences has a digest and can leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from synthkit.data.table import EPOCH, PatientTable, SyntheticTable
from synthkit.domain.record_files import RecordFiles
from synthkit.domain.schema import Schema


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Sequences:
    """Records of visits; never made as such, but as one of the two below.

    Attributes:
        schema: A longitudinal schema; its vocabulary numbers the codes.
        codes: int32 (entries,), ascending within each visit.
        visit_starts: int64 (visits + 1,): visit v holds codes[visit_starts[v]:visit_starts[v + 1]].
        patient_starts: int64 (patients + 1,): where each patient's visits begin.
        gaps: int32 (visits,): days since the patient's visit before, 0 at the first; None: no times.
        first_days: int32 (patients,): the first visit's day, since 1970-01-01 if `is_dated`, else since
            the day the source counts from; None: no times.
        is_dated: Whether times are calendar dates.
        statics: One row a patient, the columns of `schema.statics`, typed as a table's; may have none.
    """

    schema: Schema
    codes: np.ndarray
    visit_starts: np.ndarray
    patient_starts: np.ndarray
    statics: pd.DataFrame
    gaps: np.ndarray | None = None
    first_days: np.ndarray | None = None
    is_dated: bool = True

    def __post_init__(self) -> None:
        if (self.gaps is None) != (self.first_days is None):
            raise RuntimeError("gaps and first days come together")
        if len(self.statics) != self.patient_count or int(self.patient_starts[-1]) != self.visit_count:
            raise RuntimeError("arrays of different lengths")

    def __len__(self) -> int:
        return self.patient_count

    @property
    def patient_count(self) -> int:
        """Number of patients: private where they are real."""
        return self.patient_starts.size - 1

    @property
    def visit_count(self) -> int:
        """Number of visits of all patients."""
        return self.visit_starts.size - 1

    @property
    def visits_per_patient(self) -> np.ndarray:
        """int64 (patients,), at least 1."""
        return np.diff(self.patient_starts)

    @property
    def codes_per_visit(self) -> np.ndarray:
        """int64 (visits,)."""
        return np.diff(self.visit_starts)

    @property
    def patient_of_visit(self) -> np.ndarray:
        """int64 (visits,): each visit's patient, from 0."""
        return np.repeat(np.arange(self.patient_count), self.visits_per_patient)

    @property
    def visit_of_code(self) -> np.ndarray:
        """int64 (entries,): each code's visit, from 0."""
        return np.repeat(np.arange(self.visit_count), self.codes_per_visit)

    @property
    def is_first_visit(self) -> np.ndarray:
        """Whether each visit is its patient's first: bool (visits,)."""
        first = np.zeros(self.visit_count, dtype=bool)
        first[self.patient_starts[:-1]] = True
        return first

    @property
    def days(self) -> np.ndarray | None:
        """int64 (visits,): each visit's day, counted as `first_days` is; None: no times."""
        if self.gaps is None or self.first_days is None:
            return None
        total = np.cumsum(self.gaps, dtype=np.int64)
        begins = self.first_days - total[self.patient_starts[:-1]]
        days: np.ndarray = total + np.repeat(begins, self.visits_per_patient)
        return days

    def dense(self) -> np.ndarray:
        """The visits as rows of 0 and 1, bool (visits, codes of the vocabulary)."""
        rows = np.zeros((self.visit_count, len(self.schema.code.categories)), dtype=bool)
        rows[self.visit_of_code, self.codes] = True
        return rows

    def take(self, patients: np.ndarray) -> Self:
        """The given patients (integer positions or a boolean mask), in that order."""
        chosen = np.flatnonzero(patients) if patients.dtype == np.bool_ else np.asarray(patients)
        visits = ranges(self.patient_starts[chosen], self.patient_starts[chosen + 1])
        entries = ranges(self.visit_starts[visits], self.visit_starts[visits + 1])
        return replace(
            self,
            codes=self.codes[entries],
            visit_starts=starts_of(self.codes_per_visit[visits]),
            patient_starts=starts_of(self.visits_per_patient[chosen]),
            statics=self.statics.iloc[chosen].reset_index(drop=True),
            gaps=None if self.gaps is None else self.gaps[visits],
            first_days=None if self.first_days is None else self.first_days[chosen],
        )

    def first_visits(self, most: int) -> Self:
        """Every patient's first `most` visits: what a cap keeps of a longer record."""
        kept = np.minimum(self.visits_per_patient, most)
        visits = ranges(self.patient_starts[:-1], self.patient_starts[:-1] + kept)
        entries = ranges(self.visit_starts[visits], self.visit_starts[visits + 1])
        return replace(
            self,
            codes=self.codes[entries],
            visit_starts=starts_of(self.codes_per_visit[visits]),
            patient_starts=starts_of(kept),
            gaps=None if self.gaps is None else self.gaps[visits],
        )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PatientSequences(Sequences):
    """Real patients' records, checked against their schema.

    `lots` holds one uint64 a patient that depends on that patient's id alone, by which a split decides;
    None: made in memory, where the patient's number stands for it.
    """

    lots: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"PatientSequences(schema={self.schema.name!r}, patients=<private>)"

    def take(self, patients: np.ndarray) -> Self:
        """The given patients (integer positions or a boolean mask), in that order."""
        taken = super().take(patients)
        return taken if self.lots is None else replace(taken, lots=self.lots[patients])

    @property
    def static_table(self) -> PatientTable | None:
        """The static columns as a table of one row a patient; None if there are none."""
        schema = self.schema.statics
        if schema is None:
            return None
        numbers = np.arange(self.patient_count)
        return PatientTable(schema=schema, frame=self.statics, patients=numbers, lots=self.lots)

    def split(self, shares: tuple[float, ...], *, seed: int, purpose: str = "sets") -> tuple[Self, ...]:
        """Split by patient into disjoint parts of about these shares, as `PatientTable.split` does.

        Each patient's part follows from the seed and that patient alone.
        """
        numbers = np.arange(self.patient_count)
        rows = PatientTable(
            schema=self.schema,
            frame=pd.DataFrame(index=range(self.patient_count)),
            patients=numbers,
            lots=self.lots,
        )
        return tuple(self.take(mask) for mask in rows.split_masks(shares, seed=seed, purpose=purpose))


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SyntheticSequences(Sequences):
    """Generated records."""

    def __repr__(self) -> str:
        return (
            f"SyntheticSequences(schema={self.schema.name!r}, patients={self.patient_count}, "
            f"visits={self.visit_count}, codes={self.codes.size})"
        )

    @property
    def static_table(self) -> SyntheticTable | None:
        """The static columns as a table of one row a patient; None if there are none."""
        schema = self.schema.statics
        return None if schema is None else SyntheticTable(schema=schema, frame=self.statics)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical files: what an audit judges and a release seals."""
        return self.files.digest

    @property
    def files(self) -> RecordFiles:
        """The records as they are released: patients and visits counted from 1, static columns apart.

        CSV in UTF-8, header, LF line ends; equal records give equal bytes. They are the bytes that
        `write_sequences` writes of records with a table of static columns beside.
        """
        counts, owners = self.codes_per_visit, self.patient_of_visit
        rows = np.repeat(np.arange(self.visit_count), np.maximum(counts, 1))
        places = np.arange(self.visit_count) - self.patient_starts[owners] + 1
        codes = np.full(rows.size, -1, dtype=np.int32)
        codes[(counts > 0)[rows]] = self.codes
        schema, days = self.schema, self.days
        columns = {str(schema.patient_id): (owners + 1)[rows], str(schema.visit): places[rows]}
        if schema.time is not None and days is not None:
            columns[schema.time] = (_dates(days) if self.is_dated else days)[rows]
        long = pd.DataFrame(columns)
        listed = pd.Index(schema.code.categories, dtype=object)
        # The stubs ask for a list, which would hold every code as an object.
        long[schema.code.name] = pd.Categorical.from_codes(codes, categories=listed)  # type: ignore[arg-type]
        return RecordFiles(records=_csv(long), patients=self._patients_csv())

    def _patients_csv(self) -> bytes | None:
        table = self.static_table
        if table is None:
            return None
        frame = table.release_frame()
        frame.insert(0, str(self.schema.patient_id), np.arange(1, self.patient_count + 1))
        return _csv(frame)


def _dates(days: np.ndarray) -> np.ndarray:
    origin = np.datetime64(EPOCH.isoformat(), "D")
    return np.asarray((origin + days).astype("datetime64[D]").astype(str), dtype=object)


def _csv(frame: pd.DataFrame) -> bytes:
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8")


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Where runs of these lengths begin, and where the last ends: int64 (runs + 1,)."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers of all half-open ranges one after the other, int64."""
    lengths = ends - starts
    total = int(lengths.sum())
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    numbers: np.ndarray = np.arange(total, dtype=np.int64) + offsets
    return numbers


def pool_synthetic(parts: Sequence[SyntheticSequences]) -> SyntheticSequences:
    """One set of records of several, all of one schema and all with or all without times."""
    times = [part for part in parts if part.gaps is not None and part.first_days is not None]
    is_timed = len(times) == len(parts)
    return replace(
        parts[0],
        codes=np.concatenate([part.codes for part in parts]),
        visit_starts=starts_of(np.concatenate([part.codes_per_visit for part in parts])),
        patient_starts=starts_of(np.concatenate([part.visits_per_patient for part in parts])),
        statics=pd.concat([part.statics for part in parts], ignore_index=True),
        gaps=np.concatenate([part.gaps for part in parts if part.gaps is not None]) if is_timed else None,
        first_days=np.concatenate([part.first_days for part in parts if part.first_days is not None])
        if is_timed
        else None,
    )
