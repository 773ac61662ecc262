"""A site that audits a candidate attacks what every site holds, too: the weights, and earlier tables."""

import pytest
from hospital import found
from small_ward import WARD, ward_table

from synthkit.data.table import SyntheticTable
from synthkit.domain.privacy import EncoderProvenance
from synthkit.training.artefact import Model, new_generator
from synthkit_client.guard import read_study
from synthkit_client.release_desk import audit_candidate, state
from synthkit_client.site_folder import SiteFolder

WHITE_BOX = "white-box membership by likelihood"


def table(seed):
    return SyntheticTable(schema=WARD, frame=ward_table(80, seed=seed).frame)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = found(tmp_path_factory.mktemp("desk") / "north", patients=400).ready().path
    site = SiteFolder(folder)
    (digest,) = (path.name for path in (folder / "studies").iterdir())
    study = read_study(site, digest)
    sizes = {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}
    model = Model(
        schema=WARD,
        generator=new_generator("medvae-sgd", WARD, sizes, seed=0),
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study=study.name,
        study_digest=study.digest,
        site="north",
    )
    bare = audit_candidate(site, study, table(1))
    full = audit_candidate(site, study, table(1), model=model, earlier=[table(2)])
    return site, study, bare, full


def test_weights_and_earlier_tables_are_attacked_when_they_are_given(audited):
    _, _, bare, full = audited
    names = {
        report.attempt: {one.name.partition(",")[0] for one in report.attacks} for report in (bare, full)
    }
    assert names[1]
    assert names[2] - names[1] == {WHITE_BOX, "several releases together"}
    assert full.earlier == (table(2).digest,)


def test_the_weights_move_no_verdict_and_leave_no_trace(audited):
    site, study, _, full = audited
    shown = [one.decides for one in full.attacks if one.name.startswith(WHITE_BOX)]
    assert shown
    assert not any(shown)
    told = state(site, study, full)["document"]["audit"]
    assert told == full.coarse()
    assert not any(one["name"].startswith(WHITE_BOX) for one in told["attacks"])
