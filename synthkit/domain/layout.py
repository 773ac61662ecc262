"""Layout: how many states each encoded column has. All a generator knows of a table.

A generator sees neither names' meanings nor bounds nor rows: only, per column, a number of states
(bins or categories, the missing state among them) of which every patient is in exactly one.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

StateWeights = dict[int, np.ndarray]
"""By column index: float64 weights in [0, 1], one per state; the share of the state that is allowed."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Columns of an encoded table, in order."""

    names: tuple[str, ...]
    states: tuple[int, ...]
    """Number of states of each column, each at least 1."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.states) or not self.names:
            raise ValueError("a layout needs one number of states per column")
        if min(self.states) < 1:
            raise ValueError("a column needs at least one state")

    @property
    def width(self) -> int:
        """Total number of states: the length of a patient's one-hot vector."""
        return sum(self.states)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each column's block of states starts in the one-hot vector."""
        return (0, *accumulate(self.states[:-1]))
