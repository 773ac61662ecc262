"""Every column in a few coarse bins, for attacks that count.

Knows encoded rows; refuses to know a value's meaning. Rules: the bins of a number are the tenths of the
reference, its levels those frequent there, so that members and holdout stay exchangeable; missing is a bin
of its own.
"""

from collections.abc import Sequence

import numpy as np

from synthkit.audit.distance import MISSING_NUMBER, Rows

TENTHS = np.arange(1, 10) / 10.0
MAX_LEVELS = 32
"""Levels of a column kept apart; the rarer ones share a bin."""
MISSING = 0


def binned(tables: Sequence[Rows], reference: Rows) -> list[np.ndarray]:
    """(rows, columns) int16 bins of each table, from 0 (missing); numeric columns first, then the others.

    A number's bin is its tenth of the reference; fewer than ten where values repeat.
    """
    numbers = [_number_bins(tables, reference.numbers[:, j], j) for j in range(reference.numbers.shape[1])]
    codes = [_code_bins(tables, reference, j) for j in range(reference.codes.shape[1])]
    columns = numbers + codes
    return [np.stack([column[t] for column in columns], axis=1) for t in range(len(tables))]


def _number_bins(tables: Sequence[Rows], reference: np.ndarray, column: int) -> list[np.ndarray]:
    present = reference[reference < MISSING_NUMBER]
    edges = np.unique(np.quantile(present, TENTHS)) if present.size else np.zeros(0)
    bins = []
    for table in tables:
        values = table.numbers[:, column]
        place = np.searchsorted(edges, values, side="right") + 1
        bins.append(np.where(values >= MISSING_NUMBER, MISSING, place).astype(np.int16))
    return bins


def _code_bins(tables: Sequence[Rows], reference: Rows, column: int) -> list[np.ndarray]:
    counts = np.bincount(reference.codes[:, column] + 1, minlength=int(reference.levels[column]))
    frequent = 1 + np.argsort(-counts[1:], kind="stable")[: MAX_LEVELS - 2]
    place = np.full(counts.size, MAX_LEVELS - 1, dtype=np.int16)
    place[frequent] = np.arange(1, frequent.size + 1)
    place[0] = MISSING
    return [place[table.codes[:, column] + 1] for table in tables]
