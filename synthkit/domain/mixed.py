"""MixedLayout and MixedRows: columns as the published Med-VAE takes them, in three groups.

The private generators know one kind of column (`synthkit.domain.layout`); the published system keeps
numbers, yes-or-no answers and categories apart. Knows how many there are, never what they mean.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class MixedLayout:
    """How many columns each group has; `levels` holds the number of levels of each categorical one."""

    numeric: int
    binary: int
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.numeric + self.binary + len(self.levels) < 1:
            raise ValueError("a layout needs at least one column")
        if min(self.numeric, self.binary, *self.levels, 2) < 0 or min(self.levels, default=2) < 2:
            raise ValueError("a categorical column needs at least two levels")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class MixedRows:
    """Rows in the three groups, every cell present. Private if the rows are patients'.

    `numeric` is float64, shape (rows, numeric), scaled so that the fitted range is [0, 1]; `binary` is
    int64, shape (rows, binary), 0 or 1; `categories` is int64, shape (rows, categorical), the level.
    """

    numeric: np.ndarray
    binary: np.ndarray
    categories: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.numeric) == len(self.binary) == len(self.categories):
            raise ValueError("the three groups differ in their number of rows")

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: np.ndarray) -> "MixedRows":
        """The given rows, integer positions, in that order."""
        return MixedRows(
            numeric=self.numeric[rows], binary=self.binary[rows], categories=self.categories[rows]
        )
