"""Recall of next visits' codes: counted by hand, learnt where there is something to learn, and repeatable."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from synthkit.data.sequences import SyntheticSequences, starts_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError
from synthkit.evaluation import next_visit
from synthkit.evaluation.next_visit import (
    MOST_VISITS,
    TOPS,
    Predictor,
    histories_of,
    joined,
    recall,
    train,
)
from synthkit.evaluation.next_visit_transfer import NextVisitTask, has_next_visits

CODES = 90
BLOCK = 15


def records_of(patients, codes=CODES):
    """From lists of visits, each an ascending list of code numbers."""
    visits = [visit for patient in patients for visit in patient]
    names = tuple(f"c{number}" for number in range(codes))
    column = Column(name="code", kind=Kind.CODE, categories=names, missing=True)
    return SyntheticSequences(
        schema=Schema(columns=(column,), patient_id="patient", visit="visit"),
        codes=np.array([code for visit in visits for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in visits])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame(index=range(len(patients))),
    )


def planted(patients, *, seed, is_shuffled=False):
    """Six blocks of 15 codes: a visit's three codes are of one block, the next visit's of the next block."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(patients):
        first = int(rng.integers(6))
        found.append(
            [
                sorted(BLOCK * ((first + place) % 6) + rng.choice(BLOCK, size=3, replace=False))
                for place in range(5)
            ]
        )
    if is_shuffled:
        for patient in found:
            rng.shuffle(patient)
    return records_of(found)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Shorter trainings of the same kind: what is planted is learnt in a hundred steps."""
    monkeypatch.setattr(next_visit, "CHECK", 20)
    monkeypatch.setattr(next_visit, "STEPS", 160)


class Fixed(Predictor):
    """Names codes 0, 1, 2, ... in this order, whatever it has seen."""

    def forward(self, batch):
        _, places = super().forward(batch)
        return -torch.arange(batch.size).float().repeat(places.size, 1), places


def test_recall_is_counted_by_hand():
    """Named are codes 0 to 19, or 0 to 29. Of the first patient's next visits 1/2 and 0 of the codes are
    among them; a visit without codes asks nothing, and a patient with one visit is not there."""
    patients = [[[0], [5, 25], [40, 41]], [[7]], [[3], [1, 35], []]]
    found = recall(Fixed(CODES), histories_of(records_of(patients), with_gaps=False))
    assert found.visits.tolist() == [2, 1]
    assert found.sums.tolist() == [[0.5, 0.5], [1.0, 0.5]]
    assert found.scores.tolist() == pytest.approx([1 / 3, 0.5])
    twice_the_second = found.drawn(np.array([[0.0, 2.0]]))
    assert twice_the_second.tolist() == [[0.5], [0.5]]


def test_fewer_codes_than_are_named_are_all_named():
    few = histories_of(records_of([[[0], [1, 2]], [[2], [0]]], codes=3), with_gaps=False)
    assert recall(Predictor(3).eval(), few).scores.tolist() == [1.0, 1.0]


def test_scores_do_not_depend_on_who_else_is_asked():
    """A patient's recall alone is the same as among four hundred others, in other batches."""
    torch.manual_seed(0)
    model, everyone = Predictor(CODES).eval(), histories_of(planted(400, seed=3), with_gaps=False)
    together = recall(model, everyone).sums[:, 200:203]
    alone = recall(model, everyone.take(np.arange(200, 203))).sums
    np.testing.assert_allclose(together, alone)


def test_a_network_learns_what_is_planted_and_nothing_from_shuffled_visits():
    """15 codes can be next, so that the best recall of 20 named is 1; without the order it is about 20/90.
    Both thresholds are far from both: no false alarm is known to be possible with these seeds."""
    test = histories_of(planted(150, seed=1), with_gaps=False)
    learnt = recall(train(histories_of(planted(300, seed=2), with_gaps=False), seed=0), test)
    nothing = recall(
        train(histories_of(planted(300, seed=2, is_shuffled=True), with_gaps=False), seed=0), test
    )
    assert learnt.scores[0] > 0.95
    assert nothing.scores[0] < 0.6


def test_the_same_seed_gives_the_same_network():
    records = histories_of(planted(60, seed=4), with_gaps=False)
    state = torch.random.get_rng_state()
    first, second, other = (train(records, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(state, torch.random.get_rng_state())


def test_gaps_count_only_where_asked_for():
    records = planted(3, seed=0)
    timed = replace(
        records,
        gaps=np.full(records.visit_count, 30, dtype=np.int32),
        first_days=np.zeros(3, dtype=np.int32),
    )
    assert histories_of(timed, with_gaps=True).gaps.max() > 0
    assert not histories_of(timed, with_gaps=False).gaps.any()


def test_long_records_are_cut_and_short_ones_left_out():
    long = records_of([[[place % CODES] for place in range(400)], [[1]]])
    found = histories_of(long, with_gaps=False)
    assert np.diff(found.patient_starts).tolist() == [MOST_VISITS]
    assert len(joined([found, found])) == 2
    assert not has_next_visits(long)


def test_next_to_nobody_is_refused_in_words():
    nobody = histories_of(records_of([[[0]], [[1], [2]]]), with_gaps=False)
    with pytest.raises(InputError, match="fewer than two patients"):
        train(nobody, seed=0)
    silent = histories_of(records_of([[[0], []], [[1], []]]), with_gaps=False)
    with pytest.raises(InputError, match="no patient has a second visit with codes"):
        recall(Predictor(CODES), silent)


def test_ten_thousand_codes_are_not_too_many():
    wide = histories_of(
        records_of([[[0, 9999], [5000]], [[1], [9999]], [[2], [3]]], codes=10_000), with_gaps=False
    )
    found = recall(train(wide, seed=0), wide)
    assert (found.scores >= 0).all()
    assert (found.scores <= 1).all()


@pytest.mark.slow
def test_transfer_and_augmentation_say_what_helps():
    """Generated records of the planted process are as good as real ones; shuffled ones are the floor; and
    three real patients learn little alone. With these seeds the differences are many intervals wide."""
    task = NextVisitTask(
        planted(150, seed=11),
        planted(120, seed=12),
        planted(160, seed=13),
        seed=0,
        repeats=2,
        progress=lambda _: None,
    )
    found = task.transfer()
    top = found.top[TOPS[0]]
    assert top.ratio.lower <= 1.0 + 0.01
    assert top.ratio.mean == pytest.approx(1.0, abs=0.05)
    assert top.floor_ratio.upper < 0.8
    assert found.repeats == 2
    steps = task.augmentation(10).steps
    assert [step.factor for step in steps] == [0, 1, 10]
    assert steps[0].gain[TOPS[0]].mean == 0.0
    assert steps[2].gain[TOPS[0]].lower > 0.1
    with pytest.raises(InputError, match="option --augment"):
        task.augmentation(10_000)
