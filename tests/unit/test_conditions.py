"""Conditions mean exactly what they say, or are refused."""

import pytest

from synthkit.domain.condition_text import Condition, Operator, parse_text
from synthkit.domain.conditions import allowed, parse_conditions
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=120),
        Column(name="temp", kind=Kind.NUMERIC, minimum=-5.0, maximum=45.0, decimals=1, missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Female", "Male")),
        Column(name="race", kind=Kind.CATEGORICAL, categories=("Asian-Pac-Islander", "White and Black", "1")),
        Column(
            name="native_country",
            kind=Kind.CATEGORICAL,
            categories=("United-States", "Viet Nam"),
            missing=True,
        ),
        Column(name="decade", kind=Kind.ORDINAL, categories=tuple(str(age) for age in range(0, 100, 10))),
        Column(name="stage", kind=Kind.ORDINAL, categories=("low", "middle", "high"), missing=True),
        Column(name="admitted", kind=Kind.DATETIME, minimum=0.0, maximum=20000.0),
        Column(name="readmitted", kind=Kind.CATEGORICAL, categories=("NO", "<30", ">30")),
        Column(name="odd name (x)", kind=Kind.BINARY, categories=("0", "1")),
        Column(name="dx", kind=Kind.CODE),
    )
)


def values(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(c.column, c.operator.value, c.values) for c in parse_conditions([text], SCHEMA)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age >= 70 and sex = Female", [("age", ">=", ("70",)), ("sex", "=", ("Female",))]),
        ("age>=70 AND sex=Female", [("age", ">=", ("70",)), ("sex", "=", ("Female",))]),
        ("native_country = United-States", [("native_country", "=", ("United-States",))]),
        (
            "native_country = Viet Nam and age < 3",
            [("native_country", "=", ("Viet Nam",)), ("age", "<", ("3",))],
        ),
        ("race = 'Asian-Pac-Islander'", [("race", "=", ("Asian-Pac-Islander",))]),
        ('race = "White and Black"', [("race", "=", ("White and Black",))]),
        ("race != 1.0", [("race", "!=", ("1",))]),
        ("sex in [Female, 'Male']", [("sex", "in", ("Female", "Male"))]),
        ("native_country in (Viet Nam)", [("native_country", "in", ("Viet Nam",))]),
        ("temp is missing", [("temp", "is missing", ())]),
        ("temp is not missing and temp > 38.5", [("temp", "is not missing", ()), ("temp", ">", ("38.5",))]),
        ("readmitted = <30", [("readmitted", "=", ("<30",))]),
        ("readmitted in [>30, NO]", [("readmitted", "in", (">30", "NO"))]),
        ("`odd name (x)` = 1", [("odd name (x)", "=", ("1",))]),
        ("'odd name (x)' != 0", [("odd name (x)", "!=", ("0",))]),
        ("admitted >= 1999-12-31", [("admitted", ">=", ("1999-12-31",))]),
        ("  age  =  5  ", [("age", "=", ("5",))]),
    ],
)
def test_the_grammar(text, expected):
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column name"),
        ("   ", "column name"),
        ("age", "no operator"),
        ("age >=", "value"),
        ("age >= and sex = Male", "number"),
        ("age >= 70 and", "column name"),
        ("and age >= 70", "operator"),
        ("age >= 70 sex = Male", "number"),
        ("sex = 'Male' x", "join them with and"),
        ("sex in [Male", "list"),
        ("sex in [Male)", "list"),
        ("sex in []", "list entry"),
        ("sex in Male", "no operator"),
        ("age ~ 3", "no operator"),
        ("agee >= 70", "did you mean age"),
        ("sex = female", "did you mean Female"),
        ("sex = male", "did you mean Male"),
        ("sex > Female", "no order"),
        ("dx = 250", "lists no categories"),
        ("age >= old", "number"),
        ("age >= nan", "number"),
        ("age >= inf", "number"),
        ("age = 121", "outside the public bounds"),
        ("age >= -1", "outside the public bounds"),
        ("age = 70.5", "decimals"),
        ("temp in [37.25]", "decimals"),
        ("age is missing", "never missing"),
        ("decade > 95", "outside the public bounds"),
        ("decade = 75", "no such category"),
        ("stage >= 2", "no such category"),
        ("admitted = 1999-02-30", "date"),
        ("admitted = 5", "date"),
        ("admitted >= 2100-01-01", "outside the public bounds"),
        ("age >= 70 and age < 50", "contradict"),
        ("age > 70 and age < 71", "contradict"),
        ("age > 120", "contradict"),
        ("temp > 37.1 and temp < 37.2", "contradict"),
        ("age = 3 and age != 3", "contradict"),
        ("sex = Male and sex = Female", "contradict"),
        ("sex != Male and sex != Female", "contradict"),
        ("temp is missing and temp > 3", "contradict"),
        ("temp is missing and temp is not missing", "contradict"),
        ("stage > high", "contradict"),
        ("decade > 90", "contradict"),
        ("age >= 119 and age != 119 and age != 120", "contradict"),
    ],
)
def test_a_wrong_condition_is_refused_in_one_line(text, words):
    with pytest.raises(ConditionError) as caught:
        parse_conditions([text], SCHEMA)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_line_breaks_in_a_condition_do_not_reach_the_message():
    with pytest.raises(ConditionError) as caught:
        parse_conditions(["ag\ne\n>= 3"], SCHEMA)
    assert "\n" not in str(caught.value)


def rule_of(column: str, *texts: str):
    return allowed(SCHEMA.column(column), parse_conditions(texts, SCHEMA))


def test_strict_comparisons_respect_whole_numbers_and_decimals():
    assert (rule_of("age", "age > 70").low, rule_of("age", "age < 70").high) == (71.0, 69.0)
    assert (rule_of("age", "age > 70.5").low, rule_of("age", "age <= 70.5").high) == (71.0, 70.0)
    assert (rule_of("temp", "temp > 37.1").low, rule_of("temp", "temp < 37.15").high) == (37.2, 37.1)
    assert rule_of("temp", "temp >= 0").low == 0.0
    assert rule_of("admitted", "admitted > 1970-01-10").low == 10.0


def test_points_and_excluded_values():
    rule = rule_of("age", "age in [70, 3, 80]", "age != 70")
    assert (rule.points, rule.low, rule.high, rule.excluded) == ((3.0, 80.0), 3.0, 80.0, ())
    rule = rule_of("age", "age != 0 and age != 5 and age != 120")
    assert (rule.low, rule.high, rule.excluded, rule.points) == (1.0, 119.0, (5.0,), None)
    assert [rule.permits(x) for x in (0, 1, 5, 6, 119, 120)] == [False, True, False, True, True, False]
    assert rule_of("age", "age = 70").points == (70.0,)


def test_conditions_of_several_texts_are_joined():
    rule = rule_of("age", "age >= 70", "sex = Male", "age < 80")
    assert (rule.low, rule.high) == (70.0, 79.0)


def test_age_at_least_seventy_works_on_decades_named_by_numbers():
    """The bundled diabetes table publishes age as the lower bound of ten-year groups."""
    assert rule_of("decade", "decade >= 70").categories == (7, 8, 9)
    assert rule_of("decade", "decade > 65").categories == (7, 8, 9)
    assert rule_of("decade", "decade < 10.0").categories == (0,)
    assert rule_of("decade", "decade != 0 and decade <= 20").categories == (1, 2)
    assert rule_of("stage", "stage >= middle").categories == (1, 2)


def test_a_comparison_is_never_true_of_a_missing_cell():
    assert not rule_of("temp", "temp != 3").missing
    assert not rule_of("stage", "stage in [low]").missing
    assert not rule_of("temp", "temp is not missing").missing
    only = rule_of("temp", "temp is missing")
    assert only.missing
    assert only.low > only.high
    assert not only.permits(3.0)
    assert rule_of("stage", "stage is missing").categories == ()
    free = rule_of("temp", "age > 3")
    assert (free.missing, free.low, free.high, free.points) == (True, -5.0, 45.0, None)
    assert rule_of("stage", "age > 3").categories == (0, 1, 2)
    assert not rule_of("age").missing


def test_no_condition_is_no_restriction():
    assert parse_conditions([], SCHEMA) == ()


@pytest.mark.parametrize("value", ["a", "it's", 'say "x"', "x and y", "[a, b]", "  pad", "<30", "`"])
def test_a_condition_prints_as_it_is_read(value):
    for operator, entries in (
        (Operator.EQUAL, (value,)),
        (Operator.IN, (value, "b")),
        (Operator.MISSING, ()),
    ):
        condition = Condition(column="odd 'name'", operator=operator, values=entries)
        assert parse_text(str(condition)) == [condition]
