"""An audit opens the gate only as the attempt that the ledger counted, of no more than the policy allows."""

import pytest

from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.policy import AuditRules
from synthkit.errors import ReleaseRefusedError
from synthkit.release.gate import CountedAudit, check_counted

RULES = AuditRules(max_advantage=0.05, alpha=0.05, max_attempts=3)
TABLE, OTHER = "a" * 64, "b" * 64


def report(attempt=1, verdict=Verdict.PASS, table=TABLE):
    return AuditReport(
        verdict=verdict,
        reasons=(),
        attacks=(),
        hard_rules=(),
        diagnostics={},
        table_digest=table,
        schema_digest="c" * 64,
        policy_digest="d" * 64,
        max_advantage=0.05,
        alpha=0.05,
        attempt=attempt,
        seed=0,
        versions={},
    )


def counted(*verdicts, study="heart", table=TABLE):
    return [CountedAudit(study=study, table_digest=table, verdict=verdict.value) for verdict in verdicts]


PASS, FAIL, DOUBT = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("attempt", "ledger"),
    [
        (1, counted(PASS)),
        (2, counted(FAIL, PASS)),
        (2, [*counted(FAIL, table=OTHER), *counted(PASS)]),
        (1, [*counted(PASS), *counted(FAIL, table=OTHER)]),
        (1, [*counted(FAIL, study="digest"), *counted(PASS)]),
        (3, counted(FAIL, DOUBT, PASS)),
    ],
)
def test_the_counted_attempt_passes(attempt, ledger):
    check_counted(report(attempt), ledger, RULES)


@pytest.mark.parametrize(
    ("attempt", "ledger"),
    [
        (1, []),
        (1, counted(FAIL)),
        (1, counted(DOUBT)),
        (1, counted(PASS, table=OTHER)),
        (1, counted(FAIL, PASS)),
        (2, counted(PASS)),
        (3, counted(PASS, PASS)),
        (0, counted(PASS)),
        (1, [*counted(FAIL), *counted(FAIL, study="digest")]),
    ],
    ids=[
        "no ledger entry",
        "counted as FAIL",
        "counted as INCONCLUSIVE",
        "of another table",
        "an uncounted look under the first attempt's alpha",
        "a later attempt than was counted",
        "a third of two",
        "attempt nought",
        "under both names a FAIL",
    ],
)
def test_an_uncounted_audit_is_refused(attempt, ledger):
    with pytest.raises(ReleaseRefusedError, match="does not know this audit") as caught:
        check_counted(report(attempt), ledger, RULES)
    assert "audit.max_attempts" in str(caught.value)
    assert "--ledger" in str(caught.value)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_report_of_another_verdict_than_was_counted_is_refused(verdict):
    others = [other for other in Verdict if other is not verdict]
    for other in others:
        with pytest.raises(ReleaseRefusedError):
            check_counted(report(verdict=verdict), counted(other), RULES)


def test_a_study_under_two_names_has_no_more_attempts_than_one():
    ledger = [*counted(FAIL, FAIL), *counted(FAIL, PASS, study="digest")]
    with pytest.raises(ReleaseRefusedError, match="more candidates of this study") as caught:
        check_counted(report(2), ledger, RULES)
    assert "rule audit.max_attempts" in str(caught.value)
