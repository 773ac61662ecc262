"""A joint release: each site draws the candidate again before it looks at a patient, and a policy that
requires a vault gets one or nothing.
"""

import datetime as dt
from dataclasses import replace

import pytest
from hospital import found, policy_text
from small_ward import WARD

from synthkit.cli.joint_release import check_vault, make_release
from synthkit.cli.vaults import OpenedVault
from synthkit.data.table import SyntheticTable
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.privacy import EncoderProvenance
from synthkit.errors import BundleError, PolicyError, ReleaseRefusedError
from synthkit.release.contents import TABLE
from synthkit.release.signing import SigningKey, TrustedKey, TrustStore, generate_key
from synthkit.release.vault import VaultLabel, lock, read_vault, unlock, vault_key_of
from synthkit.training.artefact import Model, new_generator
from synthkit.training.synthesis import synthesize
from synthkit_client.guard import read_study
from synthkit_client.release_desk import Drawing, audit_candidate
from synthkit_client.site_folder import SiteFolder

SIZES = {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}
LOCKED = policy_text(required="true", readers='["officer", "auditor"]')


def desk_of(root, policy=None):
    folder = SiteFolder(found(root / "north", patients=300, policy=policy).ready().path)
    (digest,) = (path.name for path in (folder.path / "studies").iterdir())
    study = read_study(folder, digest)
    model = Model(
        schema=WARD,
        generator=new_generator("medvae-sgd", WARD, SIZES, seed=0),
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study=study.name,
        study_digest=study.digest,
        site="coordinator",
    )
    return folder, study, model, synthesize(model, 60, seed=7).table


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return desk_of(tmp_path_factory.mktemp("redrawn"))


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A site whose policy requires a vault, and which knows an auditor and an officer with vault keys."""
    folder, study, model, table = desk_of(tmp_path_factory.mktemp("locked"), LOCKED)
    keys = {"audrey": generate_key(), "ada": generate_key(), "bob": generate_key(), "mallory": generate_key()}
    roles = {"audrey": ("auditor", "north"), "ada": ("officer", ""), "bob": ("officer", "south")}
    people = [reader(name, role, site, keys[name]) for name, (role, site) in roles.items()]
    trusted = TrustStore(keys=(*folder.trust.keys, *people))
    folder.write_json(folder.path / "trust.json", trusted.to_json())
    return folder, study, model, table, keys


def reader(name: str, role: str, site: str, key: SigningKey) -> TrustedKey:
    public = key.public_key_hex
    return TrustedKey(name=name, role=role, site=site, public_key=public, vault_key=vault_key_of(key))


def vault_for(desk, readers, key, *, table=None, content=None) -> OpenedVault:
    folder, study, _, drawn, _ = desk
    label = VaultLabel(
        site="coordinator",
        asset=folder.policy.asset,
        study_digest=study.digest,
        model_digest="0" * 64,
        schema_digest=study.schema.digest,
        policy_digest=folder.policy.digest,
        table_digest=(table or drawn).digest,
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
    )
    locked = lock({TABLE: content or drawn.to_csv_bytes()}, label, readers)
    vault = read_vault(locked, where="a.vault")
    return OpenedVault(vault=vault, files=unlock(vault, key, where="a.vault"), locked=locked)


def people_of(desk, *names: str) -> list[TrustedKey]:
    return [key for key in desk[0].trust.keys if key.name in names]


def attempts(folder, study):
    return folder.open_ledger().audit_attempts(study.digest)


def test_the_models_own_rows_are_audited_and_its_weights_attacked(desk):
    folder, study, model, table = desk
    before = attempts(folder, study)
    report = audit_candidate(folder, study, table, drawing=Drawing(model=model, seed=7))
    assert report.table_digest == table.digest
    assert attempts(folder, study) == before + 1
    assert any(one.name.startswith("white-box") for one in report.attacks)
    where = parse_conditions(["sex = Female"], WARD)
    some = synthesize(model, 20, seed=3, conditions=where).table
    audit_candidate(folder, study, some, drawing=Drawing(model=model, seed=3, conditions=where))
    assert attempts(folder, study) == before + 2


def altered(table: SyntheticTable, kind: str) -> SyntheticTable:
    frame = table.frame.copy()
    if kind == "a row left out":
        frame = frame.drop(index=4)
    elif kind == "rows picked":
        frame = frame.iloc[::2]
    elif kind == "a cell edited":
        frame.loc[0, "age"] = 18.0 if frame.loc[0, "age"] != 18.0 else 19.0
    elif kind == "rows in another order":
        frame = frame.iloc[::-1]
    else:
        frame = frame.iloc[:0]
    return SyntheticTable(schema=WARD, frame=frame.reset_index(drop=True))


@pytest.mark.parametrize(
    "kind", ["a row left out", "rows picked", "a cell edited", "rows in another order", "no row"]
)
def test_any_other_rows_are_refused_before_a_patient_is_looked_at(desk, kind):
    folder, study, model, table = desk
    before = attempts(folder, study)
    with pytest.raises(ReleaseRefusedError, match="not the rows that the model draws"):
        audit_candidate(folder, study, altered(table, kind), drawing=Drawing(model=model, seed=7))
    assert attempts(folder, study) == before


def test_another_seed_condition_or_study_is_refused(desk):
    folder, study, model, table = desk
    where = parse_conditions(["sex = Female"], WARD)
    for drawing in (Drawing(model=model, seed=8), Drawing(model=model, seed=7, conditions=where)):
        with pytest.raises(ReleaseRefusedError, match="not the rows that the model draws"):
            audit_candidate(folder, study, table, drawing=drawing)
    other = replace(model, study_digest="f" * 64)
    with pytest.raises(ReleaseRefusedError, match="another study's"):
        audit_candidate(folder, study, table, drawing=Drawing(model=other, seed=7))


def test_a_plain_candidate_is_refused_by_name_where_one_site_requires_a_vault(strict, desk, tmp_path):
    folder, study, model, table, _ = strict
    path = tmp_path / "release.synthkit"
    folders = {"east": desk[0], "north": folder}
    given = {"model": model, "table": table, "audits": {}, "spends": {}, "reason": "", "path": path}
    with pytest.raises(PolicyError, match=r"joint release, site north: .*\[rule vault.required\]"):
        make_release(study, folders, **given)
    assert not path.exists()
    check_vault(study, {"east": desk[0]}, table=table, vault=None)


def test_a_vault_for_known_readers_of_the_sites_is_taken(strict, desk):
    folder, study, _, table, keys = strict
    vault = vault_for(strict, people_of(strict, "audrey", "ada"), keys["ada"])
    check_vault(study, {"north": folder, "east": desk[0]}, table=table, vault=vault)
    # Bob is the officer of another hospital: he may read where his hospital takes part, and nowhere else.
    vault = vault_for(strict, people_of(strict, "audrey", "bob"), keys["bob"])
    check_vault(study, {"north": folder, "south": desk[0]}, table=table, vault=vault)
    with pytest.raises(PolicyError, match=r"bob.*\[rule vault.readers\]"):
        check_vault(study, {"north": folder}, table=table, vault=vault)


def test_a_vault_that_a_stranger_opens_is_refused(strict):
    folder, study, _, table, keys = strict
    stranger = reader("mallory", "officer", "north", keys["mallory"])
    vault = vault_for(strict, [*people_of(strict, "audrey"), stranger], keys["mallory"])
    with pytest.raises(PolicyError, match=r"mallory.*\[rule vault.readers\]"):
        check_vault(study, {"north": folder}, table=table, vault=vault)


def test_a_vault_about_another_candidate_is_refused(strict):
    folder, study, model, _, keys = strict
    vault = vault_for(strict, people_of(strict, "ada"), keys["ada"])
    other = synthesize(model, 60, seed=8).table
    with pytest.raises(BundleError, match="another candidate"):
        check_vault(study, {"north": folder}, table=other, vault=vault)
