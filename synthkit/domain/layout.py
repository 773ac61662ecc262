"""Layout: how many states each encoded column has. All a generator knows of a table.

A generator sees neither names' meanings nor bounds nor rows: only, per column, a number of states
(bins or categories, the missing state among them) of which every row is in exactly one.
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
    missing: tuple[bool, ...] = ()
    """Whether a column's last state is "missing", which stands beside no value. Empty: none is."""
    spikes: tuple[int, ...] = ()
    """How many of a column's first states are single values that stand beside no bin. Empty: none."""
    bins: tuple[int, ...] = ()
    """How many of a column's states, behind its spikes, are neighbouring bins of a number. Empty: none."""
    timed: tuple[tuple[int, int], ...] = ()
    """Places of a duration column and of the event column that ends it, for each event. Empty: none."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.states) or not self.names:
            raise ValueError("a layout needs one number of states per column")
        object.__setattr__(self, "missing", self.missing or (False,) * len(self.names))
        if len(self.missing) != len(self.names):
            raise ValueError("a layout needs to know of each column whether it can be missing")
        object.__setattr__(self, "spikes", self.spikes or (0,) * len(self.names))
        if len(self.spikes) != len(self.names):
            raise ValueError("a layout needs to know of each column how many spikes it has")
        object.__setattr__(self, "bins", self.bins or (0,) * len(self.names))
        if len(self.bins) != len(self.names):
            raise ValueError("a layout needs to know of each column how many bins it has")
        if any(one == two or not {one, two} <= set(range(len(self.names))) for one, two in self.timed):
            raise ValueError("a duration and its event are two columns of the layout")
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


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PatientStates:
    """Encoded rows, grouped by patient: those of patient p are `states[starts[p] : starts[p + 1]]`.

    `states` is int64, shape (rows, columns); `starts` is int64, shape (patients + 1,). Private.
    """

    states: np.ndarray
    starts: np.ndarray

    def __post_init__(self) -> None:
        if self.starts[0] != 0 or self.starts[-1] != len(self.states) or (np.diff(self.starts) < 1).any():
            raise ValueError("every patient needs at least one row, and every row a patient")

    def __len__(self) -> int:
        return self.starts.size - 1

    @classmethod
    def one_row_each(cls, states: np.ndarray) -> "PatientStates":
        """The states of patients with one row each, shape (patients, columns)."""
        return cls(states=states, starts=np.arange(len(states) + 1))

    @property
    def most_rows(self) -> int:
        """Rows of the patient who has most."""
        return int(np.diff(self.starts).max(initial=1))

    def views(self, patients: np.ndarray, *, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """Every row of the given patients `draws` times over, padded to the longest of them.

        Args:
            patients: Indices, shape (batch,).
            draws: Looks at each row, at least 1.

        Returns:
            States, int64, shape (batch, views, columns), and weights, float32, shape (batch, views):
            1 / (number of the patient's views), 0 for padding, so that every patient's sum to 1.
        """
        counts = np.diff(self.starts)[patients]
        place = np.arange(counts.max(initial=1))  # (rows,)
        is_row = place < counts[:, None]  # (batch, rows)
        rows = np.where(is_row, self.starts[patients][:, None] + place, self.starts[patients][:, None])
        weights = (is_row / (counts[:, None] * draws)).astype(np.float32)
        return self.states[np.repeat(rows, draws, axis=1)], np.repeat(weights, draws, axis=1)
