"""Where in its bin a value lies: densities that lean towards the fuller neighbour.

Knows drawn bins and their edges. Refuses to know patients and schemas: a lean follows from how many of
the drawn rows lie in a bin and in its two neighbours, so it is post-processing of what was generated.

Values spread evenly over each bin lie too far out wherever a density falls off. Bins of width w then add
w^2 / 6 to a column's variance: twice Sheppard's correction, once for the bin and once for the spreading.
"""

import numpy as np

TRUSTED_ROWS = 20
"""Rows in three neighbouring bins at which half of the lean that they show is believed."""


def places(bins: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A place in [0, 1] of each row within its bin.

    Args:
        bins: int64, shape (rows,): each row's bin, from 0.
        edges: Of the bins, increasing, shape (number of bins + 1,).
        rng: One draw a row.

    Returns:
        float64, shape (rows,), from the density 1 + t (2 u - 1), t being the lean of the row's bin.
    """
    even = rng.random(bins.size)
    lean = leans(np.bincount(bins, minlength=edges.size - 1), edges)[bins]
    # The root of (1 - t) u + t u^2 = even, in the form that needs no division by a lean of zero.
    root = np.sqrt(np.maximum((1 - lean) ** 2 + 4 * lean * even, 0.0))
    inverse: np.ndarray = np.minimum(2 * even / np.maximum(1 - lean + root, 1e-300), 1.0)
    return inverse


def leans(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each bin's lean, in [-1, 1]: half of the density's change across the bin over its mean.

    Zero at a peak, in a gap and beside a sudden stop: a lean takes two neighbours that agree, and the
    flatter side decides most (harmonic mean). The first and the last bin have one neighbour to go by.

    Args:
        counts: Rows in each bin, shape (bins,).
        edges: As in `places`.

    Source: van Leer, J. Comput. Phys. 14 (1974), equation 67 (the limiter of monotone reconstruction).
    """
    if counts.size < 2:
        return np.zeros(counts.size)
    widths, middles = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    density = counts / widths
    between = np.diff(density) / np.diff(middles)
    before, after = np.concatenate([between[:1], between]), np.concatenate([between, between[-1:]])
    agree = before * after > 0
    slope = np.where(agree, 2 * before * after / np.where(agree, before + after, 1.0), 0.0)
    change = slope * widths / 2 / np.where(density > 0, density, 1.0)
    padded = np.pad(counts, 1)
    rows = padded[:-2] + counts + padded[2:]
    result: np.ndarray = np.clip(change, -1.0, 1.0) * rows / (rows + TRUSTED_ROWS)
    return result
