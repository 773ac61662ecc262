"""Do made rows share more cells with the patients they were learnt from than chance allows?

Knows rows of one schema as codes. Refuses to call likeness copying: real patients are alike, too. The chance
distribution is therefore that of fresh real patients, of whom the generator saw none: if made rows are no
more than new patients of the same population, they and the fresh ones are exchangeable, given those trained
on.

The statistic of a row is the most cells that it has in common with one patient trained on. That of a fold is
the largest excess, over all k, of the share of made rows with at least k such cells over the share of fresh
ones, each in its standard error, so it sees a few verbatim rows and a general drift alike. It is permuted.
Twice the mean of the folds' p-values is a p-value whatever their dependence (Rueschendorf 1982; Vovk and
Wang, Biometrika 107 (2020), 791-808): folds of a repeated cross-validation share patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from survival_desk import SCHEMA

from synthkit.data.encoding import fit_encoding

PERMUTATIONS = 9_999


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Mean most cells that a row shares with one patient, and the p-value of more than fresh patients do.

    `trained_on` and `held_out`: made rows beside those patients; `fresh`: held-out patients beside those
    trained on.
    """

    trained_on: float
    held_out: float
    fresh: float
    p_value: float


def cells_of(frame: pd.DataFrame) -> np.ndarray:
    """The released cells as codes that are equal where the cells are: int64, shape (rows, columns)."""
    return np.column_stack(
        [np.rint(frame[c.name].to_numpy(dtype=float) * 10**c.decimals).astype(np.int64) for c in SCHEMA]
    )


def bins_of(frame: pd.DataFrame) -> np.ndarray:
    """What a model of states sees of the same cells, a number's bin: int64, shape (rows, columns)."""
    encoding = fit_encoding(SCHEMA)
    return np.column_stack([one.encode(frame[one.column.name]) for one in encoding.columns])


def shared(made: np.ndarray, trained_on: np.ndarray, held_out: np.ndarray, *, seed: int) -> Shared:
    """Compare codes of made rows, of the patients trained on and of others, each (rows, columns)."""
    own, fresh = most_shared(made, trained_on), most_shared(held_out, trained_on)
    return Shared(
        trained_on=float(own.mean()),
        held_out=float(most_shared(made, held_out).mean()),
        fresh=float(fresh.mean()),
        p_value=excess_p(own, fresh, columns=made.shape[1], seed=seed),
    )


def most_shared(rows: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Each row's most cells in common with one patient, int64, shape (rows,)."""
    found: np.ndarray = (rows[:, None] == patients[None]).sum(axis=2).max(axis=1)
    return found


def excess_p(own: np.ndarray, fresh: np.ndarray, *, columns: int, seed: int) -> float:
    """Permutation p-value of the largest excess of the tail of `own` over that of `fresh`, both (rows,)."""
    counts = np.bincount(own, minlength=columns + 1)
    together = counts + np.bincount(fresh, minlength=columns + 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(together, own.size, size=PERMUTATIONS)

    share = _tails(together / together.sum()).clip(0.0, 1.0)
    error = np.sqrt(share * (1 - share) * (1 / own.size + 1 / fresh.size))

    def largest(first: np.ndarray) -> np.ndarray:
        excess = _tails(first / own.size - (together - first) / fresh.size)
        # Where all rows or none reach k there is no excess to be had.
        return np.asarray((excess / np.where(error > 1e-9, error, np.inf)).max(axis=-1))

    # Shares of equal counts may differ in their last bit.
    reached = int((largest(drawn) >= float(largest(counts)) - 1e-9).sum())
    return (1 + reached) / (1 + PERMUTATIONS)


def _tails(shares: np.ndarray) -> np.ndarray:
    """From shares at each number of cells to shares at that or more, along the last axis."""
    summed: np.ndarray = np.flip(np.flip(shares, axis=-1).cumsum(axis=-1), axis=-1)
    return summed


def combined_p(values: Sequence[float]) -> float:
    """Twice their mean, at most 1."""
    return min(1.0, 2 * float(np.mean(values)))
