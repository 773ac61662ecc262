"""How like real records are synthetic ones: codes, pairs of codes, repetition, lengths and gaps.

Knows two sets of records of one schema. Refuses to call a score good by itself: every score stands beside
a floor, real records whose codes were dealt out at random, and a ceiling, one half of the real patients
against the other. Rules: a pair's probability is dominated by frequent codes, so that its correlation
hardly tells records from noise; what decides is the correlation of log lifts, observed over expected
under independence. Counts of real records stay inside; what is returned are ratios.

Source: EVA (Biswal et al. 2020), sections 5.1 and 5.5, for unigrams, bigrams, Jaccard and unique codes; lifts
are this project's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy import sparse

from synthkit.data.sequences import Sequences, starts_of
from synthkit.domain.canonical import JsonObject
from synthkit.errors import InputError

SEEN = 25
"""Pairs seen less often have a lift that is mostly chance."""

HALF = 0.5
"""Added to observed and expected where a pair may be absent."""

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """How alike two sets of records are in pairs of codes.

    `bigram`: correlation of the pairs' probabilities. `lift`: correlation of log lifts over pairs seen at
    least `SEEN` times in both; NaN where there are fewer than three. `lift_all`: the same over all pairs
    that the real records have `SEEN` times, an absent one counted as half seen. `covered`: share of those
    that the synthetic records have at least `SEEN` times per as many visits.
    """

    bigram: float
    lift: float
    lift_all: float
    covered: float


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Scores of one comparison; `within` and `across` are of one visit and of a visit and its next."""

    unigram: float
    within: PairScores
    across: PairScores

    def to_json(self) -> JsonObject:
        """All scores, by name."""
        return {"unigram": self.unigram, "within": vars(self.within), "across": vars(self.across)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One set of records described; means, and for lengths their quantiles at 5, 50 and 95 %.

    `jaccard`: of consecutive visits, pairs without any code left out; a patient's mean first.
    `unique_ratio`: a patient's distinct codes over all their codes. `gaps`: days, without first visits;
    empty without times.
    """

    jaccard: float
    unique_ratio: float
    visits: tuple[float, ...]
    codes: tuple[float, ...]
    gaps: tuple[float, ...]

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class SequenceFidelity:
    """A synthetic set of records against the real one, with floor and ceiling, and distances.

    `distances`: largest difference of the distribution functions (Kolmogorov-Smirnov) of visits a patient,
    codes a visit and gaps, by name.
    """

    synthetic: Likeness
    floor: Likeness
    ceiling: Likeness
    real_shape: Shape
    synthetic_shape: Shape
    distances: Mapping[str, float]

    def to_json(self) -> JsonObject:
        """Everything, by name."""
        return {
            **{name: getattr(self, name).to_json() for name in ("synthetic", "floor", "ceiling")},
            "shape": {"real": self.real_shape.to_json(), "synthetic": self.synthetic_shape.to_json()},
            "distances": dict(self.distances),
        }


def sequence_fidelity(
    real: Sequences, synthetic: Sequences, *, seed: int, holdout: Sequences | None = None
) -> SequenceFidelity:
    """Compare records.

    Args:
        real: Real records, at best ones that the generator never saw.
        synthetic: Generated ones, of the same code list.
        seed: Of the shuffled floor and of the halves.
        holdout: Other real records, which make the ceiling; None: one half of `real` against the other.

    Raises:
        InputError: The code lists differ, or there are fewer than two real patients.
    """
    if real.schema.code.categories != synthetic.schema.code.categories:
        raise InputError("the two sets of records have different code lists", fix="give both one schema")
    if real.patient_count < 2:
        raise InputError("there are fewer than two real patients", fix="give more records")
    rng = np.random.default_rng(seed)
    order = rng.permutation(real.patient_count)
    half = real.patient_count // 2
    first, second = (
        (real, holdout) if holdout is not None else (real.take(order[:half]), real.take(order[half:]))
    )
    own = pair_counts(real)
    return SequenceFidelity(
        synthetic=likeness(own, pair_counts(synthetic)),
        floor=likeness(own, pair_counts(shuffled(real, rng))),
        ceiling=likeness(pair_counts(first), pair_counts(second)),
        real_shape=shape_of(real),
        synthetic_shape=shape_of(synthetic),
        distances=_distances(real, synthetic),
    )


def shuffled(records: Sequences, rng: np.random.Generator) -> Sequences:
    """The same visits with all codes dealt out again at random; a code twice in a visit counts once."""
    codes = rng.permutation(records.codes).astype(np.int64)
    size = len(records.schema.code.categories)
    keys = np.unique(records.visit_of_code * size + codes)
    counts = np.bincount(keys // size, minlength=records.visit_count)
    return replace(records, codes=(keys % size).astype(np.int32), visit_starts=starts_of(counts))


@dataclass(frozen=True, kw_only=True, eq=False)
class PairCounts:
    """Visits with each code and each pair. `within` (V, V) is symmetric, its diagonal left out; `across`
    counts code i in a visit and j in the next, with the margins `before` and `after`.
    """

    visits: int
    codes: np.ndarray
    within: sparse.csr_array
    steps: int
    before: np.ndarray
    after: np.ndarray
    across: sparse.csr_array


def pair_counts(records: Sequences) -> PairCounts:
    """Count codes and pairs of codes; sparse, so that 10,000 codes fit."""
    visits, size = records.visit_count, len(records.schema.code.categories)
    ones = np.ones(records.codes.size, dtype=np.float64)
    coded = sparse.csr_array((ones, records.codes, records.visit_starts), shape=(visits, size))
    later = np.flatnonzero(~records.is_first_visit)
    before, after = coded[later - 1], coded[later]
    within = sparse.csr_array(coded.T @ coded)
    within.setdiag(0.0)
    within.eliminate_zeros()
    return PairCounts(
        visits=visits,
        codes=np.asarray(coded.sum(axis=0)).ravel(),
        within=within,
        steps=later.size,
        before=np.asarray(before.sum(axis=0)).ravel(),
        after=np.asarray(after.sum(axis=0)).ravel(),
        across=sparse.csr_array(before.T @ after),
    )


def likeness(real: PairCounts, other: PairCounts) -> Likeness:
    """All scores of `other` against `real`."""
    size = real.codes.size
    return Likeness(
        unigram=_correlation(real.codes, other.codes),
        within=_pair_scores(
            _Pairs(real.within, real.codes, real.codes, real.visits),
            _Pairs(other.within, other.codes, other.codes, other.visits),
            cells=size * (size - 1),
        ),
        across=_pair_scores(
            _Pairs(real.across, real.before, real.after, real.steps),
            _Pairs(other.across, other.before, other.after, other.steps),
            cells=size * size,
        ),
    )


class _Pairs:
    """Counts of pairs, and what independence would expect of them."""

    def __init__(self, counts: sparse.csr_array, rows: np.ndarray, columns: np.ndarray, total: int) -> None:
        self.counts, self.total = counts, total
        self._rows, self._columns = rows, columns

    def at(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Observed and expected counts of these pairs."""
        expected = self._rows[rows] * self._columns[columns] / max(self.total, 1)
        # An empty selection comes back sparse.
        found = np.asarray(self.counts[rows, columns]).ravel() if rows.size else np.zeros(0)
        return found, expected


def _pair_scores(real: _Pairs, other: _Pairs, *, cells: int) -> PairScores:
    entries = sparse.coo_array(real.counts)
    often = entries.data >= SEEN
    rows, columns = entries.coords[0][often], entries.coords[1][often]
    (seen, expected), (found, other_expected) = real.at(rows, columns), other.at(rows, columns)
    share = other.total / max(real.total, 1)
    both = found >= SEEN
    lift = _correlation(np.log(seen / expected)[both], np.log(found[both] / other_expected[both]))
    smooth = np.log((found + HALF) / (other_expected + HALF))
    return PairScores(
        bigram=_sparse_correlation(real.counts, other.counts, cells),
        lift=lift,
        lift_all=_correlation(np.log((seen + HALF) / (expected + HALF)), smooth),
        covered=float((found >= SEEN * share).mean()) if found.size else float("nan"),
    )


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's; NaN where it is not defined."""
    if left.size < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])


def _sparse_correlation(left: sparse.csr_array, right: sparse.csr_array, cells: int) -> float:
    """Pearson's over all cells, most of which are 0 in both."""
    means = left.sum() / cells, right.sum() / cells
    joint = (left * right).sum() / cells - means[0] * means[1]
    spreads = [(side * side).sum() / cells - mean**2 for side, mean in zip((left, right), means, strict=True)]
    return float(joint / np.sqrt(spreads[0] * spreads[1])) if min(spreads) > 0 else float("nan")


def shape_of(records: Sequences) -> Shape:
    """Describe one set of records."""
    size = len(records.schema.code.categories)
    owners = records.patient_of_visit[records.visit_of_code]
    distinct = np.bincount(np.unique(owners * size + records.codes) // size, minlength=records.patient_count)
    totals = np.bincount(owners, minlength=records.patient_count)
    coded = totals > 0
    gaps = _gaps(records)
    return Shape(
        jaccard=_jaccard(records),
        unique_ratio=float((distinct[coded] / totals[coded]).mean()) if coded.any() else float("nan"),
        visits=_described(records.visits_per_patient),
        codes=_described(records.codes_per_visit),
        gaps=() if gaps is None else _described(gaps),
    )


def _jaccard(records: Sequences) -> float:
    """Shared over all codes of a visit and the next, averaged over a patient's, then over patients."""
    size = len(records.schema.code.categories)
    keys = records.visit_of_code * size + records.codes
    is_again = np.isin(keys, keys + size)
    shared = np.bincount(records.visit_of_code[is_again], minlength=records.visit_count)
    counts = records.codes_per_visit
    later = np.flatnonzero(~records.is_first_visit)
    together = counts[later] + counts[later - 1] - shared[later]
    kept = together > 0
    later, owners = later[kept], records.patient_of_visit[later[kept]]
    steps = np.bincount(owners, minlength=records.patient_count)
    sums = np.bincount(owners, shared[later] / together[kept], records.patient_count)
    has_steps = steps > 0
    return float((sums[has_steps] / steps[has_steps]).mean()) if has_steps.any() else float("nan")


def _gaps(records: Sequences) -> np.ndarray | None:
    return None if records.gaps is None else records.gaps[~records.is_first_visit]


def _described(values: np.ndarray) -> tuple[float, ...]:
    if not values.size:
        return ()
    return (float(values.mean()), *(float(value) for value in np.quantile(values, QUANTILES)))


def _distances(real: Sequences, synthetic: Sequences) -> dict[str, float]:
    pairs = {
        "visits": (real.visits_per_patient, synthetic.visits_per_patient),
        "codes": (real.codes_per_visit, synthetic.codes_per_visit),
    }
    gaps = _gaps(real), _gaps(synthetic)
    if gaps[0] is not None and gaps[1] is not None and gaps[0].size and gaps[1].size:
        pairs["gaps"] = gaps[0], gaps[1]
    return {name: _kolmogorov(left, right) for name, (left, right) in pairs.items()}


def _kolmogorov(left: np.ndarray, right: np.ndarray) -> float:
    places = np.union1d(left, right)
    shares = [np.searchsorted(np.sort(side), places, side="right") / side.size for side in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())
