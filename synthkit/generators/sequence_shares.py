"""One-way shares of records: what is bought once, so that a generator of records starts near them.

Knows record states and the sum of their vectors, noised or not. Refuses to draw noise. Rules: a patient's
vector has norm at most 1 whatever the record; where noise drowns a share, a public floor stands in.
"""

from dataclasses import dataclass

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.generators.sequence_layers import MEMORY, NEVER, memory_states
from synthkit.generators.sequence_pairs import PAIR_NORM, log_lifts, pair_shares

CODE_NORM, STATE_NORM = 2.5, 2.5
"""Norms of a patient's two blocks of codes; records of more are scaled down, as a whole, so that how often a
code seen before comes again stays what it is. Nine in ten simulated patients of six visits stay below."""

SEEN_WEIGHT = 0.4
"""How much weaker it enters that a code was seen before: it is seldomer a question of how often."""

FLOOR_STDS = 0.5
"""A share is not believed to be less than this many standard deviations of its noise."""

FIRST_CODES = 3.0
"""Codes a visit before anything is known: a public guess that the first biases start from."""

BELIEF_STDS = 2.0
"""A code's share of this many standard deviations of its noise is believed by half."""

LEAST_PATIENTS = 0.5
"""Nor less than this many patients' share."""

CODE_DAMPING = 0.8
"""How much of what sets a code's repetition apart from its type's is a property of the code: the rest is
told by the state of its memory already."""

LEAST_ODDS = 8.0
"""No code is remembered, or forgotten, by more than this log odds."""


def share_statistics(
    states: RecordStates, layout: SequenceLayout, *, has_pairs: bool = False
) -> torch.Tensor:
    """One vector a patient, float64 (patients, k), of norm at most 1.

    In order: 1, static states, leaves, codes, codes seen before, codes seen again, and by each type's state
    of memory how often a code was in it and came again; with `has_pairs`, pairs of codes. All but the first
    two are shares of the patient's own visits.
    """
    patients, lengths = len(states), np.diff(states.patient_starts)
    owner = np.repeat(np.arange(patients), lengths)
    weight = 1.0 / lengths[owner]
    entry_visit = np.repeat(np.arange(owner.size), np.diff(states.visit_starts))
    codes = _summed((patients, layout.codes), owner[entry_visit], states.codes, weight[entry_visit])
    leave = np.append(layout.calendar.kind_of(states.gap_days)[1:], 0)
    leave[states.patient_starts[1:] - 1] = layout.end
    leaves = _summed((patients, layout.end + 1), owner, leave, weight)
    hot = np.zeros((patients, layout.statics.width))
    hot[np.arange(patients)[:, None], states.statics + np.array(layout.statics.offsets)] = 1.0
    seen, again, seen_states, again_states = _memory_blocks(states, layout)
    by_code = _capped(np.concatenate([codes, SEEN_WEIGHT * seen, again], axis=1), CODE_NORM)
    by_state = _capped(np.concatenate([SEEN_WEIGHT * seen_states, again_states], axis=1), STATE_NORM)
    blocks = [np.ones((patients, 1)), hot, leaves, by_code, by_state]
    if has_pairs:
        blocks.append(_capped(pair_shares(states, layout), PAIR_NORM))
    return torch.from_numpy(np.concatenate(blocks, axis=1) / _scale(layout, has_pairs=has_pairs))


def _summed(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, weight: np.ndarray) -> np.ndarray:
    flat = np.bincount(rows * shape[1] + columns, weight, minlength=shape[0] * shape[1])
    return np.asarray(flat.reshape(shape), dtype=np.float64)


def _capped(block: np.ndarray, norm: float) -> np.ndarray:
    """The block in units of its norm, each row scaled to at most 1."""
    found: np.ndarray = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), norm)
    return found


def _memory_blocks(states: RecordStates, layout: SequenceLayout) -> list[np.ndarray]:
    """Codes seen before, codes seen again, and both by state of memory: shares of visits."""
    patients, lengths = len(states), np.diff(states.patient_starts)
    visit = np.repeat(np.arange(states.gap_days.size), np.diff(states.visit_starts))
    owner = np.repeat(np.arange(patients), lengths)[visit]
    place = visit - states.patient_starts[owner]
    order = np.lexsort((place, states.codes, owner))
    owner, place, code = owner[order], place[order], states.codes[order]
    goes_on = np.append((np.diff(owner) == 0) & (np.diff(code) == 0), False)
    again = np.where(goes_on, np.append(place[1:], 0), lengths[owner])  # when it is next seen, or never
    first = np.flatnonzero(np.append(True, ~goes_on[:-1])) if code.size else np.zeros(0, dtype=np.int64)
    run = np.repeat(np.arange(first.size), np.diff(np.append(first, code.size)))
    count = np.arange(code.size) - first[run] + 1
    spans = np.minimum(again, lengths[owner] - 1) - place  # visits at which this is the last time it was seen
    use = np.repeat(np.arange(code.size), spans)
    now = place[use] + 1 + np.arange(use.size) - np.repeat(np.cumsum(spans) - spans, spans)
    weight = 1.0 / lengths[owner[use]]
    hit = (now == again[use]) * weight
    kinds = np.array(layout.types)[code[use]]
    found = memory_states(*(torch.from_numpy(part) for part in (now, place[use], count[use]))).numpy()
    state = (found - NEVER) + (MEMORY - NEVER) * kinds
    by_code, width = (patients, layout.codes), (1 + max(layout.types)) * (MEMORY - NEVER)
    return [
        *(_summed(by_code, owner[use], code[use], part) for part in (weight, hit)),
        *(_summed((patients, width), owner[use], state, part) for part in (weight, hit)),
    ]


def _scale(layout: SequenceLayout, *, has_pairs: bool) -> float:
    """One block of norm at most 1 each: presence, static columns, leaves, codes, states, pairs."""
    return float(np.sqrt(4 + has_pairs + len(layout.statics.states)) * (1 + 1e-9))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Read off a sum of `share_statistics`, as the logarithms that biases are; all float32.

    `code_log_odds`: of a code whatever came before. `new_log_odds`: of a code not seen before in the record.
    `memory_of_type` (types, MEMORY) and `memory_of_code` (codes, MEMORY): what having seen it adds to these.
    """

    code_log_odds: np.ndarray
    new_log_odds: np.ndarray
    memory_of_type: np.ndarray
    memory_of_code: np.ndarray
    leave_logs: np.ndarray
    static_logs: tuple[np.ndarray, ...]
    codes: np.ndarray
    """Shares of visits with each code, float64."""
    pair_lifts: np.ndarray | None
    """Log lifts of pairs, float64 (codes, codes); None where none were bought."""

    @classmethod
    def read(
        cls, total: np.ndarray, layout: SequenceLayout, *, noise: float, has_pairs: bool = False
    ) -> "Shares":
        """Post-processing of a sum, float64 (k,), with noise of this standard deviation.

        Code shares are a lower bound: records of very many codes were scaled down.
        """
        scale = _scale(layout, has_pairs=has_pairs)
        counts, std = total * scale, noise * scale
        floor = max(LEAST_PATIENTS, FLOOR_STDS * std)
        patients = max(counts[0], 4 * floor)
        states = (1 + max(layout.types)) * (MEMORY - NEVER)
        sizes = [1, layout.statics.width, layout.end + 1, *[layout.codes] * 3, states, states]
        _, statics, leaves, *rest, pairs = np.split(counts, np.cumsum(sizes))
        units = (CODE_NORM, CODE_NORM / SEEN_WEIGHT, CODE_NORM, STATE_NORM / SEEN_WEIGHT, STATE_NORM)
        blocks = [
            _Block(shares=unit * part / patients, std=unit * std / patients)
            for unit, part in zip(units, rest, strict=True)
        ]
        least = LEAST_PATIENTS / patients
        codes = _code_shares(blocks[0].shares, blocks[0].std, least=least)
        memory = _Memory.read(codes, blocks[1:], layout, least=least)
        return cls(
            code_log_odds=_log_odds(codes),
            new_log_odds=memory.new,
            memory_of_type=memory.of_type,
            memory_of_code=memory.of_code,
            codes=codes,
            pair_lifts=log_lifts(PAIR_NORM * pairs / patients, codes, std=PAIR_NORM * std / patients)
            if has_pairs
            else None,
            leave_logs=_logs(leaves, floor),
            static_logs=tuple(_logs(block, floor) for block in np.split(statics, layout.statics.offsets[1:])),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Memory:
    new: np.ndarray
    of_type: np.ndarray
    of_code: np.ndarray

    @classmethod
    def read(
        cls, codes: np.ndarray, blocks: "list[_Block]", layout: SequenceLayout, *, least: float
    ) -> "_Memory":
        """Log odds of codes not seen before, and what memory adds, from the three blocks of memory."""
        seen, again, seen_states, again_states = blocks
        types = np.array(layout.types)
        hot = (types[:, None] == np.arange(1 + types.max())).astype(np.float64)  # (codes, types)
        before = np.clip(seen.shares, least, 0.99)
        usual = (np.maximum(hot.T @ again.shares, least) / np.maximum(hot.T @ before, 2 * least)).clip(
            0.01, 0.9
        )
        belief = before**2 / (before**2 + (BELIEF_STDS * seen.std) ** 2 + 1e-30)
        rate = np.clip(again.shares / before, 0.25 * usual[types], 0.98)
        repeated = np.minimum(before * (belief * rate + (1.0 - belief) * usual[types]), 0.95 * codes)
        rate = np.clip(repeated / before, 1e-4, 0.98)
        fresh = np.clip((codes - repeated) / (1.0 - before), 0.05 * codes, 0.95)
        new = _log_odds(fresh)
        shape = (1 + types.max(), MEMORY - NEVER)
        opportunities, hits = (block.shares.reshape(shape) for block in (seen_states, again_states))
        weak = 4 * max(seen_states.std, least)
        mean = usual[:, None]
        chance = (np.maximum(hits, 0) + weak * mean) / (np.maximum(opportunities, 0) + weak)
        of_state = _log_odds(np.clip(chance, 1e-4, 0.98)) - _log_odds(mean)
        own = np.clip(_log_odds(rate) - new, -LEAST_ODDS, LEAST_ODDS)  # (codes,)
        typical = (hot * before[:, None]).T @ own / np.maximum((hot * before[:, None]).sum(axis=0), 1e-12)
        nothing = ((0, 0), (NEVER, 0))
        return cls(
            new=new,
            of_type=np.pad(typical[:, None] + of_state, nothing).astype(np.float32),
            of_code=np.pad(
                np.repeat(CODE_DAMPING * (own - typical[types])[:, None], MEMORY - NEVER, axis=1), nothing
            ).astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Mean over patients of a block of shares, and the standard deviation of its noise."""

    shares: np.ndarray
    std: float


def _code_shares(shares: np.ndarray, std: float, *, least: float) -> np.ndarray:
    """Shares of visits, drawn to a floor the more the less they stand out from their noise."""
    least = min(max(least, FLOOR_STDS * std), FIRST_CODES / shares.size, 0.5)
    weight = shares**2 / (shares**2 + (BELIEF_STDS * std) ** 2 + 1e-30)
    return np.clip(least + weight * (shares - least), least, 0.95)


def _log_odds(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(shares / (1.0 - shares)), dtype=np.float32)


def _logs(counts: np.ndarray, floor: float) -> np.ndarray:
    kept = np.maximum(counts, floor)
    return np.asarray(np.log(kept / kept.sum()), dtype=np.float32)
