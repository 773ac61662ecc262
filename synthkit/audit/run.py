"""The audit of one synthetic table, from four tables to one report.

Knows the order of the steps; refuses to decide by itself (see `verdict`). Recipe:

1. refuse an attempt beyond the policy's number, and tables of different schemas;
2. sizes: each set large enough for the statistics to exist;
3. disjoint: members, holdout and reference share no patients beyond chance;
4. blind baseline: members and holdout cannot be told apart without the synthetic table;
5. evidence: distances of each real patient to the synthetic table;
6. attacks, each on its own: one that raises or yields no number makes the audit INVALID;
7. the hard rule, the rates, the verdict.

Rules: a crash is never a PASS; reasons carry neither a patient's value nor an exception's text. A report
is for the site's own eyes: `AuditReport.coarse` is what may leave.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TypeVar

from synthkit.audit import copies, diagnostics, membership, presence
from synthkit.audit.baseline import BlindBaseline, blind_baseline
from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, gather
from synthkit.audit.overlap import overlapping_sets
from synthkit.audit.verdict import Judgement, has_nan, judge, measure
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AttackResult, AuditReport, Verdict
from synthkit.domain.policy import AuditRules
from synthkit.errors import PolicyError, SchemaError

MIN_PATIENTS = 20
"""Smallest members, holdout and reference; smallest number of synthetic rows."""

T = TypeVar("T")
Attack = Callable[[Evidence], tuple[Claims, ...]]
ATTACKS: dict[str, Attack] = {
    membership.NAME: membership.density_ratio,
    presence.NEAR: presence.near_match,
    presence.EXACT: presence.exact_match,
    presence.PARTIAL: presence.partial_match,
}
"""The pre-registered battery; every table meets all of it."""

PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "synthkit")


@dataclass(frozen=True, kw_only=True)
class _Findings:
    """What the steps found; empty where an INVALID audit stopped."""

    judgement: Judgement
    attacks: tuple[AttackResult, ...] = ()
    hard_rules: tuple[str, ...] = ()
    diagnostics: dict[str, float] = field(default_factory=dict)


class _StepFailedError(Exception):
    """A step raised or yielded no number; the text names the step, never the data."""


def run_audit(
    *,
    members: PatientTable,
    holdout: PatientTable,
    reference: PatientTable,
    synthetic: SyntheticTable,
    rules: AuditRules,
    policy_digest: str,
    attempt: int = 1,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Attack a synthetic table and judge it.

    Args:
        members: The patients the generator was trained on.
        holdout: Patients of the same population it never saw.
        reference: Further such patients; thresholds, weights and strata come from them alone.
        synthetic: The very table that is to leave.
        rules: The policy's limits, frozen before this call.
        policy_digest: Digest of the policy the rules come from; bound into the report.
        attempt: Which candidate of this asset and study this is, from 1.
        seed: Breaks ties, draws the partial attacker's columns and the baseline's folds.
        progress: Told the name of each step as it starts.

    Raises:
        PolicyError: More attempts than the policy allows (rule `audit.max_attempts`).
        SchemaError: The four tables do not share their columns.
    """
    sets = {"members": members, "holdout": holdout, "reference": reference}
    _check_request(sets, synthetic, rules, attempt)
    try:
        findings = _examine(sets, synthetic, rules, seed, progress or (lambda _: None))
    except _StepFailedError as error:
        findings = _invalid(str(error))
    return AuditReport(
        verdict=findings.judgement.verdict,
        reasons=findings.judgement.reasons,
        attacks=findings.attacks,
        hard_rules=findings.hard_rules,
        diagnostics=findings.diagnostics,
        table_digest=synthetic.digest,
        schema_digest=synthetic.schema.digest,
        policy_digest=policy_digest,
        max_advantage=rules.max_advantage,
        alpha=rules.alpha,
        attempt=attempt,
        seed=seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )


def _check_request(
    sets: dict[str, PatientTable], synthetic: SyntheticTable, rules: AuditRules, attempt: int
) -> None:
    """Step 1: what is refused instead of judged."""
    if not 1 <= attempt <= rules.max_attempts:
        raise PolicyError(
            "this attempt is beyond the number the policy allows",
            rule="audit.max_attempts",
            fix="regenerating until a table passes is selection; the officer decides on the last one",
        )
    columns = synthetic.schema.columns
    if any(table.schema.columns != columns for table in sets.values()):
        raise SchemaError("the audit's tables do not share their columns", fix="read all with one schema")


def _examine(
    sets: dict[str, PatientTable],
    synthetic: SyntheticTable,
    rules: AuditRules,
    seed: int,
    progress: Callable[[str], None],
) -> _Findings:
    """Steps 2 to 7."""
    reasons = _too_small(sets, synthetic)
    if reasons:
        return _invalid(*reasons)
    progress("are the sets disjoint")
    reasons = _guarded("disjoint sets", lambda: overlapping_sets(sets, seed=seed))
    if reasons:
        return _invalid(*reasons)
    progress("blind baseline")
    blind = _guarded("blind baseline", lambda: blind_baseline(sets["members"], sets["holdout"], seed=seed))
    if not blind.is_at_chance:
        return _invalid(
            "members and holdout can be told apart without the synthetic table: not a random split"
        )
    progress("distances")
    evidence = _guarded("distances", lambda: gather(**sets, synthetic=synthetic, seed=seed))
    return _attack(evidence, blind, rules, progress)


def _attack(
    evidence: Evidence, blind: BlindBaseline, rules: AuditRules, progress: Callable[[str], None]
) -> _Findings:
    """Steps 6 and 7."""
    claims: list[Claims] = []
    failures: list[str] = []
    for name, attack in ATTACKS.items():
        progress(name)
        try:
            claims += _guarded(name, partial(attack, evidence))
        except _StepFailedError as error:
            failures.append(str(error))
    if failures:
        return _invalid(*failures)
    progress("verdict")
    level = rules.alpha / rules.max_attempts
    hard_rules = _guarded("copied patients", lambda: copies.copied_rare_patients(evidence, level=level))
    results = _guarded("statistics", lambda: measure(claims, rules))
    broken = [f"{result.name}: did not yield a number" for result in results if has_nan(result)]
    if broken:
        return _invalid(*broken)
    figures = _guarded("diagnostics", lambda: diagnostics.describe(evidence))
    return _Findings(
        judgement=judge(claims, results, hard_rules, rules, reference_size=len(evidence.reference)),
        attacks=results,
        hard_rules=hard_rules,
        diagnostics={**figures, "auc_blind_baseline": blind.auc},
    )


def _too_small(sets: dict[str, PatientTable], synthetic: SyntheticTable) -> tuple[str, ...]:
    small = [name for name, table in sets.items() if table.patient_count < MIN_PATIENTS]
    small += ["synthetic"] * (len(synthetic) < MIN_PATIENTS)
    return tuple(f"{name}: too few rows for the statistics to exist" for name in small)


def _invalid(*reasons: str) -> _Findings:
    return _Findings(judgement=Judgement(verdict=Verdict.INVALID, reasons=reasons))


def _guarded(name: str, step: Callable[[], T]) -> T:
    """The step's result, or a reason that names the step and the kind of error, not its text."""
    try:
        return step()
    except Exception as error:
        raise _StepFailedError(f"{name}: did not finish ({type(error).__name__})") from error
