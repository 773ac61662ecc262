"""What the charts draw: names, numbers and nothing else.

Knows arrays and plain strings. Refuses rows: whoever holds a table computes these first. Rule: every
share is within [0, 1], missing cells included, so that no picture can hide them.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class SpendCurve:
    """One site's cumulative privacy spend.

    `rounds` and `epsilon` have equal length; `epsilon` is the whole spend up to and with that round,
    at one delta. `cap` is the site's own limit.
    """

    site: str
    rounds: tuple[int, ...]
    epsilon: tuple[float, ...]
    cap: float

    def __post_init__(self) -> None:
        if len(self.rounds) != len(self.epsilon):
            raise ValueError("rounds and epsilon differ in length")


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnDistribution:
    """One column, real beside synthetic.

    `real` and `synthetic` are float64 of shape (labels,): shares of all rows, which with the missing
    share sum to 1. `is_numeric` draws neighbouring labels as a histogram.
    """

    name: str
    labels: tuple[str, ...]
    real: np.ndarray
    synthetic: np.ndarray
    real_missing: float = 0.0
    synthetic_missing: float = 0.0
    is_numeric: bool = False

    def __post_init__(self) -> None:
        if not len(self.labels) == self.real.size == self.synthetic.size:
            raise ValueError("labels and shares differ in length")


@dataclass(frozen=True, kw_only=True, eq=False)
class AssociationMaps:
    """How strongly each two columns are related, in the real and in the synthetic rows.

    Both float64 of shape (names, names), symmetric, within [0, 1], diagonal 1; NaN where a column is
    constant and nothing can be said.
    """

    names: tuple[str, ...]
    real: np.ndarray
    synthetic: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.names))
        if self.real.shape != shape or self.synthetic.shape != shape:
            raise ValueError("the maps do not fit the names")


@dataclass(frozen=True, kw_only=True, eq=False)
class PairDensity:
    """How two numeric columns lie together, real beside synthetic.

    `real` and `synthetic` are float64 of shape (labels of y, labels of x): shares of all rows. They sum
    to less than 1 where one of the two numbers is missing. A label is the first value of its bin.
    """

    x: str
    y: str
    x_labels: tuple[str, ...]
    y_labels: tuple[str, ...]
    real: np.ndarray
    synthetic: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.y_labels), len(self.x_labels))
        if self.real.shape != shape or self.synthetic.shape != shape:
            raise ValueError("the densities do not fit the labels")


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """Requested against delivered values of one column.

    `counts` is int64 of shape (requests, values): rows delivered. `requests` name what was asked for, the
    first one may be "unconditional"; `values` name what a cell may hold.
    """

    column: str
    requests: tuple[str, ...]
    values: tuple[str, ...]
    counts: np.ndarray

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.requests), len(self.values)):
            raise ValueError("the counts do not fit the names")
