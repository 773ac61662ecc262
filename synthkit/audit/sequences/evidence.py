"""What every attack on records looks at: keys, distances and densities of each real patient.

Knows the records of the three real sets and of the synthetic one; refuses to know verdicts. Rules: weights,
thresholds and strata come from the reference alone, so that under no leak a member's figures and a holdout
patient's are exchangeable; real records are cut to the longest synthetic one's number of visits, all three
sets alike, for a generator that stops there would hide its copies otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.audit.sequences.conditions import patients_by_level
from synthkit.audit.sequences.distance import nearest, rarity_weights, similarity
from synthkit.audit.sequences.records import Numbering, Records, canonical
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences

NEIGHBOURS = 5
SMOOTHING = 0.02
"""Added to both distances of the ratio: a verbatim copy stays finite."""
RARE_SHARE = 0.075
"""Share of reference patients that makes the rare stratum's threshold."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Figures:
    """One real set's figures, one entry a patient.

    `records` in canonical form. `likeness`, `likeness_to_people`: Jaccard similarity of visits to the nearest
    synthetic record and to the nearest reference patient; `shared`, `shared_with_people`: the information
    (nats) in the visits shared with these two. `visit_distance`, `code_distance`: to the nearest synthetic
    record, weighted by rarity. `is_nearer`: nearer to a synthetic record than to any reference patient, by
    visits. `rarity`, `code_rarity`: mean distance to five reference patients. `visit_scores`, `code_scores`
    (releases, patients): log of that mean over the distance to the synthetic records, of this release and
    then of each earlier one. `tie`: uniform, breaks ties. `levels`: who has each level of the binary static
    columns, by name.
    """

    records: Records
    likeness: np.ndarray
    likeness_to_people: np.ndarray
    shared: np.ndarray
    shared_with_people: np.ndarray
    visit_distance: np.ndarray
    code_distance: np.ndarray
    is_nearer: np.ndarray
    rarity: np.ndarray
    code_rarity: np.ndarray
    visit_scores: np.ndarray
    code_scores: np.ndarray
    tie: np.ndarray
    levels: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SequenceEvidence:
    """The three sets' figures and the synthetic records. Random choices derive from `seed`."""

    members: Figures
    holdout: Figures
    reference: Figures
    synthetic: Records
    numbering: Numbering
    seed: int

    @property
    def real(self) -> tuple[Figures, Figures, Figures]:
        """Members, holdout, reference."""
        return self.members, self.holdout, self.reference

    @property
    def rare_threshold(self) -> float:
        """Rarity of codes above which a patient is in the rare stratum, by the reference."""
        return float(np.quantile(self.reference.code_rarity, 1.0 - RARE_SHARE))

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator of one attack's own: no attack's draws depend on whether another ran."""
        return np.random.default_rng((self.seed, purpose))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Views:
    """What every set is compared with."""

    reference: Records
    releases: list[Records]
    visit_weights: np.ndarray
    code_weights: np.ndarray
    information: np.ndarray


def gather(
    *,
    members: PatientSequences,
    holdout: PatientSequences,
    reference: PatientSequences,
    synthetic: SyntheticSequences,
    earlier: Sequence[SyntheticSequences] = (),
    seed: int,
) -> SequenceEvidence:
    """Measure the three real sets against the synthetic records, and against earlier releases."""
    longest = max(int(release.visits_per_patient.max()) for release in (synthetic, *earlier))
    real = [part.first_visits(longest) for part in (members, holdout, reference)]
    everyone: list[Sequences] = [*real, synthetic, *earlier]
    records, numbering = canonical(everyone)
    views = _Views(
        reference=records[2],
        releases=records[3:],
        visit_weights=rarity_weights(records[2].visits),
        code_weights=rarity_weights(records[2].codes),
        information=numbering.information(records[2].visits),
    )
    rng = np.random.default_rng(seed)
    figures = [
        _figures(part, views, rng.random(len(part)), patients_by_level(people))
        for part, people in zip(records[:3], real, strict=True)
    ]
    return SequenceEvidence(
        members=figures[0],
        holdout=figures[1],
        reference=figures[2],
        synthetic=records[3],
        numbering=numbering,
        seed=seed,
    )


def _figures(part: Records, views: _Views, tie: np.ndarray, levels: Mapping[str, np.ndarray]) -> Figures:
    """All figures of one set; a reference patient is never their own neighbour."""
    is_self = part is views.reference
    people = nearest(part.visits, views.reference.visits, views.visit_weights, k=NEIGHBOURS, is_self=is_self)
    alike = nearest(part.codes, views.reference.codes, views.code_weights, k=NEIGHBOURS, is_self=is_self)
    by_visits = [nearest(part.visits, made.visits, views.visit_weights) for made in views.releases]
    by_codes = [nearest(part.codes, made.codes, views.code_weights) for made in views.releases]
    made, person = views.releases[0].visits[by_visits[0].closest], views.reference.visits[people.closest]
    rarity, code_rarity = people.distances.mean(axis=1), alike.distances.mean(axis=1)
    return Figures(
        records=part,
        likeness=similarity(part.visits, made),
        likeness_to_people=similarity(part.visits, person),
        shared=part.visits.multiply(made) @ views.information,
        shared_with_people=part.visits.multiply(person) @ views.information,
        visit_distance=by_visits[0].distances[:, 0],
        code_distance=by_codes[0].distances[:, 0],
        is_nearer=by_visits[0].distances[:, 0] < people.distances[:, 0],
        rarity=rarity,
        code_rarity=code_rarity,
        visit_scores=np.stack([_score(rarity, found.distances[:, 0]) for found in by_visits]),
        code_scores=np.stack([_score(code_rarity, found.distances[:, 0]) for found in by_codes]),
        tie=tie,
        levels=levels,
    )


def _score(rarity: np.ndarray, distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.log((rarity + SMOOTHING) / (distance + SMOOTHING)))
