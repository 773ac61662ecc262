"""Encoded rows and their nearest neighbours under Gower's distance.

Knows a schema's columns and two matrices; refuses to know which rows are members. Rules: a numeric column
is scaled by its public range, never by the rows; two missing cells are at distance 0, a missing and a
present one at distance 1; every value is first rounded as a release rounds it, so 12 and 12.0 are equal.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from synthkit.domain.schema import Column, Kind, Schema

MISSING_NUMBER = 2.0
"""Missing in the scaled matrix: at least 1 away from every present value; differences are capped at 1."""
MAX_PLAIN = 255
"""Columns whose differences a byte can count."""
MANY_PAIRS = 50_000_000
"""Pairs of rows from which more than one thread is worth its start."""
MAX_THREADS = 4
MAX_ONE_HOT = 64
"""Columns with more levels are compared code by code; the others by one matrix product."""
QUERY_ROWS, POINT_ROWS = 128, 2048
"""Block of pairs held at once: one MiB of float32, which stays in a core's cache."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Rows:
    """Encoded rows: `numbers` (n, numeric columns) float32 in [0, 1] or MISSING_NUMBER; `codes`
    (n, other columns) int32, -1 for missing; `keys` (n,) equal where the released rows are identical;
    `levels` (other columns,) number of codes of each column, missing included, over all encoded frames.
    """

    numbers: np.ndarray
    codes: np.ndarray
    keys: np.ndarray
    levels: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: np.ndarray) -> "Rows":
        """The given rows, by position or mask."""
        return Rows(
            numbers=self.numbers[rows], codes=self.codes[rows], keys=self.keys[rows], levels=self.levels
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A weighted Gower distance: one weight per numeric and per other column. A column of weight 0 is not
    looked at.
    """

    numbers: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """`distances` (queries, k) float32, ascending; `closest` (queries,) position of the nearest point;
    `to_query` (points,) float32, each point's distance to its nearest query.
    """

    distances: np.ndarray
    closest: np.ndarray
    to_query: np.ndarray


def released_numbers(values: np.ndarray, column: Column) -> np.ndarray:
    """Float64 values rounded as a release rounds them; NaN stays, minus zero becomes zero."""
    if column.kind is Kind.DATETIME:
        return np.asarray(np.trunc(values) + 0.0)
    return np.asarray(np.round(values, 0 if column.is_whole else column.decimals) + 0.0)


def encode(schema: Schema, frames: list[pd.DataFrame]) -> list[Rows]:
    """Encode several frames of one schema with one set of codes.

    Codes carry identity only (equal or not), so a level outside the schema is harmless.
    """
    joint = pd.concat([frame[list(schema.names)] for frame in frames], ignore_index=True)
    numeric = [column for column in schema if column.is_numeric]
    exact = np.empty((len(joint), len(numeric)), dtype=np.float64)
    scaled = np.empty((len(joint), len(numeric)), dtype=np.float32)
    for j, column in enumerate(numeric):
        values = released_numbers(joint[column.name].to_numpy(dtype=np.float64), column)
        low, high = float(column.minimum or 0.0), float(column.maximum or 0.0)
        unit = np.clip((values - low) / (high - low), 0.0, 1.0)
        scaled[:, j] = np.where(np.isnan(values), MISSING_NUMBER, unit)
        exact[:, j] = values
    codes = _codes(joint, [column.name for column in schema if not column.is_numeric])
    keys = _keys(exact, codes)
    cuts = np.cumsum([0, *(len(frame) for frame in frames)])
    levels = codes.max(axis=0, initial=-1) + 2
    whole = Rows(numbers=scaled, codes=codes, keys=keys, levels=levels)
    return [whole.take(np.arange(a, b)) for a, b in pairwise(cuts)]


def _codes(joint: pd.DataFrame, names: list[str]) -> np.ndarray:
    """(rows, columns) int32: equal text, equal code; -1 where missing."""
    codes = np.empty((len(joint), len(names)), dtype=np.int32)
    for j, name in enumerate(names):
        codes[:, j] = pd.factorize(joint[name].to_numpy(dtype=object), use_na_sentinel=True)[0]
    return codes


def _keys(exact: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(rows,) int64: the same number for rows that are identical in every column."""
    # One canonical NaN: the bit patterns of two missing cells may differ.
    numbers = np.ascontiguousarray(np.where(np.isnan(exact), np.nan, exact))
    rows = [a.tobytes() + b.tobytes() for a, b in zip(numbers, np.ascontiguousarray(codes), strict=True)]
    return np.asarray(pd.factorize(np.array(rows, dtype=object))[0], dtype=np.int64)


def public_space(rows: Rows, columns: np.ndarray | None = None) -> Space:
    """Gower's distance in units of one column: every column counts 1, numbers by their public range.

    Args:
        rows: Any encoded rows; only their width is looked at.
        columns: Boolean mask over numeric, then other columns: what the attacker knows. All if None.
    """
    n_numbers, n_codes = rows.numbers.shape[1], rows.codes.shape[1]
    known = np.ones(n_numbers + n_codes, dtype=np.float32) if columns is None else columns.astype(np.float32)
    return Space(numbers=known[:n_numbers], codes=known[n_numbers:])


def reference_space(reference: Rows, *, seed: int) -> Space:
    """Weights under which every column adds about equally to the mean distance of two reference rows.

    A public range may be far wider than where patients lie, which would silence the column; and a level
    that few patients hold should count more when it agrees. The mean distance of two reference rows is
    about 1. Weights come from the reference alone, so members and holdout stay exchangeable.
    """
    order = np.random.default_rng(seed).permutation(len(reference))
    shuffled = reference.take(order)
    shifts = range(1, min(9, len(reference)))
    rolled = [shuffled.take(np.roll(np.arange(len(reference)), shift)) for shift in shifts]
    gaps = np.mean([number_gaps(shuffled, other).mean(axis=0) for other in rolled], axis=0)
    differs = np.mean([(shuffled.codes != other.codes).mean(axis=0) for other in rolled], axis=0)
    # The floors keep a near-constant column from drowning all others; ranges may be wide, codes are not.
    numbers, codes = 1.0 / np.maximum(gaps, 0.001), 1.0 / np.maximum(differs, 0.1)
    width = gaps.size + differs.size
    return Space(numbers=(numbers / width).astype(np.float32), codes=(codes / width).astype(np.float32))


def number_gaps(first: Rows, second: Rows) -> np.ndarray:
    """(rows, numeric columns) differences row by row, in public ranges; 1 where one is missing."""
    return np.asarray(np.minimum(np.abs(first.numbers - second.numbers), 1.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Some parts of the columns taken together, in which `k` neighbours are wanted."""

    parts: tuple[int, ...]
    k: int = 1


def nearest(
    queries: Rows,
    points: Rows,
    space: Space,
    *,
    k: int,
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
) -> Neighbours:
    """Distances from each query to its `k` nearest points, all pairs compared, in blocks.

    Args:
        queries: (queries,) rows.
        points: (points,) rows, at least k that are not excluded.
        space: The distance.
        k: How many neighbours.
        exclude: Patient numbers of queries and of points; pairs of one patient are skipped.
    """
    return nearest_in_views(queries, points, [space], [View(parts=(0,), k=k)], exclude=exclude)[0]


def nearest_in_views(
    queries: Rows,
    points: Rows,
    parts: Sequence[Space],
    views: Sequence[View],
    *,
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Neighbours]:
    """The same in several views of the columns at once, for little more than the price of the widest.

    Args:
        queries: As in `nearest`.
        points: As in `nearest`.
        parts: Distances over columns that no two of them share.
        views: Which parts' sum each result is about.
        exclude: As in `nearest`.
    """
    left = [_Prepared(queries, part, weighted=True) for part in parts]
    right = [_Prepared(points, part, weighted=False) for part in parts]
    wide = [part.codes[(part.codes > 0) & (points.levels > MAX_ONE_HOT)] for part in parts]
    searches = [_Search(len(queries), len(points), view.k) for view in views]
    lock = Lock()

    def compare(columns: slice) -> None:
        cuts = [side.block(columns) for side in right]
        for q in range(0, len(queries), QUERY_ROWS):
            rows = slice(q, min(q + QUERY_ROWS, len(queries)))
            blocks = [
                _block(side.block(rows), cut, part, weights)
                for side, cut, part, weights in zip(left, cuts, parts, wide, strict=True)
            ]
            apart = None if exclude is None else exclude[0][rows, None] == exclude[1][None, columns]
            for view, search in zip(views, searches, strict=True):
                block = blocks[view.parts[0]]
                for part_index in view.parts[1:]:
                    block = block + blocks[part_index]
                search.meet(rows, columns, block if apart is None else np.where(apart, np.inf, block), lock)

    starts = range(0, len(points), POINT_ROWS)
    in_parallel(compare, [slice(p, min(p + POINT_ROWS, len(points))) for p in starts], len(queries))
    return [search.result() for search in searches]


def in_parallel(compare: Callable[[slice], None], slices: Sequence[slice], queries: int) -> None:
    """Compare each slice of the points with all queries, on several threads where there is much to do."""
    threads = min(MAX_THREADS, os.cpu_count() or 1, len(slices))
    if threads == 1 or queries * slices[-1].stop < MANY_PAIRS:
        for part in slices:
            compare(part)
        return
    # The arrays' own threads would contend with these.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(compare, slices))


class _Search:
    """The nearest points so far."""

    def __init__(self, queries: int, points: int, k: int) -> None:
        self._k = k
        self._best = np.full((queries, k), np.inf, dtype=np.float32)
        self._closest = np.zeros(queries, dtype=np.int64)
        self._to_query = np.full(points, np.inf, dtype=np.float32)

    def meet(self, rows: slice, columns: slice, block: np.ndarray, lock: Lock) -> None:
        """Take one block of distances, (rows, columns), into account; in whatever order blocks come."""
        here = block.argmin(axis=1)
        least, place = block[np.arange(len(block)), here], here + columns.start
        smallest = _smallest(block, self._k)
        np.minimum(self._to_query[columns], block.min(axis=0), out=self._to_query[columns])
        with lock:
            best = self._best[rows].min(axis=1)
            # The first of equally near points, whichever thread met it first.
            closer = (least < best) | ((least == best) & (place < self._closest[rows]))
            self._closest[rows] = np.where(closer, place, self._closest[rows])
            self._best[rows] = _smallest(np.concatenate((self._best[rows], smallest), axis=1), self._k)

    def result(self) -> Neighbours:
        """All blocks have been met."""
        return Neighbours(
            distances=np.sort(self._best, axis=1), closest=self._closest, to_query=self._to_query
        )


def _smallest(block: np.ndarray, k: int) -> np.ndarray:
    """(rows, at most k) smallest entries of each row, in any order."""
    if k == 1:
        return np.asarray(block.min(axis=1, keepdims=True))
    if block.shape[1] <= k:
        return block
    if k == 2:
        rows, first = np.arange(len(block)), block.argmin(axis=1)
        least = block[rows, first]
        block[rows, first] = np.inf
        second = block.min(axis=1)
        block[rows, first] = least
        return np.stack((least, second), axis=1)
    return np.partition(block, k - 1, axis=1)[:, :k]


@dataclass(frozen=True, eq=False)
class _Block:
    """One slice of rows ready to be compared: `numbers` (columns, rows) weighted; of the narrow columns
    `one_hot` (rows, levels), or `plain` (columns, rows) bytes where all weigh 1; `wide` (columns, rows) codes
    of the others.
    """

    numbers: np.ndarray
    one_hot: np.ndarray
    plain: np.ndarray
    wide: np.ndarray


class _Prepared:
    """All rows of one side of the comparison, cut into blocks on demand."""

    def __init__(self, rows: Rows, space: Space, *, weighted: bool) -> None:
        seen = space.numbers > 0
        self._numbers = np.ascontiguousarray((rows.numbers * space.numbers)[:, seen].T)
        narrow = np.flatnonzero((space.codes > 0) & (rows.levels <= MAX_ONE_HOT))
        # Counting bytes that differ is many times faster than a matrix product, where it says the same.
        is_plain = narrow.size <= MAX_PLAIN and bool((space.codes[narrow] == 1.0).all())
        self._plain: np.ndarray = narrow if is_plain else narrow[:0]
        self._narrow: np.ndarray = narrow[:0] if is_plain else narrow
        self._wide = np.flatnonzero((space.codes > 0) & (rows.levels > MAX_ONE_HOT))
        self._starts = np.concatenate(([0], np.cumsum(rows.levels[self._narrow]))).astype(np.int64)
        # The weight stands on one side only, so equal rows agree on it to the last bit.
        self._values = space.codes[self._narrow] if weighted else np.ones(self._narrow.size, np.float32)
        self._codes = rows.codes

    def block(self, rows: slice) -> _Block:
        """The rows of one slice."""
        codes = self._codes[rows]
        one_hot = np.zeros((len(codes), int(self._starts[-1])), dtype=np.float32)
        for column, start, value in zip(self._narrow, self._starts, self._values, strict=False):
            one_hot[np.arange(len(codes)), start + codes[:, column] + 1] = value
        plain = np.ascontiguousarray((codes[:, self._plain].T + 1).astype(np.uint8))
        return _Block(self._numbers[:, rows], one_hot, plain, np.ascontiguousarray(codes[:, self._wide].T))


def _block(left: _Block, right: _Block, space: Space, wide: np.ndarray) -> np.ndarray:
    """(left rows, right rows) float32 distances; `wide` holds the weights of the wide columns."""
    if left.one_hot.shape[1]:
        narrow_total = np.float32(space.codes.sum() - wide.sum())
        total = narrow_total - left.one_hot @ right.one_hot.T
        np.maximum(total, 0.0, out=total)
    else:
        differing = np.zeros((left.plain.shape[1], right.plain.shape[1]), dtype=np.uint8)
        for bytes_a, bytes_b in zip(left.plain, right.plain, strict=True):
            differing += (bytes_a[:, None] != bytes_b[None, :]).view(np.uint8)
        total = differing.astype(np.float32)
    gap = np.empty_like(total)
    for a, b, weight in zip(left.numbers, right.numbers, space.numbers[space.numbers > 0], strict=True):
        np.subtract(a[:, None], b[None, :], out=gap)
        np.abs(gap, out=gap)
        if max(a.max(), b.max()) > weight * 1.5:
            np.minimum(gap, weight, out=gap)
        total += gap
    for codes_a, codes_b, weight in zip(left.wide, right.wide, wide, strict=True):
        total += weight * (codes_a[:, None] != codes_b[None, :])
    return np.asarray(total)
