"""The audit of synthetic records of visits, from four sets to one report.

Knows the order of the steps; refuses to decide by itself (see `verdict`, whose rules, Holm's correction and
hard-rule precedence are the table audit's own). Recipe:

1. refuse an attempt beyond the policy's number, and sets of different schemas;
2. sizes: each set large enough for the statistics to exist;
3. disjoint: members, holdout and reference share no patients beyond chance;
4. blind baseline: members and holdout cannot be told apart without the synthetic records;
5. evidence: keys and distances of each real patient's record;
6. attacks, each on its own: one that raises or yields no number makes the audit INVALID;
7. the hard rule, the rates, the verdict.

Rules: a crash is never a PASS; reasons carry neither a patient's value nor an exception's text. Static
columns are attacked as the table they are, visits and codes as records.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synthkit.audit.baseline import BlindBaseline
from synthkit.audit.claims import Claims
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
from synthkit.audit.sequences import copies, membership, near, partial, presence, published, rare, statics
from synthkit.audit.sequences.evidence import SequenceEvidence, gather
from synthkit.audit.sequences.split import blind_to_records, overlapping_records
from synthkit.audit.verdict import has_nan, judge, measure
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.errors import SchemaError

MIN_PATIENTS = 20
"""Smallest members, holdout and reference; smallest number of synthetic patients."""

SEQUENCE_ATTACKS: dict[str, Callable[[SequenceEvidence], tuple[Claims, ...]]] = {
    presence.NAME: presence.exact_match,
    near.NAME: near.near_match,
    partial.NAME: partial.partial_knowledge,
    rare.NAME: rare.rare_codes,
    membership.NAME: membership.density_ratio,
    membership.TOGETHER: membership.releases_together,
}
"""The pre-registered battery on visits and codes; static columns have theirs in `statics`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Matter:
    """What is judged, and by which rules."""

    sets: dict[str, PatientSequences]
    synthetic: SyntheticSequences
    earlier: tuple[SyntheticSequences, ...]
    rules: AuditRules
    seed: int


def run_sequence_audit(
    *,
    members: PatientSequences,
    holdout: PatientSequences,
    reference: PatientSequences,
    synthetic: SyntheticSequences,
    earlier: Sequence[SyntheticSequences] = (),
    rules: AuditRules,
    policy_digest: str,
    attempt: int = 1,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Attack synthetic records and judge them.

    Args:
        members: The patients the generator was trained on.
        holdout: Patients of the same population it never saw.
        reference: Further such patients; thresholds, weights and strata come from them alone.
        synthetic: The very records that are to leave.
        earlier: Records released before from the same patients.
        rules: The policy's limits, frozen before this call.
        policy_digest: Digest of the policy the rules come from; bound into the report.
        attempt: Which candidate of this asset and study this is, from 1.
        seed: Breaks ties, and draws what the partial attackers know.
        progress: Told the name of each step as it starts.

    Raises:
        PolicyError: More attempts than the policy allows (rule `audit.max_attempts`).
        SchemaError: The sets do not share their columns, or some have times and others have none.
    """
    sets = {"members": members, "holdout": holdout, "reference": reference}
    matter = _Matter(sets=sets, synthetic=synthetic, earlier=tuple(earlier), rules=rules, seed=seed)
    _check_request(matter, attempt)
    try:
        findings = _examine(matter, progress or (lambda _: None))
    except StepFailedError as error:
        findings = invalid(str(error))
    judged = Judged(
        table_digest=synthetic.digest,
        schema_digest=synthetic.schema.digest,
        earlier=tuple(release.digest for release in earlier),
        sizes={name: part.patient_count for name, part in {**sets, "synthetic": synthetic}.items()},
    )
    return report_of(findings, judged, rules, policy_digest=policy_digest, attempt=attempt, seed=seed)


def _check_request(matter: _Matter, attempt: int) -> None:
    """Step 1: what is refused instead of judged."""
    check_attempt(attempt, matter.rules)
    made: list[Sequences] = [*matter.sets.values(), *matter.earlier]
    if any(part.schema.columns != matter.synthetic.schema.columns for part in made):
        raise SchemaError("the audit's records do not share their columns", fix="read all with one schema")
    if any((part.gaps is None) != (matter.synthetic.gaps is None) for part in made):
        raise SchemaError("some records have times and others have none", fix="read all with one schema")


def _examine(matter: _Matter, progress: Callable[[str], None]) -> Findings:
    """Steps 2 to 5."""
    sets, seed = matter.sets, matter.seed
    reasons = _too_small(matter)
    if reasons:
        return invalid(*reasons)
    progress("are the sets disjoint")
    reasons = guarded("disjoint sets", lambda: overlapping_records(sets, seed=seed))
    if reasons:
        return invalid(*reasons)
    progress("blind baseline")
    blind = guarded("blind baseline", lambda: blind_to_records(sets["members"], sets["holdout"], seed=seed))
    if not blind.is_at_chance:
        return invalid(
            "members and holdout can be told apart without the synthetic records: not a random split"
        )
    progress("distances")
    evidence = guarded(
        "distances",
        lambda: gather(**sets, synthetic=matter.synthetic, earlier=matter.earlier, seed=seed),
    )
    return _attack(matter, evidence, blind, progress)


def _attack(
    matter: _Matter, evidence: SequenceEvidence, blind: BlindBaseline, progress: Callable[[str], None]
) -> Findings:
    """Steps 6 and 7."""
    rules = matter.rules
    level = rules.alpha / rules.max_attempts
    family, failures = _claims(matter, evidence, progress)
    if failures:
        return invalid(*failures)
    progress("verdict")
    hard_rules = guarded("copied records", lambda: copies.copied_rare_records(evidence, level=level))
    results = guarded("statistics", lambda: measure(family, rules))
    broken = [f"{result.name}: did not yield a number" for result in results if has_nan(result)]
    if broken:
        return invalid(*broken)
    figures = guarded("diagnostics", lambda: published.eva_axes(evidence))
    return Findings(
        judgement=judge(family, results, hard_rules, rules, reference_size=len(evidence.reference)),
        attacks=results,
        hard_rules=hard_rules,
        diagnostics={**figures, "auc_blind_baseline": blind.auc},
    )


def _claims(
    matter: _Matter, evidence: SequenceEvidence, progress: Callable[[str], None]
) -> tuple[list[Claims], tuple[str, ...]]:
    """All attacks' claims, and in words which attacks did not finish."""
    attacks: dict[str, Callable[[], tuple[Claims, ...]]] = {
        name: lambda attack=attack: attack(evidence)  # type: ignore[misc]
        for name, attack in SEQUENCE_ATTACKS.items()
    }
    attacks[statics.NAME] = lambda: statics.match_statics(**matter.sets, synthetic=matter.synthetic)
    claims, failures = attack_each(attacks, progress)
    return [claim for group in claims.values() for claim in group], failures


def _too_small(matter: _Matter) -> tuple[str, ...]:
    small = [name for name, part in matter.sets.items() if part.patient_count < MIN_PATIENTS]
    small += ["synthetic"] * (matter.synthetic.patient_count < MIN_PATIENTS)
    small += ["an earlier release"] * any(part.patient_count < MIN_PATIENTS for part in matter.earlier)
    return tuple(f"{name}: too few patients for the statistics to exist" for name in small)
