"""What is counted of a patient's record once: one vector of norm at most 1, whatever the record.

Knows record states, and sums of their vectors. Refuses to draw noise, and to say what counts mean:
`sequence_shares` reads them. Rules: every visit counts as much as any other, so that ratios of sums are
chances at a visit; means over patients would be led by short records. A patient with more of something than
its block's public cap is scaled down block by block, and with it the visits that the block counts itself, so
that ratios within a block keep their meaning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.generators.sequence_layers import MEMORY, NEVER, memory_states, never_states
from synthkit.generators.sequence_pairs import follow_cells, follow_counts, pair_cells, pair_counts

GAP_NORM, VISIT_NORM = 4.0, 12.0
"""Caps of a patient's block of gaps, and of each block of codes: three in four simulated patients of six
visits stay below. More would buy less bias for long records and more noise for all."""

LIGHT_WEIGHT, PAIR_WEIGHT = 0.5, 1.5
"""Weights of blocks beside 1: what has few cells needs little of the budget, pairs have the most."""

SEEN_WEIGHT, COUNT_WEIGHT = 0.4, 0.5
"""Within a block, how much weaker enters that a code was seen before, and how many visits there are: both are
large, and seldomer in question than how often a code came."""

SINGLE, PER_DOUBLING = 16, 4
"""Records of up to so many visits are told apart by length; longer ones in so many groups a doubling."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    name: str
    size: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Parts that are scaled down together to a norm of at most `norm`, and enter with `weight`."""

    parts: tuple[_Part, ...]
    norm: float
    weight: float = 1.0


def _blocks(layout: SequenceLayout, *, has_pairs: bool) -> list[_Block]:
    """What a vector is made of, in order."""
    types, statics = 1 + max(layout.types), len(layout.statics.states)
    codes = [
        _Part(name="code visits", size=1, weight=COUNT_WEIGHT),
        _Part(name="codes", size=layout.codes),
        _Part(name="seen", size=layout.codes, weight=SEEN_WEIGHT),
        _Part(name="again", size=layout.codes),
    ]
    states = [
        _Part(name="state visits", size=NEVER, weight=COUNT_WEIGHT),
        _Part(name="state seen", size=types * (MEMORY - NEVER), weight=SEEN_WEIGHT),
        _Part(name="state hits", size=types * MEMORY),
    ]
    pairs = [
        _Part(name="pair visits", size=1, weight=COUNT_WEIGHT),
        _Part(name="pairs", size=pair_cells(layout)),
    ]
    follows = [
        _Part(name="follow visits", size=1, weight=COUNT_WEIGHT),
        _Part(name="follows", size=follow_cells(layout)),
    ]
    found = [
        _Block(parts=(_Part(name="patients", size=1),), norm=1.0, weight=LIGHT_WEIGHT),
        _Block(
            parts=(_Part(name="statics", size=layout.statics.width),),
            norm=float(np.sqrt(statics)),
            weight=LIGHT_WEIGHT * float(np.sqrt(statics)),
        ),
        _Block(
            parts=(_Part(name="lengths", size=length_groups(layout).size),), norm=1.0, weight=LIGHT_WEIGHT
        ),
        _Block(parts=(_Part(name="gaps", size=layout.calendar.kinds),), norm=GAP_NORM, weight=LIGHT_WEIGHT),
        _Block(parts=tuple(codes), norm=VISIT_NORM),
        _Block(parts=tuple(states), norm=VISIT_NORM, weight=LIGHT_WEIGHT),
    ]
    if has_pairs:
        found += [_Block(parts=tuple(p), norm=VISIT_NORM, weight=PAIR_WEIGHT) for p in (pairs, follows)]
    return found


def _scale(blocks: list[_Block]) -> float:
    """Norm of a vector whose blocks are all at their caps, a hair more for rounding."""
    return float(np.sqrt(sum(block.weight**2 for block in blocks)) * (1 + 1e-9))


def count_vectors(states: RecordStates, layout: SequenceLayout, *, has_pairs: bool) -> torch.Tensor:
    """One vector a patient, float64 (patients, k), of norm at most 1.

    In order: 1, static states, groups of lengths, kinds of gaps; codes, codes seen before and seen again;
    visits by how many came before, and by each type's state of memory how often a code was in it and came;
    with `has_pairs`, pairs of codes in a visit, and of a code and one of the next visit. All but the first
    three are numbers of visits.
    """
    found = [block.toarray() for block in _scaled(states, layout, has_pairs=has_pairs)]
    return torch.from_numpy(np.concatenate(found, axis=1))


def count_sum(states: RecordStates, layout: SequenceLayout, *, has_pairs: bool) -> np.ndarray:
    """The sum of all patients' `count_vectors`, float64 (k,), none of which is made."""
    found = [block.sum(axis=0) for block in _scaled(states, layout, has_pairs=has_pairs)]
    return np.asarray(np.concatenate(found), dtype=np.float64)


def _scaled(states: RecordStates, layout: SequenceLayout, *, has_pairs: bool) -> Iterator[sparse.csr_array]:
    """Every block as it enters the vectors, float64 (patients, size of the block)."""
    counted, blocks = _counted(states, layout, has_pairs=has_pairs), _blocks(layout, has_pairs=has_pairs)
    scale = _scale(blocks)
    for block in blocks:
        values = sparse.hstack([part.weight * sparse.csr_array(counted[part.name]) for part in block.parts])
        norms = np.sqrt(values.multiply(values).sum(axis=1))
        factors = block.weight / (scale * np.maximum(norms, block.norm))
        yield sparse.csr_array(sparse.diags_array(factors) @ values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """A sum of vectors read back, by part: `sums`, float64, in patients or visits; `stds` of their noise."""

    sums: Mapping[str, np.ndarray]
    stds: Mapping[str, float]

    @classmethod
    def read(cls, total: np.ndarray, layout: SequenceLayout, *, noise: float, has_pairs: bool) -> "Counts":
        """Of a sum, float64 (k,), with noise of this standard deviation in every number."""
        blocks, sums, stds, start = _blocks(layout, has_pairs=has_pairs), {}, {}, 0
        scale = _scale(blocks)
        for block in blocks:
            for part in block.parts:
                unit = scale * block.norm / (block.weight * part.weight)
                sums[part.name] = unit * total[start : start + part.size]
                stds[part.name] = unit * noise
                start += part.size
        if start != total.size:
            raise ValueError("a sum of vectors of another layout")
        return cls(sums=sums, stds=stds)

    def scaled(self, factor: float) -> "Counts":
        """As if so many times as many patients had been counted, and noised."""
        return Counts(
            sums={name: factor * part for name, part in self.sums.items()},
            stds={name: factor * std for name, std in self.stds.items()},
        )

    @property
    def patients(self) -> float:
        """Patients in the sum, at least 1 and more than its noise may make of none."""
        return max(float(self.sums["patients"][0]), 4.0 * self.stds["patients"], 1.0)

    def visits(self, name: str) -> float:
        """Visits that a block counts, at least 1 and more than its noise may make of none."""
        return max(float(self.sums[name].sum()), 4.0 * self.stds[name], 1.0)


def length_groups(layout: SequenceLayout) -> np.ndarray:
    """The least number of visits of each group of records, int64, ascending; the last is the cap's own."""
    doublings = range(int(np.ceil(np.log2(max(layout.most_visits, SINGLE) / SINGLE))) + 1)
    later = [SINGLE * 2**d * (PER_DOUBLING + k) // PER_DOUBLING + 1 for d in doublings for k in range(4)]
    starts = np.array([*range(1, SINGLE + 1), *later], dtype=np.int64)
    return np.append(starts[starts < layout.most_visits], layout.most_visits)


def _counted(
    states: RecordStates, layout: SequenceLayout, *, has_pairs: bool
) -> dict[str, np.ndarray | sparse.csr_array]:
    """Every part of every patient, float64 (patients, size of the part), unscaled."""
    patients, lengths = len(states), np.diff(states.patient_starts)
    owner = np.repeat(np.arange(patients), lengths)
    place = np.arange(owner.size) - states.patient_starts[owner]
    entry_visit = np.repeat(np.arange(owner.size), np.diff(states.visit_starts))
    everyone = np.arange(patients)
    hot = np.zeros((patients, layout.statics.width))
    hot[everyone[:, None], states.statics + np.array(layout.statics.offsets)] = 1.0
    groups = length_groups(layout)
    group = np.searchsorted(groups, lengths, side="right") - 1
    came = place > 0
    kinds = layout.calendar.kind_of(states.gap_days[came])
    number = lengths[:, None].astype(np.float64)
    parts: dict[str, np.ndarray | sparse.csr_array] = {
        "patients": np.ones((patients, 1)),
        "statics": hot,
        "lengths": _summed((patients, groups.size), everyone, group),
        "gaps": _summed((patients, layout.calendar.kinds), owner[came], kinds),
        "code visits": number,
        "codes": _summed((patients, layout.codes), owner[entry_visit], states.codes),
        "state visits": _summed((patients, NEVER), owner, never_states(torch.from_numpy(place)).numpy()),
        **memory_counts(states, layout),
    }
    if has_pairs:
        parts |= {"pair visits": number, "pairs": pair_counts(states, layout)}
        parts |= {"follow visits": number - 1.0, "follows": follow_counts(states, layout)}
    return parts


def memory_counts(states: RecordStates, layout: SequenceLayout) -> dict[str, np.ndarray]:
    """Visits at which each code had been seen before, and at which it came again; and by type and state of
    memory how often a code was in it, and came: in states of never having been seen, how often it came.
    """
    patients, lengths = len(states), np.diff(states.patient_starts)
    visit = np.repeat(np.arange(states.gap_days.size), np.diff(states.visit_starts))
    owner = np.repeat(np.arange(patients), lengths)[visit]
    place = visit - states.patient_starts[owner]
    order = np.lexsort((place, states.codes, owner))
    owner, place, code = owner[order], place[order], states.codes[order]
    kind = np.array(layout.types)[code]
    is_first = np.ones(code.size, dtype=bool)
    is_first[1:] = (np.diff(owner) != 0) | (np.diff(code) != 0)
    goes_on = np.append(~is_first[1:], False)[: code.size]
    again = np.where(goes_on, np.roll(place, -1), lengths[owner])  # when it is next seen, or never
    first = np.flatnonzero(is_first)
    run = np.repeat(np.arange(first.size), np.diff(np.append(first, code.size)))
    count = np.arange(code.size) - first[run] + 1
    spans = np.minimum(again, lengths[owner] - 1) - place  # visits at which this is the last time it was seen
    use = np.repeat(np.arange(code.size), spans)
    now = place[use] + 1 + np.arange(use.size) - np.repeat(np.cumsum(spans) - spans, spans)
    hit = now == again[use]
    state = memory_states(*(torch.from_numpy(part) for part in (now, place[use], count[use]))).numpy()
    new = never_states(torch.from_numpy(place[first])).numpy() + MEMORY * kind[first]
    known, width = MEMORY - NEVER, 1 + max(layout.types)
    by_code, by_state = (patients, layout.codes), (patients, width * MEMORY)
    tries = _summed((patients, width * known), owner[use], state - NEVER + known * kind[use])
    hits = _summed(by_state, owner[use][hit], (state + MEMORY * kind[use])[hit])
    return {
        "seen": _summed(by_code, owner[use], code[use]),
        "again": _summed(by_code, owner[use][hit], code[use][hit]),
        "state seen": tries,
        "state hits": hits + _summed(by_state, owner[first], new),
    }


def _summed(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    flat = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    return np.asarray(flat.reshape(shape), dtype=np.float64)
