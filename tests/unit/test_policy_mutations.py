"""Every shipped policy, spoilt in one place at a time: none of the spoilt ones is ever in force."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from synthkit.domain.documents import policy_from_toml
from synthkit.domain.policy_check import check_egress_against_policy
from synthkit.errors import PolicyError

POLICIES = Path(__file__).parents[2] / "policies"
TEXTS = {path.stem: path.read_text("utf-8") for path in sorted(POLICIES.glob("*.toml"))}


class Rule(NamedTuple):
    """One rule as it stands in a shipped policy."""

    policy: str
    number: int
    table: str
    key: str
    value: str

    def instead(self, line):
        """The policy with this rule's line replaced."""
        lines = TEXTS[self.policy].splitlines()
        lines[self.number] = line
        return "\n".join(lines) + "\n"


def rules_of(policy):
    """Every rule that a shipped policy writes out."""
    found, table = [], ""
    for number, line in enumerate(TEXTS[policy].splitlines()):
        if head := re.fullmatch(r"\[(\w+)\]", line):
            table = head[1]
        elif rule := re.fullmatch(r"(\w+) = (.+)", line):
            found.append(Rule(policy, number, table, rule[1], rule[2]))
    return found


RULES = [rule for policy in TEXTS for rule in rules_of(policy)]
TABLES = ("policy", "asset", "study", "conditions", "audit", "release", "vault", "egress")
NO_RULE_HAS = ("{}", "[[1]]", "1979-05-27T07:32:00Z", "[true]", "nan", "-inf")
"""Values of a type that no rule has."""


def refusal(text):
    with pytest.raises(PolicyError) as caught:
        policy_from_toml(text, "p.toml")
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_mutations_reach_every_rule():
    assert set(TEXTS) == {"demo", "single-site", "standard", "strict"}
    assert len(RULES) == 29 * len(TEXTS)
    for name, text in TEXTS.items():
        policy_from_toml(text, name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.policy}-{rule.table}.{rule.key}")
class TestOneRule:
    def test_left_out(self, rule):
        for line in ("", f"# {rule.key} = {rule.value}"):
            assert refusal(rule.instead(line)).rule == f"{rule.table}.{rule.key}"

    def test_misspelt_or_beside_an_unknown_one(self, rule):
        for wrong in (rule.key[:-1], rule.key.upper(), f"{rule.key}s"):
            error = refusal(rule.instead(f"{wrong} = {rule.value}"))
            assert (error.rule, "not a known key" in str(error)) == (f"{rule.table}.{wrong}", True)
        both = rule.instead(f"{rule.key} = {rule.value}\nallow_everything = true")
        assert refusal(both).rule == f"{rule.table}.allow_everything"

    def test_of_another_type(self, rule):
        is_number = re.fullmatch(r"[0-9.e-]+", rule.value) and rule.value.count("-") < 2
        for other in (*NO_RULE_HAS, '"7"' if is_number else "7"):
            assert refusal(rule.instead(f"{rule.key} = {other}")).rule == f"{rule.table}.{rule.key}", other


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_missing_misspelt_or_twice(name, table):
    head, _, tail = TEXTS[name].partition(f"[{table}]\n")
    rest = re.sub(r"\A.*?(?=^\[|\Z)", "", tail, flags=re.DOTALL | re.MULTILINE)
    assert refusal(head + rest).rule == table
    assert refusal(f"{head}[{table}s]\n{tail}").rule == f"{table}s"
    assert refusal(TEXTS[name] + "\n[extra]\n").rule == "extra"


CONTRADICTIONS = {
    "a study of more than the asset's budget": ({"max_epsilon": "100.0"}, "study.max_epsilon"),
    "a study's delta above the asset's": ({"max_delta": "1e-4"}, "study.max_delta"),
    "an asset's budget below its study's": ({"epsilon": "0.1"}, "study.max_epsilon"),
    "a delta of one patient in the smallest site": ({"min_patients": "1000000"}, "study.min_patients"),
    "a FAIL easier than an INCONCLUSIVE": (
        {"fail": '"officer"', "inconclusive": '"refuse"'},
        "release.fail",
    ),
    "columns allowed, and none counted": ({"max_columns": "0"}, "conditions.max_columns"),
    "columns counted, and none allowed": ({"allowed_columns": "[]"}, "conditions.max_columns"),
    "every column, and one": ({"allowed_columns": '["*", "age"]'}, "conditions.allowed_columns"),
    "a vault that nobody opens": ({"required": "true", "readers": "[]"}, "vault.readers"),
    "files leave, and nobody may have them": ({"recipients": "[]"}, "egress.recipients"),
    "a recipient, and no file leaves": ({"files": '["weights"]'}, "egress.recipients"),
    "anyone, and one by name": ({"recipients": '["*", "registry"]'}, "egress.recipients"),
    "a federation whose weights stay": ({"min_sites": "2", "files": '["table"]'}, "egress.files"),
    "an unknown kind of file": ({"files": '["table", "weights", "rows"]'}, "egress.files"),
    "an unknown reader": ({"readers": '["everybody"]'}, "vault.readers"),
    "a generator twice": ({"allowed_generators": '["medvae", "medvae"]'}, "study.allowed_generators"),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_rules_that_contradict_each_other(name, contradiction):
    changes, rule = CONTRADICTIONS[contradiction]
    text = TEXTS[name]
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1
    assert refusal(text).rule == rule


@pytest.mark.parametrize("name", TEXTS)
def test_conditions_can_be_forbidden_altogether(name):
    text = re.sub(r"(?m)^max_columns = .*$", "max_columns = 0", TEXTS[name])
    text = re.sub(r"(?m)^allowed_columns = .*$", "allowed_columns = []", text)
    rules = policy_from_toml(text, name).conditions
    assert (rules.max_columns, rules.allowed_columns, rules.allows("age")) == (0, (), False)


@pytest.mark.parametrize("name", TEXTS)
def test_egress_can_be_forbidden_altogether(name):
    text = re.sub(r"(?m)^recipients = .*$", "recipients = []", TEXTS[name])
    text = re.sub(r"(?m)^files = .*$", "files = []", text)
    text = re.sub(r"(?m)^min_sites = .*$", "min_sites = 1", text)
    rules = policy_from_toml(text, name).egress
    assert (rules.recipients, rules.files, rules.is_for_anyone) == ((), (), False)
    with pytest.raises(PolicyError, match="nothing"):
        check_egress_against_policy(rules, recipient="registry", kinds=frozenset({"table"}))
