"""The audit of synthetic records of visits, from four sets to one report.

Knows what is attacked, by what, and what is refused before: an attempt beyond the policy's number, and sets
of different schemas. The order of the steps is the table audit's (`audit.steps`), as are the rules of the
verdict, Holm's correction and the precedence of hard rules. Static columns are attacked as the table they
are, visits and codes as records.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synthkit.audit.findings import Judged, check_attempt, report_of
from synthkit.audit.sequences import (
    copies,
    membership,
    near,
    partial,
    presence,
    published,
    rare,
    statics,
    white_box,
)
from synthkit.audit.sequences.evidence import SequenceEvidence, gather
from synthkit.audit.sequences.split import blind_to_records, overlapping_records
from synthkit.audit.steps import Attack, Case, examine
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.errors import SchemaError

SEQUENCE_ATTACKS: dict[str, Attack[SequenceEvidence]] = {
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
    model: white_box.Weights | None
    rules: AuditRules
    seed: int


def run_sequence_audit(
    *,
    members: PatientSequences,
    holdout: PatientSequences,
    reference: PatientSequences,
    synthetic: SyntheticSequences,
    earlier: Sequence[SyntheticSequences] = (),
    model: white_box.Weights | None = None,
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
        model: The generator whose weights a second attacker holds. Its figures do not move the verdict.
        rules: The policy's limits, frozen before this call.
        policy_digest: Digest of the policy the rules come from; bound into the report.
        attempt: Which candidate of this asset and study this is, from 1.
        seed: Breaks ties, and draws what the partial attackers know.
        progress: Told the name of each step as it starts.

    Raises:
        PolicyError: More attempts than the policy allows (rule `audit.max_attempts`).
        SchemaError: Sets or model do not share their columns, or some sets have times and others none.
    """
    sets = {"members": members, "holdout": holdout, "reference": reference}
    matter = _Matter(
        sets=sets, synthetic=synthetic, earlier=tuple(earlier), model=model, rules=rules, seed=seed
    )
    _check_request(matter, attempt)
    findings = examine(_case(matter), rules, progress or (lambda _: None))
    judged = Judged(
        table_digest=synthetic.digest,
        schema_digest=synthetic.schema.digest,
        earlier=tuple(release.digest for release in earlier),
        sizes={name: part.patient_count for name, part in {**sets, "synthetic": synthetic}.items()},
    )
    return report_of(findings, judged, rules, policy_digest=policy_digest, attempt=attempt, seed=seed)


def _check_request(matter: _Matter, attempt: int) -> None:
    """What is refused instead of judged."""
    check_attempt(attempt, matter.rules)
    made: list[Sequences] = [*matter.sets.values(), *matter.earlier]
    if any(part.schema.columns != matter.synthetic.schema.columns for part in made):
        raise SchemaError("the audit's records do not share their columns", fix="read all with one schema")
    if any((part.gaps is None) != (matter.synthetic.gaps is None) for part in made):
        raise SchemaError("some records have times and others have none", fix="read all with one schema")
    if matter.model is not None and matter.model.schema.columns != matter.synthetic.schema.columns:
        raise SchemaError("the model was trained with other columns", fix="leave the model out")


def _case(matter: _Matter) -> Case[SequenceEvidence]:
    """The records' part in the steps."""
    sets, seed, model, made = matter.sets, matter.seed, matter.model, matter.synthetic
    attacks = dict(SEQUENCE_ATTACKS)
    attacks[statics.NAME] = lambda _: statics.match_statics(**sets, synthetic=made)
    if model is not None:
        attacks[white_box.NAME] = lambda evidence: white_box.explain(model, sets, evidence)
    sizes = {name: part.patient_count for name, part in {**sets, "synthetic": made}.items()}
    if matter.earlier:
        sizes["an earlier release"] = min(part.patient_count for part in matter.earlier)
    return Case(
        data="records",
        sizes=sizes,
        reference_size=sets["reference"].patient_count,
        overlapping=lambda: overlapping_records(sets, seed=seed),
        blind=lambda: blind_to_records(sets["members"], sets["holdout"], seed=seed),
        gather=lambda: gather(**sets, synthetic=made, earlier=matter.earlier, seed=seed),
        attacks=attacks,
        aside=frozenset({white_box.NAME}),
        hard_rules={"copied records": _copied},
        diagnostics=published.presence_figures,
    )


def _copied(evidence: SequenceEvidence, level: float) -> tuple[str, ...]:
    return copies.copied_rare_records(evidence, level=level)
