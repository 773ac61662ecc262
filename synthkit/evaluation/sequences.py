"""How like real records are synthetic ones: codes, pairs of codes, repetition, lengths and gaps.

Knows two sets of records of one schema. Refuses to call a score good by itself: every score stands beside
a floor, real records whose codes were dealt out at random, and a ceiling, one half of the real patients
against the other. Rules: a pair's probability is dominated by frequent codes, so that its correlation
hardly tells records from noise; what decides is the correlation of log lifts, observed over expected
under independence. Counts of real records stay inside; what is returned are ratios.

Source: EVA (Biswal et al. 2020), sections 5.1 and 5.5, for unigrams, bigrams, Jaccard and unique codes; lifts
are this project's own.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from synthkit.data.sequences import Sequences, starts_of
from synthkit.domain.sequence_utility import Likeness, PairScores, SequenceFidelity, Shape
from synthkit.errors import InputError

__all__ = ["Likeness", "PairScores", "SequenceFidelity", "Shape", "sequence_fidelity", "shuffled"]

SEEN = 25
"""Pairs seen less often have a lift that is mostly chance."""

HALF = 0.5
"""Added to observed and expected where a pair may be absent."""

QUANTILES = (0.05, 0.5, 0.95)


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
    own, mixed = pair_counts(real), shuffled(real, rng)
    return SequenceFidelity(
        synthetic=likeness(own, pair_counts(synthetic)),
        floor=likeness(own, pair_counts(mixed)),
        ceiling=likeness(pair_counts(first), pair_counts(second)),
        real_shape=shape_of(real),
        synthetic_shape=shape_of(synthetic),
        floor_shape=shape_of(mixed),
        ceiling_shape=shape_of(second),
        distances=_distances(real, synthetic),
        ceiling_distances=_distances(first, second),
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
        unigram=correlation(real.codes, other.codes),
        within=_pair_scores(_within(real), _within(other), cells=size * (size - 1)),
        across=_pair_scores(_across(real), _across(other), cells=size * size),
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
    points = _pair_points(real, other)
    share = other.total / max(real.total, 1)
    both = points.found >= SEEN
    smooth = np.log((points.found + HALF) / (points.found_expected + HALF))
    return PairScores(
        bigram=_sparse_correlation(real.counts, other.counts, cells),
        lift=correlation(*points.lifts),
        lift_all=correlation(np.log((points.seen + HALF) / (points.expected + HALF)), smooth),
        lift_either=correlation(*_lifts_of_either(real, other)),
        covered=float((points.found >= SEEN * share).mean()) if both.size else float("nan"),
    )


def _lifts_of_either(real: _Pairs, other: _Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Log lifts, real and other, of the pairs that either has `SEEN` times per as many visits as are real.

    One is added to what was observed, per as many visits; the expected is left as it is. Pairs that records
    make up count against them here, and pairs that they lost.
    """
    share = other.total / max(real.total, 1)
    size = real.counts.shape[1]
    cells = [
        entries.coords[0][often].astype(np.int64) * size + entries.coords[1][often]
        for entries, least in (
            (sparse.coo_array(real.counts), float(SEEN)),
            (sparse.coo_array(other.counts), SEEN * share),
        )
        for often in (entries.data >= least,)
    ]
    rows, columns = np.divmod(np.union1d(*cells), size)
    (seen, expected), (found, found_expected) = real.at(rows, columns), other.at(rows, columns)
    # A code that one side does not have at all is expected nowhere there: no lift.
    known = (expected > 0) & (found_expected > 0)
    own = np.log((seen[known] + 1.0) / expected[known])
    return own, np.log((found[known] + share) / found_expected[known])


@dataclass(frozen=True, kw_only=True, eq=False)
class PairPoints:
    """Pairs that the real records have `SEEN` times, each float64 (pairs,): `seen` and `expected` in the
    real records, `found` and `found_expected` in the others; `total`: what shares are of, in both.
    """

    seen: np.ndarray
    expected: np.ndarray
    found: np.ndarray
    found_expected: np.ndarray
    total: tuple[int, int]

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Of visits, or of steps from a visit to the next: real and other."""
        return self.seen / max(self.total[0], 1), self.found / max(self.total[1], 1)

    @property
    def lifts(self) -> tuple[np.ndarray, np.ndarray]:
        """Log lifts, real and other, of the pairs that both have `SEEN` times."""
        both = self.found >= SEEN
        own = np.log(self.seen[both] / self.expected[both])
        return own, np.log(self.found[both] / self.found_expected[both])


def _pair_points(real: _Pairs, other: _Pairs) -> PairPoints:
    entries = sparse.coo_array(real.counts)
    often = entries.data >= SEEN
    rows, columns = entries.coords[0][often], entries.coords[1][often]
    (seen, expected), (found, found_expected) = real.at(rows, columns), other.at(rows, columns)
    return PairPoints(
        seen=seen,
        expected=expected,
        found=found,
        found_expected=found_expected,
        total=(real.total, other.total),
    )


def pair_points(real: PairCounts, other: PairCounts) -> tuple[PairPoints, PairPoints]:
    """The pairs behind the scores: within visits, and across a visit and its next."""
    return (
        _pair_points(_within(real), _within(other)),
        _pair_points(_across(real), _across(other)),
    )


def _within(counts: PairCounts) -> _Pairs:
    return _Pairs(counts.within, counts.codes, counts.codes, counts.visits)


def _across(counts: PairCounts) -> _Pairs:
    return _Pairs(counts.across, counts.before, counts.after, counts.steps)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's; NaN where it is not defined: fewer than three values, or none that differ."""
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
    steps, unique, gaps = jaccard_per_patient(records), unique_ratio_per_patient(records), gaps_of(records)
    return Shape(
        jaccard=float(steps.mean()) if steps.size else float("nan"),
        unique_ratio=float(unique.mean()) if unique.size else float("nan"),
        visits=_described(records.visits_per_patient),
        codes=_described(records.codes_per_visit),
        gaps=() if gaps is None else _described(gaps),
    )


def unique_ratio_per_patient(records: Sequences) -> np.ndarray:
    """Distinct codes over all codes, float64, of each patient with a code."""
    size = len(records.schema.code.categories)
    owners = records.patient_of_visit[records.visit_of_code]
    distinct = np.bincount(np.unique(owners * size + records.codes) // size, minlength=records.patient_count)
    totals = np.bincount(owners, minlength=records.patient_count)
    coded = totals > 0
    return np.asarray(distinct[coded] / totals[coded])


def jaccard_per_patient(records: Sequences) -> np.ndarray:
    """Shared over all codes of a visit and the next, a patient's mean, float64; pairs without any code and
    patients without a pair are left out.
    """
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
    return np.asarray(sums[has_steps] / steps[has_steps])


def gaps_of(records: Sequences) -> np.ndarray | None:
    """Days between a visit and the one before, first visits left out; None: no times."""
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
    gaps = gaps_of(real), gaps_of(synthetic)
    if gaps[0] is not None and gaps[1] is not None and gaps[0].size and gaps[1].size:
        pairs["gaps"] = gaps[0], gaps[1]
    return {name: _kolmogorov(left, right) for name, (left, right) in pairs.items()}


def _kolmogorov(left: np.ndarray, right: np.ndarray) -> float:
    places = np.union1d(left, right)
    shares = [np.searchsorted(np.sort(side), places, side="right") / side.size for side in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())
