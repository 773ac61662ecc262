"""The audit of one synthetic table, from four tables to one report.

Knows what is attacked, by what, and what is refused before: an attempt beyond the policy's number, and
tables of different schemas. The order of the steps is `steps`, the decision `verdict`. Rule: a report is for
the site's own eyes; `AuditReport.coarse` is what may leave.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    shadow,
    singling_out,
    tracing,
    white_box,
)
from synthkit.audit.baseline import blind_baseline
from synthkit.audit.evidence import Evidence, gather
from synthkit.audit.findings import Judged, check_attempt, report_of
from synthkit.audit.overlap import overlapping_sets
from synthkit.audit.steps import Attack, Case, examine
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.errors import SchemaError

ATTACKS: dict[str, Attack[Evidence]] = {
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
    shadows: shadow.Shadowing | None
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
    shadows: shadow.Shadowing | None = None,
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
        shadows: A way to train the generator again, for the slow attack by shadow trainings; it decides
            like any other.
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
        sets=sets,
        synthetic=synthetic,
        earlier=tuple(earlier),
        model=model,
        shadows=shadows,
        rules=rules,
        seed=seed,
    )
    _check_request(matter, attempt)
    told = progress or (lambda _: None)
    findings = examine(_case(matter, told), rules, told)
    judged = Judged(
        table_digest=synthetic.digest,
        schema_digest=synthetic.schema.digest,
        earlier=tuple(release.digest for release in earlier),
        sizes={name: part.patient_count for name, part in sets.items()} | {"synthetic": len(synthetic)},
    )
    return report_of(findings, judged, rules, policy_digest=policy_digest, attempt=attempt, seed=seed)


def _check_request(matter: _Matter, attempt: int) -> None:
    """What is refused instead of judged."""
    check_attempt(attempt, matter.rules)
    columns = matter.synthetic.schema.columns
    schemas = [table.schema for table in matter.sets.values()] + [table.schema for table in matter.earlier]
    if any(schema.columns != columns for schema in schemas):
        raise SchemaError("the audit's tables do not share their columns", fix="read all with one schema")
    if matter.model is not None and matter.model.schema.columns != columns:
        raise SchemaError("the model was trained with other columns", fix="leave the model out")


def _case(matter: _Matter, progress: Callable[[str], None]) -> Case[Evidence]:
    """The tables' part in the steps, and the shadows' where they are asked for."""
    sets, seed, model = matter.sets, matter.seed, matter.model
    attacks = dict(ATTACKS)
    if model is not None:
        attacks[white_box.NAME] = lambda evidence: white_box.explain(model, sets, evidence)
    case = Case(
        data="table",
        sizes={
            **{name: table.patient_count for name, table in sets.items()},
            "synthetic": len(matter.synthetic),
            **({"an earlier release": min(map(len, matter.earlier))} if matter.earlier else {}),
        },
        reference_size=sets["reference"].patient_count,
        overlapping=lambda: overlapping_sets(sets, seed=seed),
        blind=lambda: blind_baseline(sets["members"], sets["holdout"], seed=seed),
        gather=lambda: gather(**sets, synthetic=matter.synthetic, earlier=matter.earlier, seed=seed),
        attacks=attacks,
        aside=frozenset({white_box.NAME}),
        hard_rules={"copied patients": _copied, "identity rule": _identified},
        diagnostics=diagnostics.describe,
    )
    if matter.shadows is None:
        return case
    trained = shadow.ShadowAttack(matter.shadows, sets, matter.synthetic, progress)
    return replace(
        case,
        attacks={**attacks, shadow.NAME: trained.claims, shadow.CANARIES: trained.beside},
        aside=case.aside | {shadow.CANARIES},
        hard_rules={**case.hard_rules, "shadow trainings": trained.hard_rule},
        diagnostics=lambda evidence: diagnostics.describe(evidence) | trained.figures(evidence),
    )


def _copied(evidence: Evidence, level: float) -> tuple[str, ...]:
    return copies.copied_rare_patients(evidence, level=level)


def _identified(evidence: Evidence, level: float) -> tuple[str, ...]:
    return identity.above_limit(evidence, level=level)
