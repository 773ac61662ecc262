"""The gate: may this table leave, and on whose word?

Knows a verdict, the site's release rules, what the officer asked for, and the public conditions a table
was generated under with the model's figures on them; knows no keys, files or tables. Rules kept here:
everything not expressly allowed is refused; an unreadable rule refuses everything, a PASS included;
INVALID has no exception; each refusal names its rule and the remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.policy import AuditRules, ConditionRules, ReleaseRules
from synthkit.domain.policy_check import check_conditions_against_policy
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import PolicyError, ReleaseRefusedError

MIN_REASON_CHARACTERS = 20
MAX_REASON_CHARACTERS = 2000

DECISION_FOR = {
    Verdict.PASS: Decision.AUDIT_PASSED,
    Verdict.INCONCLUSIVE: Decision.DP_CLAIM,
    Verdict.FAIL: Decision.OVERRIDE,
}
"""The one decision each verdict can lead to. INVALID leads to none."""


def decide(
    *,
    verdict: Verdict,
    rules: ReleaseRules,
    private: bool,
    encoder_provenance: EncoderProvenance,
    requested: Decision | None,
    reason: str,
) -> Decision:
    """Decide on one site's part in one table.

    Args:
        verdict: The audit's verdict on this very table.
        rules: The release rules of the site's policy.
        private: Whether the generator was trained with DP (the site states a spend).
        encoder_provenance: Where parameters came from that the private training did not learn.
        requested: What the officer asks for; None asks for nothing beyond a PASS.
        reason: Her reason, in writing; needed for anything but a PASS.

    Returns:
        How the release came to be approved: what the approval records.

    Raises:
        ReleaseRefusedError: The table may not leave; names the rule and the remedy.
    """
    check_rules(rules)
    _check_claim(rules, private=private, encoder_provenance=encoder_provenance)
    if verdict is Verdict.PASS:
        return Decision.AUDIT_PASSED
    if verdict is Verdict.INCONCLUSIVE:
        return _decide_inconclusive(rules, private=private, requested=requested, reason=reason)
    if verdict is Verdict.FAIL:
        return _decide_fail(rules, requested=requested, reason=reason)
    raise _refusal("audit", "the audit is INVALID", "find out why, repair it and run it again")


def check_conditions(
    statement: ConditionStatement | None, rules: ConditionRules | None, *, site: str
) -> None:
    """Refuse a table generated under conditions that a site's policy does not allow.

    Args:
        statement: The conditions and the model's figures; None: the rows were drawn without any.
        rules: The site's rules for conditions; None: its policy is not at hand, or has none.
        site: The site, for the message.

    Raises:
        ReleaseRefusedError: The policy refuses, or is not there to allow it.
    """
    if statement is None:
        return
    where = f"site {site!r}"
    if rules is None:
        raise ReleaseRefusedError(
            "the table was generated under conditions, and no policy that allows them is enclosed",
            where=where,
            fix="enclose the site's policy, with its table [conditions]",
        )
    try:
        check_conditions_against_policy(statement, rules)
    except PolicyError as error:
        raise ReleaseRefusedError(error.what, where=where, fix=error.fix) from error


@dataclass(frozen=True, kw_only=True)
class CountedAudit:
    """One audit as the site's ledger recorded it, before anyone saw its verdict.

    `report_digest` is None in an entry of ledger format 1, which did not bind the report.
    """

    study: str
    table_digest: str
    verdict: str
    report_digest: str | None = None

    @classmethod
    def from_entry(cls, fields: Mapping[str, str]) -> "CountedAudit":
        """From the fields of an audit's entry, of either format."""
        return cls(
            study=fields["study"],
            table_digest=fields["table_digest"],
            verdict=fields["verdict"],
            report_digest=fields.get("report_digest"),
        )


def check_counted(report: AuditReport, counted: Sequence[CountedAudit], rules: AuditRules) -> None:
    """Refuse an audit that the ledger did not count, or one of more attempts than the policy allows.

    Looking at tables until one passes is selection on private data, so only looks that were counted count.
    A counted look opens the gate to its own report alone, figure for figure: another run of the same audit
    may end in the same verdict with other attacks, another seed or other detectable effects, and what is
    stated is taken from them.
    An entry of ledger format 1 holds no digest of its report: table, verdict and attempt are compared.

    Args:
        report: What the audit wrote.
        counted: Every audit that the ledger recorded of the model's study, under whichever of its names,
            oldest first.
        rules: The policy's.

    Raises:
        ReleaseRefusedError: The ledger knows no such attempt with this verdict, counted another report of it,
            or counted too many of the study.
    """
    looks = _looks_like(report, counted)
    if not looks:
        raise ReleaseRefusedError(
            "the ledger does not know this audit and its verdict [rule audit.max_attempts]",
            where="--audit",
            fix="audit with --ledger and --model, which count the attempt",
        )
    if all(look.report_digest not in {None, report.digest} for look in looks):
        raise ReleaseRefusedError(
            "the report is not the one that the ledger counted for this attempt [rule audit.max_attempts]",
            where="--audit",
            fix="give the report that the counted audit saved, or audit with --ledger and --model once more",
        )
    if len(counted) > rules.max_attempts:
        # By name and by digest the same study would otherwise have twice its attempts.
        raise _refused_attempts(rules)


def _looks_like(report: AuditReport, counted: Sequence[CountedAudit]) -> list[CountedAudit]:
    """Under each of the study's names the look that was this attempt, if of this table and verdict.

    The attempt's number decides how much of alpha it got: a report of another attempt is another audit.
    """
    by_name: dict[str, list[CountedAudit]] = {}
    for one in counted:
        by_name.setdefault(one.study, []).append(one)
    nth = [look for looks in by_name.values() for look in looks[report.attempt - 1 : report.attempt]]
    judged = (report.table_digest, report.verdict.value)
    return [look for look in nth if (look.table_digest, look.verdict) == judged]


def _refused_attempts(rules: AuditRules) -> ReleaseRefusedError:
    return ReleaseRefusedError(
        f"more candidates of this study were audited than the {rules.max_attempts} that the policy allows",
        where="rule audit.max_attempts",
        fix="train a new model under a new study; this one's attempts are used up",
    )


def is_written_reason(reason: str) -> bool:
    """Whether this is a reason that can travel with a release: long enough, printable, not endless."""
    text = reason.strip()
    return MIN_REASON_CHARACTERS <= len(text) <= MAX_REASON_CHARACTERS and text.isprintable()


def check_rules(rules: ReleaseRules) -> None:
    """Refuse rules that do not say exactly one of the known words.

    Raises:
        ReleaseRefusedError: A rule is unreadable.
    """
    for name in ("inconclusive", "fail"):
        if getattr(rules, name) not in {"refuse", "officer"}:
            raise _refusal(name, "the rule's word is unknown", "write refuse or officer in the policy")
    for name in ("four_eyes", "allow_non_private"):
        if not isinstance(getattr(rules, name), bool):
            raise _refusal(name, "the rule is neither true nor false", "write true or false in the policy")
    days = rules.valid_days
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise _refusal("valid_days", "the rule is not a whole number of days", "write 1 or more")


def _check_claim(rules: ReleaseRules, *, private: bool, encoder_provenance: EncoderProvenance) -> None:
    """Refuse a claim of DP that does not hold, and a table without one where one is required."""
    if not private and not rules.allow_non_private:
        raise _refusal(
            "allow_non_private",
            "the generator was trained without DP",
            "train it with DP, or change the rule",
        )
    if private and not encoder_provenance.allows_claim:
        raise _refusal(
            "encoder_provenance",
            "the encoder was trained on these patients without DP, so no epsilon can be claimed",
            "train with a public encoder or one trained with DP",
        )


def _decide_inconclusive(
    rules: ReleaseRules, *, private: bool, requested: Decision | None, reason: str
) -> Decision:
    """INCONCLUSIVE: an officer may rest on the DP claim, where there is one."""
    if rules.inconclusive != "officer":
        raise _refusal("inconclusive", "the audit is INCONCLUSIVE", "audit with more members and holdout")
    if not private:
        raise _refusal(
            "inconclusive", "INCONCLUSIVE, and without DP there is no claim to rest on", "train it with DP"
        )
    if requested is not Decision.DP_CLAIM:
        raise _refusal(
            "inconclusive", "the audit is INCONCLUSIVE", "the officer may request dp_claim, with a reason"
        )
    _check_reason("inconclusive", reason)
    return Decision.DP_CLAIM


def _decide_fail(rules: ReleaseRules, *, requested: Decision | None, reason: str) -> Decision:
    """FAIL: an officer may override in writing, where the policy lets her."""
    if rules.fail != "officer":
        raise _refusal("fail", "the audit FAILed", "generate with less epsilon or a simpler model")
    if requested is not Decision.OVERRIDE:
        raise _refusal("fail", "the audit FAILed", "the officer may request override, with a reason")
    _check_reason("fail", reason)
    return Decision.OVERRIDE


def _check_reason(rule: str, reason: str) -> None:
    """Refuse a decision without a written reason."""
    if not is_written_reason(reason):
        raise _refusal(
            rule,
            "a written reason is missing",
            f"one line, {MIN_REASON_CHARACTERS} to {MAX_REASON_CHARACTERS} printable characters",
        )


def _refusal(rule: str, what: str, fix: str) -> ReleaseRefusedError:
    return ReleaseRefusedError(what, where=f"rule release.{rule}", fix=fix)
