"""The site's part in a release: audit the candidate on its own patients, and state what it stands for.

Knows the site's patients, ledger and keys. What leaves is the signed statement: spend, ledger head,
verdict and the coarse part of the audit; the full report stays in the site's folder.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from synthkit.audit.run import run_audit
from synthkit.audit.sequences.run import run_sequence_audit
from synthkit.audit.sequences.white_box import Weights as RecordWeights
from synthkit.audit.white_box import Weights
from synthkit.data.sequences import SyntheticSequences
from synthkit.data.table import SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.canonical import JsonObject
from synthkit.domain.conditions import Condition
from synthkit.domain.release import Decision, SiteStatement
from synthkit.domain.study import Study
from synthkit.errors import ReleaseRefusedError
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.bundle import Candidate, approve
from synthkit.release.gate import CountedAudit, check_counted
from synthkit.release.signing import SigningKey, seal_document
from synthkit.training.artefact import Model
from synthkit.training.sequence_artefact import SequenceModel, synthesize_records
from synthkit.training.synthesis import synthesize
from synthkit_client.enrol import officer_name
from synthkit_client.guard import read_signed_policy
from synthkit_client.site_folder import SiteFolder


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """How a candidate was drawn: the federation's model, the seed, the conditions, and of records the length
    that was asked for.
    """

    model: Model | SequenceModel
    seed: int
    conditions: Sequence[Condition] = ()
    visits: int | None = None


@overload
def audit_candidate(
    folder: SiteFolder,
    study: Study,
    drawn: SyntheticTable,
    *,
    drawing: Drawing | None = None,
    model: Weights | None = None,
    earlier: Sequence[SyntheticTable] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport: ...


@overload
def audit_candidate(
    folder: SiteFolder,
    study: Study,
    drawn: SyntheticSequences,
    *,
    drawing: Drawing | None = None,
    model: RecordWeights | None = None,
    earlier: Sequence[SyntheticSequences] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport: ...


def audit_candidate(
    folder: SiteFolder,
    study: Study,
    drawn: SyntheticTable | SyntheticSequences,
    *,
    drawing: Drawing | None = None,
    model: Any = None,
    earlier: Sequence[Any] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Audit a table or records on this site's members, holdout and reference; the attempt is on record first.

    Args:
        folder: The site's.
        study: What was trained; its schema says whether the patients have records.
        drawn: The very candidate that is to leave.
        drawing: How it was drawn: the site draws it again before it looks at a patient.
        model: The federation's, whose weights every site and the coordinator hold: they are attacked beside
            the verdict. The drawing's, unless given.
        earlier: Released before from the same patients.
        seed: Of the audit.
        progress: Told the name of each step as it starts.

    Raises:
        ReleaseRefusedError: The candidate is not what the model draws; nothing was counted.
        PolicyError: The policy's attempts are used up.
        LedgerError: The ledger cannot be read or written.
    """
    if drawing is not None:
        check_drawing(drawn, study, drawing)
        model = drawing.model if model is None else model
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    candidate: Any = drawn  # each audit takes its own kind
    judge: Callable[..., AuditReport]
    if isinstance(drawn, SyntheticSequences):
        judge, sets = run_sequence_audit, vars(folder.read_record_split(study.schema))
    else:
        judge, sets = run_audit, vars(folder.read_split(study.schema))
    report = judge(
        **sets,
        synthetic=candidate,
        earlier=earlier,
        model=model,
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=ledger.audit_attempts(study.digest) + 1,
        seed=seed,
        progress=progress,
    )
    _record(folder, study, report, ledger)
    return report


def check_drawing(drawn: SyntheticTable | SyntheticSequences, study: Study, drawing: Drawing) -> None:
    """Refuse a candidate that the study's model does not draw, row by row, with this seed.

    Rows that were filtered, edited or picked after the drawing are an answer about patients that no budget
    paid for. That the model is what the sites' replies average to is the coordinator's word; whatever it is,
    it was made without a patient's row. Takes the PyTorch build that drew the candidate.

    Raises:
        ReleaseRefusedError: It is another study's model, or draws other rows.
    """
    model, where = drawing.model, f"study {study.name}"
    if (model.study_digest, model.schema.digest) != (study.digest, study.schema.digest):
        raise ReleaseRefusedError("the model is another study's", where=where, fix="send this study's own")
    if isinstance(model, SequenceModel) is not isinstance(drawn, SyntheticSequences):
        raise ReleaseRefusedError("the candidate is of another kind than the model", where=where)
    again: SyntheticTable | SyntheticSequences
    if isinstance(drawn, SyntheticSequences) and isinstance(model, SequenceModel):
        again = synthesize_records(
            model,
            max(drawn.patient_count, 1),
            seed=drawing.seed,
            conditions=drawing.conditions,
            visits=drawing.visits,
        ).records
    elif isinstance(drawn, SyntheticTable) and isinstance(model, Model):
        again = synthesize(model, max(len(drawn), 1), seed=drawing.seed, conditions=drawing.conditions).table
    if again.digest != drawn.digest:
        raise ReleaseRefusedError(
            "these are not the rows that the model draws with this seed and these conditions",
            where=where,
            fix="a filtered, edited or completed candidate cannot leave; the same PyTorch build is needed",
        )


def _record(folder: SiteFolder, study: Study, report: AuditReport, ledger: Ledger) -> None:
    """Verdict and report's digest into the ledger, then the whole report into the site's folder."""
    ledger.record_audit(
        study=study.digest,
        table_digest=report.table_digest,
        verdict=report.verdict,
        report_digest=report.digest,
    )
    folder.write_json(folder.study_folder(study.digest) / "audit.json", report.to_json())


def state(folder: SiteFolder, study: Study, report: AuditReport) -> JsonObject:
    """This site's signed statement on a table that it has audited.

    Raises:
        ReleaseRefusedError: The ledger did not count this very report, or more audits than the policy allows.
        PolicyError: The policy was changed after it was signed.
    """
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    counted = [
        CountedAudit.from_entry(entry.fields)
        for entry in read_entries(folder.ledger_path)
        if entry.kind == "audit" and entry.fields["study"] == study.digest
    ]
    check_counted(report, counted, policy.audit)
    counter, head = ledger.head
    statement = SiteStatement(
        site=folder.name,
        asset=policy.asset,
        table_digest=report.table_digest,
        spend=ledger.spend(study.digest, schema=study.schema.digest),
        encoder_provenance=study.plan.encoder_provenance,
        encoder_digest=study.plan.encoder_digest,
        ledger_head=head,
        ledger_counter=counter,
        policy_digest=policy.digest,
        verdict=report.verdict,
        audit=report.coarse(),
    )
    return seal_document(statement.to_json(), "statement", folder.key, folder.name)


def approve_candidate(
    folder: SiteFolder, candidate: Candidate, verdict: Verdict, officer: SigningKey, *, reason: str
) -> Candidate:
    """The officer's decision under her site's policy.

    Raises:
        ReleaseRefusedError: The policy does not let this table leave; the rule is named.
    """
    requested = Decision.DP_CLAIM if verdict is Verdict.INCONCLUSIVE else None
    return approve(
        candidate,
        statement_site=folder.name,
        officer=officer_name(folder.name),
        key=officer,
        rules=read_signed_policy(folder).release,
        requested=requested,
        reason=reason if requested else "",
        now=dt.datetime.now(dt.UTC),
    )
