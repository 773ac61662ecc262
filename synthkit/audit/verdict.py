"""From claims to rates, and from rates to one of four verdicts.

Knows counts and the policy's limits; refuses to see a row. The rules, in order of precedence:

1. INVALID: a precondition does not hold, or an attack failed to produce a number (`run` finds these).
2. FAIL: a hard rule fires, or a Holm-adjusted one-sided p value over *all* statistics, the rare stratum and
   the 10 % and 50 % points included, is below alpha / max_attempts. The bounding statistics share one half
   of that level and all others the other half, so that a further attack does not weaken those that a PASS
   rests on.
3. PASS: for every bounding statistic (all patients: the 1 % points of the two attacks that know whole
   records and need no training, and exact match) the one-sided upper limit, Bonferroni over these
   statistics at alpha / max_attempts, is below tau and the detectable effect at most tau; the best estimate
   of every other statistic at a set rate (membership and presence, all patients) is below tau; and the
   reference is large enough for a 1 % threshold to exist.
4. INCONCLUSIVE: everything else, with the detectable effect and what would be needed.

The 10 % and 50 % points and the stratum can fail a table but do not bound a PASS: at the sizes of single
hospitals their intervals are wider than any useful tau, whatever the generator does. The attacks after the
Working Party's three criteria can fail a table too; as their chance successes may be half of all patients,
their best estimates do not hold back a PASS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from synthkit.audit import statistics
from synthkit.audit.claims import Claims
from synthkit.domain.audit import AttackResult, Interval, Verdict
from synthkit.domain.policy import AuditRules

MIN_REFERENCE = 99
"""Below, no reference patient marks the top 1 %."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its reasons in words."""

    verdict: Verdict
    reasons: tuple[str, ...]


def measure(claims: Sequence[Claims], rules: AuditRules) -> tuple[AttackResult, ...]:
    """Rates, intervals, adjusted p values and detectable effects of the whole family.

    The advantage's interval has its upper end at the one-sided level that a PASS needs.
    """
    p_values = [statistics.fisher_greater(*_counts(claim)) for claim in claims]
    weights = _weights(claims)
    adjusted = statistics.holm(p_values, weights)
    bounding = max(1, sum(claim.bounds for claim in claims))
    share = rules.alpha / rules.max_attempts
    return tuple(
        _result(claim, p, p_adjusted, level=share * weight, confidence=1.0 - 2.0 * share / bounding)
        for claim, p, p_adjusted, weight in zip(claims, p_values, adjusted, weights, strict=True)
    )


def _weights(claims: Sequence[Claims]) -> tuple[float, ...]:
    """Each statistic's share of the level: half of it is the bounding ones', half all others'.

    So another attack costs the ones that a PASS rests on none of their power.
    """
    kinds = [claim.bounds for claim in claims]
    groups = len(set(kinds))
    return tuple(1.0 / (groups * kinds.count(kind)) for kind in kinds)


def _counts(claim: Claims) -> tuple[int, int, int, int]:
    return int(claim.members.sum()), claim.members.size, int(claim.holdout.sum()), claim.holdout.size


def _control_rate(claim: Claims) -> float:
    """The larger of the measured and the nominal rate, for planning."""
    return max(float(claim.holdout.mean()), claim.baseline_rate)


def _result(
    claim: Claims, p_value: float, p_adjusted: float, *, level: float, confidence: float
) -> AttackResult:
    hits, members, false_hits, holdout = _counts(claim)
    return AttackResult(
        name=claim.name,
        statistic=claim.statistic,
        attack_rate=hits / members,
        control_rate=false_hits / holdout,
        baseline_rate=claim.baseline_rate,
        attack_interval=statistics.clopper_pearson(hits, members),
        control_interval=statistics.clopper_pearson(false_hits, holdout),
        advantage=hits / members - false_hits / holdout,
        advantage_interval=statistics.newcombe(hits, members, false_hits, holdout, confidence=confidence),
        p_value=p_value,
        p_adjusted=p_adjusted,
        minimum_detectable_effect=statistics.minimum_detectable_effect(
            members, holdout, control_rate=_control_rate(claim), level=level
        ),
        stratum=claim.stratum,
    )


def has_nan(result: AttackResult) -> bool:
    """Whether any number of a result is not finite."""
    values = [getattr(result, field.name) for field in fields(result)]
    numbers = [value for value in values if isinstance(value, float)]
    numbers += [end for value in values if isinstance(value, Interval) for end in (value.lower, value.upper)]
    return not bool(np.isfinite(numbers).all())


def judge(
    claims: Sequence[Claims],
    results: Sequence[AttackResult],
    hard_rules: Sequence[str],
    rules: AuditRules,
    *,
    reference_size: int,
) -> Judgement:
    """FAIL, PASS or INCONCLUSIVE of a valid audit. Rules 2 to 4 of the module's docstring."""
    share = rules.alpha / rules.max_attempts
    rejected = [_label(result) for result in results if result.p_adjusted < share]
    if rejected or hard_rules:
        reasons = [f"{label}: members are claimed more often than the holdout" for label in rejected]
        return Judgement(verdict=Verdict.FAIL, reasons=(*hard_rules, *reasons))
    doubts = [
        doubt
        for claim, result, weight in zip(claims, results, _weights(claims), strict=True)
        if (doubt := _doubt(claim, result, rules, weight=weight))
    ]
    if reference_size < MIN_REFERENCE:
        doubts.append("the reference is too small for a threshold at a false-positive rate of 1 %")
    if not any(claim.bounds for claim in claims):
        doubts.append("no statistic that could bound an attacker's advantage was measured")
    if doubts:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reasons=tuple(doubts))
    limit = f"{rules.max_advantage:g}"
    return Judgement(
        verdict=Verdict.PASS,
        reasons=(
            f"exact match and the attacks at a false-positive rate of 1 % have an advantage below {limit} by "
            "their upper limits, those at 10 % and 50 % by their best estimates; no proof of anonymity",
        ),
    )


def _doubt(claim: Claims, result: AttackResult, rules: AuditRules, *, weight: float) -> str:
    """Why this statistic does not support a PASS, or nothing."""
    tau = rules.max_advantage
    if not claim.bounds:
        is_high = claim.holds and result.advantage >= tau
        return f"{_label(result)}: the best estimate is not below {tau:g}, though not significant" * is_high
    effect = result.minimum_detectable_effect
    if effect > tau:
        factor = statistics.needed_sample_factor(
            claim.members.size,
            claim.holdout.size,
            control_rate=_control_rate(claim),
            level=rules.alpha / rules.max_attempts * weight,
            target=tau,
        )
        return (
            f"{_label(result)}: an advantage below {effect:.3f} could have gone unseen, above the limit "
            f"{tau:g}; about {factor:.1f} times as many patients would be needed"
        )
    if result.advantage_interval.upper >= tau:
        return (
            f"{_label(result)}: the upper limit {result.advantage_interval.upper:.3f} is not below {tau:g} "
            f"(smallest detectable effect {effect:.3f}); a larger holdout would narrow it"
        )
    return ""


def _label(result: AttackResult) -> str:
    return f"{result.name}, {result.statistic}, {result.stratum} patients"
