"""The site's part in a release: audit the candidate on its own patients, and state what it stands for.

Knows the site's patients, ledger and keys. What leaves is the signed statement: spend, ledger head,
verdict and the coarse part of the audit; the full report stays in the site's folder.
"""

import datetime as dt
from collections.abc import Callable, Sequence

from synthkit.audit.run import run_audit
from synthkit.audit.sequences.run import run_sequence_audit
from synthkit.audit.white_box import Weights
from synthkit.data.sequences import SyntheticSequences
from synthkit.data.table import SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.canonical import JsonObject
from synthkit.domain.release import Decision, SiteStatement
from synthkit.domain.study import Study
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit.release.bundle import Candidate, approve
from synthkit.release.gate import CountedAudit, check_counted
from synthkit.release.signing import SigningKey, seal_document
from synthkit_client.enrol import officer_name
from synthkit_client.guard import read_signed_policy
from synthkit_client.site_folder import SiteFolder


def audit_candidate(
    folder: SiteFolder,
    study: Study,
    table: SyntheticTable,
    *,
    model: Weights | None = None,
    earlier: Sequence[SyntheticTable] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Audit a table on this site's members, holdout and reference; the attempt is on record first.

    `model` is the federation's, whose weights every site and the coordinator hold: they are attacked beside
    the verdict. `earlier` are tables released before from the same patients.

    Raises:
        PolicyError: The policy's attempts are used up.
        LedgerError: The ledger cannot be read or written.
    """
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    split = folder.read_split(study.schema)
    report = run_audit(
        members=split.members,
        holdout=split.holdout,
        reference=split.reference,
        synthetic=table,
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


def audit_record_candidate(
    folder: SiteFolder,
    study: Study,
    records: SyntheticSequences,
    *,
    earlier: Sequence[SyntheticSequences] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> AuditReport:
    """Audit records of visits on this site's members, holdout and reference; the attempt is on record first.

    Raises:
        PolicyError: The policy's attempts are used up.
        LedgerError: The ledger cannot be read or written.
    """
    policy, ledger = read_signed_policy(folder), folder.open_ledger()
    split = folder.read_record_split(study.schema)
    report = run_sequence_audit(
        members=split.members,
        holdout=split.holdout,
        reference=split.reference,
        synthetic=records,
        earlier=earlier,
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=ledger.audit_attempts(study.digest) + 1,
        seed=seed,
        progress=progress,
    )
    _record(folder, study, report, ledger)
    return report


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
