"""From rows to patients: which rows are one person's, and groups of equal size.

Knows patient numbers; refuses to know cells. Rule: the unit is the patient, whatever number of rows they
have; and where a figure depends on how many people it is counted among, everyone is counted among equally
many.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouping:
    """Rows of equal patient number. `owner` (rows,): each row's patient, 0 to people - 1, in the order of
    the patient numbers. `order` (rows,) sorts the rows by patient, `starts` (people,) says where each
    patient's begin.
    """

    owner: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, patients: np.ndarray) -> "Grouping":
        """Group rows of equal patient number."""
        order = np.argsort(patients, kind="stable")
        _, starts, owner = np.unique(patients[order], return_index=True, return_inverse=True)
        back = np.empty_like(order)
        back[order] = owner
        return cls(owner=back, order=order, starts=starts)

    def __len__(self) -> int:
        return int(self.starts.size)

    def largest(self, values: np.ndarray) -> np.ndarray:
        """Each patient's largest value."""
        return np.asarray(np.maximum.reduceat(values[self.order], self.starts))

    def smallest(self, values: np.ndarray) -> np.ndarray:
        """Each patient's smallest value."""
        return np.asarray(np.minimum.reduceat(values[self.order], self.starts))

    def row_of_smallest(self, values: np.ndarray) -> np.ndarray:
        """(people,) position of the row with each patient's smallest value."""
        order = np.lexsort((values, self.owner))
        return np.asarray(order[self.starts])


def equal_groups(people: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Everyone in a random group of `size` people; the last group is filled up with people of the others.

    Only the first `people % size` of a last group that was filled up are to be counted in it: see
    `counted_in`.
    """
    order = rng.permutation(people)
    groups = [order[start : start + size] for start in range(0, people, size)]
    lacking = size - groups[-1].size
    if lacking and len(groups) > 1:
        others = rng.choice(order[: people - groups[-1].size], lacking, replace=False)
        groups[-1] = np.concatenate((groups[-1], others))
    return groups


def counted_in(people: int, size: int, group: int) -> int:
    """How many of a group of `equal_groups`, from its first on, are counted in it and in no other."""
    return min(size, people - group * size)
