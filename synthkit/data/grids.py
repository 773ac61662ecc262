"""Public grids for numbers, and what noisy counts on them say: bounds, spikes, quantile edges.

Knows a column's kind, decimals and public bounds, and counts that are noisy already. Refuses to see a
row: a grid is the same whatever the patients' values are, and everything read off noisy counts is
post-processing. Rules: results ascend; where noise drowns the patients there are fewer bins, not wild ones.

All positions are whole numbers of the column's unit: 1 for whole numbers, else 10^-decimals.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from synthkit.data.encoding import BINS, MAX_SINGLE_VALUES
from synthkit.data.table import EPOCH
from synthkit.domain.schema import Column, Kind, Scale
from synthkit.privacy.mechanisms import NoisyCounts

SINGLE_UNITS, OCTAVES, CELLS_PER_OCTAVE = 128, 50, 64
"""Without bounds: one cell per unit below 128, 64 cells from each power of two to the next, up to 2^50."""

CALENDAR = (dt.date(1900, 1, 1), dt.date(2100, 1, 1))
"""Dates without bounds lie in here, by weeks."""

MOST_CELLS = 4096
"""Cells of a grid between public bounds."""

FALSE_ALARM = 1e-3
"""Probability that noise alone makes any coarse cell of a column count as inhabited."""

NOISE_STDS = 4.0
"""As few patients as this many standard deviations of a total's noise say nothing of a cap."""

SPIKE_SHARE, SPIKE_STDS, SPIKE_OVER_NEIGHBOUR = 0.1, 4.5, 3.0
FEWEST_BINS, STDS_PER_BIN = 4, 2.0


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Grid:
    """Cells of whole numbers: cell i holds starts[i] to starts[i + 1] - 1, the last one up to `last`."""

    starts: np.ndarray
    last: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.starts.size

    @property
    def ends(self) -> np.ndarray:
        """The last number of each cell, int64."""
        return np.append(self.starts[1:] - 1, self.last)

    def cells(self, numbers: np.ndarray, per_one: float) -> np.ndarray:
        """Each number's cell, int64, shape (rows,); the outermost for what lies outside, -1 for no number."""
        finite = np.isfinite(numbers)
        low, high = float(self.starts[0]), float(self.last)
        with np.errstate(over="ignore"):
            units = np.clip(np.rint(np.where(finite, numbers, 0.0) * per_one), low, high).astype(np.int64)
        return np.where(finite, np.searchsorted(self.starts, units, side="right") - 1, -1)


def per_one(column: Column) -> float:
    """Units in 1: 1 for whole numbers."""
    return 1.0 if column.is_whole else 10.0**column.decimals


def coarse_grid(column: Column) -> Grid:
    """The grid that bounds are found on: signed powers of two, or years."""
    if column.kind is Kind.DATETIME:
        years = [dt.date(year, 1, 1) for year in range(CALENDAR[0].year, CALENDAR[1].year)]
        return Grid(starts=np.array([_days(day) for day in years]), last=_days(CALENDAR[1]) - 1)
    return _mirrored(np.concatenate([[0], 2 ** np.arange(OCTAVES)]), 2**OCTAVES - 1)


def fine_grid(column: Column) -> Grid:
    """The grid that quantiles are found on; between the public bounds where the column has them."""
    if column.minimum is not None and column.maximum is not None:
        units = per_one(column)
        return _between(
            int(np.ceil(column.minimum * units - 1e-6)),
            int(np.floor(column.maximum * units + 1e-6)),
            column.scale,
        )
    if column.kind is Kind.DATETIME:
        low, high = (_days(day) for day in CALENDAR)
        return Grid(starts=np.arange(low, high, 7), last=high - 1)
    parts = np.arange(CELLS_PER_OCTAVE)
    octaves = [
        2**octave + parts * (2**octave // CELLS_PER_OCTAVE)
        for octave in range(SINGLE_UNITS.bit_length() - 1, OCTAVES)
    ]
    return _mirrored(np.concatenate([np.arange(SINGLE_UNITS), *octaves]), 2**OCTAVES - 1)


def _mirrored(starts: np.ndarray, last: int) -> Grid:
    """A grid from 0 on, and the same below 0."""
    ends = np.append(starts[1:] - 1, last)
    return Grid(starts=np.concatenate([-ends[:0:-1], starts]).astype(np.int64), last=last)


def _between(low: int, high: int, scale: Scale) -> Grid:
    count = max(high, low) - low + 1
    if count <= MOST_CELLS:
        return Grid(starts=np.arange(low, low + count), last=low + count - 1)
    shares = np.linspace(0.0, 1.0, MOST_CELLS + 1)[:-1]
    offsets = np.expm1(shares * np.log1p(count)) if scale is Scale.LOG else shares * count
    return Grid(starts=low + np.unique(offsets.astype(np.int64)), last=high)


def _days(day: dt.date) -> int:
    return (day - EPOCH).days


def inhabited_range(grid: Grid, noisy: NoisyCounts) -> tuple[int, int] | None:
    """From the first to the last cell that noise alone does not explain, in units; None if there is none.

    Patients in cells further out, too few to be told from noise, are clamped to this range.
    """
    threshold = -noisy.std * NormalDist().inv_cdf(FALSE_ALARM / grid.size)
    inhabited = np.flatnonzero(noisy.counts > threshold)
    if inhabited.size == 0:
        return None
    low, high = int(grid.starts[inhabited[0]]), int(grid.ends[inhabited[-1]])
    return low, max(high, low + 1)


def cap_grid(octaves: int) -> Grid:
    """The grid that caps are found on: cell i ends with the i-th power of two, the last with 2^octaves."""
    powers = 2 ** np.arange(octaves)
    return Grid(starts=np.concatenate([[1], powers + 1]).astype(np.int64), last=2**octaves)


def cap_of_most(grid: Grid, noisy: NoisyCounts, *, over: float) -> int | None:
    """The least end of a cell that at most a share of patients lies over; None where noise hides them all.

    Rather too large than too small: a large cap costs time, a small one cuts records.

    Args:
        grid: Of the numbers that are to be capped.
        noisy: Running totals of patients on it.
        over: Share of patients that may lie over the cap; never fewer than noise explains.
    """
    totals = ascending(noisy.counts)
    if totals[-1] <= NOISE_STDS * noisy.std:
        return None
    spared = max(over * totals[-1], noisy.std)
    return int(grid.ends[np.flatnonzero(totals[-1] - totals <= spared)[0]])


@dataclass(frozen=True, kw_only=True)
class Division:
    """How a range is divided, in units: frequent single values, and where each further bin begins."""

    spikes: tuple[int, ...]
    edges: tuple[int, ...]


def divide(grid: Grid, noisy: NoisyCounts, low: int, high: int, *, is_whole: bool) -> Division:
    """Spikes and quantile edges between `low` and `high` from noisy running totals.

    Few whole numbers get a bin each. Otherwise the bins hold about equally many patients, apart from
    spikes, as many bins as the noise allows, and none more than `BINS` but for the tails' and heaps'.
    """
    if is_whole and high - low + 1 <= MAX_SINGLE_VALUES:
        return Division(spikes=(), edges=tuple(range(low + 1, high + 1)))
    inside = np.flatnonzero((grid.ends >= low) & (grid.starts <= high))
    raw = np.diff(noisy.counts, prepend=0.0)[inside]
    mass = np.diff(ascending(noisy.counts), prepend=0.0)[inside]
    is_spike = _spikes(grid, inside, raw, noisy.cell_std, float(mass.sum()))
    starts = grid.starts[inside]
    edges = _quantile_edges(starts, grid.ends[inside], np.where(is_spike, 0.0, mass), noisy.std)
    kept = sorted(edge for edge in edges if low < edge <= high) or [(low + high + 1) // 2]
    return Division(spikes=tuple(starts[is_spike].tolist()), edges=tuple(kept))


def _spikes(grid: Grid, inside: np.ndarray, raw: np.ndarray, cell_std: float, total: float) -> np.ndarray:
    """Which cells of one number hold far more than noise, a tenth of all, and thrice their neighbours."""
    neighbour = np.maximum(np.append(raw[1:], 0.0), np.append(0.0, raw[:-1]))
    is_single = grid.ends[inside] == grid.starts[inside]
    floor = np.maximum(max(SPIKE_SHARE * total, SPIKE_STDS * cell_std), SPIKE_OVER_NEIGHBOUR * neighbour)
    spikes: np.ndarray = is_single & (raw > floor)
    return spikes


def _quantile_edges(starts: np.ndarray, ends: np.ndarray, mass: np.ndarray, std: float) -> set[int]:
    total = float(mass.sum())
    bins = int(np.clip(total / (STDS_PER_BIN * std), FEWEST_BINS, BINS))
    ranks = [*(total * np.arange(1, bins) / bins), std, total - std]
    reached = np.cumsum(mass)
    places = np.searchsorted(reached, [rank for rank in ranks if 0 < rank < total])
    edges = {int(ends[place]) + 1 for place in places}
    heaps = np.flatnonzero(mass > max(total / bins, std))
    return edges | {int(starts[heap]) for heap in heaps} | {int(ends[heap]) + 1 for heap in heaps}


def ascending(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The nearest non-decreasing sequence in least squares: neighbours out of order share their mean."""
    blocks: list[tuple[float, int]] = []
    for value in np.asarray(values, dtype=float).tolist():
        mean, count = value, 1
        while blocks and blocks[-1][0] >= mean:
            before, size = blocks.pop()
            mean, count = (mean * count + before * size) / (count + size), count + size
        blocks.append((mean, count))
    return np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])
