"""SequenceLayout and RecordStates: all a generator of records knows of them.

A generator sees neither names nor codes' texts nor dates: only how many codes, gaps and states of a patient
there are, and records as numbers. Rules: every figure of a layout is public and part of the plan; a visit
is a set, its codes ascend; a patient has at least one visit.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.domain.calendar import Calendar
from synthkit.domain.layout import Layout


@dataclass(frozen=True, kw_only=True)
class SequenceLayout:
    """What records look like.

    Attributes:
        types: Each code's type, numbered from 0; as many as there are codes.
        most_visits: No record has more.
        most_codes: No visit has more.
        calendar: How gaps and dates are numbered.
        statics: The states of a patient that hold for the whole record; the last column is the first
            visit's year.
        may_be_empty: Whether a visit may have no code.
    """

    types: tuple[int, ...]
    most_visits: int
    most_codes: int
    calendar: Calendar
    statics: Layout
    may_be_empty: bool = True

    def __post_init__(self) -> None:
        if not self.types or min(self.types) < 0 or min(self.most_visits, self.most_codes) < 1:
            raise ValueError("a layout needs a code and a visit")
        if self.statics.states[-1] != self.calendar.years:
            raise ValueError("the last static column is the first visit's year")

    @property
    def codes(self) -> int:
        """Number of codes."""
        return len(self.types)

    @property
    def end(self) -> int:
        """The number that stands in place of a kind of gap after the last visit."""
        return self.calendar.kinds


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RecordStates:
    """Encoded records, one patient's after the other's. Private where they are of real patients.

    Attributes:
        codes: int64 (entries,), ascending within each visit.
        visit_starts: int64 (visits + 1,).
        patient_starts: int64 (patients + 1,).
        statics: int64 (patients, columns of `SequenceLayout.statics`).
        gap_days: int64 (visits,): days since the visit before; 0 at the first and without times.
        first_days: int64 (patients,): the first visit's day; 0 without dates.
    """

    codes: np.ndarray
    visit_starts: np.ndarray
    patient_starts: np.ndarray
    statics: np.ndarray
    gap_days: np.ndarray
    first_days: np.ndarray

    def __post_init__(self) -> None:
        visits, patients = self.visit_starts.size - 1, self.patient_starts.size - 1
        if visits != self.patient_starts[-1] or self.codes.size != self.visit_starts[-1]:
            raise ValueError("arrays of different lengths")
        if self.gap_days.size != visits or {len(self.statics), self.first_days.size} != {patients}:
            raise ValueError("arrays of different lengths")
        if (np.diff(self.patient_starts) < 1).any():
            raise ValueError("every patient needs at least one visit")

    def __len__(self) -> int:
        return self.patient_starts.size - 1

    @property
    def steps(self) -> np.ndarray:
        """Codes and visits of each patient together, int64 (patients,)."""
        entries = np.diff(self.visit_starts[self.patient_starts])
        steps: np.ndarray = entries + np.diff(self.patient_starts)
        return steps

    def take(self, patients: np.ndarray) -> "RecordStates":
        """The given patients (positions), in that order."""
        visits = _ranges(self.patient_starts[patients], self.patient_starts[patients + 1])
        entries = _ranges(self.visit_starts[visits], self.visit_starts[visits + 1])
        return RecordStates(
            codes=self.codes[entries],
            visit_starts=_starts(np.diff(self.visit_starts)[visits]),
            patient_starts=_starts(np.diff(self.patient_starts)[patients]),
            statics=self.statics[patients],
            gap_days=self.gap_days[visits],
            first_days=self.first_days[patients],
        )


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers of all half-open ranges one after the other."""
    lengths = ends - starts
    begins = np.repeat(starts - _starts(lengths)[:-1], lengths)
    numbers: np.ndarray = np.arange(int(lengths.sum())) + begins
    return numbers
