"""Harrell's C with a standard error.

Knows times, events and predicted risks. Refuses to train. Rule: it is the C that lifelines computes (a
golden test holds the two together); it is counted here because a standard error, and that of the
difference between two models on the same patients, take each patient's own pairs.

Source: Harrell et al., JAMA 247 (1982); the infinitesimal jackknife as in Therneau's R package survival,
vignette "Concordance".
"""

from dataclasses import dataclass

import numpy as np

PAIRS_AT_A_TIME = 5_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class PairCounts:
    """Pairs in which the one with the earlier event is known.

    `pairs` and `right`: float64 (rows,), the pairs that each row is part of, and those of them in which
    the higher risk had the earlier event; a tie in risk is half right.
    """

    pairs: np.ndarray
    right: np.ndarray

    @property
    def c_index(self) -> float | None:
        """Share of pairs that are right; None where there is no pair."""
        total = float(self.pairs.sum())
        return float(self.right.sum()) / total if total else None

    @property
    def influence(self) -> np.ndarray:
        """How much each row moves C, float64 (rows,)."""
        total, c_index = float(self.pairs.sum()), self.c_index
        if c_index is None:
            return np.zeros_like(self.pairs)
        # Each pair stands in the sums twice, once with either row.
        return np.asarray(2 * (self.right - c_index * self.pairs) / total)


def count_pairs(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> PairCounts:
    """Count every pair of one event and a row that was still followed after it.

    Args:
        time: float64, shape (rows,).
        event: bool, shape (rows,).
        risk: float64, shape (rows,): higher is expected earlier.

    A row censored at the very time of an event was followed after it; two events at one time are no pair.
    """
    pairs, right = np.zeros(time.size), np.zeros(time.size)
    events = np.flatnonzero(event)
    step = max(1, PAIRS_AT_A_TIME // max(1, time.size))
    for start in range(0, events.size, step):
        some = events[start : start + step]
        later = time[None, :] > time[some, None]
        later |= (time[None, :] == time[some, None]) & ~event[None, :]
        score = np.where(risk[some, None] > risk[None, :], 1.0, 0.0)
        score[risk[some, None] == risk[None, :]] = 0.5
        score *= later
        pairs[some] += later.sum(axis=1)
        right[some] += score.sum(axis=1)
        pairs += later.sum(axis=0)
        right += score.sum(axis=0)
    return PairCounts(pairs=pairs, right=right)


def error_of(influence: np.ndarray) -> float:
    """Standard error of a figure whose rows have this influence."""
    return float(np.sqrt((influence**2).sum()))
