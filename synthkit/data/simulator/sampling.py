"""Draws patients from a process, a chunk at a time.

Knows the process's formulas and one random stream for each chunk. Refuses to keep more than a chunk.
Rules: patient i is the same whatever the number of patients and in whatever order chunks are drawn, for
chunk c draws from a stream of its own, and always all of its patients; within a chunk all patients move
on visit by visit together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from synthkit.data.sequences import SyntheticSequences, pool_synthetic, starts_of
from synthkit.data.simulator.chances import Departure, Moment, departure, event_rates, follower_weights
from synthkit.data.simulator.process import DIED, ENDS, LEFT, ONGOING, SEXES, Process
from synthkit.errors import InputError

CHUNK = 1000
"""Patients that share a random stream. Part of what a seed means: another number, other patients."""

KIND = np.float32


def simulate(process: Process, patients: int, *, seed: int) -> SyntheticSequences:
    """Draw patients into memory.

    Args:
        process: What they follow.
        patients: How many.
        seed: The same seed gives the same patients, and fewer patients are the first of more.

    Raises:
        InputError: `patients` is below 1.
    """
    return pool_synthetic(list(simulate_chunks(process, patients, seed=seed)))


def simulate_chunks(process: Process, patients: int, *, seed: int) -> Iterator[SyntheticSequences]:
    """Draw patients, at most `CHUNK` at a time; see `simulate`.

    Raises:
        InputError: `patients` is below 1.
    """
    if patients < 1:
        raise InputError("there is nobody to simulate", where="patients", fix="ask for at least 1")
    for chunk in range(-(-patients // CHUNK)):
        drawn = _chunk(process, np.random.SeedSequence(seed, spawn_key=(chunk,)))
        wanted = min(CHUNK, patients - chunk * CHUNK)
        yield drawn if wanted == CHUNK else drawn.take(np.arange(wanted))


@dataclass(frozen=True, kw_only=True, eq=False)
class _People:
    """Patients whose record goes on, one row each; `numbers` is their place in the chunk."""

    numbers: np.ndarray
    ages: np.ndarray
    sexes: np.ndarray
    classes: np.ndarray
    days: np.ndarray
    elapsed: np.ndarray
    gaps: np.ndarray
    present: np.ndarray
    acute: np.ndarray
    followers: np.ndarray

    def kept(self, rows: np.ndarray) -> "_People":
        return _People(**{name: values[rows] for name, values in vars(self).items()})

    @property
    def moment(self) -> Moment:
        names = ("ages", "sexes", "days", "elapsed", "gaps", "present", "acute", "followers")
        return Moment(**{name: getattr(self, name) for name in names})


def _chunk(process: Process, seeds: np.random.SeedSequence) -> SyntheticSequences:
    rng = np.random.Generator(np.random.SFC64(seeds))
    people, sites = _newcomers(process, rng)
    first, record = people, _Record(process)
    for place in range(1, process.most_visits + 1):
        people = _visit(process, people, record, rng)
        people = _next(process, people, record, rng, is_last=place == process.most_visits)
        if not people.numbers.size:
            break
    statics = pd.DataFrame(
        {
            "age": first.ages.astype(float),
            "sex": np.array(SEXES, dtype=object)[first.sexes],
            "site": np.array(process.site_names, dtype=object)[sites],
            "end": np.array(ENDS, dtype=object)[record.ends],
        }
    )
    return record.sequences(statics, first.days)


def _newcomers(process: Process, rng: np.random.Generator) -> tuple[_People, np.ndarray]:
    """The chunk's patients as they come to their first visit, and their sites."""
    sites = _choice(rng.random(CHUNK), np.cumsum(process.site_shares))
    chances = np.cumsum(process.class_shares, axis=1)[sites]
    ages = process.ages[_choice(rng.random(CHUNK), np.cumsum(process.ages[:, 1])), 0]
    low, high = process.first_days
    nothing = np.zeros(CHUNK, dtype=np.int64)
    people = _People(
        numbers=np.arange(CHUNK),
        ages=ages,
        sexes=(rng.random(CHUNK) < process.male).astype(np.int64),
        classes=(rng.random(CHUNK)[:, None] >= chances[:, :-1]).sum(axis=1),
        days=rng.integers(low, high, size=CHUNK, endpoint=True),
        elapsed=nothing,
        gaps=nothing,
        present=np.zeros((CHUNK, process.conditions), dtype=KIND),
        acute=np.zeros((CHUNK, process.events - process.conditions), dtype=KIND),
        followers=np.zeros((CHUNK, process.old.shape[1]), dtype=KIND),
    )
    return people, sites


def _choice(uniforms: np.ndarray, cumulative: np.ndarray) -> np.ndarray:
    """One number from 0 for each uniform; the last one takes what rounding leaves."""
    return np.minimum(np.searchsorted(cumulative, uniforms, side="right"), cumulative.size - 1)


def _visit(process: Process, people: _People, record: "_Record", rng: np.random.Generator) -> _People:
    """One visit of everybody: it goes into the record, and its codes into the state."""
    count, size = process.conditions, people.numbers.size
    rates = event_rates(process, people.moment) * np.exp(process.classes).astype(KIND)[people.classes]
    chances = -np.expm1(-rates)
    was = people.present > 0
    chances[:, :count] = np.where(was, process.reported.astype(KIND), chances[:, :count])
    events = rng.random(chances.shape, dtype=KIND) < chances
    fresh = events.copy()
    fresh[:, :count] &= ~was
    weights = follower_weights(process, people.moment) + fresh.astype(KIND) @ process.new.astype(KIND)
    followers = rng.random(weights.shape, dtype=KIND) < -np.expm1(-weights)
    incidental = np.zeros((size, process.incidental_shares.size), dtype=bool)
    has = rng.random(size) < process.incidental[people.classes]
    which = _choice(rng.random(size), np.cumsum(process.incidental_shares))
    incidental[np.flatnonzero(has), which[has]] = True
    rest = ~(events.any(axis=1) | followers.any(axis=1) | has)
    record.add(people, np.concatenate([events, incidental, rest[:, None], followers], axis=1))
    return replace(
        people,
        present=np.maximum(people.present, events[:, :count].astype(KIND)),
        acute=events[:, count:].astype(KIND),
        followers=followers.astype(KIND),
    )


def _next(
    process: Process, people: _People, record: "_Record", rng: np.random.Generator, *, is_last: bool
) -> _People:
    """Who comes again, and when."""
    leave = departure(
        process,
        ages=people.ages,
        elapsed=people.elapsed,
        present=people.present,
        acute=people.acute,
        drugs=np.asarray(people.followers[:, process.drugs].any(axis=1)),
    )
    rows = np.arange(people.numbers.size)
    dies = rng.random(rows.size) < leave.died[rows, people.classes]
    leaves = ~dies & (rng.random(rows.size) < process.leaving)
    gaps = _gaps(process, leave, people.classes, rng)
    record.end(people.numbers[dies], DIED)
    record.end(people.numbers[leaves], LEFT)
    on = ~(dies | leaves)
    if is_last:
        record.end(people.numbers[on], ONGOING)
        on[:] = False
    moved = replace(people, gaps=gaps, days=people.days + gaps, elapsed=people.elapsed + gaps)
    return moved.kept(on)


def _gaps(process: Process, leave: Departure, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Days to the next visit, int64 (rows,)."""
    rows = np.arange(classes.size)
    low, high = process.quarter
    quarterly = rng.random(rows.size) < leave.scheduled
    appointed = rng.integers(low, high, size=rows.size, endpoint=True)
    waited = rng.standard_exponential(rows.size) / leave.daily[rows, classes]
    drawn = np.minimum(1 + np.floor(waited).astype(np.int64), process.longest)
    return np.where(quarterly, appointed, drawn)


class _Record:
    """The chunk's visits as they happen, sorted by patient at the end."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._visitors: list[np.ndarray] = []
        self._gaps: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self.ends = np.full(CHUNK, ONGOING)

    def add(self, people: _People, coded: np.ndarray) -> None:
        """`coded`: bool (rows, codes of the vocabulary)."""
        places = np.flatnonzero(coded.ravel())
        rows, codes = np.divmod(places, coded.shape[1])
        self._visitors.append(people.numbers)
        self._gaps.append(people.gaps.astype(np.int32))
        self._counts.append(np.bincount(rows, minlength=people.numbers.size))
        self._owners.append(people.numbers[rows].astype(np.int16))
        self._codes.append(codes.astype(np.int32))

    def end(self, numbers: np.ndarray, how: int) -> None:
        """These patients' records end here."""
        self.ends[numbers] = how

    def sequences(self, statics: pd.DataFrame, first_days: np.ndarray) -> SyntheticSequences:
        """Everything, patient by patient; a stable sort keeps visits and codes in order."""
        visitors, owners = np.concatenate(self._visitors), np.concatenate(self._owners)
        by_visit, by_code = np.argsort(visitors, kind="stable"), np.argsort(owners, kind="stable")
        return SyntheticSequences(
            schema=self._process.schema,
            codes=np.concatenate(self._codes)[by_code],
            visit_starts=starts_of(np.concatenate(self._counts)[by_visit]),
            patient_starts=starts_of(np.bincount(visitors, minlength=CHUNK)),
            statics=statics,
            gaps=np.concatenate(self._gaps)[by_visit],
            first_days=first_days.astype(np.int32),
        )
