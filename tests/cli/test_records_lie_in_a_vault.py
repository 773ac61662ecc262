"""Records of visits under a policy that requires the vault: neither file is plain before it is exported."""

import datetime as dt
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_clinic import ASSET, EVENT, SITE, STUDY, STUDY_DIGEST, make_ledger, policy_text

from synthkit.cli.main import run
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import policy_from_toml, schema_to_toml
from synthkit.domain.record_files import PATIENTS, RECORDS
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.ledger import Ledger
from synthkit.release.contents import TABLE
from synthkit.release.trust import TrustStore
from synthkit.release.vault import VaultLabel, lock
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator, save_sequence_model

SMALL = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 4, "most_codes": 10, "dated": 1}
SETS = ("members", "holdout", "reference")
UNDER = ("--policy", "house.toml", "--trust", "keys")
COUNTED = ("--ledger", "ward.ledger", "--model", "model")
OWNERS = {"north": "site", "ada": "officer", "audrey": "auditor"}
RULES = {
    "max_advantage": "0.6",
    "floor": "0.05",
    "required": "true",
    "signed": "true",
    "readers": '["officer", "auditor"]',
}
WOMEN = ("--where", "sex = Female")
RARE = ("--where", "age >= 95 and sex = Female")


def keygen(name, role, folder="keys"):
    bound = () if role == "site" else ("--site", SITE)
    assert run(["release", "keygen", "--name", name, "--role", role, *bound, "-o", folder]) == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A model of records that has learnt nothing, keys, a signed policy, and an audited vault."""
    folder = tmp_path_factory.mktemp("ward")
    process = standard_process(visits_mean=2, most_visits=4)
    everyone = simulate(process, 360, seed=2)
    model = SequenceModel(
        schema=process.schema,
        generator=new_sequence_generator("eva", process.schema, SMALL, seed=0),
        spend=spend_of([EVENT], 1e-5),
        study=STUDY,
        study_digest=STUDY_DIGEST,
        site=SITE,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for place, name in enumerate(SETS):
            part = everyone.take(np.arange(120 * place, 120 * (place + 1)))
            write_sequences(part, f"{name}.csv", patients=f"{name}-patients.csv")
        Path("schema.toml").write_text(schema_to_toml(process.schema), "utf-8")
        save_sequence_model(model, Path("model"))
        make_ledger(Path("ward.ledger"))
        for name, role in OWNERS.items():
            keygen(name, role)
        keygen("mallory", "officer", "strangers")
        Path("house.toml").write_text(policy_text(**RULES), "utf-8")
        assert run(["policy", "sign", "house.toml", "--name", "ada", "--key", "keys/ada.pem"]) == 0
        assert run(words(generate())) == 0
        assert run(words(audit(save="audit.json"))) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def words(given):
    return [str(word) for word in given]


def generate(output="c.vault", *more, under=UNDER):
    return ("generate", "model", "-n", 100, "--seed", 5, "-o", output, *under, *more)


def audit(*more, vault="c.vault", key="keys/audrey.pem", counted=COUNTED, save="again.json"):
    sets = [(f"--{name}", f"{name}.csv", f"--{name}-patients", f"{name}-patients.csv") for name in SETS]
    given = ("--schema", "schema.toml", "--synthetic", vault, "--vault-key", key, "--save", save)
    return ("audit", *(word for one in sets for word in one), *given, *UNDER, *counted, *more)


def seal(*more, vault="c.vault", key="keys/ada.pem"):
    papers = ("--table", vault, "--schema", "schema.toml", "--model", "model", "--audit", "audit.json")
    site = ("--site", SITE, "--ledger", "ward.ledger", "--key", "keys/north.pem", "-o", "candidate")
    return ("release", "seal", *papers, *site, "--vault-key", key, "--seed", 5, *UNDER, *more)


def evaluate(key="keys/ada.pem", *more):
    real = ("--real", "holdout.csv", "--patients", "holdout-patients.csv", "--schema", "schema.toml")
    return ("evaluate", *real, "--synthetic", "c.vault", "--vault-key", key, "--quick", *more)


def done(answer):
    assert answer.code == 0, answer.err
    return answer


def refused(answer, code, text):
    assert (answer.code, text in answer.error) == (code, True), answer.err


def attempts():
    return Ledger.open("ward.ledger").audit_attempts(STUDY_DIGEST)


def plain_files(folder, rows):
    """Files in which one of these rows stands in plain text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(row in path.read_bytes() for row in rows)}


def test_records_go_all_the_way_and_are_nowhere_plain_before_they_are_exported(ward, synthkit):
    """What comes out has the bytes of the same records, drawn plain under no policy."""
    done(synthkit(*seal()))
    done(
        synthkit(
            "release",
            "approve",
            "candidate",
            "--site",
            SITE,
            "--officer",
            "ada",
            *UNDER[:2],
            "--trust",
            "keys",
            "--key",
            "keys/ada.pem",
        )
    )
    parts = {path.name for path in (ward / "candidate" / "parts").iterdir()}
    assert "drawn.vault" in parts
    assert not parts & {RECORDS, PATIENTS, TABLE}
    before = tuple(ward.rglob("*"))
    done(synthkit("release", "export", "candidate", "-o", "ward.synthkit", "--vault-key", "keys/ada.pem"))
    assert set(ward.rglob("*")) - set(before) == {ward / "ward.synthkit"}
    verified = done(synthkit("release", "verify", "ward.synthkit", "--trust", "keys", "--json"))
    assert verified.document["verified"] is True
    opened = ("release", "open", "ward.synthkit", "--trust", "keys", "-o", "out.csv")
    done(synthkit(*opened, "--patients", "people.csv"))
    visits, people = (ward / "out.csv").read_bytes(), (ward / "people.csv").read_bytes()
    for rows, name in ((visits, "out.csv"), (people, "people.csv")):
        longest = sorted(rows.splitlines()[1:], key=len)[-5:]
        assert plain_files(ward, longest) == {"ward.synthkit", name}
    done(synthkit(*generate("drawn.csv", "--patients", "drawn-p.csv", under=())))
    assert (visits, people) == (Path("drawn.csv").read_bytes(), Path("drawn-p.csv").read_bytes())


def test_plain_records_are_neither_generated_nor_sealed_where_the_vault_is_required(ward, synthkit):
    for more in ((), ("--patients", "plain-p.csv")):
        refused(synthkit(*generate("plain.csv", *more)), 1, "[rule vault.required]")
        assert not list(ward.glob("plain*"))
    done(synthkit(*generate("plain.csv", "--patients", "plain-p.csv", under=())))
    refused(synthkit(*seal("--patients", "plain-p.csv", vault="plain.csv")), 1, "[rule vault.required]")
    assert not Path("candidate").exists()


def test_static_columns_lie_in_the_vault_and_nowhere_beside_it(ward, synthkit):
    people = "holdout-patients.csv"
    inside = "the static columns lie in the vault"
    refused(synthkit(*generate("d.vault", "--patients", "d-p.csv")), 4, inside)
    refused(synthkit(*audit("--synthetic-patients", people)), 4, inside)
    refused(synthkit(*seal("--patients", people)), 4, inside)
    refused(synthkit(*evaluate("keys/ada.pem", "--synthetic-patients", people)), 4, inside)
    assert not Path("d.vault").exists()
    assert attempts() == 1


def test_a_wrong_key_opens_no_vault_of_records(ward, synthkit):
    stranger = "strangers/mallory.pem"
    refused(synthkit(*audit(key=stranger)), 6, "this key does not open it")
    assert not Path("again.json").exists()
    refused(synthkit(*seal(key=stranger)), 6, "this key does not open it")
    refused(synthkit(*evaluate(stranger)), 6, "this key does not open it")
    assert not Path("candidate").exists()
    refused(synthkit(*audit(counted=())), 1, "[rule audit.max_attempts]")
    assert attempts() == 1


def test_evaluate_reads_records_out_of_a_vault_in_memory(ward, synthkit):
    before = sorted(ward.rglob("*"))
    told = done(synthkit(*evaluate("keys/ada.pem", "--json"))).document
    assert sorted(ward.rglob("*")) == before
    done(synthkit(*generate("drawn.csv", "--patients", "drawn-p.csv", under=())))
    real = ("--real", "holdout.csv", "--patients", "holdout-patients.csv", "--schema", "schema.toml")
    made = ("--synthetic", "drawn.csv", "--synthetic-patients", "drawn-p.csv")
    assert done(synthkit("evaluate", *real, *made, "--quick", "--json")).document == told


FORGED = {
    "a table": ({TABLE: b"age,sex\n71,Female\n"}, "holds no records of visits"),
    "one file of two": ({PATIENTS: b"patient,age\n1,71\n"}, "holds no records of visits"),
    "a file too many": ({RECORDS: b"a\n1\n", PATIENTS: b"a\n1\n", TABLE: b"a\n1\n"}, "holds no records"),
    "other records than labelled": ({RECORDS: b"a\n1\n", PATIENTS: b"a\n2\n"}, "than its label says"),
}


def write_forged(files, digest, schema_digest):
    """A vault whose label is about the audited records, and whose content is not: a vault has no author."""
    keys = TrustStore.read(Path("keys")).keys
    header = json.loads(Path("model/model.json").read_text("utf-8"))
    label = VaultLabel(
        site=SITE,
        asset=ASSET,
        study_digest=STUDY_DIGEST,
        model_digest=header["weights_sha256"],
        schema_digest=schema_digest,
        policy_digest=policy_from_toml(Path("house.toml").read_text("utf-8"), "house.toml").digest,
        table_digest=digest,
        created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    readers = [key for key in keys if key.role in ("officer", "auditor")]
    Path("c.vault").write_bytes(lock(files, label, readers))


@pytest.mark.parametrize("name", FORGED)
def test_a_vault_that_holds_something_else_is_refused_in_one_line(ward, synthkit, name):
    files, text = FORGED[name]
    audited = json.loads(Path("audit.json").read_text("utf-8"))
    write_forged(files, audited["table_digest"], audited["schema_digest"])
    refused(synthkit(*audit()), 6, text)
    refused(synthkit(*seal()), 6, text)
    refused(synthkit(*evaluate()), 6, text)
    assert attempts() == 1
    assert not Path("candidate").exists()


def test_the_labels_schema_tells_a_tables_vault_from_one_of_records(ward, clinic, synthkit):
    """A genuine vault of a table, of the same people's keys, given for records; and the other way round."""
    for name in ("keys", "house.toml", "house.signed.json", "c.vault"):
        source = ward / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clinic / name)
    table = ("generate", "model", "-n", 50, "-o", "table.vault", *UNDER)
    done(synthkit(*table))
    given = [word for name in SETS for word in (f"--{name}", f"{name}.csv")]
    counted = ("--ledger", "heart.ledger", "--model", "model", "--vault-key", "keys/ada.pem", *UNDER)
    answer = synthkit("audit", *given, "--schema", "schema.toml", "--synthetic", "c.vault", *counted)
    refused(answer, 6, "was made by another schema")
    shutil.copy("table.vault", ward)
    os.chdir(ward)
    refused(synthkit(*audit(vault="table.vault")), 6, "was made by another schema")
    refused(synthkit(*seal(vault="table.vault")), 6, "was made by another schema")
    assert attempts() == 1


def test_the_floor_stops_a_rare_group_before_anything_is_written(ward, synthkit):
    for output, under in (("rare.vault", UNDER), ("rare.csv", ("--policy", "open.toml"))):
        Path("open.toml").write_text(policy_text(floor="0.05"), "utf-8")
        refused(synthkit(*generate(output, *RARE, under=under)), 1, "[rule conditions.floor]")
        assert not Path(output).exists()
    told = done(synthkit(*generate("women.vault", *WOMEN, "--json"))).document
    assert told["conditions"] == ["sex = 'Female'"]
    assert 0.3 < told["condition_mass"] < 0.7
    assert told["readers"] == ["ada", "audrey"]


def test_earlier_records_in_a_vault_bring_their_static_columns(ward, synthkit):
    assert run(words(generate("e.vault", "--seed", 6))) == 0
    answer = synthkit(*audit("--earlier", "e.vault", "--json"))
    assert answer.code in (0, 1, 2, 3), answer.err
    assert len(answer.document["earlier"]) == 1
    given = ("--earlier", "e.vault", "--earlier-patients", "members-patients.csv")
    answer = synthkit(*audit(*given, save="once-more.json"))
    assert answer.code == 4
    assert "option --earlier-patients" in answer.error
