"""What every attack looks at: distances and matches of each real patient against the synthetic table.

Knows the four tables; refuses to know verdicts. Rules: the unit is the patient (a patient with several
rows counts once, by the row most exposed); scales, weights and strata come from the reference alone, so
that under no leak a member's figures and a holdout patient's are exchangeable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.audit.bins import binned
from synthkit.audit.distance import (
    Neighbours,
    Rows,
    Space,
    encode,
    nearest,
    nearest_in_views,
    number_gaps,
    reference_space,
)
from synthkit.audit.knowledge import Knowledge
from synthkit.audit.people import Grouping
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
class RealRows:
    """One real set, row by row: `rows` encoded, `bins` (rows, columns) coarse, `people` who owns which.

    Positions of the closest synthetic row: `by_half` (2, rows), seen on one half of the columns and on the
    other. `without_secrets` is the nearest synthetic row on all columns but the secrets; `by_quasi` the same
    on the declared quasi-identifiers, and on these and half of the other open columns; empty where none is
    declared. `copy_scores` (releases, rows) as the exposure's, for this table and then for each earlier
    release; `loneliness` (rows,) is the mean distance to 5 reference neighbours, above 0.
    """

    rows: Rows
    bins: np.ndarray
    people: Grouping
    by_half: np.ndarray
    without_secrets: Neighbours
    by_quasi: tuple[Neighbours, ...]
    copy_scores: np.ndarray
    loneliness: np.ndarray


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RealSets:
    """The three real sets, row by row."""

    members: RealRows
    holdout: RealRows
    reference: RealRows


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SyntheticRows:
    """The synthetic table: `rows` encoded and `bins` (rows, columns) coarse."""

    rows: Rows
    bins: np.ndarray


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Evidence:
    """The three sets' exposures, and the rows behind them for the attacks that count by themselves.

    Random choices derive from `seed`.
    """

    members: Exposure
    holdout: Exposure
    reference: Exposure
    real: RealSets
    synthetic: SyntheticRows
    knowledge: Knowledge
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in the encoded order, numeric ones first."""
        return self.knowledge.names

    @property
    def secrets(self) -> tuple[int, ...]:
        """Positions of what an attacker would like to learn."""
        return self.knowledge.secrets

    @property
    def coincidence_rarity(self) -> float:
        """Rarity of the loneliest real person who has a twin among the others; -inf without twins."""
        sets = (self.members, self.holdout, self.reference)
        return float(np.max([np.max(part.rarity, where=part.twin, initial=-np.inf) for part in sets]))

    @property
    def rare_threshold(self) -> float:
        """Rarity above which a patient is in the rare stratum, by the reference."""
        return float(np.quantile(self.reference.rarity, 1.0 - RARE_SHARE))

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of one attack's own: no attack's draws depend on whether another ran."""
        return np.random.default_rng((self.seed, purpose))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Views:
    """The encoded tables and the distances in which they are compared."""

    reference: Rows
    synthetic: Rows
    earlier: list[Rows]
    weighted: Space
    knowledge: Knowledge
    parts: tuple[Space, ...]


def gather(
    *,
    members: PatientTable,
    holdout: PatientTable,
    reference: PatientTable,
    synthetic: SyntheticTable,
    earlier: Sequence[SyntheticTable] = (),
    seed: int,
) -> Evidence:
    """Measure the three real sets against the synthetic table, and against earlier releases.

    The partial attacker knows half of the columns, drawn with `seed`; so are the ties' breakers.
    """
    real = (members, holdout, reference)
    frames = [table.frame for table in real] + [table.frame for table in (synthetic, *earlier)]
    encoded = encode(members.schema, frames)
    sets, made = encoded[:3], encoded[3]
    *bins, made_bins = binned([*sets, made], sets[2])
    rng = np.random.default_rng(seed)
    knowledge = Knowledge.of(members.schema, bins[2], rng)
    twins = _twins(sets, [table.patients for table in real])
    views = _Views(
        reference=sets[2],
        synthetic=made,
        earlier=encoded[4:],
        weighted=reference_space(sets[2], seed=seed),
        knowledge=knowledge,
        parts=knowledge.parts(made),
    )
    people = [Grouping.of(table.patients) for table in real]
    found = [
        _expose(*part, views=views, tie=rng.random(len(part[2])))
        for part in zip(sets, bins, people, twins, strict=True)
    ]
    exposures, rows = zip(*found, strict=True)
    return Evidence(
        members=exposures[0],
        holdout=exposures[1],
        reference=exposures[2],
        real=RealSets(members=rows[0], holdout=rows[1], reference=rows[2]),
        synthetic=SyntheticRows(rows=made, bins=made_bins),
        knowledge=knowledge,
        seed=seed,
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
    rows: Rows, bins: np.ndarray, people: Grouping, twins: np.ndarray, *, views: _Views, tie: np.ndarray
) -> tuple[Exposure, RealRows]:
    """All figures of one set; a reference patient is never its own neighbour."""
    exclude = (people.owner, people.owner) if rows is views.reference else None
    near, first, second, unsecret, *by_quasi = nearest_in_views(
        rows, views.synthetic, views.parts, views.knowledge.views
    )
    weighted = [
        nearest(rows, release, views.weighted, k=1).distances[:, 0]
        for release in (views.synthetic, *views.earlier)
    ]
    others = nearest(rows, views.reference, views.weighted, k=NEIGHBOURS, exclude=exclude).distances
    rarity = others.mean(axis=1)
    smooth = np.float32(SMOOTHING / (rows.numbers.shape[1] + rows.codes.shape[1]))
    copy_scores = np.log((rarity + smooth) / (np.stack(weighted) + smooth))
    closest = views.synthetic.take(near.closest)
    alike = (number_gaps(rows, closest) <= NEAR_VERBATIM + 1e-6).all(axis=1)
    verbatim = alike & (rows.codes == closest.codes).all(axis=1) & (others[:, 0] > weighted[0])
    exposure = Exposure(
        exact=people.largest(np.isin(rows.keys, views.synthetic.keys)),
        near_verbatim=people.largest(verbatim),
        distance=people.smallest(near.distances[:, 0]),
        second=people.smallest(near.distances[:, 1]),
        partial=people.smallest(first.distances[:, 0]),
        copy_score=people.largest(copy_scores[0]),
        rarity=people.largest(rarity),
        twin=people.largest(twins),
        tie=tie,
        to_query=near.to_query,
    )
    return exposure, RealRows(
        rows=rows,
        bins=bins,
        people=people,
        by_half=np.stack((first.closest, second.closest)),
        without_secrets=unsecret,
        by_quasi=tuple(by_quasi),
        copy_scores=copy_scores,
        loneliness=rarity + smooth,
    )
