"""Generated records against the simulator's exact probabilities: does what follows follow often enough?

Knows the stated process and records in its schema. Refuses records of patients: their process is nobody's to
state. Each question takes the visits of the records themselves, groups them by what the patient had before,
and sets how often a code stands in them beside what the process says of these very histories, one by one. So
no second sample blurs the answer, and a generator is not charged for patients of another mix, only for what
follows what.

Rules: a visit that the process cannot make (a drug that nothing brings, two incidental diagnoses) still says
what the patient has from then on, and nothing of the class they belong to; the share of visits that it can
make is stated. A group counts where the process expects `EXPECTED` codes
and as many without at least. Beside each score stand the same one of patients drawn from the process itself,
as many, which miss the truth by chance alone, and of a generator that would know how frequent each code is
among those patients and nothing of anybody's history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from synthkit.data.sequences import Sequences, SyntheticSequences
from synthkit.data.simulator.process import DIED, ENDS, Process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.simulator.truth import death_chances, possible_visits, visit_chances
from synthkit.domain.canonical import JsonObject
from synthkit.errors import InputError

EXPECTED = 25.0
"""Expected codes, and expected absences, from which on a group's share is more than chance."""

BLOCK = 1000
"""Patients that are worked on at once; bounds the memory, never the result."""

AGES = (60, 75)
"""Where groups by age are cut, years at the first visit."""

QUESTIONS = (
    "drug after a condition",
    "drug after an event",
    "check after a drug",
    "the same code again",
    "onset after a condition",
    "death",
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One question's answer for one set of records.

    `deviation`: mean over groups of |share found - exact probability|, each weighted by its visits.
    `error`: the same over mean exact probability. `strength`: slope of the shares found on the exact ones,
    both less the code's overall share: 1 where what follows follows in full, 0 where nothing hangs on the
    history. `found`, `exact`: over all groups. NaN where no group is large enough.
    """

    groups: int
    deviation: float
    error: float
    strength: float
    found: float
    exact: float

    def to_json(self) -> JsonObject:
        """All figures, by name; NaN as null."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: None if value != value else value for name, value in values.items()}  # noqa: PLR0124


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One question: `synthetic` records, `floor` (frequencies alone) and `ceiling` (the process itself)."""

    question: str
    synthetic: Agreement
    floor: Agreement
    ceiling: Agreement


@dataclass(frozen=True, kw_only=True)
class TruthReport:
    """All questions, and the share of visits that the process can make after those before."""

    questions: tuple[Comparison, ...]
    possible: float

    def to_json(self) -> JsonObject:
        """For `--json`."""
        return {
            "possible_visits": self.possible,
            "questions": {
                one.question: {
                    name: getattr(one, name).to_json() for name in ("synthetic", "floor", "ceiling")
                }
                for one in self.questions
            },
        }


def compare_with_truth(
    process: Process,
    synthetic: SyntheticSequences,
    *,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> TruthReport:
    """Ask every question of generated records, and of as many patients of the process.

    Args:
        process: What the training patients were simulated from.
        synthetic: Generated records in the process's schema, with times.
        seed: Of the patients that make floor and ceiling.
        progress: Told what is being done.

    Raises:
        InputError: The records are not in the process's schema, or have no times.
    """
    if synthetic.schema.digest != process.schema.digest or synthetic.gaps is None:
        raise InputError("the records are not in the simulator's schema", fix="give the one `simulate` wrote")
    progress("asking what the process says of these histories")
    own = _tally(process, synthetic)
    progress("simulating patients for floor and ceiling")
    fresh = _tally(process, simulate(process, synthetic.patient_count, seed=seed))
    return TruthReport(
        questions=tuple(_comparison(name, own.sums[name], fresh.sums[name]) for name in QUESTIONS),
        possible=own.possible,
    )


def _comparison(question: str, own: "_Sums", fresh: "_Sums") -> Comparison:
    shares = fresh.all_found / np.maximum(fresh.all_visits, 1.0)
    return Comparison(
        question=question,
        synthetic=_agreement(own, shares),
        floor=_agreement(replace(fresh, found=fresh.visits * shares), shares),
        ceiling=_agreement(fresh, shares),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Over the visits of each group, (groups, codes + 1): visits, codes found, exact probabilities; the same
    over all visits, (codes + 1,); `is_asked` says which cells the question is about. Death is the last code.
    """

    visits: np.ndarray
    found: np.ndarray
    exact: np.ndarray
    all_visits: np.ndarray
    all_found: np.ndarray
    is_asked: np.ndarray

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(
            visits=self.visits + other.visits,
            found=self.found + other.found,
            exact=self.exact + other.exact,
            all_visits=self.all_visits + other.all_visits,
            all_found=self.all_found + other.all_found,
            is_asked=self.is_asked,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tally:
    sums: dict[str, _Sums]
    possible: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Visits:
    """Visits with an exact answer: found and exact, (visits, codes + 1), death last; what the patient had
    before, (visits, codes): `ever`, and `last` at the visit before; ages at first visits. `possible`: how
    many the process can make.
    """

    found: np.ndarray
    exact: np.ndarray
    ever: np.ndarray
    last: np.ndarray
    ages: np.ndarray
    possible: int


def _tally(process: Process, records: Sequences) -> _Tally:
    sums: dict[str, _Sums] = {}
    possible = 0
    for start in range(0, records.patient_count, BLOCK):
        chosen = np.arange(start, min(start + BLOCK, records.patient_count))
        visits = _visits(process, records.take(chosen))
        possible += visits.possible
        for question, answer in _answers(process, visits):
            sums[question] = sums[question] + answer if question in sums else answer
    return _Tally(sums=sums, possible=possible / records.visit_count)


def _visits(process: Process, records: Sequences) -> _Visits:
    coded, starts = records.dense(), records.patient_starts
    first = records.is_first_visit
    before = np.cumsum(coded, axis=0, dtype=np.int32) - coded
    ever = before - before[starts[:-1]][records.patient_of_visit] > 0
    last = np.roll(coded, 1, axis=0) & ~first[:, None]
    died = np.zeros((records.visit_count, 1), dtype=bool)
    died[starts[1:] - 1, 0] = (records.statics["end"] == ENDS[DIED]).to_numpy()
    exact = np.column_stack(
        [
            visit_chances(process, records, is_forgiving=True),
            death_chances(process, records, is_forgiving=True),
        ]
    )
    known = ~np.isnan(exact).any(axis=1)
    ages = records.statics["age"].to_numpy(dtype=float)[records.patient_of_visit]
    return _Visits(
        found=np.column_stack([coded, died])[known],
        exact=exact[known],
        ever=ever[known],
        last=last[known],
        ages=ages[known],
        possible=int(possible_visits(process, records).sum()),
    )


def _answers(process: Process, visits: _Visits) -> Iterator[tuple[str, _Sums]]:
    """Each question's sums over some visits."""
    count, first, size = process.conditions, process.events, len(process.vocabulary)
    follower = process.rest + 1
    drugs = follower + np.array(process.drugs)
    old, new = process.old > 0, process.new[count:] > 0
    yield "drug after a condition", _sums(visits, visits.ever[:, :count], _at(old, follower, size, drugs))
    yield "drug after an event", _sums(visits, visits.last[:, count:first], _at(new, follower, size, drugs))
    checks = np.setdiff1d(np.arange(follower, size), drugs)
    after_drugs = (process.last > 0)[np.array(process.drugs)]
    yield "check after a drug", _sums(visits, visits.last[:, drugs], _at(after_drugs, follower, size, checks))
    yield "the same code again", _sums(visits, visits.last, np.eye(size, size + 1, dtype=bool))
    onsets = np.zeros((count, size + 1), dtype=bool)
    onsets[:, :count] = process.after[:count, :count] != 0
    could = np.ones((len(visits.ever), size + 1), dtype=bool)
    could[:, :count] = ~visits.ever[:, :count]
    yield "onset after a condition", _sums(visits, visits.ever[:, :count], onsets, could)
    groups = np.stack([np.digitize(visits.ages, AGES) == group for group in range(len(AGES) + 1)], axis=1)
    is_death = np.zeros((groups.shape[1], size + 1), dtype=bool)
    is_death[:, -1] = True
    yield "death", _sums(visits, groups, is_death)


def _at(follows: np.ndarray, offset: int, size: int, kept: np.ndarray) -> np.ndarray:
    """Which followers of each cause are asked about, bool (causes, codes + 1)."""
    asked = np.zeros((len(follows), size + 1), dtype=bool)
    asked[:, offset : offset + follows.shape[1]] = follows
    chosen = np.zeros(size + 1, dtype=bool)
    chosen[kept] = True
    return asked & chosen


def _sums(
    visits: _Visits, groups: np.ndarray, is_asked: np.ndarray, could: np.ndarray | None = None
) -> _Sums:
    """Sums over each group's visits; `groups`, bool (visits, groups), may overlap, and `could`, bool
    (visits, codes + 1), leaves out visits at which a code could not stand.
    """
    of_group = groups.T.astype(float)
    open_to = np.ones_like(visits.exact) if could is None else could.astype(float)
    found = visits.found * open_to
    return _Sums(
        visits=of_group @ open_to,
        found=of_group @ found,
        exact=of_group @ (visits.exact * open_to),
        all_visits=open_to.sum(axis=0),
        all_found=found.sum(axis=0),
        is_asked=is_asked,
    )


def _agreement(sums: _Sums, shares: np.ndarray) -> Agreement:
    kept = sums.is_asked & (np.minimum(sums.exact, sums.visits - sums.exact) >= EXPECTED)
    visits = sums.visits[kept]
    if not visits.size:
        nothing = float("nan")
        return Agreement(
            groups=0, deviation=nothing, error=nothing, strength=nothing, found=nothing, exact=nothing
        )
    found, exact = sums.found[kept] / visits, sums.exact[kept] / visits
    base = np.broadcast_to(shares, sums.visits.shape)[kept]
    weights = visits / visits.sum()
    apart = exact - base
    spread = float((weights * apart**2).sum())
    mean = float((weights * exact).sum())
    deviation = float((weights * np.abs(found - exact)).sum())
    return Agreement(
        groups=visits.size,
        deviation=deviation,
        error=deviation / mean,
        strength=float((weights * apart * (found - base)).sum()) / spread if spread > 0 else float("nan"),
        found=float((weights * found).sum()),
        exact=mean,
    )
