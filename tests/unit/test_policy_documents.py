"""A policy is read as a whole or refused, and the deciding rule is always named."""

import datetime as dt
import math
import re
from dataclasses import fields, replace

import pytest

from synthkit.domain.documents import policy_from_toml, study_from_toml
from synthkit.domain.policy import (
    AuditRules,
    ConditionRules,
    EgressRules,
    ReleaseRules,
    StudyRules,
    VaultRules,
)
from synthkit.domain.policy_check import check_study_against_policy
from synthkit.domain.policy_words import explain_policy
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import InputError, PolicyError

POLICY = """
[policy]
name = "ward"
signed = false
expires = 2030-12-31
[asset]
name = "heart-patients"
epsilon = 6
delta = 1e-5
[study]
max_epsilon = 3
max_delta = 1e-5
min_noise_multiplier = 1
max_sample_rate = 0.5
allowed_generators = ["medvae"]
min_sites = 2
min_patients = 100
[conditions]
floor = 0.001
min_reliability = 0.5
max_columns = 4
allowed_columns = ["age", "sex"]
[audit]
max_advantage = 0.05
alpha = 0.05
max_attempts = 3
[release]
inconclusive = "officer"
fail = "refuse"
four_eyes = true
allow_non_private = false
valid_days = 90
[vault]
required = false
readers = ["officer"]
[egress]
recipients = ["registry"]
files = ["table", "weights"]
"""

RULES = [
    "policy.name",
    "policy.signed",
    "policy.expires",
    "asset.name",
    "asset.epsilon",
    "asset.delta",
    *(f"study.{field.name}" for field in fields(StudyRules)),
    *(f"conditions.{field.name}" for field in fields(ConditionRules)),
    *(f"audit.{field.name}" for field in fields(AuditRules)),
    *(f"release.{field.name}" for field in fields(ReleaseRules)),
    *(f"vault.{field.name}" for field in fields(VaultRules)),
    *(f"egress.{field.name}" for field in fields(EgressRules)),
]


def changed(rule: str, line: str) -> str:
    """The policy with one rule's line replaced; rule names repeat across tables only for name."""
    table, key = rule.split(".")
    head, _, tail = POLICY.partition(f"[{table}]\n")
    return head + f"[{table}]\n" + re.sub(rf"(?m)^{key} = .*$", line, tail, count=1)


def test_every_rule_reaches_its_field():
    policy = policy_from_toml(POLICY, "p.toml")
    assert (policy.name, policy.asset, policy.expires) == ("ward", "heart-patients", dt.date(2030, 12, 31))
    assert (policy.budget.epsilon, policy.budget.delta) == (6.0, 1e-5)
    assert vars(policy.study) == {
        "max_epsilon": 3.0,
        "max_delta": 1e-5,
        "min_noise_multiplier": 1.0,
        "max_sample_rate": 0.5,
        "allowed_generators": ("medvae",),
        "min_sites": 2,
        "min_patients": 100,
    }
    assert vars(policy.conditions) == {
        "floor": 0.001,
        "min_reliability": 0.5,
        "max_columns": 4,
        "allowed_columns": ("age", "sex"),
    }
    assert vars(policy.audit) == {"max_advantage": 0.05, "alpha": 0.05, "max_attempts": 3}
    assert vars(policy.release) == {
        "inconclusive": "officer",
        "fail": "refuse",
        "four_eyes": True,
        "allow_non_private": False,
        "valid_days": 90,
    }
    assert vars(policy.vault) == {"required": False, "readers": ("officer",)}
    assert vars(policy.egress) == {"recipients": ("registry",), "files": ("table", "weights")}
    assert policy.signed is False


@pytest.mark.parametrize("rule", RULES)
def test_a_missing_rule_is_a_refusal_not_a_default(rule):
    with pytest.raises(PolicyError) as caught:
        policy_from_toml(changed(rule, ""), "p.toml")
    assert caught.value.rule == rule
    assert "missing" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "table", ["policy", "asset", "study", "conditions", "audit", "release", "vault", "egress"]
)
def test_a_missing_table_is_a_refusal(table):
    with pytest.raises(PolicyError) as caught:
        policy_from_toml(re.sub(rf"(?ms)^\[{table}\]\n.*?(?=^\[|\Z)", "", POLICY), "p.toml")
    assert caught.value.rule == table


@pytest.mark.parametrize(
    ("rule", "line", "words"),
    [
        ("asset.epsilon", "epsilon = 0", "above 0"),
        ("asset.epsilon", "epsilon = inf", "finite"),
        ("asset.epsilon", 'epsilon = "6"', "number"),
        ("asset.epsilon", "epsilon = true", "number"),
        ("asset.delta", "delta = 0.1", "at most"),
        ("asset.name", 'name = ""', "one line"),
        ("policy.expires", 'expires = "soon"', "date"),
        ("study.max_epsilon", "max_epsilon = 7", "asset.epsilon"),
        ("study.max_epsilon", "max_epsilon = nan", "finite"),
        ("study.max_delta", "max_delta = 1e-4", "asset.delta"),
        ("study.min_noise_multiplier", "min_noise_multiplier = 0", "above 0"),
        ("study.max_sample_rate", "max_sample_rate = 1.5", "at most 1"),
        ("study.allowed_generators", "allowed_generators = []", "at least one"),
        ("study.allowed_generators", 'allowed_generators = "medvae"', "list"),
        ("study.min_sites", "min_sites = 0", "at least 1"),
        ("study.min_sites", "min_sites = 2.0", "whole"),
        ("study.min_patients", "min_patients = -1", "at least 1"),
        ("study.min_patients", "min_patients = 100000", "asset.delta"),
        ("conditions.floor", "floor = 0", "above 0"),
        ("conditions.floor", "floor = 0.6", "at most 0.5"),
        ("conditions.floor", 'floor = "1 %"', "number"),
        ("conditions.min_reliability", "min_reliability = 1.1", "at most 1"),
        ("conditions.min_reliability", "min_reliability = 0", "above 0"),
        ("conditions.max_columns", "max_columns = -1", "at least 0"),
        ("conditions.max_columns", "max_columns = 2.5", "whole"),
        ("conditions.max_columns", "max_columns = 0", "contradicts conditions.allowed_columns"),
        ("conditions.allowed_columns", 'allowed_columns = "age"', "list"),
        ("conditions.allowed_columns", 'allowed_columns = ["age", "age"]', "each once"),
        ("conditions.allowed_columns", 'allowed_columns = ["age", ""]', "each once"),
        ("conditions.allowed_columns", 'allowed_columns = ["*", "age"]', "every column"),
        ("audit.alpha", "alpha = 0.5", "between"),
        ("audit.alpha", "alpha = 0", "between"),
        ("audit.max_advantage", "max_advantage = 1", "between"),
        ("audit.max_attempts", "max_attempts = 0", "at least 1"),
        ("release.inconclusive", 'inconclusive = "maybe"', "refuse, officer"),
        ("release.inconclusive", 'inconclusive = "refuse"\nx_fail = 1', "known"),
        ("release.fail", 'fail = "release"', "refuse, officer"),
        ("release.four_eyes", "four_eyes = 1", "true or false"),
        ("release.valid_days", "valid_days = 0", "at least 1"),
        ("policy.signed", 'signed = "yes"', "true or false"),
        ("vault.required", "required = 1", "true or false"),
        ("vault.readers", 'readers = ["janitor"]', "officer, auditor, site"),
        ("vault.readers", 'readers = ["officer", "officer"]', "each once"),
        ("vault.readers", 'readers = "officer"', "list"),
        ("egress.recipients", "recipients = []", "contradicts egress.files"),
        ("egress.recipients", 'recipients = ["*", "registry"]', "anyone"),
        ("egress.recipients", 'recipients = ["registry", "registry"]', "each once"),
        ("egress.recipients", 'recipients = [" "]', "each once"),
        ("egress.files", 'files = ["table", "weights", "rows"]', "table, records, annex"),
        ("egress.files", 'files = ["table"]', "study.min_sites"),
    ],
)
def test_a_rule_out_of_range_is_refused_by_name(rule, line, words):
    with pytest.raises(PolicyError) as caught:
        policy_from_toml(changed(rule, line), "p.toml")
    assert words in str(caught.value)
    assert caught.value.rule == (rule if "x_fail" not in line else "release.x_fail")
    assert "\n" not in str(caught.value)


def test_a_fail_cannot_be_easier_to_release_than_an_inconclusive():
    text = changed("release.inconclusive", 'inconclusive = "refuse"').replace(
        'fail = "refuse"', 'fail = "officer"'
    )
    with pytest.raises(PolicyError, match="laxer") as caught:
        policy_from_toml(text, "p.toml")
    assert caught.value.rule == "release.fail"


@pytest.mark.parametrize("rule", RULES)
def test_the_explanation_reacts_to_every_rule(rule):
    """A rule that can change without the words changing is a rule the officer cannot see."""
    other = {
        "policy.name": 'name = "other"',
        "policy.expires": "expires = 2029-01-01",
        "asset.name": 'name = "others"',
        "asset.epsilon": "epsilon = 5",
        "asset.delta": "delta = 2e-5",
        "study.max_epsilon": "max_epsilon = 2",
        "study.max_delta": "max_delta = 1e-6",
        "study.min_noise_multiplier": "min_noise_multiplier = 2",
        "study.max_sample_rate": "max_sample_rate = 0.25",
        "study.allowed_generators": 'allowed_generators = ["eva"]',
        "study.min_sites": "min_sites = 1",
        "study.min_patients": "min_patients = 50",
        "conditions.floor": "floor = 0.002",
        "conditions.min_reliability": "min_reliability = 0.6",
        "conditions.max_columns": "max_columns = 3",
        "conditions.allowed_columns": 'allowed_columns = ["age"]',
        "audit.max_advantage": "max_advantage = 0.1",
        "audit.alpha": "alpha = 0.01",
        "audit.max_attempts": "max_attempts = 1",
        "release.inconclusive": 'inconclusive = "refuse"',
        "release.fail": 'fail = "officer"',
        "release.four_eyes": "four_eyes = false",
        "release.allow_non_private": "allow_non_private = true",
        "release.valid_days": "valid_days = 30",
        "policy.signed": "signed = true",
        "vault.required": "required = true",
        "vault.readers": 'readers = ["officer", "auditor"]',
        "egress.recipients": 'recipients = ["*"]',
        "egress.files": 'files = ["table", "records", "weights"]',
    }[rule]

    def words(text: str) -> str:
        lines = explain_policy(policy_from_toml(text, "p.toml")).splitlines()
        return "\n".join(line for line in lines if not line.startswith("Digest"))

    assert words(changed(rule, other)) != words(POLICY)
    name = rule if rule not in ("policy.name", "asset.name") else "asset.epsilon"
    assert name in words(POLICY)


def test_the_odds_are_never_understated():
    for epsilon in (0.5, 1.0, 3.0, 6.0, 8.0, 14.9):
        text = changed("asset.epsilon", f"epsilon = {epsilon}").replace(
            "max_epsilon = 3", "max_epsilon = 0.5"
        )
        words = " ".join(explain_policy(policy_from_toml(text, "p.toml")).split())
        factor = float(re.search(r"factor of ([0-9.]+),", words)[1])
        assert math.exp(epsilon) <= factor <= 1.11 * math.exp(epsilon)


STUDY = """
[study]
name = "heart-1"
purpose = "method comparison"
expires = 2030-06-30
initial_seed = 7
[training]
generator = "medvae"
rounds = 5
local_steps = 20
sample_rate = 0.2
noise_multiplier = 1
prior_noise_multiplier = 4
max_grad_norm = 1
delta = 1e-5
learning_rate = 0.001
[training.hyperparameters]
latent = 8
[[roster]]
name = "north"
declared_size = 300
public_key = ""
[[roster]]
name = "south"
declared_size = 200
"""

SCHEMA = Schema(columns=(Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),))


def test_every_part_of_a_study_reaches_its_field():
    study = study_from_toml(STUDY, "d.toml", schema=SCHEMA)
    assert (study.name, study.purpose, study.initial_seed) == ("heart-1", "method comparison", 7)
    assert study.plan.hyperparameters == {"latent": 8.0}
    assert (study.plan.rounds, study.plan.local_steps, study.plan.noise_multiplier) == (5, 20, 1.0)
    assert study.plan.prior_noise_multiplier == 4.0
    assert [site.name for site in study.roster] == ["north", "south"]
    assert study.schema is SCHEMA


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds = 5", "rounds = 5\nepochs = 3", ["epochs", "[training]"]),
        ("rounds = 5", "", ["rounds", "missing"]),
        ("prior_noise_multiplier = 4", "", ["prior_noise_multiplier", "missing"]),
        ("prior_noise_multiplier = 4", "prior_noise_multiplier = 0", ["[training]", "positive"]),
        ("rounds = 5", "rounds = 0", ["[training]", "at least 1"]),
        ("rounds = 5", "rounds = 1.5", ["rounds", "whole"]),
        ("noise_multiplier = 1", "noise_multiplier = 0", ["[training]", "positive"]),
        ("sample_rate = 0.2", "sample_rate = 2", ["[training]", "sample_rate"]),
        ("latent = 8", 'latent = "8"', ["latent", "number"]),
        ("expires = 2030-06-30", "expires = 2030-06-30T10:00:00", ["expires", "date"]),
        ('public_key = ""', 'public_key = "zz"', ["public_key", "roster[1]", "64"]),
        ('name = "south"', 'name = "north"', ["twice"]),
        ('name = "south"', 'name = "so\\nuth"', ["name", "roster[2]"]),
        ("declared_size = 200", "declared_size = 0", ["declared_size", "south"]),
        ('purpose = "method comparison"', 'purpose = ""', ["purpose"]),
        ("initial_seed = 7", "initial_seed = -7", ["initial_seed"]),
        ("[study]", "[studdy]", ["studdy"]),
    ],
)
def test_a_wrong_study_is_refused_in_one_line(old, new, words):
    assert old in STUDY
    with pytest.raises(InputError) as caught:
        study_from_toml(STUDY.replace(old, new, 1), "d.toml", schema=SCHEMA)
    assert str(caught.value).startswith("d.toml")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


TODAY = dt.date(2030, 1, 1)


def test_a_study_within_every_rule_passes():
    study, policy = study_from_toml(STUDY, "d", schema=SCHEMA), policy_from_toml(POLICY, "p")
    check_study_against_policy(study, policy, planned_epsilon=3.0, today=TODAY)
    check_study_against_policy(study, policy, planned_epsilon=3.0, today=study.expires)


@pytest.mark.parametrize(
    ("rule", "old", "new", "epsilon", "today"),
    [
        ("policy.expires", "", "", 1.0, dt.date(2031, 1, 1)),
        ("study.expires", "", "", 1.0, dt.date(2030, 7, 1)),
        ("study.allowed_generators", '"medvae"', '"eva"', 1.0, TODAY),
        ("study.min_sites", '[[roster]]\nname = "south"\ndeclared_size = 200\n', "", 1.0, TODAY),
        ("study.min_noise_multiplier", "noise_multiplier = 1", "noise_multiplier = 0.99", 1.0, TODAY),
        (
            "study.min_noise_multiplier",
            "prior_noise_multiplier = 4",
            "prior_noise_multiplier = 0.9",
            1.0,
            TODAY,
        ),
        ("study.max_sample_rate", "sample_rate = 0.2", "sample_rate = 0.51", 1.0, TODAY),
        ("study.max_delta", "delta = 1e-5", "delta = 1.1e-5", 1.0, TODAY),
        ("study.max_epsilon", "", "", 3.0000001, TODAY),
        ("study.max_epsilon", "", "", math.nan, TODAY),
        ("study.max_epsilon", "", "", math.inf, TODAY),
        ("study.max_epsilon", "", "", -1.0, TODAY),
    ],
)
def test_the_deciding_rule_is_named(rule, old, new, epsilon, today):
    study = study_from_toml(STUDY.replace(old, new, 1), "d", schema=SCHEMA)
    with pytest.raises(PolicyError) as caught:
        check_study_against_policy(study, policy_from_toml(POLICY, "p"), planned_epsilon=epsilon, today=today)
    assert caught.value.rule == rule
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_a_study_of_several_sites_is_refused_where_weights_may_not_leave():
    text = POLICY.replace("min_sites = 2", "min_sites = 1")
    text = text.replace('files = ["table", "weights"]', 'files = ["table"]')
    policy, study = policy_from_toml(text, "p"), study_from_toml(STUDY, "d", schema=SCHEMA)
    with pytest.raises(PolicyError, match="none may leave this site") as caught:
        check_study_against_policy(study, policy, planned_epsilon=3.0, today=TODAY)
    assert caught.value.rule == "egress.files"
    alone = replace(study, roster=study.roster[:1])
    check_study_against_policy(alone, policy, planned_epsilon=3.0, today=TODAY)


def test_bounds_read_off_the_data_are_refused():
    column = replace(SCHEMA.columns[0], provenance=Provenance.DATA)
    study = study_from_toml(STUDY, "d", schema=Schema(columns=(column,)))
    with pytest.raises(PolicyError) as caught:
        check_study_against_policy(study, policy_from_toml(POLICY, "p"), planned_epsilon=1.0, today=TODAY)
    assert caught.value.rule == "schema.provenance"
