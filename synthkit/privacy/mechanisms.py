"""Mechanisms that release a statistic once: Gaussian noise on a sum that each patient can move by 1.

Knows vectors, cells and names per patient. Refuses to know what they mean. Rules: the bound on what one
patient adds, with all their rows, is enforced here, not trusted; the pre-noise statistic is a function of
its own, so that its sensitivity can be tested; everything after the noise is post-processing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import NormalDist

import numpy as np
import torch

from synthkit.domain.layout import Layout, PatientStates
from synthkit.privacy import rng


def gaussian_sum(vectors: torch.Tensor | Iterable[torch.Tensor], *, noise_multiplier: float) -> np.ndarray:
    """Sum of the patients' vectors, each clipped to norm 1, with noise of std `noise_multiplier`.

    Args:
        vectors: float64, shape (patients, k), or several of them with other patients each: the noise is
            added once, to the sum of all. A row that is not finite counts as zero: no clipping bounds a
            NaN.
        noise_multiplier: Noise's standard deviation; the L2 sensitivity under add-or-remove is 1.

    Returns:
        float64, shape (k,). Costs one `GaussianEvent(noise_multiplier)`.
    """
    total: np.ndarray = sum(
        (_clipped_total(part) for part in ([vectors] if isinstance(vectors, torch.Tensor) else vectors)),
        start=np.zeros(1),
    )
    noised: np.ndarray = total + rng.normal(total.size, std=noise_multiplier)
    return noised


def _clipped_total(vectors: torch.Tensor) -> np.ndarray:
    """Sum of vectors of norm at most 1, float64 (k,)."""
    vectors = vectors.double()
    norms = vectors.norm(dim=1)
    is_finite = norms.isfinite()
    if not is_finite.all():  # 0 times a NaN is a NaN: such rows have to go, not to be weighted
        vectors, norms = vectors[is_finite], norms[is_finite]
    total: np.ndarray = (norms.clamp(min=1.0).reciprocal() @ vectors).cpu().numpy()
    return total


SINGLE_WEIGHT = 2.0
"""How much stronger a state's own count enters the tables than a pair's: its noise is half as large."""


def table_noise(layout: Layout, *, noise_multiplier: float) -> tuple[float, float]:
    """Standard deviation of the noise of a pair's count and of a state's own, in patients."""
    columns = len(layout.states)
    # One row is in one state of every column: one cell of each pair's table, one of each column's.
    norm = math.sqrt(columns * (columns - 1) / 2 + SINGLE_WEIGHT**2 * columns)
    return noise_multiplier * norm, noise_multiplier * norm / SINGLE_WEIGHT


def tables_statistic(patients: PatientStates, layout: Layout) -> np.ndarray:
    """Patients per pair of states, and per state on the diagonal; float64, shape (width, width).

    A patient with k rows adds 1 / k for each. With pairs above the diagonal counted once and the diagonal
    `SINGLE_WEIGHT` times, one patient adds a vector of norm at most `table_noise` at multiplier 1.
    """
    rows = np.diff(patients.starts)
    weights = 1.0 / np.repeat(rows, rows)
    by_column = np.ascontiguousarray(patients.states.T)
    blocks = [slice(start, start + size) for start, size in zip(layout.offsets, layout.states, strict=True)]
    total = np.zeros((layout.width, layout.width))
    # Counted in float64: in float32 the rounding of 1 / k alone would exceed the bound by a millionth.
    for first, second in combinations_with_replacement(range(len(layout.states)), 2):
        shape = layout.states[first], layout.states[second]
        pair = by_column[first] * shape[1] + by_column[second]
        table = np.bincount(pair, weights, minlength=math.prod(shape)).reshape(shape)
        total[blocks[first], blocks[second]] = table
        total[blocks[second], blocks[first]] = table.T
    return total


def pair_tables(patients: PatientStates, layout: Layout, *, noise_multiplier: float) -> np.ndarray:
    """All one-way and two-way tables by one Gaussian mechanism.

    Args:
        patients: Every state within its column's; a state outside is a caller's bug and raises.
        layout: Of the states.
        noise_multiplier: sigma / L2 sensitivity of all tables together.

    Returns:
        float64, shape (width, width), symmetric, as `tables_statistic`; the noise's standard deviations
        are `table_noise`. Costs one `GaussianEvent(noise_multiplier)`.
    """
    if ((patients.states < 0) | (patients.states >= np.array(layout.states))).any():
        raise ValueError("a state lies outside its column")
    pair_std, single_std = table_noise(layout, noise_multiplier=noise_multiplier)
    above = np.triu(rng.normal(layout.width**2, std=pair_std).reshape(layout.width, layout.width), 1)
    block = np.repeat(np.arange(len(layout.states)), layout.states)
    above[block[:, None] == block[None, :]] = 0.0  # known: a patient is in one state of a column
    diagonal = np.diag(rng.normal(layout.width, std=single_std))
    return tables_statistic(patients, layout) + above + above.T + diagonal


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cells:
    """One column's rows on a public grid: `cells` holds each row's cell from 0, or -1 for none; int64,
    shape (rows,). With `is_running` the counts wanted are running totals from the first cell on.
    """

    cells: np.ndarray
    size: int
    is_running: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyCounts:
    """Noisy patients per cell, or running totals; float64, shape (size,).

    `std` is the noise of an entry, at most; `cell_std` that of one cell's own count.
    """

    counts: np.ndarray
    std: float
    cell_std: float


def noisy_counts(
    patients: np.ndarray, columns: Sequence[Cells], *, noise_multiplier: float
) -> tuple[NoisyCounts, ...]:
    """Histograms and running totals of several columns by one Gaussian mechanism.

    Args:
        patients: One integer per row, equal for rows of one patient, shape (rows,).
        columns: At least one; all over the same rows.
        noise_multiplier: sigma / L2 sensitivity of the joint vector.

    Returns:
        For k columns a histogram's noise has std `noise_multiplier * sqrt(k)` in every cell; a running
        total's grows with the logarithm of its grid, see `running_std`. Costs one
        `GaussianEvent(noise_multiplier)` for all columns together.
    """
    exact = counts_statistic(patients, columns)
    noised = exact + rng.normal(exact.size, std=noise_multiplier)
    parts = np.split(noised, np.cumsum([column.size for column in columns])[:-1])
    scale = math.sqrt(len(columns))
    return tuple(
        _read_counts(part * scale, column, noise_multiplier * scale)
        for part, column in zip(parts, columns, strict=True)
    )


def counts_statistic(patients: np.ndarray, columns: Sequence[Cells]) -> np.ndarray:
    """What noise is added to: float64, shape (sum of sizes,); one patient moves it by at most 1 in L2.

    Each of a patient's k rows counts 1/k, so a patient adds at most norm 1 to a histogram. For running
    totals the histogram is first multiplied by the root of the summation matrix, whose columns have norm
    1 here; the other root follows after the noise. Every column then counts 1/sqrt(number of columns).

    Source: Fichtenberger, Henzinger and Upadhyay, arXiv 2202.11205, section 3 (the factorisation).
    """
    weights = row_weights(patients)
    vectors = []
    for column in columns:
        inside = column.cells >= 0
        counts = np.bincount(column.cells[inside], weights[inside], minlength=column.size)
        if counts.size != column.size:
            raise RuntimeError("a cell lies outside its grid")
        if column.is_running:
            root = _summation_root(column.size)
            counts = np.convolve(counts, root)[: column.size] / np.linalg.norm(root)
        vectors.append(counts)
    joint: np.ndarray = np.concatenate(vectors) / math.sqrt(len(columns))
    return joint


def row_weights(patients: np.ndarray) -> np.ndarray:
    """1 / (the patient's number of rows) for each row, float64, so that every patient's sum to 1."""
    _, places, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1.0 / counts[places]
    return weights


def running_std(size: int) -> float:
    """Largest std of a running total over `size` cells, per std of the noise: about 1.07 + ln(size) / pi."""
    return float(np.sum(_summation_root(size) ** 2))


def _read_counts(part: np.ndarray, column: Cells, std: float) -> NoisyCounts:
    if not column.is_running:
        return NoisyCounts(counts=part, std=std, cell_std=std)
    root = _summation_root(column.size)
    norm = float(np.linalg.norm(root))
    totals = np.convolve(part, root)[: column.size] * norm
    # One cell is the difference of two totals: the inverse root, whose rows have norm 2 / sqrt(pi) at most.
    return NoisyCounts(counts=totals, std=std * norm**2, cell_std=std * norm * 2.0 / math.sqrt(math.pi))


def _summation_root(size: int) -> np.ndarray:
    """First column of the Toeplitz matrix whose square is the lower triangle of ones: C(2k, k) / 4^k."""
    steps = np.arange(1, size)
    return np.concatenate([[1.0], np.cumprod((2.0 * steps - 1.0) / (2.0 * steps))])


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Names:
    """One column's names by row: object array of texts, None for none, shape (rows,).

    `most_per_patient` is public: how many different names one patient may support.
    """

    names: np.ndarray
    most_per_patient: int = 1


def common_names(
    patients: np.ndarray, columns: Sequence[Names], *, noise_multiplier: float, failure_delta: float
) -> tuple[tuple[str, ...], ...]:
    """Names that enough patients hold, for several columns by one mechanism.

    The names are not public, so a name that one patient alone holds must stay unpublished even though
    nobody else's data could have made it appear: it would have to pass `name_threshold`.

    Args:
        patients: One integer per row, equal for rows of one patient, shape (rows,).
        columns: At least one; all over the same rows.
        noise_multiplier: sigma / L2 sensitivity of the joint vector.
        failure_delta: Most that the probability may be that any of one patient's own names, in any of
            the columns, is published.

    Returns:
        For each column the published names, in text order. Costs one
        `GaussianThresholdEvent(noise_multiplier, failure_delta)` for all columns together.

    Source: Gopi et al., Differentially Private Set Union, arXiv 2002.09745, section 4 (weighted Gaussian).
    """
    std = noise_multiplier * math.sqrt(len(columns))
    published = []
    for column in columns:
        support = names_statistic(patients, column)
        noised = np.array(list(support.values())) + rng.normal(len(support), std=std)
        threshold = name_threshold(
            std=std,
            most_per_patient=column.most_per_patient,
            columns=len(columns),
            failure_delta=failure_delta,
        )
        held = zip(support, noised, strict=True)
        published.append(tuple(sorted(name for name, count in held if count > threshold)))
    return tuple(published)


def names_statistic(patients: np.ndarray, column: Names) -> dict[str, float]:
    """Support of each name before the noise; one patient moves it by at most 1 in L2.

    A patient supports their m most frequent names (ties in text order), m at most `most_per_patient`,
    with 1/sqrt(m) each.
    """
    held = np.array([name is not None for name in column.names], dtype=bool)
    by_patient: dict[int, Counter[str]] = {}
    for patient, name in zip(patients[held].tolist(), column.names[held].tolist(), strict=True):
        by_patient.setdefault(patient, Counter())[name] += 1
    support: dict[str, float] = {}
    for counts in by_patient.values():
        own = sorted(counts, key=lambda name: (-counts[name], name))[: column.most_per_patient]
        for name in own:
            support[name] = support.get(name, 0.0) + 1.0 / math.sqrt(len(own))
    return support


def name_threshold(*, std: float, most_per_patient: int, columns: int, failure_delta: float) -> float:
    """The support that a name must exceed to be published.

    A patient with t names of their own in a column gives each 1/sqrt(t). All of them, in all columns,
    stay below with probability P(1/sqrt(t) + std Z <= threshold)^(t * columns), which must be at least
    1 - failure_delta for every t that is possible.

    Args:
        std: Standard deviation of one name's noise, in units of one patient's support.
        most_per_patient: Names that one patient may support in a column.
        columns: Columns bought by the same mechanism.
        failure_delta: As in `common_names`.
    """
    return max(
        1.0 / math.sqrt(t) + std * _quantile_above(-math.expm1(math.log1p(-failure_delta) / (t * columns)))
        for t in range(1, most_per_patient + 1)
    )


def _quantile_above(probability: float) -> float:
    """The standard normal value that is exceeded with this probability."""
    return -NormalDist().inv_cdf(probability)
