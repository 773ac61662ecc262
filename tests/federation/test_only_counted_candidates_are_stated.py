"""A site signs a statement only about the very audit report that its ledger counted."""

import json
from dataclasses import replace

import pytest
from hospital import found
from small_ward import WARD, ward_table

from synthkit.audit.run import run_audit
from synthkit.data.table import SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.errors import ReleaseRefusedError
from synthkit.privacy.ledger import verify_ledger
from synthkit.privacy.ledger_verify import read_entries
from synthkit_client.guard import read_signed_policy, read_study
from synthkit_client.release_desk import audit_candidate, state
from synthkit_client.site_folder import SiteFolder


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = found(tmp_path_factory.mktemp("counted") / "north", patients=300).ready().path
    site = SiteFolder(folder)
    (digest,) = (path.name for path in (folder / "studies").iterdir())
    study = read_study(site, digest)
    table = SyntheticTable(schema=WARD, frame=ward_table(60, seed=1).frame)
    return site, study, table, audit_candidate(site, study, table)


def unrecorded(site, study, table, *, seed):
    """The same audit on the same patients, run beside the ledger as the first attempt."""
    split, policy = site.read_split(study.schema), read_signed_policy(site)
    return run_audit(
        members=split.members,
        holdout=split.holdout,
        reference=split.reference,
        synthetic=table,
        earlier=[],
        model=None,
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=1,
        seed=seed,
    )


def test_a_counted_audit_is_stated(desk):
    site, study, _, report = desk
    document = state(site, study, report)["document"]
    assert (document["verdict"], document["table_digest"]) == (report.verdict.value, report.table_digest)


def test_an_audit_beside_the_ledger_is_not(desk):
    """Another look at another table, as good as the first, that the ledger never saw."""
    site, study, _, _ = desk
    unseen = unrecorded(site, study, SyntheticTable(schema=WARD, frame=ward_table(60, seed=2).frame), seed=0)
    with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
        state(site, study, unseen)


def test_another_verdict_or_attempt_than_was_counted_is_not(desk):
    site, study, _, report = desk
    for verdict in set(Verdict) - {report.verdict}:
        with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
            state(site, study, replace(report, verdict=verdict))
    with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
        state(site, study, replace(report, attempt=2))


def test_the_report_in_the_sites_folder_is_the_one_the_ledger_binds(desk):
    site, study, _, report = desk
    saved = AuditReport.from_json(site.read_json(site.study_folder(study.digest) / "audit.json"))
    entry = read_entries(site.ledger_path)[-1]
    assert (entry.kind, entry.fields["report_digest"]) == ("audit", report.digest)
    assert saved.digest == report.digest
    assert verify_ledger(site.ledger_path).audits == 1
    assert state(site, study, saved)


def test_a_rerun_beside_the_ledger_does_not_stand_in_for_the_counted_report(desk):
    """Same table, verdict and attempt, other figures: another seed until a figure pleases."""
    site, study, table, report = desk
    rerun = unrecorded(site, study, table, seed=1)
    known = (rerun.table_digest, rerun.verdict, rerun.attempt)
    assert known == (report.table_digest, report.verdict, report.attempt)
    assert rerun.attacks != report.attacks
    with pytest.raises(ReleaseRefusedError, match="not the one that the ledger counted"):
        state(site, study, rerun)


def test_the_counted_audit_computed_once_more_figure_for_figure_is_the_counted_report(desk):
    """What a crash between the ledger's entry and the saved report leaves to do."""
    site, study, table, report = desk
    again = unrecorded(site, study, table, seed=0)
    assert again.digest == report.digest
    assert state(site, study, again)


def test_the_statement_tells_neither_the_reports_digest_nor_the_salt(desk):
    site, study, _, report = desk
    told = json.dumps(state(site, study, report))
    salt = read_entries(site.ledger_path)[-1].fields["salt"]
    assert site.open_ledger().head[1] in told
    assert report.digest not in told
    assert salt not in told
