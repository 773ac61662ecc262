"""The order of an audit's steps, the same for tables and for records.

Knows the order and how each step may stop it; refuses to know what is attacked: that is a `Case`, and to
decide by itself (see `verdict`). Recipe:

1. sizes: each set large enough for the statistics to exist;
2. disjoint: members, holdout and reference share no patients beyond chance;
3. blind baseline: members and holdout cannot be told apart without the synthetic data;
4. evidence: distances of each real patient to the synthetic data;
5. attacks, each on its own: one that raises or yields no number makes the audit INVALID;
6. the hard rules, the rates, the verdict.

Rules: a crash is never a PASS; reasons carry neither a patient's value nor an exception's text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from synthkit.audit.baseline import BlindBaseline
from synthkit.audit.claims import Claims
from synthkit.audit.findings import Findings, StepFailedError, attack_each, guarded, invalid
from synthkit.audit.verdict import has_nan, judge, measure
from synthkit.domain.audit import AttackResult
from synthkit.domain.policy import AuditRules

MIN_PATIENTS = 20
"""Smallest members, holdout and reference; smallest number of synthetic rows or patients."""

E = TypeVar("E")
Progress = Callable[[str], None]
Attack = Callable[[E], tuple[Claims, ...]]
HardRule = Callable[[E, float], tuple[str, ...]]
"""From the evidence and the false-alarm probability of this attempt to the rule in words, or nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(Generic[E]):
    """What one kind of audit brings to the steps; E is its evidence.

    Attributes:
        data: What leaves, in one word.
        sizes: Every set's size and what it counts, by name.
        reference_size: Patients of the reference.
        overlapping: In words, which sets share patients.
        blind: The blind baseline.
        gather: The evidence.
        attacks: By name; every one is run.
        aside: Names of attacks that are shown and decide nothing.
        hard_rules: By the step's name.
        diagnostics: Figures that decide nothing.
    """

    data: str
    sizes: Mapping[str, int]
    reference_size: int
    overlapping: Callable[[], tuple[str, ...]]
    blind: Callable[[], BlindBaseline]
    gather: Callable[[], E]
    attacks: Mapping[str, Attack[E]]
    aside: frozenset[str]
    hard_rules: Mapping[str, HardRule[E]]
    diagnostics: Callable[[E], dict[str, float]]


def examine(case: Case[E], rules: AuditRules, progress: Progress) -> Findings:
    """All steps; a step that raises ends INVALID."""
    try:
        return _examine(case, rules, progress)
    except StepFailedError as error:
        return invalid(str(error))


def _examine(case: Case[E], rules: AuditRules, progress: Progress) -> Findings:
    """Steps 1 to 4."""
    small = [name for name, size in case.sizes.items() if size < MIN_PATIENTS]
    if small:
        return invalid(*(f"{name}: too few for the statistics to exist" for name in small))
    progress("are the sets disjoint")
    shared = guarded("disjoint sets", case.overlapping)
    if shared:
        return invalid(*shared)
    progress("blind baseline")
    blind = guarded("blind baseline", case.blind)
    if not blind.is_at_chance:
        return invalid(
            f"members and holdout can be told apart without the synthetic {case.data}: not a random split"
        )
    progress("distances")
    return _attack(case, guarded("distances", case.gather), blind, rules, progress)


def _attack(
    case: Case[E], evidence: E, blind: BlindBaseline, rules: AuditRules, progress: Progress
) -> Findings:
    """Steps 5 and 6."""
    bound = {name: _on(attack, evidence) for name, attack in case.attacks.items()}
    claims, failures = attack_each(bound, progress)
    if failures:
        return invalid(*failures)
    progress("verdict")
    family = [claim for name, group in claims.items() if name not in case.aside for claim in group]
    shown = [claim for name, group in claims.items() if name in case.aside for claim in group]
    hard_rules = _hard_rules(case, evidence, rules.alpha / rules.max_attempts)
    results = guarded("statistics", lambda: measure(family, rules))
    others = _beside(shown, rules)
    broken = [f"{result.name}: did not yield a number" for result in (*results, *others) if has_nan(result)]
    if broken:
        return invalid(*broken)
    figures = guarded("diagnostics", lambda: case.diagnostics(evidence))
    return Findings(
        judgement=judge(family, results, hard_rules, rules, reference_size=case.reference_size),
        attacks=(*results, *others),
        hard_rules=hard_rules,
        diagnostics={**figures, "auc_blind_baseline": blind.auc},
    )


def _on(attack: Attack[E], evidence: E) -> Callable[[], tuple[Claims, ...]]:
    return lambda: attack(evidence)


def _hard_rules(case: Case[E], evidence: E, level: float) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for name, rule in case.hard_rules.items():
        found += guarded(name, lambda rule=rule: rule(evidence, level))  # type: ignore[misc]
    return found


def _beside(claims: list[Claims], rules: AuditRules) -> tuple[AttackResult, ...]:
    """Measured as a family of their own, so that they cost those that decide nothing."""
    return guarded(
        "statistics", lambda: tuple(replace(result, decides=False) for result in measure(claims, rules))
    )
