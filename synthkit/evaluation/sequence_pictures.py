"""The figures behind the pictures of records: points of scatter plots, and shares of lengths.

Knows records, and hands back shares, lifts and bins. Refuses to draw: that is the report's work. Rule: both
sides are cut at the same places, and the last bin holds all larger values.
"""

from collections.abc import Sequence

import numpy as np

from synthkit.data.sequences import Sequences
from synthkit.evaluation.condition_codes import matter_of
from synthkit.evaluation.record_conditions import RecordCondition
from synthkit.evaluation.sequences import (
    SEEN,
    PairPoints,
    gaps_of,
    jaccard_per_patient,
    pair_counts,
    pair_points,
    unique_ratio_per_patient,
)
from synthkit.report.figures import ColumnDistribution
from synthkit.report.sequence_figures import Scatter

MOST_POINTS = 4000
MOST_BINS = 24
TAIL = 0.995
"""Share of all values that lie before the last, open bin."""


def scatters(real: Sequences, synthetic: Sequences) -> tuple[Scatter, ...]:
    """Codes, pairs within visits and pairs across them: shares, and the log lifts of pairs."""
    own, its = pair_counts(real), pair_counts(synthetic)
    within, across = pair_points(own, its)
    codes = own.codes / max(own.visits, 1), its.codes / max(its.visits, 1)
    carried = np.flatnonzero(own.codes + its.codes)
    return (
        Scatter(title="Codes: share of visits", real=codes[0][carried], synthetic=codes[1][carried]),
        _of_pairs("Pairs within a visit: share", within),
        _of_pairs("Pairs across visits: share", across),
        _of_lifts("Pairs within a visit: log lift", within),
        _of_lifts("Pairs across visits: log lift", across),
    )


def condition_scatters(
    real: Sequences, synthetic: Sequences, conditions: Sequence[RecordCondition]
) -> tuple[Scatter, ...]:
    """Of each condition, the share of its patients who carry each code."""
    own, its = matter_of(real), matter_of(synthetic)
    found = []
    for condition in conditions:
        real_side, synthetic_side = own.of(condition), its.of(condition)
        often = real_side.codes_with + real_side.codes_without >= SEEN
        sides = real_side.shares[often], synthetic_side.shares[often]
        found.append(Scatter(title=condition.label, real=sides[0], synthetic=sides[1]))
    return tuple(found)


def _of_pairs(title: str, points: PairPoints) -> Scatter:
    real, synthetic = points.shares
    chosen = _chosen(real)
    return Scatter(title=title, real=real[chosen], synthetic=synthetic[chosen])


def _of_lifts(title: str, points: PairPoints) -> Scatter:
    real, synthetic = points.lifts
    chosen = _chosen(real)
    return Scatter(title=title, real=real[chosen], synthetic=synthetic[chosen], is_share=False)


def _chosen(values: np.ndarray) -> np.ndarray:
    """At most `MOST_POINTS` of them, evenly from the smallest to the largest."""
    order = np.argsort(values, kind="stable")
    if order.size <= MOST_POINTS:
        return order
    return np.asarray(order[np.linspace(0, order.size - 1, MOST_POINTS).astype(np.int64)])


def length_distributions(real: Sequences, synthetic: Sequences) -> tuple[ColumnDistribution, ...]:
    """Visits a patient, codes a visit, gaps where both have times, repetition and variety of codes."""
    found = [
        _whole("visits a patient", real.visits_per_patient, synthetic.visits_per_patient),
        _whole("codes a visit", real.codes_per_visit, synthetic.codes_per_visit),
    ]
    own, its = gaps_of(real), gaps_of(synthetic)
    if own is not None and its is not None and own.size and its.size:
        found.append(_whole("days between visits", own, its))
    for name, measure in (
        ("Jaccard of consecutive visits", jaccard_per_patient),
        ("distinct over all codes", unique_ratio_per_patient),
    ):
        sides = measure(real), measure(synthetic)
        if sides[0].size and sides[1].size:
            found.append(_shares(name, *sides))
    return tuple(found)


def _whole(name: str, real: np.ndarray, synthetic: np.ndarray) -> ColumnDistribution:
    """Whole numbers: neighbouring ones share a bin where there are many."""
    low = int(min(real.min(), synthetic.min()))
    high = int(max(np.quantile(real, TAIL), np.quantile(synthetic, TAIL)))
    edges = np.unique(np.linspace(low, high + 1, MOST_BINS + 1).astype(np.int64))[:-1]
    labels = [str(edge) for edge in edges]
    if max(real.max(), synthetic.max()) > high:
        edges, labels = np.append(edges, high + 1), [*labels, f"{high + 1}+"]
    return _binned(name, edges, tuple(labels), real, synthetic)


def _shares(name: str, real: np.ndarray, synthetic: np.ndarray) -> ColumnDistribution:
    edges = np.linspace(0, 1, 21)[:-1]
    return _binned(name, edges, tuple(f"{edge:.2g}" for edge in edges), real, synthetic)


def _binned(
    name: str, edges: np.ndarray, labels: tuple[str, ...], real: np.ndarray, synthetic: np.ndarray
) -> ColumnDistribution:
    sides = [
        np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=edges.size) / values.size
        for values in (real, synthetic)
    ]
    return ColumnDistribution(name=name, labels=labels, real=sides[0], synthetic=sides[1], is_numeric=True)
