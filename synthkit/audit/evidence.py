"""What every attack looks at: distances and matches of each real patient against the synthetic table.

Knows the four tables; refuses to know verdicts. Rules: the unit is the patient (a patient with several
rows counts once, by the row most exposed); scales, weights and strata come from the reference alone, so
that under no leak a member's figures and a holdout patient's are exchangeable.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.audit.distance import (
    Rows,
    Space,
    encode,
    nearest,
    number_gaps,
    public_space,
    reference_space,
)
from synthkit.data.table import PatientTable, SyntheticTable

NEIGHBOURS = 5
RARE_SHARE = 0.075
"""Share of reference patients that makes the rare stratum's threshold."""
NEAR_VERBATIM = 0.01
"""Difference in a numeric column, as a share of its public range, that still counts as a copy."""
SMOOTHING = 0.02
"""Added to both distances of the ratio, in mean differences of one column: a verbatim copy stays finite."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Exposure:
    """One real set's figures, one entry per patient.

    `exact`: some row is identical to a synthetic row. `near_verbatim`: some row agrees with its
    nearest synthetic row in every other column and within 1 % of the range in every numeric one, and no
    reference row is as near. `distance`: to the nearest synthetic row (public Gower distance, in
    columns). `second`: to the second nearest. `partial`: nearest on the columns the attacker knows.
    `copy_score`: log of the distance to the reference (mean of 5 neighbours) over the distance to the
    synthetic table; large for a row that is lonely among people but not among synthetic rows.
    `rarity`: mean distance to the 5 nearest reference rows. `twin`: some other person of the three sets
    has an identical row. `tie`: uniform, breaks ties at thresholds.
    """

    exact: np.ndarray
    near_verbatim: np.ndarray
    distance: np.ndarray
    second: np.ndarray
    partial: np.ndarray
    copy_score: np.ndarray
    rarity: np.ndarray
    twin: np.ndarray
    tie: np.ndarray
    to_query: np.ndarray
    """(synthetic rows,) distance of each synthetic row to this set."""

    def __post_init__(self) -> None:
        if not all(np.isfinite(part).all() for part in vars(self).values()):
            raise ValueError("a distance is not finite")

    def __len__(self) -> int:
        return int(self.exact.size)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Evidence:
    """The three sets' exposures."""

    members: Exposure
    holdout: Exposure
    reference: Exposure

    @property
    def coincidence_rarity(self) -> float:
        """Rarity of the loneliest real person who has a twin among the others; -inf without twins."""
        sets = (self.members, self.holdout, self.reference)
        return float(np.max([np.max(part.rarity, where=part.twin, initial=-np.inf) for part in sets]))

    @property
    def rare_threshold(self) -> float:
        """Rarity above which a patient is in the rare stratum, by the reference."""
        return float(np.quantile(self.reference.rarity, 1.0 - RARE_SHARE))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Views:
    """The encoded tables and the three distances in which they are compared."""

    reference: Rows
    synthetic: Rows
    public: Space
    weighted: Space
    partial: Space
    reference_patients: np.ndarray


def gather(
    *,
    members: PatientTable,
    holdout: PatientTable,
    reference: PatientTable,
    synthetic: SyntheticTable,
    seed: int,
) -> Evidence:
    """Measure the three real sets against the synthetic table.

    The partial attacker knows half of the columns, drawn with `seed`; so are the ties' breakers.
    """
    frames = [members.frame, holdout.frame, reference.frame, synthetic.frame]
    *sets, made = encode(members.schema, frames)
    rng = np.random.default_rng(seed)
    width = len(members.schema)
    known = np.zeros(width, dtype=bool)
    known[rng.permutation(width)[: (width + 1) // 2]] = True
    twins = _twins(sets, [members.patients, holdout.patients, reference.patients])
    views = _Views(
        reference=sets[2],
        synthetic=made,
        public=public_space(made),
        weighted=reference_space(sets[2], seed=seed),
        partial=public_space(made, known),
        reference_patients=reference.patients,
    )
    return Evidence(
        members=_expose(sets[0], members.patients, twins[0], views, rng),
        holdout=_expose(sets[1], holdout.patients, twins[1], views, rng),
        reference=_expose(sets[2], reference.patients, twins[2], views, rng),
    )


def _twins(sets: list[Rows], patients: list[np.ndarray]) -> list[np.ndarray]:
    """For each set, the mask of rows that another person of any set has too.

    Equal patient numbers in two sets are two people: the sets are disjoint by now.
    """
    people = [
        np.stack((part.keys, np.full(len(part), index), ids), axis=1)
        for index, (part, ids) in enumerate(zip(sets, patients, strict=True))
    ]
    keys, owners = np.unique(np.unique(np.concatenate(people), axis=0)[:, 0], return_counts=True)
    return [np.isin(part.keys, keys[owners > 1]) for part in sets]


def _expose(
    rows: Rows, patients: np.ndarray, twins: np.ndarray, views: _Views, rng: np.random.Generator
) -> Exposure:
    """All figures of one set; a reference patient is never its own neighbour."""
    exclude = (patients, views.reference_patients) if rows is views.reference else None
    near = nearest(rows, views.synthetic, views.public, k=2)
    weighted = nearest(rows, views.synthetic, views.weighted, k=1).distances[:, 0]
    partial = nearest(rows, views.synthetic, views.partial, k=1).distances[:, 0]
    people = nearest(rows, views.reference, views.weighted, k=NEIGHBOURS, exclude=exclude).distances
    rarity = people.mean(axis=1)
    smooth = SMOOTHING / (rows.numbers.shape[1] + rows.codes.shape[1])
    first = near.distances[:, 0]
    closest = views.synthetic.take(near.closest)
    alike = (number_gaps(rows, closest) <= NEAR_VERBATIM + 1e-6).all(axis=1)
    verbatim = alike & (rows.codes == closest.codes).all(axis=1) & (people[:, 0] > weighted)
    order = _Grouping.of(patients)
    return Exposure(
        exact=order.largest(np.isin(rows.keys, views.synthetic.keys)),
        near_verbatim=order.largest(verbatim),
        distance=order.smallest(first),
        second=order.smallest(near.distances[:, 1]),
        partial=order.smallest(partial),
        copy_score=order.largest(np.log((rarity + smooth) / (weighted + smooth))),
        rarity=order.largest(rarity),
        twin=order.largest(twins),
        tie=rng.random(order.starts.size),
        to_query=near.to_query,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grouping:
    """Rows sorted by patient."""

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, patients: np.ndarray) -> "_Grouping":
        """Group rows of equal patient number."""
        order = np.argsort(patients, kind="stable")
        return cls(order=order, starts=np.unique(patients[order], return_index=True)[1])

    def largest(self, values: np.ndarray) -> np.ndarray:
        """Each patient's largest value."""
        return np.asarray(np.maximum.reduceat(values[self.order], self.starts))

    def smallest(self, values: np.ndarray) -> np.ndarray:
        """Each patient's smallest value."""
        return np.asarray(np.minimum.reduceat(values[self.order], self.starts))
