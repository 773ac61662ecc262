"""Two policies compared: every rule has a direction, and turning a change round turns its word round."""

import datetime as dt
from dataclasses import fields, replace
from pathlib import Path

import pytest

from synthkit.domain.documents import policy_from_toml
from synthkit.domain.policy import (
    AuditRules,
    ConditionRules,
    EgressRules,
    ReleaseRules,
    StudyRules,
    VaultRules,
)
from synthkit.domain.policy_diff import (
    LOOSER_WHEN_HIGHER,
    LOOSER_WITH_MORE,
    NO_DIRECTION,
    OFFICER_IS_LOOSER,
    STRICTER_WHEN_HIGHER,
    Direction,
    differences,
    summary,
)
from synthkit.domain.privacy import Budget

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = policy_from_toml((POLICIES / "standard.toml").read_text("utf-8"), "standard")
STANDARD = replace(
    SHIPPED,
    signed=True,
    vault=replace(SHIPPED.vault, required=True),
)
"""The standard policy, signed and with its vault required, so that every rule can be loosened."""

STRICT = policy_from_toml((POLICIES / "strict.toml").read_text("utf-8"), "strict")


def changed(table, **values):
    return replace(STANDARD, **{table: replace(getattr(STANDARD, table), **values)})


LOOSER = {
    "asset.epsilon": replace(STANDARD, budget=Budget(epsilon=7.0, delta=1e-5)),
    "asset.delta": replace(STANDARD, budget=Budget(epsilon=6.0, delta=2e-5)),
    "policy.expires": replace(STANDARD, expires=dt.date(2031, 1, 1)),
    "study.max_epsilon": changed("study", max_epsilon=4.0),
    "study.max_delta": changed("study", max_delta=2e-5),
    "study.min_noise_multiplier": changed("study", min_noise_multiplier=0.5),
    "study.max_sample_rate": changed("study", max_sample_rate=0.9),
    "study.allowed_generators": changed(
        "study", allowed_generators=(*STANDARD.study.allowed_generators, "eva")
    ),
    "study.min_sites": changed("study", min_sites=2),
    "study.min_patients": changed("study", min_patients=10),
    "conditions.floor": changed("conditions", floor=0.0001),
    "conditions.min_reliability": changed("conditions", min_reliability=0.1),
    "conditions.max_columns": changed("conditions", max_columns=9),
    "audit.max_advantage": changed("audit", max_advantage=0.2),
    "audit.alpha": changed("audit", alpha=0.01),
    "audit.max_attempts": changed("audit", max_attempts=4),
    "release.fail": changed("release", fail="officer"),
    "release.four_eyes": changed("release", four_eyes=False),
    "release.allow_non_private": changed("release", allow_non_private=True),
    "release.valid_days": changed("release", valid_days=400),
    "vault.required": changed("vault", required=False),
    "egress.files": changed("egress", files=(*STANDARD.egress.files, "annex")),
    "policy.signed": replace(STANDARD, signed=False),
}


def test_every_rule_has_exactly_one_direction():
    tables = {"study": StudyRules, "conditions": ConditionRules, "audit": AuditRules, "release": ReleaseRules}
    tables |= {"vault": VaultRules, "egress": EgressRules}
    rules = {f"{table}.{field.name}" for table, kind in tables.items() for field in fields(kind)}
    known = [LOOSER_WHEN_HIGHER, STRICTER_WHEN_HIGHER, LOOSER_WITH_MORE, OFFICER_IS_LOOSER, NO_DIRECTION]
    assert sum(map(len, known)) == len(frozenset().union(*known))
    assert rules <= frozenset().union(*known)


@pytest.mark.parametrize("rule", sorted(LOOSER.keys() - {"release.four_eyes"}))
def test_a_looser_rule_is_called_so_and_the_way_back_stricter(rule):
    (there,) = differences(STANDARD, LOOSER[rule])
    (back,) = differences(LOOSER[rule], STANDARD)
    assert (there.rule, there.direction) == (rule, Direction.LOOSER)
    assert (back.rule, back.direction) == (rule, Direction.STRICTER)
    assert (there.old, there.new) == (back.new, back.old)
    assert there.old != there.new


def test_words_of_yes_and_no_and_of_the_officer():
    eyes = changed("release", four_eyes=True)
    assert [c.direction for c in differences(STANDARD, eyes)] == [Direction.STRICTER]
    assert [(c.old, c.new) for c in differences(eyes, STANDARD)] == [("true", "false")]
    doubt = changed("release", inconclusive="refuse")
    assert [c.direction for c in differences(STANDARD, doubt)] == [Direction.STRICTER]


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        (("*",), ("age",), Direction.STRICTER),
        (("age",), ("*",), Direction.LOOSER),
        (("age", "sex"), ("age",), Direction.STRICTER),
        (("age",), ("age", "sex"), Direction.LOOSER),
        (("age",), ("sex",), Direction.OTHER),
        (("age", "sex"), ("sex", "age"), Direction.OTHER),
        (("*",), (), Direction.STRICTER),
        ((), ("age",), Direction.LOOSER),
    ],
)
def test_lists_of_what_is_allowed(old, new, direction):
    before, after = (changed("conditions", allowed_columns=columns) for columns in (old, new))
    assert [change.direction for change in differences(before, after)] == [direction]


def test_a_name_is_neither_stricter_nor_looser():
    renamed = replace(STANDARD, name="ours", asset="cardiology")
    assert [change.direction for change in differences(STANDARD, renamed)] == [Direction.OTHER] * 2
    assert "2 rules: 2 other" in summary(differences(STANDARD, renamed))


def test_strict_is_stricter_than_standard_in_every_rule_that_differs():
    changes = differences(STANDARD, STRICT)
    assert {change.direction for change in changes if change.rule != "policy.name"} == {Direction.STRICTER}
    assert (
        summary(changes)
        == f"The new policy differs in {len(changes)} rules: {len(changes) - 1} stricter, 1 other."
    )
    assert summary(differences(STRICT, STRICT)) == "The two policies say the same."


def test_a_change_beyond_the_sixth_digit_is_shown():
    (change,) = differences(STANDARD, changed("audit", max_advantage=0.0500000001))
    assert (change.old, change.new) == ("0.05", "0.0500000001")
