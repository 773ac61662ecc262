"""A site signs a statement only about an audit that its ledger counted, with the verdict it counted."""

from dataclasses import replace

import pytest
from hospital import found
from small_ward import WARD, ward_table

from synthkit.audit.run import run_audit
from synthkit.data.table import SyntheticTable
from synthkit.domain.audit import Verdict
from synthkit.errors import ReleaseRefusedError
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


def test_a_counted_audit_is_stated(desk):
    site, study, _, report = desk
    document = state(site, study, report)["document"]
    assert (document["verdict"], document["table_digest"]) == (report.verdict.value, report.table_digest)


def test_an_audit_beside_the_ledger_is_not(desk):
    """Another look at another table, as good as the first, that the ledger never saw."""
    site, study, _, _ = desk
    split, policy = site.read_split(study.schema), read_signed_policy(site)
    unseen = run_audit(
        members=split.members,
        holdout=split.holdout,
        reference=split.reference,
        synthetic=SyntheticTable(schema=WARD, frame=ward_table(60, seed=2).frame),
        earlier=[],
        model=None,
        rules=policy.audit,
        policy_digest=policy.digest,
        attempt=1,
        seed=0,
    )
    with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
        state(site, study, unseen)


def test_another_verdict_or_attempt_than_was_counted_is_not(desk):
    site, study, _, report = desk
    for verdict in set(Verdict) - {report.verdict}:
        with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
            state(site, study, replace(report, verdict=verdict))
    with pytest.raises(ReleaseRefusedError, match="does not know this audit"):
        state(site, study, replace(report, attempt=2))
