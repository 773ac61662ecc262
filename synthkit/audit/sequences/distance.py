"""The nearest of many records by weighted Jaccard similarity, held in blocks.

Knows matrices of ones and one weight a token; refuses to know what a token is. Similarity of two records:
the weight of the tokens they share over the weight of those that either has. Tokens that many records have
go through one dense product, all others through a sparse one; which, decides nothing but the time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from synthkit.data.sequences import starts_of

BLOCK = 256
"""Queries compared at once with all points."""
DENSE = 0.01
"""Share of all pairs that both have a token, from which the dense product is the faster."""
MOST_DENSE = 2048
"""Tokens in the dense product at most, for the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """`distances` (queries, k) float32 in [0, 1], ascending; `closest` (queries,) the nearest point."""

    distances: np.ndarray
    closest: np.ndarray


def rarity_weights(reference: Any) -> np.ndarray:  # noqa: ANN401 - scipy's matrices carry no types
    """Each token's weight, float32 (tokens,): the logarithm of how few reference records have it.

    Source: Sparck Jones 1972, Journal of Documentation 28:11 (inverse document frequency).
    """
    size = reference.shape[0]
    found = np.bincount(reference.indices, minlength=reference.shape[1])
    return np.asarray(np.log((size + 1.0) / (found + 0.5)), dtype=np.float32)


def nearest(
    queries: Any,  # noqa: ANN401
    points: Any,  # noqa: ANN401
    weights: np.ndarray,
    *,
    k: int = 1,
    is_self: bool = False,
) -> Nearest:
    """The k nearest points of each query; with fewer points the distance is 1.

    Args:
        queries: CSR of ones (queries, tokens).
        points: CSR of ones (points, tokens).
        weights: float32 (tokens,), above 0.
        k: How many.
        is_self: The queries are the points; nobody is their own neighbour.
    """
    left, right = queries @ weights, points @ weights
    common, rare = _split(queries, points)
    dense = _columns(points, common).toarray()
    cut, other = _columns(queries, rare, weights), _columns(points, rare).T.tocsr()
    often = _columns(queries, common, weights)
    size = points.shape[0]
    distances = np.ones((queries.shape[0], k), dtype=np.float32)
    closest = np.zeros(queries.shape[0], dtype=np.int64)
    for start in range(0, queries.shape[0], BLOCK):
        rows = slice(start, min(start + BLOCK, queries.shape[0]))
        shared = often[rows].toarray() @ dense.T
        shared += (cut[rows] @ other).toarray()
        either = left[rows, None] + right[None, :]
        either -= shared
        np.divide(shared, either, out=shared, where=either > 0)
        if is_self:
            shared[np.arange(len(shared)), np.arange(rows.start, rows.stop)] = -1.0
        closest[rows] = shared.argmax(axis=1)
        best = shared.max(axis=1, keepdims=True) if k == 1 else _largest(shared, min(k, size))
        distances[rows, : best.shape[1]] = 1.0 - np.clip(best, 0.0, 1.0)
    return Nearest(distances=np.sort(distances, axis=1), closest=closest)


def similarity(first: Any, second: Any) -> np.ndarray:  # noqa: ANN401
    """Plain Jaccard similarity row by row: the sum of the smaller over that of the larger multiplicities."""
    shared = np.asarray(first.multiply(second).sum(axis=1), dtype=float).ravel()
    either = np.diff(first.indptr) + np.diff(second.indptr) - shared
    return np.asarray(np.divide(shared, either, out=np.zeros_like(shared), where=either > 0))


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(np.partition(values, values.shape[1] - k, axis=1)[:, -k:])


def _split(queries: Any, points: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Tokens for the dense and for the sparse product; those that one side lacks are in neither."""
    shares = [
        np.bincount(side.indices, minlength=side.shape[1]) / max(1, side.shape[0])
        for side in (queries, points)
    ]
    pairs = shares[0] * shares[1]
    common = np.flatnonzero(pairs >= DENSE)
    common = common[np.argsort(-pairs[common], kind="stable")][:MOST_DENSE]
    is_rare = pairs > 0
    is_rare[common] = False
    return common, np.flatnonzero(is_rare)


def _columns(matrix: Any, columns: np.ndarray, weights: np.ndarray | None = None) -> Any:  # noqa: ANN401
    """The matrix's given columns, times their weights: CSR (rows, columns)."""
    places = np.full(matrix.shape[1], -1, dtype=np.int32)
    places[columns] = np.arange(columns.size, dtype=np.int32)
    found = places[matrix.indices]
    kept = found >= 0
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[kept]
    data = np.ones(rows.size, dtype=np.float32) if weights is None else weights[matrix.indices[kept]]
    starts = starts_of(np.bincount(rows, minlength=matrix.shape[0]))
    return sparse.csr_array((data, found[kept], starts), shape=(matrix.shape[0], columns.size))
