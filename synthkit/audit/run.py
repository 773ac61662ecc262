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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from synthkit.audit import (
    agreement,
    attribute,
    classifier,
    copies,
    diagnostics,
    identity,
    linkability,
    membership,
    presence,
    releases,
    singling_out,
    tracing,
    white_box,
)
from synthkit.audit.baseline import BlindBaseline, blind_baseline
from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, gather
from synthkit.audit.findings import (
    Findings,
    Judged,
    StepFailedError,
    attack_each,
    check_attempt,
    guarded,
    invalid,
    report_of,
)
from synthkit.audit.overlap import overlapping_sets
from synthkit.audit.verdict import has_nan, judge, measure
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.errors import SchemaError

MIN_PATIENTS = 20
"""Smallest members, holdout and reference; smallest number of synthetic rows."""

Attack = Callable[[Evidence], tuple[Claims, ...]]
ATTACKS: dict[str, Attack] = {
    membership.NAME: membership.density_ratio,
    presence.NEAR: presence.near_match,
    presence.EXACT: presence.exact_match,
    presence.PARTIAL: presence.partial_match,
    agreement.NAME: agreement.share,
    tracing.NAME: tracing.trace,
    classifier.NAME: classifier.classify,
    singling_out.NAME: singling_out.single_out,
    linkability.NAME: linkability.link,
    attribute.NAME: attribute.infer,
    identity.NAME: identity.disclose,
    releases.NAME: releases.combine,
}
"""The pre-registered battery; every table meets all of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Matter:
    """What is judged, and by which rules."""

    sets: dict[str, PatientTable]
    synthetic: SyntheticTable
    earlier: tuple[SyntheticTable, ...]
    model: white_box.Weights | None
    rules: AuditRules
    seed: int


def run_audit(
    *,
    members: PatientTable,
    holdout: PatientTable,
    reference: PatientTable,
    synthetic: SyntheticTable,
    earlier: Sequence[SyntheticTable] = (),
    model: white_box.Weights | None = None,
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
        earlier: Tables released before from the same patients: what can be learnt from all of them together.
        model: The generator whose weights a second attacker holds. Its figures do not move the verdict.
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
    matter = _Matter(
        sets=sets, synthetic=synthetic, earlier=tuple(earlier), model=model, rules=rules, seed=seed
    )
    _check_request(matter, attempt)
    try:
        findings = _examine(matter, progress or (lambda _: None))
    except StepFailedError as error:
        findings = invalid(str(error))
    judged = Judged(
        table_digest=synthetic.digest,
        schema_digest=synthetic.schema.digest,
        earlier=tuple(release.digest for release in earlier),
        sizes={name: part.patient_count for name, part in sets.items()} | {"synthetic": len(synthetic)},
    )
    return report_of(findings, judged, rules, policy_digest=policy_digest, attempt=attempt, seed=seed)


def _check_request(matter: _Matter, attempt: int) -> None:
    """Step 1: what is refused instead of judged."""
    check_attempt(attempt, matter.rules)
    columns = matter.synthetic.schema.columns
    schemas = [table.schema for table in matter.sets.values()] + [table.schema for table in matter.earlier]
    if any(schema.columns != columns for schema in schemas):
        raise SchemaError("the audit's tables do not share their columns", fix="read all with one schema")
    if matter.model is not None and matter.model.schema.columns != columns:
        raise SchemaError("the model was trained with other columns", fix="leave the model out")


def _examine(matter: _Matter, progress: Callable[[str], None]) -> Findings:
    """Steps 2 to 7."""
    sets, seed = matter.sets, matter.seed
    reasons = _too_small(matter)
    if reasons:
        return invalid(*reasons)
    progress("are the sets disjoint")
    reasons = guarded("disjoint sets", lambda: overlapping_sets(sets, seed=seed))
    if reasons:
        return invalid(*reasons)
    progress("blind baseline")
    blind = guarded("blind baseline", lambda: blind_baseline(sets["members"], sets["holdout"], seed=seed))
    if not blind.is_at_chance:
        return invalid(
            "members and holdout can be told apart without the synthetic table: not a random split"
        )
    progress("distances")
    evidence = guarded(
        "distances",
        lambda: gather(**sets, synthetic=matter.synthetic, earlier=matter.earlier, seed=seed),
    )
    return _attack(matter, evidence, blind, progress)


def _attack(
    matter: _Matter, evidence: Evidence, blind: BlindBaseline, progress: Callable[[str], None]
) -> Findings:
    """Steps 6 and 7."""
    rules = matter.rules
    attacks: dict[str, Callable[[], tuple[Claims, ...]]] = {
        name: partial(attack, evidence) for name, attack in ATTACKS.items()
    }
    if matter.model is not None:
        attacks[white_box.NAME] = partial(white_box.explain, matter.model, matter.sets, evidence)
    claims, failures = attack_each(attacks, progress)
    if failures:
        return invalid(*failures)
    progress("verdict")
    aside = claims.pop(white_box.NAME, ())
    family = [claim for group in claims.values() for claim in group]
    level = rules.alpha / rules.max_attempts
    hard_rules = guarded("copied patients", lambda: copies.copied_rare_patients(evidence, level=level))
    hard_rules += guarded("identity rule", lambda: identity.above_limit(evidence, level=level))
    results = guarded("statistics", lambda: measure(family, rules))
    shown = guarded("statistics", lambda: tuple(replace(r, decides=False) for r in measure(aside, rules)))
    broken = [f"{result.name}: did not yield a number" for result in (*results, *shown) if has_nan(result)]
    if broken:
        return invalid(*broken)
    figures = guarded("diagnostics", lambda: diagnostics.describe(evidence))
    return Findings(
        judgement=judge(family, results, hard_rules, rules, reference_size=len(evidence.reference)),
        attacks=(*results, *shown),
        hard_rules=hard_rules,
        diagnostics={**figures, "auc_blind_baseline": blind.auc},
    )


def _too_small(matter: _Matter) -> tuple[str, ...]:
    small = [name for name, table in matter.sets.items() if table.patient_count < MIN_PATIENTS]
    small += ["synthetic"] * (len(matter.synthetic) < MIN_PATIENTS)
    small += ["an earlier release"] * any(len(table) < MIN_PATIENTS for table in matter.earlier)
    return tuple(f"{name}: too few rows for the statistics to exist" for name in small)
