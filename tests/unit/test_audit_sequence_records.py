"""Records in canonical form, their distances, and what they hold: against plain counting."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.audit.sequences.distance import nearest, rarity_weights, similarity
from synthkit.audit.sequences.holding import codes_held, lowest, visits_held
from synthkit.audit.sequences.records import canonical
from synthkit.audit.sequences.run import SEQUENCE_ATTACKS
from synthkit.audit.sequences.statics import NAME as STATICS
from synthkit.audit.sequences.white_box import NAME as WHITE_BOX
from synthkit.data.sequences import SyntheticSequences, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.report.sequence_attack_words import SEQUENCE_ATTACKERS

SCHEMA = Schema(
    name="ward",
    patient_id="patient",
    visit="visit",
    columns=(Column(name="code", kind=Kind.CODE, categories=tuple("abcdefgh")),),
)


def records(*patients: list[str]) -> SyntheticSequences:
    """Patients as lists of visits, a visit as a word of codes; no times."""
    visits = [sorted(visit) for patient in patients for visit in patient]
    codes = [SCHEMA.code.categories.index(code) for visit in visits for code in visit]
    return SyntheticSequences(
        schema=SCHEMA,
        codes=np.array(codes, dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in visits])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame(index=range(len(patients))),
    )


def bags(part: SyntheticSequences) -> list[Counter]:
    """Each patient's multiset of visits, counted plainly."""
    visits = [frozenset(visit.tolist()) for visit in np.split(part.codes, part.visit_starts[1:-1])]
    return [
        Counter(visit for visit in visits[start:end] if visit)
        for start, end in zip(part.patient_starts, part.patient_starts[1:], strict=False)
    ]


def jaccard(first: Counter, second: Counter) -> float:
    return sum((first & second).values()) / max(1, sum((first | second).values()))


@pytest.fixture(scope="module")
def people() -> tuple[SyntheticSequences, SyntheticSequences]:
    everyone = simulate(standard_process(visits_mean=4, most_visits=10), 300, seed=4)
    return everyone.take(np.arange(120)), everyone.take(np.arange(120, 300))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (["ab", "c"], ["ab", "c"], {"multiset", "ordered", "code_bag", "code_set"}),
        (["ab", "c"], ["c", "ab"], {"multiset", "code_bag", "code_set"}),
        (["ab", "c"], ["a", "bc"], {"code_bag", "code_set"}),
        (["ab", "ab"], ["ab"], {"code_set"}),
        (["ab", "ab", "c"], ["ab", "c", "c"], {"code_set"}),
        (["ab", "", "c"], ["ab", "c"], {"multiset", "ordered", "code_bag", "code_set"}),
        (["ab", "c"], ["ab", "d"], set()),
    ],
)
def test_keys_tell_what_they_are_named_for(first, second, same):
    (one, other), _ = canonical([records(first), records(second)])
    names = ("multiset", "ordered", "code_bag", "code_set")
    assert {name for name in names if getattr(one, name)[0] == getattr(other, name)[0]} == same


def test_gaps_count_from_the_first_visit_with_codes_and_in_the_calendars_kinds():
    timed = [
        replace(records(visits), gaps=np.array(gaps, dtype=np.int32), first_days=np.array([first], np.int32))
        for visits, gaps, first in (
            (["a", "b"], [0, 7], 100),
            (["c", "d"], [0, 7], 900),
            (["", "c", "d"], [0, 3, 7], 900),
            (["a", "b"], [0, 8], 100),
            (["a", "b"], [0, 15], 100),
            (["a", "b"], [0, 20], 100),
            (["a", "b"], [0, 21], 100),
        )
    ]
    found, _ = canonical(timed)
    gaps = [int(part.gaps[0]) for part in found]
    assert gaps[0] == gaps[1] == gaps[2]
    assert gaps[4] == gaps[5]
    assert len(set(gaps)) == 4
    assert len({int(part.whole[0]) for part in found}) == 6


def test_gaps_know_their_places_and_their_patients():
    """Two visits' gaps swapped are other gaps; a patient's first visit has none to the patient before."""
    visits, two = ["a", "b", "c"], np.array([0, 1], dtype=np.int32)
    timed = [
        replace(records(visits, visits), gaps=np.array(gaps, dtype=np.int32), first_days=two)
        for gaps in ([0, 3, 9, 0, 9, 3], [0, 9, 3, 0, 3, 9])
    ]
    (one, other), _ = canonical(timed)
    assert one.gaps.tolist() == other.gaps[::-1].tolist()
    assert one.gaps[0] != one.gaps[1]


def test_tokens_overlap_by_the_smaller_multiplicity(people):
    first, second = people
    (one, other), _ = canonical([first, second])
    shared = (one.visits @ other.visits.T).toarray()
    plain = [[sum((a & b).values()) for b in bags(second)] for a in bags(first)]
    assert np.array_equal(shared, plain)


def test_nearest_is_the_nearest_and_never_oneself(people):
    (one, other), _ = canonical(people)
    ones = np.ones(one.visits.shape[1], dtype=np.float32)
    plain = np.array([[jaccard(a, b) for b in bags(people[1])] for a in bags(people[0])])
    found = nearest(one.visits, other.visits, ones, k=3)
    assert np.allclose(found.distances, 1 - np.sort(plain, axis=1)[:, :-4:-1], atol=1e-6)
    assert np.allclose(plain[np.arange(120), found.closest], plain.max(axis=1))
    assert np.allclose(similarity(one.visits, other.visits[found.closest]), plain.max(axis=1))
    among = np.array([[jaccard(a, b) for b in bags(people[0])] for a in bags(people[0])])
    np.fill_diagonal(among, -1)
    apart = nearest(one.visits, one.visits, ones, is_self=True)
    assert np.allclose(apart.distances[:, 0], 1 - among.max(axis=1), atol=1e-6)


def test_dense_and_sparse_tokens_make_one_distance(people, monkeypatch):
    (one, other), _ = canonical(people)
    weights = rarity_weights(other.codes)
    usual = nearest(one.codes, other.codes, weights, k=5)
    for threshold in (0.0, 2.0):
        monkeypatch.setattr("synthkit.audit.sequences.distance.DENSE", threshold)
        assert np.allclose(
            nearest(one.codes, other.codes, weights, k=5).distances, usual.distances, atol=1e-5
        )


def test_weights_grow_with_rarity():
    (one,), _ = canonical([records(["a"], ["a"], ["a", "b"], ["c"])])
    weights = rarity_weights(one.presence)
    assert weights[0] < weights[1] == weights[2] < weights[3]
    assert (weights > 0).all()


def test_information_of_a_repeated_visit_is_that_of_its_count():
    people = [["a"] * 3, ["a"] * 3, ["a"], ["b"], ["c"], ["c", "a"]]
    (reference, other), numbering = canonical([records(*people), records(["a"] * 3, ["d", "d"])])
    told = other.visits @ numbering.information(reference.visits)
    assert np.allclose(told, np.log([7 / 2.5, 7 / 0.5]))


def test_known_visits_are_held_with_their_multiplicity():
    targets = records(["a", "a"], ["a", "b"], ["a", "c"], ["a"], [""])
    (known, release), _ = canonical([targets, records(["a", "b", "d"], ["c"])])
    assert visits_held(known.visits, release.visits).tolist() == [False, True, False, True, False]


def test_known_visits_agree_with_plain_counting(people):
    (one, other), numbering = canonical(people)
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, None):
        part = numbering.part(one.visits, lowest(one.visits, rng.random(one.visits.nnz), count))
        sizes = np.diff(part.indptr)
        assert np.array_equal(sizes, (one.visit_counts + 1) // 2 if count is None
                              else np.minimum(one.visit_counts, count))  # fmt: skip
        plain = ((part @ other.visits.T).toarray() == sizes[:, None]).any(axis=1)
        assert np.array_equal(visits_held(part, other.visits), plain)


def test_known_codes_agree_with_plain_counting(people):
    (one, other), _ = canonical(people)
    rng = np.random.default_rng(2)
    for count in (2, 3, None):
        chosen = lowest(one.presence, rng.random(one.presence.nnz), count)
        known = np.zeros(one.presence.shape, dtype=bool)
        rows = np.repeat(np.arange(120), np.diff(one.presence.indptr))[chosen]
        known[rows, one.presence.indices[chosen]] = True
        has = other.presence.toarray() > 0
        plain = [bool((has[:, row]).all(axis=1).any()) for row in known]
        assert codes_held(one.presence, chosen, other.presence).tolist() == plain


def test_record_without_codes_is_nobody(people):
    (empty, release), _ = canonical([records([""]), records(["a"], ["", ""])])
    assert empty.visit_counts.tolist() == [0]
    assert release.visit_counts.tolist() == [1, 0]
    assert not codes_held(empty.presence, np.zeros(0, dtype=bool), release.presence).any()


def test_every_attack_on_records_is_introduced():
    assert set(SEQUENCE_ATTACKERS) == {*SEQUENCE_ATTACKS, STATICS, WHITE_BOX}
