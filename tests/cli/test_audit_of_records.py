"""`synthkit audit` on a longitudinal schema: the verdict's code, the ledger, the report, refused options."""

import json

import numpy as np
import pytest
from cli_clinic import ASSET, policy_text

from synthkit.data.sequence_writing import write_sequences
from synthkit.data.sequences import pool_synthetic
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.audit import AuditReport
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.privacy import Budget
from synthkit.privacy.ledger import Ledger
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator, save_sequence_model

SETS = ("members", "holdout", "reference")
AUDIT = (
    "audit",
    *(word for name in SETS for word in (f"--{name}", f"{name}.csv")),
    "--schema",
    "schema.toml",
)
STATICS = tuple(
    word for name in (*SETS, "synthetic") for word in (f"--{name}-patients", f"{name}-patients.csv")
)
LENIENT = ("--policy", "lenient.toml")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Records of a small ward: three real sets, fresh patients, and too few of them."""
    folder = tmp_path_factory.mktemp("ward")
    process = standard_process(visits_mean=5, most_visits=12)
    everyone = simulate(process, 1400, seed=2)
    for place, name in enumerate((*SETS, "synthetic")):
        part = everyone.take(np.arange(350 * place, 350 * (place + 1)))
        write_sequences(part, folder / f"{name}.csv")
        write_sequences(part, folder / f"{name}-visits.csv", patients=folder / f"{name}-patients.csv")
    members, fresh = everyone.take(np.arange(350)), everyone.take(np.arange(1050, 1400))
    half = pool_synthetic([members.take(np.arange(175)), fresh.take(np.arange(175))])
    write_sequences(half, folder / "leaking.csv")
    write_sequences(fresh.take(np.arange(10)), folder / "few.csv")
    (folder / "schema.toml").write_text(schema_to_toml(process.schema), encoding="utf-8")
    (folder / "lenient.toml").write_text(policy_text(max_advantage="0.3"), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def ward(written, tmp_path, monkeypatch):
    for file in written.iterdir():
        (tmp_path / file.name).symlink_to(file)
    Ledger.create(tmp_path / "ward.ledger", asset=ASSET, site="north", budget=Budget(epsilon=6.0, delta=1e-5))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_audit_ends_with_the_verdicts_code(synthkit):
    answers = {
        "PASS": synthkit(*AUDIT, "--synthetic", "synthetic.csv", *LENIENT, "--json"),
        "FAIL": synthkit(*AUDIT, "--synthetic", "leaking.csv", *LENIENT, "--json"),
        "INCONCLUSIVE": synthkit(*AUDIT, "--synthetic", "synthetic.csv", "--json"),
        "INVALID": synthkit(*AUDIT, "--synthetic", "few.csv", *LENIENT, "--json"),
    }
    codes = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}
    assert {name: answer.code for name, answer in answers.items()} == codes
    assert all(answer.document["verdict"] == name for name, answer in answers.items())
    attack = answers["PASS"].document["attacks"][0]
    names = ("attack_rate", "baseline_rate", "control_rate", "interval", "p_value_adjusted")
    assert {*names, "minimum_detectable_effect", "stratum"} <= set(attack)


def test_static_columns_may_stand_apart(synthkit):
    together = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *LENIENT, "--json")
    files = tuple(word.replace(".csv", "-visits.csv") for word in AUDIT)
    apart = synthkit(*files, "--synthetic", "synthetic-visits.csv", *STATICS, *LENIENT, "--json")
    assert apart.document == together.document


def test_attempt_is_counted_and_the_report_saved(ward, synthkit):
    counted = (*LENIENT, "--ledger", "ward.ledger", "--study", "records-study")
    targets = ("--save", "audit.json", "--report", "audit.html")
    assert synthkit(*AUDIT, "--synthetic", "leaking.csv", *counted, *targets).code == 1
    assert Ledger.open("ward.ledger").audit_attempts("records-study") == 1
    report = AuditReport.from_json(json.loads((ward / "audit.json").read_text()))
    assert report.verdict.value == "FAIL"
    assert "published axes" in (ward / "audit.html").read_text()
    second = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *counted, "--json")
    assert (second.document["attempt"], second.document["counted"]) == (2, True)


def test_an_earlier_release_is_attacked_along(synthkit):
    earlier = ("--earlier", "leaking.csv")
    answer = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *earlier, *LENIENT, "--json")
    assert answer.code == 1
    assert any(reason.startswith("earlier records") for reason in answer.document["reasons"])
    two = ("--earlier-patients", "members-patients.csv", "--earlier-patients", "members-patients.csv")
    refused = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *earlier, *two, *LENIENT)
    assert refused.code == 4
    assert "one for each --earlier" in refused.error


def test_files_of_static_columns_belong_to_records(clinic_of_rows, synthkit):
    answer = synthkit(*AUDIT, "--synthetic", "members.csv", "--holdout-patients", "members.csv")
    assert answer.code == 4
    assert "option --holdout-patients" in answer.error


@pytest.fixture
def clinic_of_rows(built_clinic, tmp_path, monkeypatch):
    """The hospital of one row a patient instead."""
    monkeypatch.chdir(built_clinic)


def test_a_bad_record_is_one_line(ward, synthkit):
    (ward / "bad.csv").write_text("patient,visit\n1,1\n")
    answer = synthkit(*AUDIT, "--synthetic", "bad.csv", *LENIENT)
    assert answer.code == 4
    assert "bad.csv" in answer.error


def test_weights_of_a_model_of_records_are_attacked_beside(ward, synthkit):
    """The model has learnt nothing: what counts is that its weights are read and decide nothing."""
    schema = schema_from_toml((ward / "schema.toml").read_text(), "schema.toml")
    small = {"channels": 8, "hidden": 8, "latent": 2, "layers": 1, "most_visits": 6, "most_codes": 8}
    model = SequenceModel(
        schema=schema,
        generator=new_sequence_generator("eva", schema, small, seed=0),
        spend=None,
        study="s",
        study_digest="0" * 64,
        site="north",
    )
    save_sequence_model(model, ward / "model")
    answer = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *LENIENT, "--model", "model", "--json")
    shown = [a for a in answer.document["attacks"] if a["name"].startswith("white-box membership")]
    assert answer.code == 0
    assert len(shown) == 6
    assert not any(attack["decides"] for attack in shown)
    refused = synthkit(*AUDIT, "--synthetic", "synthetic.csv", *LENIENT, "--model", "model", "--shadow", "8")
    assert "not of records" in refused.error
    (ward / "model" / "weights.safetensors").write_bytes(b"")
    assert synthkit(*AUDIT, "--synthetic", "synthetic.csv", *LENIENT, "--model", "model").code == 4
