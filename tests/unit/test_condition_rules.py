"""Conditions against a policy: what is stated is what is judged, and the deciding rule is named."""

import json
import math
from dataclasses import replace

import pytest

from synthkit.domain.canonical import canonical_json
from synthkit.domain.condition_statement import ConditionStatement, share_text
from synthkit.domain.condition_text import parse_text
from synthkit.domain.policy import ConditionRules
from synthkit.domain.policy_check import check_conditions_against_policy
from synthkit.errors import PolicyError, ReleaseRefusedError, SynthkitError
from synthkit.release.gate import check_conditions

RULES = ConditionRules(
    floor=0.001, min_reliability=0.5, max_columns=2, allowed_columns=("age", "sex", "ward")
)
TEXT = "age >= 70 and sex = Female and age < 90"


def stated(text=TEXT, *, mass=0.02, reliability=0.9):
    return ConditionStatement.of(parse_text(text), mass=mass, reliability=reliability)


@pytest.mark.parametrize(
    ("statement", "rule", "words"),
    [
        (stated("dose = 1"), "allowed_columns", "conditions on dose"),
        (stated("age = 1 and sex = F and ward = A"), "max_columns", "3 columns, at most 2"),
        (stated(mass=0.00094), "floor", "0.094 % of patients meet the conditions, at least 0.1 %"),
        (stated(mass=0.0), "floor", "less than 0.0001 %"),
        (stated(reliability=0.494), "min_reliability", "0.49 of these rows, at least 0.5"),
    ],
)
def test_the_first_broken_rule_is_named_with_a_remedy(statement, rule, words):
    with pytest.raises(PolicyError) as caught:
        check_conditions_against_policy(statement, RULES)
    assert caught.value.rule == f"conditions.{rule}"
    assert caught.value.exit_code == 1
    assert caught.value.fix
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("statement", [stated(), stated(mass=0.001, reliability=0.5), stated(mass=0.000996)])
def test_what_meets_every_rule_as_it_is_stated_passes(statement):
    """0.000996 is stated as 0.001 everywhere, and judged as that everywhere."""
    check_conditions_against_policy(statement, RULES)
    check_conditions(statement, RULES, site="north")


@pytest.mark.parametrize("columns", [("*",), ("age", "sex")])
def test_a_star_is_every_column(columns):
    check_conditions_against_policy(stated(), replace(RULES, allowed_columns=columns))


@pytest.mark.parametrize("name", ["floor", "min_reliability", "max_columns"])
def test_a_rule_that_is_no_number_refuses(name):
    with pytest.raises(PolicyError) as caught:
        check_conditions_against_policy(stated(), replace(RULES, **{name: math.nan}))
    assert caught.value.rule == f"conditions.{name}"


def test_the_gate_refuses_conditions_without_rules_and_lets_none_pass():
    check_conditions(None, None, site="north")
    with pytest.raises(ReleaseRefusedError, match="no policy that allows them is enclosed"):
        check_conditions(stated(), None, site="north")
    with pytest.raises(ReleaseRefusedError, match=r"site 'north'.*\[rule conditions.floor\]") as caught:
        check_conditions(stated(mass=1e-5), RULES, site="north")
    assert str(caught.value).count("conditions.floor") == 1


def test_a_statement_names_each_condition_and_column_once_and_reads_back():
    statement = stated(f"{TEXT} and age >= 70")
    assert statement.conditions == ("age >= '70'", "sex = 'Female'", "age < '90'")
    assert statement.columns == ("age", "sex")
    document = json.loads(canonical_json(statement.to_json()))
    assert ConditionStatement.from_json(document) == statement
    odd = stated("`a b` in ['x, y', 'it''s'] and c is not missing")
    assert ConditionStatement.from_json(odd.to_json()) == odd
    assert odd.columns == ("a b", "c")


@pytest.mark.parametrize(
    "change",
    [
        {"all_of": []},
        {"all_of": ["age >= 70"]},
        {"all_of": ["age >= '70' and sex = 'F'"]},
        {"all_of": ["age"]},
        {"all_of": [7]},
        {"all_of": ["age = 'a\nb'"]},
        {"all_of": ["age = '1'"] * 300},
        {"mass": 1.5},
        {"mass": -0.1},
        {"mass": True},
        {"mass": "0.02"},
        {"mass": 0.02345},
        {"mass": math.nan},
        {"reliability": 0.123},
        {"reliability": None},
    ],
)
def test_a_malformed_statement_is_refused(change):
    with pytest.raises((ValueError, TypeError, SynthkitError)):
        ConditionStatement.from_json({**stated().to_json(), **change})


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"),
        (0.255, "26 %"),
        (0.0123, "1.2 %"),
        (0.001, "0.1 %"),
        (7.2e-6, "0.00072 %"),
        (0, "less than 0.0001 %"),
    ],
)
def test_a_share_reads_as_a_percentage(share, text):
    assert share_text(share) == text


@pytest.mark.parametrize(
    "change",
    [
        {"floor": "0.001"},
        {"floor": True},
        {"max_columns": None},
        {"allowed_columns": "age"},
        {"allowed_columns": None},
        {"extra": 1},
    ],
)
def test_rules_of_another_form_are_not_read(change):
    assert ConditionRules.from_json(RULES.to_json()) == RULES
    with pytest.raises((TypeError, ValueError)):
        ConditionRules.from_json({**RULES.to_json(), **change})
