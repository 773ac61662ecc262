"""Crossed columns: time and event of a survival table as one column, beside the two themselves.

Knows a layout and which of its columns are a duration and its event. Refuses to know rows of patients and
what a column means. Rules: which columns are crossed, and how, follows from the layout and one public number,
so that every site of a federation counts the same; a crossed column follows from the two and is never drawn.

Two-way tables of single columns never hold time, event and covariate together. A crossed column's states are
a group of neighbouring times by the state of the event, so its pair with a covariate holds all three. It
stands beside the two columns and does not replace them: in their place it would spread the covariate's
relation to the event over as many noisy cells as there are times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.domain.layout import Layout, PatientStates


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A column whose state says in which group of states one column is, and in which state another.

    `groups[s]` is the group of the state s of column `first`; groups are numbered from 0, none is left out.
    `others` is the number of states of column `second`.
    """

    first: int
    second: int
    groups: tuple[int, ...]
    others: int

    @property
    def group_count(self) -> int:
        """Number of groups of the first column's states."""
        return max(self.groups) + 1

    @property
    def states(self) -> int:
        """Number of states of the crossed column."""
        return self.group_count * self.others

    def fold(self, states: np.ndarray) -> np.ndarray:
        """The crossed column of rows, int64, shape (rows,), from all their columns, (rows, columns)."""
        group = np.array(self.groups)[states[:, self.first]]
        folded: np.ndarray = group * self.others + states[:, self.second]
        return folded

    def unfold(self, crossed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first column's group and the second's state: inverse of `fold`, each shape (rows,)."""
        group, state = np.divmod(crossed, self.others)
        return group, state


def crossings(layout: Layout, groups: int) -> tuple[Crossing, ...]:
    """A crossing for each duration and its event, the times in so many groups; none for no group.

    A time's spikes and its missing state are groups of their own.
    """
    if groups < 1:
        return ()
    return tuple(
        Crossing(
            first=first, second=second, groups=_groups(layout, first, groups), others=layout.states[second]
        )
        for first, second in layout.timed
    )


def _groups(layout: Layout, column: int, groups: int) -> tuple[int, ...]:
    """Each state's group: the bins in runs as equal as can be, which of bought bins hold equally many."""
    spikes, missing = layout.spikes[column], int(layout.missing[column])
    bins = layout.states[column] - spikes - missing
    fewer = min(groups, bins)
    of_bins = [spikes + place * fewer // bins for place in range(bins)]
    return (*range(spikes), *of_bins, *([spikes + fewer] * missing))


def crossed_layout(layout: Layout, crossed: Sequence[Crossing]) -> Layout:
    """The layout with the crossed columns behind its own; itself if there are none."""
    if not crossed:
        return layout
    more = len(crossed)
    return Layout(
        names=(*layout.names, *(f"{layout.names[c.first]} x {layout.names[c.second]}" for c in crossed)),
        states=(*layout.states, *(c.states for c in crossed)),
        missing=(*layout.missing, *[False] * more),
        spikes=(*layout.spikes, *[0] * more),
        bins=(*layout.bins, *[0] * more),
    )


def with_crossed(patients: PatientStates, crossed: Sequence[Crossing]) -> PatientStates:
    """The rows with their crossed columns behind the others; themselves if there are none."""
    if not crossed:
        return patients
    columns = [patients.states, *(c.fold(patients.states)[:, None] for c in crossed)]
    return PatientStates(states=np.concatenate(columns, axis=1), starts=patients.starts)
