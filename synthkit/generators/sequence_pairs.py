"""Pairs of codes, of one visit and of consecutive ones: counted once, and what odds make records agree.

Knows record states, and matrices of shares. Refuses to draw noise, and to know a network. Rules: for lists of
at most `MOST_CODES` codes alone, as the number of pairs grows with their square; counts are sparse, as a
patient has few of all pairs; a difference is believed as far as it stands out of the noise.

A pair's odds are no function of its share alone: codes that go together anyway add up, and a code that comes
again brings its companions. So odds are not read off the shares but moved, little by little, until records
that the model draws have them (`training.record_settling`).

Source: moments of a model matched to given ones: Ackley, Hinton and Sejnowski, Cognitive Science 1985,
equation 5; soft thresholds: Donoho and Johnstone, Biometrika 1994, section 2.
"""

import numpy as np
from scipy import sparse

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout

MOST_CODES = 800
"""Beyond it no pairs are bought: a patient's vector would have more than a million numbers."""

DOUBT_STDS = 2.0
"""By so many standard deviations of its noise a difference is taken to be less than it seems: of cells that
hold nothing but noise one in 20 remains, and little of each. At 3, on simulated patients at epsilon 8 and 3,
log lifts were a little worse and the bound a little better."""

WEAK_STDS = 3.0
"""Shares are told apart, as odds, by what is large beside so many deviations of their noise."""


def pair_cells(layout: SequenceLayout) -> int:
    """Number of pairs of a visit's codes; 0 where none are bought."""
    return layout.codes * (layout.codes - 1) // 2 if layout.codes <= MOST_CODES else 0


def follow_cells(layout: SequenceLayout) -> int:
    """Number of pairs of a code and one of the next visit; 0 where none are bought."""
    return layout.codes**2 if layout.codes <= MOST_CODES else 0


def pair_counts(states: RecordStates, layout: SequenceLayout) -> sparse.csr_array:
    """Each patient's visits with each pair of codes u < v, float64 (patients, cells)."""
    sizes, owner = _visits_of(states)
    visit = np.repeat(np.arange(sizes.size), sizes)
    later = states.visit_starts[1:][visit] - 1 - np.arange(visit.size)
    first = np.repeat(np.arange(visit.size), later)
    second = first + 1 + _within(later)
    low, high = states.codes[first], states.codes[second]
    cell = low * layout.codes - low * (low + 1) // 2 + high - low - 1
    return _counted(owner[visit[first]], cell, (len(states), pair_cells(layout)))


def follow_counts(states: RecordStates, layout: SequenceLayout) -> sparse.csr_array:
    """How often each patient had code u at a visit and v at the next, float64 (patients, cells), u first."""
    sizes, owner = _visits_of(states)
    next_ones = np.flatnonzero(owner[1:] == owner[:-1]) + 1
    both = sizes[next_ones - 1] * sizes[next_ones]
    at, number = np.repeat(next_ones, both), _within(both)
    first = states.codes[states.visit_starts[at - 1] + number // sizes[at]]
    second = states.codes[states.visit_starts[at] + number % sizes[at]]
    return _counted(owner[at], first * layout.codes + second, (len(states), follow_cells(layout)))


def above_diagonal(cells: np.ndarray, codes: int) -> np.ndarray:
    """Pairs u < v of a visit, float64 (cells,), as a matrix (codes, codes) that is 0 elsewhere."""
    matrix = np.zeros((codes, codes))
    matrix[np.triu_indices(codes, k=1)] = cells
    return matrix


def odds_missing(wanted: np.ndarray, own: np.ndarray, *, std: float) -> np.ndarray:
    """By how much log odds are too low for shares to be `wanted` where they are `own`; all float64, alike.

    Args:
        wanted: Shares as bought, with noise.
        own: Of the model's records.
        std: Standard deviation of the noise of their difference.
    """
    seen = wanted - own
    believed = np.sign(seen) * np.maximum(np.abs(seen) - DOUBT_STDS * std, 0.0)
    weak = WEAK_STDS * std + 1e-6
    return np.asarray(np.log((np.maximum(own + believed, 0.0) + weak) / (own + weak)), dtype=np.float64)


def _visits_of(states: RecordStates) -> tuple[np.ndarray, np.ndarray]:
    """Each visit's number of codes, and whose it is; both int64 (visits,)."""
    return np.diff(states.visit_starts), np.repeat(np.arange(len(states)), np.diff(states.patient_starts))


def _within(lengths: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... of each run of the given lengths, one run after the other."""
    starts: np.ndarray = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) - np.repeat(starts, lengths), dtype=np.int64)


def _counted(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=shape)
