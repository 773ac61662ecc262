"""Does one synthetic record hold all that is known of a person?

Knows matrices of ones; refuses to know who attacks. Rule: an empty part is held by nobody.
"""

from typing import Any

import numpy as np

BLOCK = 512
"""People asked for at once."""


def lowest(matrix: Any, values: np.ndarray, count: int | None) -> np.ndarray:  # noqa: ANN401
    """Which entries are their row's `count` lowest in value, or its lower half (rounded up) for None.

    Args:
        matrix: CSR of ones.
        values: (entries,) one for each entry.
        count: A row with fewer entries gives all it has.
    """
    sizes = np.diff(matrix.indptr)
    owners = np.repeat(np.arange(sizes.size), sizes)
    order = np.lexsort((values, owners))
    places = np.empty(owners.size, dtype=np.int64)
    places[order] = np.arange(owners.size) - matrix.indptr[:-1][owners]
    wanted = (sizes + 1) // 2 if count is None else np.full(sizes.size, count)
    return np.asarray(places < wanted[owners])


def visits_held(parts: Any, records: Any) -> np.ndarray:  # noqa: ANN401
    """Whose known visits, with their multiplicity, are all in one record: bool (people,).

    Args:
        parts: CSR of ones (people, visit tokens), the known visits.
        records: CSR of ones (records, visit tokens).
    """
    is_there = np.zeros(records.shape[1], dtype=np.float32)
    is_there[records.indices] = 1.0
    sizes = np.diff(parts.indptr)
    # A visit in no record decides without looking further; that is most people's case.
    open_ = np.flatnonzero((parts @ is_there == sizes) & (sizes > 0))
    held = np.zeros(sizes.size, dtype=bool)
    held[open_[sizes[open_] == 1]] = True
    several = open_[sizes[open_] > 1]
    turned = records.T.tocsr()
    for start in range(0, several.size, BLOCK):
        rows = several[start : start + BLOCK]
        most = (parts[rows] @ turned).max(axis=1)
        held[rows] = np.asarray(most.todense()).ravel() == sizes[rows]
    return held


def codes_held(presence: Any, chosen: np.ndarray, records: Any) -> np.ndarray:  # noqa: ANN401
    """Whose chosen codes are all in one record: bool (people,).

    Args:
        presence: CSR of ones (people, codes).
        chosen: bool (entries,) of `presence`, what is known.
        records: CSR of ones (records, codes).
    """
    bits = _bits(records)
    owners = np.repeat(np.arange(presence.shape[0]), np.diff(presence.indptr))[chosen]
    codes, sizes = presence.indices[chosen], np.bincount(owners, minlength=presence.shape[0])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    held = np.zeros(sizes.size, dtype=bool)
    for size in np.unique(sizes[sizes > 0]):
        people = np.flatnonzero(sizes == size)
        for first in range(0, people.size, BLOCK):
            rows = people[first : first + BLOCK]
            left = bits[codes[starts[rows]]]
            for place in range(1, int(size)):
                left &= bits[codes[starts[rows] + place]]
            held[rows] = left.any(axis=1)
    return held


def _bits(records: Any) -> np.ndarray:  # noqa: ANN401
    """Who has each code, eight records a byte: uint8 (codes, bytes)."""
    turned = records.T.tocsr()
    bits = np.zeros((turned.shape[0], -(-turned.shape[1] // 8)), dtype=np.uint8)
    codes = np.repeat(np.arange(turned.shape[0]), np.diff(turned.indptr))
    np.bitwise_or.at(
        bits, (codes, turned.indices >> 3), np.uint8(128) >> (turned.indices & 7).astype(np.uint8)
    )
    return bits
