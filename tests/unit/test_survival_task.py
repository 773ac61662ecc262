"""`--survival` never guesses: which columns, which level is the event, which rows are a stratum."""

import numpy as np
import pandas as pd
import pytest

from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.evaluation.survival_task import survival_task

AGE = Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=100, missing=True)
WARD = Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"))
DAY = Column(name="day", kind=Kind.DATETIME, minimum=0, maximum=20000)
TIME = Column(name="time", kind=Kind.DURATION, minimum=1, maximum=1000, unit="days")


def event(*categories, kind=Kind.EVENT):
    return Column(name="status", kind=kind, categories=categories)


def schema(*columns):
    return Schema(columns=columns or (AGE, WARD, DAY, TIME, event("0", "1")))


def test_two_names_are_found_and_dates_are_no_covariates():
    task = survival_task(" time , status ", schema())
    assert (task.duration.name, task.event.name, task.event_level) == ("time", "status", "1")
    assert [column.name for column in task.covariates] == ["age", "ward"]
    assert task.left_out == ("day",)


def test_a_name_may_hold_a_comma():
    odd = Column(name="time, days", kind=Kind.DURATION, minimum=1, maximum=9)
    task = survival_task("time, days,status", schema(AGE, odd, event("no", "yes")))
    assert task.duration.name == "time, days"


@pytest.mark.parametrize(
    ("column", "level"),
    [
        (event("1", "2"), "2"),
        (event("alive", "dead"), "dead"),
        (event("A", "B"), "B"),
        (event("no", "yes", kind=Kind.BINARY), "yes"),
        (event("dead", "alive", kind=Kind.BINARY), "dead"),
    ],
)
def test_the_event_is_the_second_category_or_a_word_that_says_so(column, level):
    assert survival_task("time,status", schema(AGE, TIME, column)).event_level == level


@pytest.mark.parametrize(
    "column",
    [
        event("1", "2", kind=Kind.BINARY),
        event("A", "B", kind=Kind.BINARY),
        event("yes", "no"),
        event("1", "0"),
        Column(name="status", kind=Kind.INTEGER, minimum=0, maximum=1),
        event("a", "b", "c", kind=Kind.CATEGORICAL),
    ],
)
def test_levels_that_do_not_say_which_is_the_event_are_refused(column):
    with pytest.raises(SchemaError, match="event") as refusal:
        survival_task("time,status", schema(AGE, TIME, column))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("column", "is_assumed"),
    [
        (event("1", "2"), True),
        (event("2", "1"), True),
        (event("A", "B"), True),
        (event("0", "1"), False),
        (event("alive", "dead"), False),
        (event("dead", "alive", kind=Kind.BINARY), False),
    ],
)
def test_an_event_that_only_its_place_tells_is_said_to_be_assumed(column, is_assumed):
    task = survival_task("time,status", schema(AGE, TIME, column))
    assert task.is_event_assumed is is_assumed
    told = survival_task("time,status", schema(AGE, TIME, column), event_level=column.categories[1])
    assert not told.is_event_assumed


def test_event_level_decides_and_must_exist():
    ambiguous = schema(AGE, TIME, event("1", "2", kind=Kind.BINARY))
    assert survival_task("time,status", ambiguous, event_level="1").event_level == "1"
    assert survival_task("time,status", ambiguous, event_level="2").event_level == "2"
    with pytest.raises(SchemaError, match="no such category"):
        survival_task("time,status", ambiguous, event_level="3")


@pytest.mark.parametrize("minimum", [0, -5])
def test_a_schema_that_allows_times_of_zero_or_less_is_refused(minimum):
    time = Column(name="time", kind=Kind.DURATION, minimum=minimum, maximum=1000)
    with pytest.raises(SchemaError, match="zero or less"):
        survival_task("time,status", schema(AGE, time, event("0", "1")))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("time", InputError, "two column names"),
        ("time,nothing", SchemaError, "no such column"),
        ("time,time", InputError, "same column"),
        ("ward,status", SchemaError, "holds no time"),
        ("day,status", SchemaError, "holds no time"),
    ],
)
def test_what_is_no_pair_of_columns_is_refused(text, error, words):
    with pytest.raises(error, match=words):
        survival_task(text, schema())


def test_covariates_are_those_named():
    task = survival_task("time,status", schema(), covariates=["ward"])
    assert [column.name for column in task.covariates] == ["ward"]
    for wrong in ("day", "time", "nothing"):
        with pytest.raises(SchemaError):
            survival_task("time,status", schema(), covariates=[wrong])
    with pytest.raises(InputError, match="no covariate"):
        survival_task("time,status", schema(TIME, event("0", "1")))


def test_a_stratum_is_the_rows_that_meet_all_its_conditions():
    frame = pd.DataFrame({"age": [74.0, 75.0, 76.0, np.nan], "ward": ["A", "A", "B", "C"]})
    asked = ["age > 75", "age >= 75 and ward = A", "ward in [A, C]", "age is missing", "age != 75"]
    found = survival_task("time,status", schema(), strata=asked).strata
    members = {one.label: one.rows(frame, schema()).tolist() for one in found}
    assert members == {
        "all": [True, True, True, True],
        "age > 75": [False, False, True, False],
        "age >= 75 and ward = A": [False, True, False, False],
        "ward in [A, C]": [True, True, False, True],
        "age is missing": [False, False, False, True],
        "age != 75": [True, False, True, False],
    }


@pytest.mark.parametrize("text", ["age > 200", "height > 3", "age", "age > 50 and age < 40"])
def test_a_stratum_that_the_schema_rules_out_is_refused(text):
    with pytest.raises(ConditionError):
        survival_task("time,status", schema(), strata=[text])
