"""One-way shares of records: what is bought once, so that a generator of records starts near them.

Knows record states and the sum of their vectors, noised or not. Refuses to draw noise. Rules: a patient's
vector has norm at most 1 whatever the record (`sequence_counts`); what is read are chances at a visit, not
means over patients, of whom those of short records would count for more; where noise drowns a share, a
public floor stands in.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.generators.sequence_counts import Counts, count_vectors, length_groups
from synthkit.generators.sequence_layers import MEMORY, NEVER

FLOOR_STDS = 0.5
"""A share is not believed to be less than this many standard deviations of its noise."""

FIRST_CODES = 3.0
"""Codes a visit before anything is known: a public guess that the first biases start from."""

BELIEF_STDS = 2.0
"""A code's share of this many standard deviations of its noise is believed by half."""

LEAST_COUNT = 0.5
"""No count is believed to be less than this many patients or visits."""

LEAST_CHANCE = 1e-4
"""Nor any chance to come again, or to end, to be less than this or, of an end, more than 1 less this."""

WEAK_STDS = 4.0
"""A state of memory is told from its type's others by counts that are large beside so many deviations."""

CODE_DAMPING = 0.8
"""How much of what sets a code's repetition apart from its type's is a property of the code: the rest is
told by the state of its memory already."""

LEAST_ODDS = 8.0
"""No code is remembered, or forgotten, by more than this log odds."""


def share_statistics(
    states: RecordStates, layout: SequenceLayout, *, has_pairs: bool = False
) -> torch.Tensor:
    """One vector a patient, float64 (patients, k), of norm at most 1; see `count_vectors`."""
    return count_vectors(states, layout, has_pairs=has_pairs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Read off a sum of `share_statistics`, as the logarithms that biases are; all float32.

    `code_log_odds`: of a code whatever came before. `new_log_odds`: of a code not seen before in the record.
    `memory_of_type` (types, MEMORY) and `memory_of_code` (codes, MEMORY): what having seen it, or the number
    of visits without it, adds to these.
    """

    code_log_odds: np.ndarray
    new_log_odds: np.ndarray
    memory_of_type: np.ndarray
    memory_of_code: np.ndarray
    leave_logs: np.ndarray
    static_logs: tuple[np.ndarray, ...]

    @classmethod
    def read(
        cls, total: np.ndarray, layout: SequenceLayout, *, noise: float, has_pairs: bool = False
    ) -> "Shares":
        """Post-processing of a sum, float64 (k,), with noise of this standard deviation."""
        return cls.of(Counts.read(total, layout, noise=noise, has_pairs=has_pairs), layout)

    @classmethod
    def compared(cls, bought: Counts, drawn: Counts, layout: SequenceLayout) -> tuple["Shares", "Shares"]:
        """What was bought, and what counts of drawn records, without noise, say beside it.

        Both are read as of the same number of patients and with the same noise, so that floors and doubts
        are the same on both sides: the two differ only where the bought sum speaks.
        """
        wanted = bought.scaled(drawn.patients / bought.patients)
        return cls.of(wanted, layout), cls.of(replace(drawn, stds=wanted.stds), layout)

    @classmethod
    def of(cls, counts: Counts, layout: SequenceLayout) -> "Shares":
        """Of counts; pairs, if they hold some, are left aside."""
        visits = counts.visits("code visits")
        least = LEAST_COUNT / visits
        codes = _code_shares(counts.sums["codes"] / visits, counts.stds["codes"] / visits, least=least)
        memory = _Memory.read(codes, counts, layout)
        statics = np.split(counts.sums["statics"], layout.statics.offsets[1:])
        return cls(
            code_log_odds=_log_odds(codes),
            new_log_odds=memory.new,
            memory_of_type=memory.of_type,
            memory_of_code=memory.of_code,
            leave_logs=_leave_logs(counts, layout),
            static_logs=tuple(_logs(block) for block in statics),
        )


def _leave_logs(counts: Counts, layout: SequenceLayout) -> np.ndarray:
    """Logarithms of the chances, after a visit, of each kind of gap and of the end.

    An end is as likely as ends are among visits: 1 by the mean length, not the mean of 1 by the length,
    which short records lead. The ends that the layout's cap makes are none.
    """
    starts = length_groups(layout)
    records = _on_simplex(counts.sums["lengths"])
    usual = np.append(np.sqrt(starts[:-1] * (starts[1:] - 1.0)), layout.most_visits)  # (groups,)
    capped = records[-1]
    ends = (records.sum() - capped) / max(float((records * usual).sum() - capped), 1.0)
    ends = float(np.clip(ends, LEAST_CHANCE, 1.0 - LEAST_CHANCE))
    gaps = _logs(counts.sums["gaps"])
    return np.append(gaps + np.log1p(-ends), np.log(ends)).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Memory:
    new: np.ndarray
    of_type: np.ndarray
    of_code: np.ndarray

    @classmethod
    def read(cls, codes: np.ndarray, counts: Counts, layout: SequenceLayout) -> "_Memory":
        """Log odds of codes not seen before, and what memory adds."""
        visits = counts.visits("code visits")
        least, std = LEAST_COUNT / visits, counts.stds["seen"] / visits
        seen, again = counts.sums["seen"] / visits, counts.sums["again"] / visits
        types = np.array(layout.types)
        hot = (types[:, None] == np.arange(1 + types.max())).astype(np.float64)  # (codes, types)
        before = np.clip(seen, least, 0.99)
        usual = np.maximum(hot.T @ again, least) / np.maximum(hot.T @ before, 2 * least)
        usual = usual.clip(0.01, 0.9)
        belief = before**2 / (before**2 + (BELIEF_STDS * std) ** 2 + 1e-30)
        rate = np.clip(again / before, 0.25 * usual[types], 0.98)
        repeated = np.minimum(before * (belief * rate + (1.0 - belief) * usual[types]), 0.95 * codes)
        rate = np.clip(repeated / before, LEAST_CHANCE, 0.98)
        fresh = np.clip((codes - repeated) / (1.0 - before), 0.05 * codes, 0.95)
        new = _log_odds(fresh)
        own = np.clip(_log_odds(rate) - new, -LEAST_ODDS, LEAST_ODDS)  # (codes,)
        typical = (hot * before[:, None]).T @ own / np.maximum((hot * before[:, None]).sum(axis=0), 1e-12)
        never, known = _states_of_memory(counts, usual)
        apart = np.repeat(CODE_DAMPING * (own - typical[types])[:, None], MEMORY - NEVER, axis=1)
        return cls(
            new=new,
            of_type=np.concatenate([never, typical[:, None] + known], axis=1).astype(np.float32),
            of_code=np.pad(apart, ((0, 0), (NEVER, 0))).astype(np.float32),
        )


def _states_of_memory(counts: Counts, usual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each state of memory adds to a type's log odds, beside the type's `usual` chance to come again.

    Returns:
        Of codes never seen, by how many visits came before (types, NEVER); of codes seen (types, the rest).
    """
    hits = np.maximum(counts.sums["state hits"].reshape(usual.size, MEMORY), 0.0)
    visits = np.maximum(counts.sums["state visits"], 0.0)
    weak = WEAK_STDS * max(counts.stds["state hits"], LEAST_COUNT)
    came = hits[:, :NEVER]
    expected = visits * came.sum(axis=1, keepdims=True) / max(float(visits.sum()), 1.0)
    never = np.log((came + weak) / (expected + weak))
    weak = WEAK_STDS * max(counts.stds["state seen"], LEAST_COUNT)
    tries = np.maximum(counts.sums["state seen"].reshape(usual.size, MEMORY - NEVER), 0.0)
    chance = (hits[:, NEVER:] + weak * usual[:, None]) / (tries + weak)
    return never, _log_odds(np.clip(chance, LEAST_CHANCE, 0.98)) - _log_odds(usual[:, None])


def _code_shares(shares: np.ndarray, std: float, *, least: float) -> np.ndarray:
    """Shares of visits, drawn to a floor the more the less they stand out from their noise."""
    least = min(max(least, FLOOR_STDS * std), FIRST_CODES / shares.size, 0.5)
    weight = shares**2 / (shares**2 + (BELIEF_STDS * std) ** 2 + 1e-30)
    return np.clip(least + weight * (shares - least), least, 0.95)


def _log_odds(shares: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(shares / (1.0 - shares)), dtype=np.float32)


def _logs(counts: np.ndarray) -> np.ndarray:
    """Logarithms of shares: of the nearest counts that can be without noise, none of them quite 0."""
    kept = np.maximum(_on_simplex(counts), LEAST_COUNT)
    return np.asarray(np.log(kept / kept.sum()), dtype=np.float32)


def _on_simplex(counts: np.ndarray) -> np.ndarray:
    """The nearest counts that are not negative and have the same sum, at least 1.

    Flooring each would give 200 years of a first visit, most of which nobody has, a tenth of all patients.

    Source: Duchi, Shalev-Shwartz, Singer and Chandra, ICML 2008, figure 1.
    """
    total = max(float(counts.sum()), 1.0)
    falling = np.sort(counts)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, counts.size + 1)
    last = int(np.flatnonzero(falling > excess)[-1])
    return np.asarray(np.maximum(counts - excess[last], 0.0), dtype=np.float64)
