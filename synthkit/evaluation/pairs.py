"""How numeric columns lie together, two at a time: shares on a grid, for the eye.

Knows rows, and hands back only shares. Refuses to draw: that is the report's work. Rule: both tables are
cut at the same places, those of the single columns' pictures.

Source: the pairwise comparisons of Med-VAE, figure 4.
"""

from itertools import combinations

import numpy as np

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.evaluation.pictures import cuts, pearson
from synthkit.evaluation.states import to_bins
from synthkit.report.figures import PairDensity

MOST_COLUMNS = 4
"""Columns shown by default: six pairs fill a page."""


def pair_densities(
    real: PatientTable, synthetic: SyntheticTable, columns: tuple[str, ...] | None = None
) -> tuple[PairDensity, ...]:
    """Each two of the columns, in the schema's order; by default the ones most related to others."""
    wanted = most_related(real) if columns is None else columns
    binned = {}
    for name in wanted:
        values = [frame[name].to_numpy(dtype=float) for frame in (real.frame, synthetic.frame)]
        edges, labels = cuts(real.schema.column(name), values)
        binned[name] = (labels, [to_bins(side, edges) for side in values])
    result = []
    for x, y in combinations(wanted, 2):
        (x_labels, x_codes), (y_labels, y_codes) = binned[x], binned[y]
        shape = (len(y_labels), len(x_labels))
        first, second = (_shares(y_codes[side], x_codes[side], shape) for side in (0, 1))
        result.append(
            PairDensity(x=x, y=y, x_labels=x_labels, y_labels=y_labels, real=first, synthetic=second)
        )
    return tuple(result)


def most_related(real: PatientTable, most: int = MOST_COLUMNS) -> tuple[str, ...]:
    """The numeric columns whose strongest correlations with one another are largest, in schema order.

    Constant columns are left out; fewer than two columns give none.
    """
    names = [c.name for c in real.schema if c.is_numeric and real.frame[c.name].nunique(dropna=True) > 1]
    if len(names) < 2:
        return ()
    strength = np.nan_to_num(pearson(real.frame[names].to_numpy(dtype=float)))
    np.fill_diagonal(strength, 0.0)
    ranked = sorted(range(len(names)), key=lambda i: -float(strength[i].max()))
    return tuple(names[i] for i in sorted(ranked[:most]))


def _shares(y: np.ndarray, x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Shares of all rows by cell; rows with a missing number are counted in no cell."""
    present = (y < shape[0]) & (x < shape[1])
    cells = np.bincount(y[present] * shape[1] + x[present], minlength=shape[0] * shape[1])
    return np.asarray(cells.reshape(shape) / max(1, y.size))
