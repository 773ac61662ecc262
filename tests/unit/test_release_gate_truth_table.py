"""The gate's whole truth table: 3,072 combinations against a table written out by hand."""

from dataclasses import replace
from itertools import product

import pytest

from synthkit.domain.audit import Verdict
from synthkit.domain.policy import ReleaseRules
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import ReleaseRefusedError
from synthkit.release.gate import MIN_REASON_CHARACTERS, decide, is_written_reason

REASON = "The registry needs this table for its audit"
STRICT = ReleaseRules(
    inconclusive="refuse", fail="refuse", four_eyes=True, allow_non_private=False, valid_days=90
)

ALLOWED = {
    # verdict, rule that must say officer, what must be requested, reason needed, DP needed -> decision
    (Verdict.PASS, None, None, False, False): Decision.AUDIT_PASSED,
    (Verdict.INCONCLUSIVE, "inconclusive", Decision.DP_CLAIM, True, True): Decision.DP_CLAIM,
    (Verdict.FAIL, "fail", Decision.OVERRIDE, True, False): Decision.OVERRIDE,
}
"""All that ever leaves. What is not here is refused."""

COMBINATIONS = list(
    product(
        Verdict,
        ("refuse", "officer"),
        ("refuse", "officer"),
        (True, False),
        (True, False),
        EncoderProvenance,
        (None, *Decision),
        (REASON, "", "urgent"),
    )
)


def expected(combination):
    verdict, inconclusive, fail, allow_non_private, private, provenance, requested, reason = combination
    words = {"inconclusive": inconclusive, "fail": fail}
    if (private and provenance is EncoderProvenance.NON_DP) or not (private or allow_non_private):
        return None
    for (of, rule, asked, needs_reason, needs_dp), decision in ALLOWED.items():
        rule_holds = rule is None or words[rule] == "officer"
        asked_holds = asked is None or requested is asked
        said = reason == REASON or not needs_reason
        if of is verdict and rule_holds and asked_holds and said and (private or not needs_dp):
            return decision
    return None


def test_every_combination_is_decided_as_the_table_says():
    assert len(COMBINATIONS) == 4 * 2 * 2 * 2 * 2 * 4 * 4 * 3
    outcomes, refusals = set(), []
    for combination in COMBINATIONS:
        verdict, inconclusive, fail, allow, private, provenance, requested, reason = combination
        rules = replace(STRICT, inconclusive=inconclusive, fail=fail, allow_non_private=allow)
        try:
            outcome = decide(
                verdict=verdict,
                rules=rules,
                private=private,
                encoder_provenance=provenance,
                requested=requested,
                reason=reason,
            )
        except ReleaseRefusedError as refusal:
            outcome = None
            refusals.append(refusal)
        else:
            assert isinstance(outcome, Decision), "what is not refused is decided"
        assert outcome == expected(combination), combination
        outcomes.add(outcome)
    assert outcomes == {None, *Decision}
    for refusal in refusals:
        assert str(refusal).startswith("rule release.")
        assert refusal.fix
        assert "\n" not in str(refusal)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inconclusive", "officers"),
        ("inconclusive", ""),
        ("inconclusive", "OFFICER"),
        ("inconclusive", None),
        ("fail", "allow"),
        ("four_eyes", "false"),
        ("four_eyes", None),
        ("allow_non_private", "no"),
        ("allow_non_private", 1),
        ("valid_days", 0),
        ("valid_days", -1),
        ("valid_days", True),
        ("valid_days", "90"),
    ],
)
def test_an_unreadable_rule_refuses_even_a_pass(field, value):
    with pytest.raises(ReleaseRefusedError, match=rf"rule release\.{field}"):
        decide(
            verdict=Verdict.PASS,
            rules=replace(STRICT, **{field: value}),
            private=True,
            encoder_provenance=EncoderProvenance.TRAINED,
            requested=None,
            reason="",
        )


def test_a_reason_is_one_printable_line_of_some_length():
    assert is_written_reason("x" * MIN_REASON_CHARACTERS)
    assert not is_written_reason("x" * (MIN_REASON_CHARACTERS - 1))
    assert not is_written_reason(" " * 40)
    assert not is_written_reason("a first line of some length\nand a second")
    assert not is_written_reason("a reason with an escape \x1b[2J in it")
    assert not is_written_reason("x" * 2001)
