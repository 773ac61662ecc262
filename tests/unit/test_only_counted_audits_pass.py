"""An audit opens the gate only as the report that the ledger counted, of no more than the policy allows."""

from dataclasses import replace

import pytest

from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.policy import AuditRules
from synthkit.domain.privacy import Budget
from synthkit.errors import ReleaseRefusedError
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_verify import read_entries
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
    """Looks as a ledger of format 1 counted them: without their reports."""
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


def bound(*reports, study="heart"):
    """Looks as the ledger counts them now: each with its report."""
    return [
        CountedAudit(
            study=study,
            table_digest=one.table_digest,
            verdict=one.verdict.value,
            report_digest=one.digest,
        )
        for one in reports
    ]


FIRST = report(1, FAIL)
SECOND = report(2)
RERUNS = {
    "another seed": {"seed": 7},
    "another figure that decides nothing": {"diagnostics": {"nearest": 0.25}},
    "other reasons": {"reasons": ("another sentence",)},
    "other sizes": {"sizes": {"members": 10}},
    "another limit": {"max_advantage": 0.06},
    "another version": {"versions": {"synthkit": "9"}},
    "another policy": {"policy_digest": "e" * 64},
}


def test_the_report_that_was_counted_passes_also_when_read_again():
    check_counted(SECOND, bound(FIRST, SECOND), RULES)
    check_counted(AuditReport.from_json(SECOND.to_json()), bound(FIRST, SECOND), RULES)


@pytest.mark.parametrize("change", RERUNS.values(), ids=RERUNS.keys())
def test_another_report_of_the_same_table_verdict_and_attempt_is_refused(change):
    rerun = replace(SECOND, **change)
    known = (rerun.table_digest, rerun.verdict, rerun.attempt)
    assert known == (SECOND.table_digest, SECOND.verdict, SECOND.attempt)
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted") as caught:
        check_counted(rerun, bound(FIRST, SECOND), RULES)
    words = str(caught.value)
    assert "rule audit.max_attempts" in words
    assert "give the report that the counted audit saved" in words
    assert "\n" not in words
    assert rerun.digest not in words
    assert SECOND.digest not in words


def test_a_report_counted_as_another_attempt_does_not_speak_for_this_one():
    """The digest is compared at the attempt's own place, not anywhere in the ledger."""
    rerun = replace(SECOND, seed=7)
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted"):
        check_counted(rerun, bound(FIRST, SECOND, rerun), RULES)


def test_an_entry_without_a_digest_is_compared_as_before_beside_entries_with_one():
    rerun = replace(SECOND, seed=7)
    check_counted(rerun, [*counted(FAIL), *counted(PASS)], RULES)
    check_counted(rerun, [*bound(FIRST), *counted(PASS)], RULES)
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted"):
        check_counted(rerun, [*counted(FAIL), *bound(SECOND)], RULES)


def test_under_two_names_either_counted_report_passes_and_no_third():
    other = replace(report(1), seed=7)
    ledger = [*bound(report(1)), *bound(other, study="digest")]
    check_counted(report(1), ledger, RULES)
    check_counted(other, ledger, RULES)
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted"):
        check_counted(replace(other, seed=8), ledger, RULES)


def test_what_the_ledger_writes_is_what_the_gate_compares(tmp_path):
    """Through the file: recorded, verified, read, and only the report that was recorded is let through."""
    path = tmp_path / "heart.ledger"
    book = Ledger.create(path, asset="heart", site="north", budget=Budget(epsilon=1.0, delta=1e-6))
    for one in (FIRST, SECOND):
        looked = {"table_digest": one.table_digest, "verdict": one.verdict, "report_digest": one.digest}
        book.record_audit(study="heart", **looked)
    assert verify_ledger(path).audits == 2
    ledger = [CountedAudit.from_entry(entry.fields) for entry in read_entries(path)[1:]]
    assert ledger == bound(FIRST, SECOND)
    check_counted(SECOND, ledger, RULES)
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted"):
        check_counted(replace(SECOND, seed=7), ledger, RULES)
