"""A prediction target is read from text, and nonsense is refused with a remedy."""

import numpy as np
import pandas as pd
import pytest

from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError
from synthkit.evaluation.targets import Target, default_targets, parse_target

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=90),
        Column(name="age group", kind=Kind.ORDINAL, categories=("young", "old"), target=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Male", "Female"), target=True, missing=True),
        Column(
            name="cause",
            kind=Kind.CATEGORICAL,
            categories=("diabetes", "diabetes without coma", "it's other", "a = b"),
            target=True,
        ),
        Column(name="seen", kind=Kind.DATETIME, minimum=0, maximum=20_000),
        Column(name="visits", kind=Kind.INTEGER, minimum=0, maximum=9, target=True, missing=True),
    )
)


@pytest.mark.parametrize(
    ("text", "column", "value", "label"),
    [
        ("age >= 70", "age", 70.0, "age >= 70"),
        ("  age>=70.5 ", "age", 70.5, "age >= 70.5"),
        ("sex", "sex", "Female", "sex = Female"),
        ("sex = Male", "sex", "Male", "sex = Male"),
        ("sex == 'Male'", "sex", "Male", "sex = Male"),
        ("age group = old", "age group", "old", "age group = old"),
        ("cause = diabetes without coma", "cause", "diabetes without coma", "cause = diabetes without coma"),
        ("cause = it's other", "cause", "it's other", "cause = it's other"),
        ("cause = a = b", "cause", "a = b", "cause = a = b"),
        ("seen >= 2001-02-03", "seen", 11_356.0, "seen >= 2001-02-03"),
    ],
)
def test_reads(text, column, value, label):
    target = parse_target(text, SCHEMA)
    assert (target.column, target.value, target.label) == (column, value, label)
    assert target.exclude == ()


def test_reads_columns_to_leave_out():
    target = parse_target("cause = diabetes without coma without age, age group", SCHEMA)
    assert target.value == "diabetes without coma"
    assert target.exclude == ("age", "age group")
    assert target.features(SCHEMA) == (2, 4, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weight >= 3",
        "ages >= 3",
        "age",
        "age = 70",
        "age > 70",
        "age >= old",
        "age >= nan",
        "age >= 0",
        "age >= 91",
        "sex >= 1",
        "sex = Unknown",
        "sex =",
        "cause",
        "seen >= yesterday",
        "sex without age, age group, cause, seen, visits",
    ],
)
def test_refuses(text):
    with pytest.raises(ConditionError) as caught:
        parse_target(text, SCHEMA)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


def test_answers_keep_missing_apart():
    frame = pd.DataFrame({"age": [69.0, 70.0, np.nan], "sex": ["Female", None, "Male"]})
    np.testing.assert_array_equal(Target(column="age", value=70.0).answers(frame), [0, 1, np.nan])
    np.testing.assert_array_equal(Target(column="sex", value="Female").answers(frame), [1, np.nan, 0])


def test_default_targets_follow_the_documented_rule():
    frame = pd.DataFrame(
        {
            "age group": ["old", "old", "old"],
            "sex": ["Male", None, "Female"],
            "cause": ["a = b", "diabetes", "a = b"],
            "visits": [0.0, 0.0, 3.0],
        }
    )
    labels = [target.label for target in default_targets(SCHEMA, frame)]
    assert labels == ["sex = Female", "cause = a = b", "visits >= 3"], "a single value asks nothing"
