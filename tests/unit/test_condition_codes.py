"""What patients with a condition carry: by hand, planted and found, refused where it says nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.data.sequences import SyntheticSequences, starts_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError
from synthkit.evaluation.condition_codes import EXPECTED, matter_of, never_carried, profile, telling_codes
from synthkit.evaluation.condition_transfer import condition_auc
from synthkit.evaluation.record_conditions import (
    FEW,
    RecordCondition,
    askable,
    default_conditions,
    parse_record_condition,
)
from synthkit.evaluation.sequences import shuffled

NAMES = tuple(f"c{number}" for number in range(40))
SCHEMA = Schema(
    columns=(
        Column(name="code", kind=Kind.CODE, categories=NAMES),
        Column(name="sex", kind=Kind.BINARY, categories=("f", "m"), missing=True),
        Column(name="site", kind=Kind.CATEGORICAL, categories=("n", "s", "w")),
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=99),
    ),
    patient_id="patient",
    visit="visit",
)


def records_of(patients, sexes):
    """Patients as lists of visits; everybody of site n, aged 50."""
    visits = [visit for patient in patients for visit in patient]
    return SyntheticSequences(
        schema=SCHEMA,
        codes=np.array([code for visit in visits for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in visits])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame({"sex": pd.Series(sexes, dtype=object), "site": "n", "age": 50.0}),
    )


def ward(patients, *, seed, effect=True):
    """Every patient carries each code with probability 0.2 a visit; men carry codes 0 to 4 three times as
    often, and never codes 30 to 39: as many codes as women do, so that their number tells nothing."""
    rng = np.random.default_rng(seed)
    found, sexes = [], []
    for _ in range(patients):
        sex = str(rng.choice(["f", "m"]))
        chances = np.full(len(NAMES), 0.2)
        if effect and sex == "m":
            chances[:5], chances[30:] = 0.6, 0.0
        drawn = [np.flatnonzero(rng.random(len(NAMES)) < chances).tolist() or [20] for _ in range(2)]
        found.append(drawn)
        sexes.append(sex)
    return records_of(found, sexes)


MALE = parse_record_condition("sex = m", SCHEMA)


def test_four_patients_by_hand():
    records = records_of([[[0, 1], [1]], [[1]], [[2]], [[0]]], ["m", "m", "f", None])
    assert MALE.answers(records).tolist()[:3] == [1, 1, 0]
    assert np.isnan(MALE.answers(records)[3])
    found = matter_of(records).of(MALE)
    assert (found.with_it, found.without) == (2, 1)
    assert found.shares[:3].tolist() == [0.5, 1.0, 0.0]
    assert found.shares_without[:3].tolist() == [0.0, 0.0, 1.0]
    carrying = parse_record_condition("code in [c0, c2]", SCHEMA)
    assert carrying.answers(records).tolist() == [1, 0, 1, 1]
    own = matter_of(records).of(carrying)
    assert own.codes_with[[0, 2]].tolist() == [0, 0]
    assert own.codes_with[1] == 1


def test_a_planted_effect_is_found_and_its_absence_is_seen():
    """5,000 patients a side: the correlations of the planted process are above 0.9, those without effect
    within 0.6 of 0 on 40 codes but for a probability below 1e-4 (Fisher's z, 40 points)."""
    real, same, none = ward(3000, seed=1), ward(3000, seed=2), ward(3000, seed=3, effect=False)
    own = matter_of(real)
    good, bad = profile(own, matter_of(same), MALE), profile(own, matter_of(none), MALE)
    assert min(good.shares, good.lifts) > 0.9
    assert abs(bad.lifts) < 0.6
    assert good.contrary == 0.0
    assert bad.contrary > 0.2
    telling = telling_codes(own, matter_of(same), MALE)
    assert {code.code for code in telling[:5]} == {"c0", "c1", "c2", "c3", "c4"}
    first = telling[0]
    assert first.synthetic == pytest.approx(first.real, abs=0.1)


def test_a_contrary_code_needs_to_have_been_expected():
    records = ward(3000, seed=1)
    never = never_carried(matter_of(records).of(MALE))
    assert never.tolist() == list(range(30, 40))
    few = matter_of(records.take(np.arange(int(EXPECTED)))).of(MALE)
    assert never_carried(few).size == 0


def test_cases_and_controls_are_told_apart_where_there_is_a_difference():
    """Trained on an independent set the AUC's ratio is 1 within 0.03, on one without effect or on shuffled
    codes far below: with 1,500 patients an AUC's standard error is 0.015, and 0.2 is over ten of them."""
    trained, test, same, none = (
        matter_of(ward(1500, seed=seed, effect=effect))
        for seed, effect in ((1, True), (2, True), (3, True), (4, False))
    )
    floor = matter_of(shuffled(trained.records, np.random.default_rng(0)))
    sides = {"trained": trained, "test": test, "floor": floor, "seed": 0, "repeats": 2}
    found = condition_auc(MALE, synthetic=same, **sides)
    assert found.real.mean > 0.85
    assert found.ratio.mean == pytest.approx(1.0, abs=0.03)
    assert found.floor_ratio.upper < 0.8
    lost = condition_auc(MALE, synthetic=none, **sides)
    assert lost.synthetic.mean < 0.65
    assert lost.ratio.upper < 0.9


def test_the_groups_own_codes_do_not_give_the_answer_away():
    """Codes without any relation but to themselves: an AUC near 1/2 although the answer is a code."""
    sets = [matter_of(ward(1200, seed=seed, effect=False)) for seed in range(4)]
    condition = parse_record_condition("code in [c0, c1]", SCHEMA)
    found = condition_auc(
        condition, trained=sets[0], test=sets[1], synthetic=sets[2], floor=sets[3], seed=0, repeats=1
    )
    assert abs(found.real.mean - 0.5) < 0.12


def test_one_answer_only_says_nothing():
    records = ward(300, seed=5)
    men = replace(records, statics=records.statics.assign(sex="m"))
    sides = [matter_of(one) for one in (records, men)]
    found = condition_auc(
        MALE, trained=sides[0], test=sides[1], synthetic=sides[0], floor=sides[0], seed=0, repeats=1
    )
    assert found is None


def test_usual_conditions_are_levels_and_rare_ones_are_left_out_by_name():
    labels = [one.label for one in default_conditions(SCHEMA)]
    assert labels == ["sex = m", "site = n", "site = s", "site = w"]
    records = ward(4 * FEW, seed=6)
    asked, left = askable(default_conditions(SCHEMA), (records, records))
    assert [one.label for one in asked] == ["sex = m"]
    assert left == ("site = n", "site = s", "site = w")
    assert askable((MALE, MALE), (records,), most=1)[1] == ("sex = m",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("code in [c1, nothing]", "no such category"),
        ("code != c1", "a group of codes is a list"),
        ("code = c1 and sex = m", "a group of codes is a list"),
        ("height >= 3", "does not start with a column"),
        ("age >= 200", "age"),
    ],
)
def test_questions_that_say_nothing_are_refused(text, words):
    with pytest.raises(ConditionError, match=words) as refusal:
        parse_record_condition(text, SCHEMA)
    assert "\n" not in str(refusal.value)


def test_a_static_column_whose_name_begins_like_the_codes_is_not_taken_for_them():
    columns = (*SCHEMA.columns, Column(name="code_set", kind=Kind.BINARY, categories=("a", "b")))
    wide = Schema(columns=columns, patient_id="patient", visit="visit")
    found = parse_record_condition("code_set = b", wide)
    assert isinstance(found, RecordCondition)
    assert found.target is not None
