"""Tables as small whole numbers: the form in which every comparison of distributions is made.

Knows public bounds, declared categories and missing cells. Refuses to choose bins from the rows: bins
come from the schema's public bounds, so two tables are always cut at the same places. Rule: a missing
cell is a state like any other, and a level that the schema does not declare is kept, never dropped.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.domain.schema import Column, Scale, Schema

MAX_BINS = 20
"""Bins of a numeric column; whole numbers with no more values than this get one bin each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class States:
    """A table as states.

    `codes` is int64 of shape (rows, columns), each within [0, sizes[column]); the last state of each
    column means missing. Two tables are comparable when they were coded with the same `levels`.
    """

    codes: np.ndarray
    sizes: tuple[int, ...]

    def take(self, rows: np.ndarray) -> "States":
        """The given rows: integer positions."""
        return States(codes=self.codes[rows], sizes=self.sizes)


Levels = dict[str, tuple[str, ...]]
"""The levels of each column that is not numeric, in their order, by column name."""


def levels_of(schema: Schema, *frames: pd.DataFrame) -> Levels:
    """Levels per column: the declared ones first, then what the frames hold beyond them, sorted."""
    levels: Levels = {}
    for column in schema:
        if column.is_numeric:
            continue
        found = {str(value) for frame in frames for value in frame[column.name].dropna().unique()}
        levels[column.name] = column.categories + tuple(sorted(found.difference(column.categories)))
    return levels


def bin_edges(column: Column, bins: int = MAX_BINS) -> np.ndarray:
    """Edges of a numeric column's bins over its public bounds: float64, shape (bins used + 1,).

    Whole numbers are cut half-way between two values, so that every bin holds equally many of them.
    """
    if column.minimum is None or column.maximum is None:
        raise TypeError(f"column {column.name} is not numeric")
    low, high = column.minimum, column.maximum
    if column.scale is Scale.LOG:
        return low + np.expm1(np.linspace(0.0, np.log1p(high - low), bins + 1))
    if column.is_whole:
        width = max(1, int(np.ceil((high - low + 1) / bins)))
        return np.arange(low - 0.5, high + 0.5 + width, width)
    return np.linspace(low, high, bins + 1)


def to_bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each value: int64, shape (n,). Beyond the ends counts as the end bin; NaN as bin count."""
    bins = edges.size - 1
    codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    return np.where(np.isnan(values), bins, codes).astype(np.int64)


def to_levels(values: pd.Series, levels: tuple[str, ...]) -> np.ndarray:
    """Level of each cell: int64, shape (n,); missing is -1."""
    return np.asarray(pd.Categorical(values, categories=list(levels)).codes, dtype=np.int64)


def states_of(frame: pd.DataFrame, schema: Schema, levels: Levels) -> States:
    """Code a whole frame. `levels` must come from `levels_of` over every frame to be compared."""
    codes = np.empty((len(frame), len(schema)), dtype=np.int64)
    sizes = []
    for position, column in enumerate(schema):
        if column.is_numeric:
            edges = bin_edges(column)
            codes[:, position] = to_bins(frame[column.name].to_numpy(dtype=float), edges)
            sizes.append(edges.size)
        else:
            known = levels[column.name]
            level = to_levels(frame[column.name], known)
            codes[:, position] = np.where(level < 0, len(known), level)
            sizes.append(len(known) + 1)
    return States(codes=codes, sizes=tuple(sizes))


def shuffled(states: States, rng: np.random.Generator) -> States:
    """Each column permuted on its own: the same columns, every relation destroyed."""
    return States(codes=rng.permuted(states.codes, axis=0), sizes=states.sizes)
