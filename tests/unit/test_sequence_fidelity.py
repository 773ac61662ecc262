"""Scores of records: by hand on four visits, by brute force, and between floor and ceiling."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from synthkit.data.sequences import SyntheticSequences, ranges, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError
from synthkit.evaluation.sequences import (
    HALF,
    SEEN,
    likeness,
    pair_counts,
    sequence_fidelity,
    shape_of,
    shuffled,
)


def records_of(patients, codes=("a", "b", "c", "d")) -> SyntheticSequences:
    """From lists of visits, each a list of code numbers."""
    visits = [visit for patient in patients for visit in patient]
    gaps = np.concatenate([[0, *range(10, 10 * len(patient), 10)] for patient in patients])
    return SyntheticSequences(
        schema=Schema(
            columns=(Column(name="code", kind=Kind.CODE, categories=codes, missing=True),),
            patient_id="patient",
            visit="visit",
            time="day",
        ),
        codes=np.array([code for visit in visits for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in visits])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame(index=range(len(patients))),
        gaps=gaps.astype(np.int32),
        first_days=np.zeros(len(patients), dtype=np.int32),
    )


@pytest.fixture(scope="module")
def simulated():
    return simulate(standard_process(visits_mean=12), 2000, seed=1)


def test_four_visits_by_hand():
    records = records_of([[[0, 1], [1, 2], []], [[3]]])
    counts = pair_counts(records)
    assert counts.codes.tolist() == [1, 2, 1, 1]
    assert counts.within.toarray().tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert counts.across.toarray().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert (counts.visits, counts.steps) == (4, 2)
    assert counts.before.tolist() == [1, 2, 1, 0]
    assert counts.after.tolist() == [0, 1, 1, 0]
    shape = shape_of(records)
    assert shape.jaccard == pytest.approx((1 / 3 + 0) / 2)
    assert shape.unique_ratio == pytest.approx((3 / 4 + 1) / 2)
    assert shape.visits[0] == 2
    assert shape.codes[0] == 5 / 4
    assert shape.gaps[0] == 15


def test_jaccard_weighs_patients_alike_however_many_their_visits():
    assert shape_of(records_of([[[0], [0], [0], [0]], [[1], [2]]])).jaccard == 0.5


def test_the_sparse_scores_are_the_dense_ones(simulated):
    real, other = simulated.take(np.arange(900)), simulated.take(np.arange(900, 2000))
    found = likeness(pair_counts(real), pair_counts(other)).across
    sides = []
    for records in (real, other):
        later = np.flatnonzero(~records.is_first_visit)
        dense = records.dense().astype(float)
        before, after = dense[later - 1], dense[later]
        joint = before.T @ after
        sides.append((joint, np.outer(before.sum(0), after.sum(0)) / later.size, later.size))
    (left, expected, steps), (right, other_expected, other_steps) = sides
    assert found.bigram == pytest.approx(np.corrcoef(left.ravel(), right.ravel())[0, 1])
    often = left >= SEEN
    both = often & (right >= SEEN)
    lifts = np.log(left[both] / expected[both]), np.log(right[both] / other_expected[both])
    assert found.lift == pytest.approx(np.corrcoef(*lifts)[0, 1])
    smooth = [
        np.log((count[often] + HALF) / (mean[often] + HALF))
        for count, mean in ((left, expected), (right, other_expected))
    ]
    assert found.lift_all == pytest.approx(np.corrcoef(*smooth)[0, 1])
    assert found.covered == pytest.approx((right[often] >= SEEN * other_steps / steps).mean())
    share = other_steps / steps
    either = (often | (right >= SEEN * share)) & (expected > 0) & (other_expected > 0)
    added = (
        np.log((left[either] + 1) / expected[either]),
        np.log((right[either] + share) / other_expected[either]),
    )
    assert either.sum() > both.sum()
    assert found.lift_either == pytest.approx(np.corrcoef(*added)[0, 1])


def test_pairs_that_records_make_up_count_against_them(simulated):
    """Half of all patients get a pair of codes that hardly any real visit has: nothing but the lifts over
    either side's pairs sees it."""
    pairs = pair_counts(simulated)
    common = np.argsort(-pairs.codes)[:60]
    joint = pairs.within.toarray()[np.ix_(common, common)]
    joint[np.tril_indices(60)] = np.inf
    made_up = [common[list(place)] for place in np.argwhere(joint < 3)[:40]]
    assert len(made_up) == 40
    visits = [simulated.codes[a:b].tolist() for a, b in pairwise(simulated.visit_starts)]
    for place, visit in enumerate(range(0, len(visits), 6)):
        visits[visit] = sorted({*visits[visit], *made_up[place % 40].tolist()})
    codes = np.array([code for visit in visits for code in visit], dtype=np.int32)
    starts = starts_of(np.array([len(visit) for visit in visits]))
    other = replace(simulated, codes=codes, visit_starts=starts)
    found = likeness(pairs, pair_counts(other)).within
    assert min(found.lift, found.lift_all) > 0.9
    assert found.lift_either < 0.8


def test_lifts_tell_what_bigrams_do_not(simulated):
    """Shuffled codes have the frequent pairs and no structure; dealt visits keep what is within them."""
    rng = np.random.default_rng(0)
    visits = rng.permutation(simulated.visit_count)
    entries = ranges(simulated.visit_starts[visits], simulated.visit_starts[visits + 1])
    dealt = replace(
        simulated,
        codes=simulated.codes[entries],
        visit_starts=starts_of(simulated.codes_per_visit[visits]),
    )
    fidelity = sequence_fidelity(simulated, dealt, seed=0)
    assert fidelity.floor.unigram > 0.98
    assert max(abs(fidelity.floor.within.lift), abs(fidelity.floor.across.lift)) < 0.3
    assert min(fidelity.ceiling.within.lift, fidelity.ceiling.across.lift) > 0.9
    assert fidelity.synthetic.within.lift == pytest.approx(1)
    assert abs(fidelity.synthetic.across.lift) < 0.3
    assert fidelity.synthetic_shape.jaccard < 0.5 * fidelity.real_shape.jaccard
    assert fidelity.distances == {"visits": 0, "codes": 0, "gaps": 0}


def test_records_are_like_themselves(simulated):
    scores = sequence_fidelity(simulated, simulated, seed=0).synthetic
    for pair in (scores.within, scores.across):
        scored = [pair.bigram, pair.lift, pair.lift_all, pair.lift_either, pair.covered]
        assert scored == pytest.approx([1, 1, 1, 1, 1])


def test_shapes_stand_beside_shuffled_and_other_real_records(simulated):
    """Halves of 1,000 patients: Jaccard differs by 0.01 by chance, and a distance of 0.086 has probability
    0.001 (Kolmogorov-Smirnov)."""
    found = sequence_fidelity(simulated, simulated, seed=0)
    assert found.floor_shape.jaccard < 0.5 * found.real_shape.jaccard
    assert found.floor_shape.visits == found.real_shape.visits
    assert found.ceiling_shape.jaccard == pytest.approx(found.real_shape.jaccard, abs=0.03)
    assert 0 < max(found.ceiling_distances.values()) < 0.086


def test_a_side_without_a_second_visit_has_no_distance_of_gaps():
    one, two = records_of([[[0]], [[1]]]), records_of([[[0], [1]], [[1]]])
    found = sequence_fidelity(two, two, seed=0, holdout=one)
    assert "gaps" in found.distances
    assert "gaps" not in found.ceiling_distances


def test_shuffling_keeps_visits_and_nearly_all_codes(simulated):
    mixed = shuffled(simulated, np.random.default_rng(0))
    assert mixed.visit_count == simulated.visit_count
    assert 0.95 < mixed.codes.size / simulated.codes.size < 1
    rises = np.diff(mixed.codes) > 0
    rises[mixed.visit_starts[1:-1][mixed.visit_starts[1:-1] < mixed.codes.size] - 1] = True
    assert rises.all()


def test_few_records_give_no_number_rather_than_a_wrong_one():
    few = records_of([[[0, 1], [1]], [[2]]])
    scores = sequence_fidelity(few, few, seed=0).to_json()
    assert np.isnan(scores["synthetic"]["within"]["lift"])


def test_other_code_lists_and_single_patients_are_refused():
    one = records_of([[[0]]])
    with pytest.raises(InputError, match="fewer than two"):
        sequence_fidelity(one, one, seed=0)
    with pytest.raises(InputError, match="different code lists"):
        sequence_fidelity(one, records_of([[[0]]], codes=("x", "y", "z", "w")), seed=0)
