"""The figures behind the pictures: shares by column, and how strongly columns are related.

Knows rows, and hands back only shares and strengths. Refuses to draw: that is the report's work.
Rule: both tables are cut at the same places, and missing cells keep their share.
"""

from datetime import timedelta

import numpy as np
import pandas as pd

from synthkit.data.table import EPOCH, PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.evaluation.states import MAX_BINS, Levels, levels_of, to_bins, to_levels
from synthkit.report.figures import AssociationMaps, ColumnDistribution

MAX_BARS = 12
"""Bars of a column of categories; rarer levels are pooled into the last bar."""

MAX_LEVELS = 50
"""Levels that an association tells apart; rarer ones are pooled."""

CONSTANT = 1e-12
"""Spread, of values scaled to at most 1, below which a column counts as constant."""

TAIL = 0.005
"""Share of either table that may lie beyond a histogram's last cut: a long tail is one open bin."""


def distributions(
    real: PatientTable, synthetic: SyntheticTable, columns: tuple[str, ...] | None = None
) -> tuple[ColumnDistribution, ...]:
    """Real and synthetic shares of each column (all by default), ready to draw."""
    levels = levels_of(real.schema, real.frame, synthetic.frame)
    wanted = real.schema.names if columns is None else columns
    result = []
    for name in wanted:
        column = real.schema.column(name)
        cells = (real.frame[name], synthetic.frame[name])
        result.append(_numeric(column, *cells) if column.is_numeric else _bars(name, levels[name], *cells))
    return tuple(result)


def _numeric(column: Column, real: pd.Series, synthetic: pd.Series) -> ColumnDistribution:
    values = [cells.to_numpy(dtype=float) for cells in (real, synthetic)]
    edges, labels = cuts(column, values)
    shares = [np.bincount(to_bins(v, edges), minlength=edges.size) / max(1, v.size) for v in values]
    return ColumnDistribution(
        name=column.name,
        labels=labels,
        real=shares[0][:-1],
        synthetic=shares[1][:-1],
        real_missing=float(shares[0][-1]),
        synthetic_missing=float(shares[1][-1]),
        is_numeric=True,
    )


def cuts(column: Column, values: list[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Edges for the eye, shape (bins + 1,), and a label per bin: its first value.

    The public bounds can be far wider than the values (0 to 42 visits, nearly all below 3), so the
    picture ends where both tables nearly do, and the rest is one open bin, labelled "x+". Distances
    never use these edges.
    """
    if column.minimum is None or column.maximum is None:
        raise TypeError(f"column {column.name} is not numeric")
    seen = [v[~np.isnan(v)] for v in values if not np.isnan(v).all()]
    distinct = np.unique(np.concatenate(seen)) if seen else np.empty(0)
    if 1 < distinct.size <= MAX_BINS and np.ptp(np.diff(distinct)) < 1e-9:
        # Evenly spaced values, such as decades of age: one bin each.
        half = (distinct[1] - distinct[0]) / 2
        return np.append(distinct - half, distinct[-1] + half), _number_labels(column, distinct)
    high = max((float(np.quantile(v, 1 - TAIL)) for v in seen), default=column.maximum)
    edges = _even_edges(column, column.minimum, min(high, column.maximum))
    first = np.ceil(edges[:-1]) if column.is_whole else edges[:-1]
    if edges[-1] >= column.maximum:
        return edges, _number_labels(column, first)
    tail = np.ceil(edges[-1]) if column.is_whole else edges[-1]
    labels = _number_labels(column, np.append(first, tail))
    return np.append(edges, 2 * edges[-1] - edges[-2]), (*labels[:-1], labels[-1] + "+")


def _even_edges(column: Column, low: float, high: float) -> np.ndarray:
    """At most MAX_BINS bins of equal width that reach from `low` to `high` or a little beyond."""
    if column.is_whole:
        width = max(1, int(np.ceil((high - low + 1) / MAX_BINS)))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    return np.linspace(low, high if high > low else low + 1, MAX_BINS + 1)


def _number_labels(column: Column, values: np.ndarray) -> tuple[str, ...]:
    if column.kind is Kind.DATETIME:
        return tuple((EPOCH + timedelta(days=int(day))).isoformat() for day in values)
    # Adding 0 turns the -0 that rounding leaves into 0.
    return tuple(f"{value + 0.0:.4g}" for value in values)


def _bars(name: str, levels: tuple[str, ...], real: pd.Series, synthetic: pd.Series) -> ColumnDistribution:
    shares = []
    for cells in (real, synthetic):
        codes = to_levels(cells, levels)
        shares.append(np.bincount(np.where(codes < 0, len(levels), codes), minlength=len(levels) + 1))
    first, second = (counts / max(1, counts.sum()) for counts in shares)
    missing, labels = (float(first[-1]), float(second[-1])), levels
    first, second = first[:-1], second[:-1]
    if len(levels) > MAX_BARS:
        order = np.argsort(-(first + second), kind="stable")
        kept, pooled = np.sort(order[: MAX_BARS - 1]), order[MAX_BARS - 1 :]
        labels = (*(levels[i] for i in kept), f"{pooled.size} others")
        first, second = (np.append(side[kept], side[pooled].sum()) for side in (first, second))
    return ColumnDistribution(
        name=name,
        labels=labels,
        real=first,
        synthetic=second,
        real_missing=missing[0],
        synthetic_missing=missing[1],
    )


def associations(real: PatientTable, synthetic: SyntheticTable) -> AssociationMaps:
    """How strongly each two columns are related, in both tables.

    Two numbers: absolute Pearson correlation. Two columns of categories: Cramer's V, missing a level
    of its own. A number and categories: the correlation ratio. Pairs with a missing number are left
    out, pair by pair.
    """
    levels = levels_of(real.schema, real.frame, synthetic.frame)
    both = pd.concat([real.frame, synthetic.frame], ignore_index=True)
    codes = {name: _pooled(to_levels(both[name], known), len(known)) for name, known in levels.items()}
    split = len(real.frame)
    return AssociationMaps(
        names=real.schema.names,
        real=_association(real.frame, real.schema, {n: c[:split] for n, c in codes.items()}, levels),
        synthetic=_association(
            synthetic.frame, real.schema, {n: c[split:] for n, c in codes.items()}, levels
        ),
    )


def _pooled(codes: np.ndarray, size: int) -> np.ndarray:
    """Codes within [0, min(size, MAX_LEVELS) + 1]: frequent levels, the pooled rest, then missing."""
    counts = np.bincount(codes[codes >= 0], minlength=size)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(size, dtype=np.int64)
    rank[order] = np.minimum(np.arange(size), MAX_LEVELS)
    return np.where(codes < 0, min(size, MAX_LEVELS + 1), rank[codes]) if size else np.zeros_like(codes)


def _association(
    frame: pd.DataFrame, schema: Schema, codes: dict[str, np.ndarray], levels: Levels
) -> np.ndarray:
    """One table's map. Every kind of pair is one product of two wide matrices."""
    numbers = [i for i, column in enumerate(schema) if column.is_numeric]
    texts = [i for i, column in enumerate(schema) if not column.is_numeric]
    values = frame[[schema.names[i] for i in numbers]].to_numpy(dtype=float)
    result = np.eye(len(schema))
    result[np.ix_(numbers, numbers)] = pearson(values)
    if texts:
        sizes = [min(len(levels[schema.names[i]]), MAX_LEVELS + 1) + 1 for i in texts]
        indicator = _indicator([codes[schema.names[i]] for i in texts], sizes)
        result[np.ix_(texts, texts)] = cramers_v(indicator, sizes)
        mixed = correlation_ratio(indicator, sizes, values)
        result[np.ix_(texts, numbers)], result[np.ix_(numbers, texts)] = mixed, mixed.T
    np.fill_diagonal(result, 1.0)
    return result


def _indicator(codes: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    """float64, shape (rows, sum of sizes): one 1 per row and column."""
    starts = np.cumsum([0, *sizes])
    matrix = np.zeros((codes[0].size, starts[-1]))
    for column, start in zip(codes, starts[:-1], strict=True):
        matrix[np.arange(column.size), start + column] = 1.0
    return matrix


def pearson(values: np.ndarray) -> np.ndarray:
    """Absolute Pearson correlation of each two columns over the rows where both are present.

    Args:
        values: float64, shape (rows, columns), NaN where missing.

    Returns:
        float64, shape (columns, columns); NaN where one of the two is constant.
    """
    centred, mask = _centred(values)
    count = np.maximum(1, mask.T @ mask)
    mean = centred.T @ mask / count
    variance = np.maximum((centred**2).T @ mask / count - mean**2, 0)
    covariance = centred.T @ centred / count - mean * mean.T
    scale = np.sqrt(variance * variance.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > CONSTANT, np.minimum(np.abs(covariance) / scale, 1), np.nan)


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values about their mean, scaled to at most 1 and 0 where missing; and 1 where present.

    Centring and scaling keep the sums of squares from cancelling, and make "constant" the same for
    every unit.
    """
    present = ~np.isnan(values)
    mask = present.astype(float)
    mean = np.where(present, values, 0).sum(axis=0) / np.maximum(1, mask.sum(axis=0))
    centred = np.where(present, values - mean, 0)
    largest = np.abs(centred).max(axis=0, initial=0)
    noise = np.finfo(float).eps * np.abs(mean) * 4
    return np.where(largest > noise, centred / np.where(largest > 0, largest, 1), 0), mask


def cramers_v(indicator: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Cramer's V of each two columns, without bias correction; levels that do not occur do not count.

    Args:
        indicator: float64, shape (rows, sum of sizes), from `_indicator`.
        sizes: Levels per column.

    Returns:
        float64, shape (columns, columns); NaN where one of the two is constant.
    """
    starts = np.cumsum([0, *sizes])[:-1]
    rows = indicator.shape[0]
    counts, totals = indicator.T @ indicator, indicator.sum(axis=0)
    expected = np.outer(totals, totals) / rows
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.where(expected > 0, (counts - expected) ** 2 / expected, 0)
        chi_square = np.add.reduceat(np.add.reduceat(cells, starts, axis=0), starts, axis=1)
        used = np.add.reduceat((totals > 0).astype(float), starts)
        degrees = np.minimum.outer(used, used) - 1
        return np.where(degrees > 0, np.sqrt(np.minimum(chi_square / (rows * degrees), 1)), np.nan)


def correlation_ratio(indicator: np.ndarray, sizes: list[int], values: np.ndarray) -> np.ndarray:
    """Correlation ratio (eta): the share of a number's spread that lies between categories, its root.

    Args:
        indicator: float64, shape (rows, sum of sizes).
        sizes: Levels per column of categories.
        values: float64, shape (rows, numbers), NaN where missing.

    Returns:
        float64, shape (columns of categories, numbers); NaN where the number is constant, or where its
        rows are all of one category.
    """
    starts = np.cumsum([0, *sizes])[:-1]
    centred, mask = _centred(values)
    counts, sums = indicator.T @ mask, indicator.T @ centred
    between = np.add.reduceat(sums**2 / np.maximum(counts, 1), starts, axis=0)
    used = np.add.reduceat((counts > 0).astype(float), starts, axis=0)
    total = (centred**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        eta = np.sqrt(np.minimum(between / total, 1))
    return np.where((total > CONSTANT) & (used > 1), eta, np.nan)
