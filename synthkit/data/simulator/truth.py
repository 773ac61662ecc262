"""The truth about simulated records: what the process says, exactly, of the record and of what comes next.

Knows a process and records, drawn from it or made by any generator in its schema. Refuses to draw: no
function here takes a seed, and every figure is computed in float64 by summing over the patient's
unrecorded class. What is not here has no closed form: how frequent a code is over whole records, how
long records are on average, how two codes go together. For those, simulate more.

The record tells the whole state but the class (`process`), so the class's posterior is Bayes' rule over
U classes, visit by visit, and a probability given the record is that of the class-wise formula, averaged
over the posterior. Given a history that the process cannot make, a probability is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.special import logsumexp, softmax

from synthkit.data.sequences import Sequences
from synthkit.data.simulator.chances import (
    Departure,
    Moment,
    departure,
    event_rates,
    follower_weights,
    gap_chances,
)
from synthkit.data.simulator.process import DIED, ENDS, LEFT, SEXES, Process
from synthkit.errors import InputError

BLOCK = 4000
"""Visits that are worked on at once; bounds the memory, never the result."""


def log_likelihood(process: Process, sequences: Sequences) -> np.ndarray:
    """Log probability of each whole record under the process: static columns, days, codes and end.

    Returns:
        float64 (patients,), natural logarithm, -inf where the process cannot make the record.

    Raises:
        InputError: The records are not in the process's schema, or have no times.
    """
    return np.concatenate([_record_likelihood(b) for b in _blocks(process, sequences)])


def class_posterior(process: Process, sequences: Sequences) -> np.ndarray:
    """P(class | the record so far), float64 (patients, U); the recorded end is not used.

    Raises:
        InputError: The records are not in the process's schema, or have no times.
    """
    return np.concatenate([_shares(b.evidence_after()[b.last_visits]) for b in _blocks(process, sequences)])


def visit_chances(process: Process, sequences: Sequences, *, is_forgiving: bool = False) -> np.ndarray:
    """P(code in this visit | all visits before it, the day of this one, age, sex, site), for every visit.

    Args:
        process: The process.
        sequences: Records, drawn from it or generated.
        is_forgiving: A visit that the process cannot make tells the patient's state and nothing of the class,
            instead of making every later probability of the record NaN.

    Returns:
        float64 (visits, codes of the vocabulary).

    Raises:
        InputError: The records are not in the process's schema, or have no times.
    """
    parts = []
    for block in _blocks(process, sequences, is_forgiving=is_forgiving):
        classes = _shares(block.evidence_before())
        parts.append(_average(classes, code_chances(process, block.moment)))
    return np.concatenate(parts)


def next_visit_chances(
    process: Process, sequences: Sequences, *, gap_days: int | np.ndarray | None = None
) -> np.ndarray:
    """P(code in the next visit | the whole record so far, and that there is a next visit).

    Args:
        process: The process.
        sequences: Histories; their recorded ends are not used.
        gap_days: The next visit's gap, one or one a patient; None averages over all gaps exactly (some
            40 ms a patient).

    Returns:
        float64 (patients, codes of the vocabulary).

    Raises:
        InputError: The records are not in the process's schema, or have no times; a gap that the process
            cannot make.
    """
    gaps = None if gap_days is None else np.broadcast_to(gap_days, (sequences.patient_count,))
    parts, done = [], 0
    for block in _blocks(process, sequences):
        size = block.last_visits.size
        if gaps is None:
            parts.append(np.stack([_any_gap(block, row) for row in range(size)]))
        else:
            chances, mass = _at_gaps(block, np.arange(size), gaps[done : done + size])
            if (mass == 0).any():
                raise InputError("the process makes no such gap", where="gap_days")
            parts.append(chances / mass[:, None])
        done += size
    return np.concatenate(parts)


def end_chances(process: Process, sequences: Sequences) -> np.ndarray:
    """P(died), P(left) and P(there is a next visit, or the cap ends the record) after each last visit.

    Returns:
        float64 (patients, 3), rows summing to 1; the recorded ends are not used.

    Raises:
        InputError: The records are not in the process's schema, or have no times.
    """
    parts = []
    for block in _blocks(process, sequences):
        last = block.last_visits
        died = _average(_shares(block.evidence_after()[last]), block.leave.died[last][:, :, None])
        left = (1 - died) * process.leaving
        parts.append(np.concatenate([died, left, 1 - died - left], axis=1))
    return np.concatenate(parts)


def possible_visits(process: Process, sequences: Sequences) -> np.ndarray:
    """Whether the process can make the visit after those before: bool (visits,), raising as the others do."""
    return np.concatenate([block.is_possible for block in _blocks(process, sequences)])


def death_chances(process: Process, sequences: Sequences, *, is_forgiving: bool = False) -> np.ndarray:
    """P(death after this visit | the record with it), float64 (visits,); recorded ends are not used.

    See `visit_chances` for the arguments and errors.
    """
    parts = []
    for block in _blocks(process, sequences, is_forgiving=is_forgiving):
        died = _average(_shares(block.evidence_after()), block.leave.died[:, :, None])
        parts.append(died.ravel())
    return np.concatenate(parts)


def code_chances(process: Process, moment: Moment) -> np.ndarray:
    """P(code in the visit | the state before, u), float64 (rows, U, codes of the vocabulary)."""
    count, first = process.conditions, process.events
    rates, was = event_rates(process, moment), moment.present > 0
    fresh = -np.expm1(-rates[:, None, :] * np.exp(process.classes))
    fresh[:, :, :count] *= ~was[:, None, :]
    coded = fresh.copy()
    coded[:, :, :count] += np.where(was, process.reported, 0.0)[:, None, :]
    rows, classes = fresh.shape[:2]
    chances = np.empty((rows, classes, len(process.vocabulary)))
    chances[:, :, :first] = coded
    chances[:, :, first : process.rest] = process.incidental[:, None] * process.incidental_shares
    before = follower_weights(process, moment)
    silence = np.log1p(-coded).sum(axis=2) + np.log1p(-process.incidental) - before.sum(axis=1)[:, None]
    chances[:, :, process.rest] = np.exp(silence)
    for place in range(before.shape[1]):
        # Causes of this visit are independent given u: each leaves the follower out with its own factor.
        causes = np.flatnonzero(process.new[:, place])
        powers = -np.expm1(-process.new[causes, place])
        absent = np.exp(-before[:, place])[:, None] * (1 - fresh[:, :, causes] * powers).prod(axis=2)
        chances[:, :, process.rest + 1 + place] = 1 - absent
    return chances


def _shares(evidence: np.ndarray) -> np.ndarray:
    """The posterior over classes, (rows, U); NaN where no class can make the record."""
    with np.errstate(invalid="ignore"):
        return np.asarray(softmax(evidence, axis=1))


def _average(classes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Over the class axis: (rows, U) and (rows, U, V) give (rows, V)."""
    averaged: np.ndarray = np.einsum("ru,ruv->rv", classes, values)
    return averaged


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Some patients' visits with their states, one row a visit.

    `moment` and `leave` are the states before and after each visit; `evidence` (visits, U) is the log
    probability of the visit's codes given what was before and u, `arrival` that of its day.
    """

    process: Process
    sequences: Sequences
    coded: np.ndarray
    moment: Moment
    leave: Departure
    evidence: np.ndarray
    arrival: np.ndarray
    prior: np.ndarray
    """(patients, U): log P(u | site)."""

    @property
    def is_possible(self) -> np.ndarray:
        """Whether some class can make the visit, bool (visits,)."""
        return np.asarray(np.isfinite(self.evidence + self.arrival).any(axis=1))

    def forgiven(self) -> "_Block":
        """The same, but visits that no class can make say nothing of the class."""
        wrong = ~self.is_possible[:, None]
        return replace(
            self,
            evidence=np.where(wrong, 0.0, self.evidence),
            arrival=np.where(wrong, 0.0, self.arrival),
        )

    @property
    def last_visits(self) -> np.ndarray:
        return np.asarray(self.sequences.patient_starts[1:] - 1)

    def evidence_after(self) -> np.ndarray:
        """Log P(u, days and codes up to this visit | static columns), (visits, U)."""
        return self._summed(self.evidence + self.arrival)

    def evidence_before(self) -> np.ndarray:
        """The same without this visit's codes, but with its day."""
        earlier = np.roll(self.evidence, 1, axis=0)
        earlier[self.sequences.patient_starts[:-1]] = 0.0
        return self._summed(earlier + self.arrival)

    def _summed(self, terms: np.ndarray) -> np.ndarray:
        """Running sums within each patient, from the prior on."""
        total: np.ndarray = np.empty_like(terms)
        for patient, (start, end) in enumerate(pairwise(self.sequences.patient_starts)):
            total[start:end] = self.prior[patient] + np.cumsum(terms[start:end], axis=0)
        return total


def _blocks(process: Process, sequences: Sequences, *, is_forgiving: bool = False) -> Iterator[_Block]:
    if sequences.schema.vocabulary != process.vocabulary or sequences.days is None:
        raise InputError("the records are not in the process's schema", fix="give records of its code list")
    ends = sequences.patient_starts[1:]
    first = 0
    while first < sequences.patient_count:
        limit = sequences.patient_starts[first] + BLOCK
        after = max(int(np.searchsorted(ends, limit, side="right")), first + 1)
        block = _block(process, sequences.take(np.arange(first, after)))
        yield block.forgiven() if is_forgiving else block
        first = after


def _block(process: Process, sequences: Sequences) -> _Block:
    coded, days = sequences.dense(), sequences.days
    if days is None or sequences.gaps is None:
        raise RuntimeError("records with times")
    of_visit, starts = sequences.patient_of_visit, sequences.patient_starts
    count = process.conditions
    sums = np.cumsum(coded[:, :count], axis=0, dtype=np.int64)
    before_first = sums[starts[:-1]] - coded[starts[:-1], :count]
    after = (sums - before_first[of_visit]) > 0
    earlier = np.roll(coded, 1, axis=0)
    earlier[starts[:-1]] = False
    moment = Moment(
        ages=sequences.statics["age"].to_numpy(dtype=float)[of_visit],
        sexes=_places(sequences, "sex", SEXES)[of_visit],
        days=days,
        elapsed=days - days[starts[:-1]][of_visit],
        gaps=sequences.gaps.astype(np.int64),
        present=((sums - coded[:, :count] - before_first[of_visit]) > 0).astype(float),
        acute=earlier[:, count : process.events].astype(float),
        followers=earlier[:, process.rest + 1 :].astype(float),
    )
    leave = departure(
        process,
        ages=moment.ages,
        elapsed=moment.elapsed,
        present=after.astype(float),
        acute=coded[:, count : process.events].astype(float),
        drugs=np.asarray(coded[:, process.rest + 1 + np.array(process.drugs)].any(axis=1)),
    )
    with np.errstate(divide="ignore"):
        return _Block(
            process=process,
            sequences=sequences,
            coded=coded,
            moment=moment,
            leave=leave,
            evidence=_codes_evidence(process, moment, coded),
            arrival=_arrival(process, leave, moment.gaps, sequences.is_first_visit),
            prior=np.log(process.class_shares[_places(sequences, "site", process.site_names)]),
        )


def _places(sequences: Sequences, name: str, levels: tuple[str, ...]) -> np.ndarray:
    numbers = {level: place for place, level in enumerate(levels)}
    return np.array([numbers[level] for level in sequences.statics[name]], dtype=np.int64)


def _codes_evidence(process: Process, moment: Moment, coded: np.ndarray) -> np.ndarray:
    """Log P(the visit's codes | the state before, u), (visits, U)."""
    count, first, rest = process.conditions, process.events, process.rest
    events, was = coded[:, :first], moment.present > 0
    fresh = events.copy()
    fresh[:, :count] &= ~was
    rates = event_rates(process, moment)
    could = np.ones_like(events)
    could[:, :count] = ~was
    evidence = -np.where(could & ~events, rates, 0.0) @ np.exp(process.classes).T
    for place in range(process.classes.shape[0]):
        happened = np.log(-np.expm1(-rates * np.exp(process.classes[place])))
        evidence[:, place] += np.where(fresh, happened, 0.0).sum(axis=1)
    again = np.where(events[:, :count], np.log(process.reported), np.log1p(-process.reported))
    common = np.where(was, again, 0.0).sum(axis=1)
    weights = follower_weights(process, moment) + fresh.astype(float) @ process.new
    followers = coded[:, rest + 1 :]
    common += np.where(followers, np.log(-np.expm1(-weights)), -weights).sum(axis=1)
    others = np.delete(coded, rest, axis=1).any(axis=1)
    common[others == coded[:, rest]] = -np.inf
    total: np.ndarray = evidence + common[:, None] + _incidental(process, coded[:, first:rest])
    return total


def _incidental(process: Process, incidental: np.ndarray) -> np.ndarray:
    """Log P(incidental codes | u), (visits, U); more than one in a visit is impossible."""
    number = incidental.sum(axis=1)
    which = np.log(process.incidental_shares)[incidental.argmax(axis=1)]
    one = np.log(process.incidental) + which[:, None]
    found: np.ndarray = np.where((number == 0)[:, None], np.log1p(-process.incidental), one)
    found[number > 1] = -np.inf
    return found


def _arrival(process: Process, leave: Departure, gaps: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """Log P(no end after the visit before, and this gap | u), (visits, U); 0 at the first."""
    before = Departure(
        died=np.roll(leave.died, 1, axis=0),
        daily=np.roll(leave.daily, 1, axis=0),
        scheduled=np.roll(leave.scheduled, 1),
    )
    chances = gap_chances(process, before, gaps)
    arrival = np.log1p(-before.died) + np.log1p(-process.leaving) + np.log(chances)
    arrival[is_first] = 0.0
    return np.asarray(arrival)


def _record_likelihood(block: _Block) -> np.ndarray:
    process, sequences, last = block.process, block.sequences, block.last_visits
    died = block.leave.died[last]
    ends = _places(sequences, "end", ENDS)
    full = sequences.visits_per_patient == process.most_visits
    with np.errstate(divide="ignore"):
        left, on = np.log(process.leaving), np.log1p(-process.leaving)
        stayed = np.log1p(-died) + np.where(ends == LEFT, left, np.where(full, on, -np.inf))[:, None]
        end = np.where((ends == DIED)[:, None], np.log(died), stayed)
        chances = dict(process.ages.tolist())
        age = np.log([chances.get(value, 0.0) for value in sequences.statics["age"]])
        male = _places(sequences, "sex", SEXES) == 1
        static = age + np.log(np.where(male, process.male, 1 - process.male))
        static += np.log(process.site_shares)[_places(sequences, "site", process.site_names)]
    low, high = process.first_days
    days = sequences.first_days
    if days is None:
        raise RuntimeError("records with times")
    possible = (days >= low) & (days <= high) & (sequences.visits_per_patient <= process.most_visits)
    static = np.where(possible, static - np.log(high - low + 1), -np.inf)
    total: np.ndarray = static + logsumexp(block.evidence_after()[last] + end, axis=1)
    return total


def _at_gaps(block: _Block, patients: np.ndarray, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(gap, code in the next visit) and P(gap), given the record and that there is a next visit.

    One row for each pair of a patient (a place in the block) and a gap.
    """
    process, last = block.process, block.last_visits[patients]
    leave = Departure(
        died=block.leave.died[last], daily=block.leave.daily[last], scheduled=block.leave.scheduled[last]
    )
    classes = _shares(block.evidence_after()[last] + np.log1p(-leave.died))
    classes = classes * gap_chances(process, leave, gaps)
    count, state, coded = process.conditions, block.moment, block.coded[last].astype(float)
    moment = Moment(
        ages=state.ages[last],
        sexes=state.sexes[last],
        days=state.days[last] + gaps,
        elapsed=state.elapsed[last] + gaps,
        gaps=gaps,
        present=np.maximum(state.present[last], coded[:, :count]),
        acute=coded[:, count : process.events],
        followers=coded[:, process.rest + 1 :],
    )
    return _average(classes, code_chances(process, moment)), classes.sum(axis=1)


def _any_gap(block: _Block, patient: int) -> np.ndarray:
    """P(code in the next visit | the record, and that there is one): the sum over all gaps."""
    gaps = np.arange(1, block.process.longest + 1)
    chances, mass = _at_gaps(block, np.full(gaps.size, patient), gaps)
    averaged: np.ndarray = chances.sum(axis=0) / mass.sum()
    return averaged
