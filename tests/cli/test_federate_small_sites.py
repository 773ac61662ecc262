"""`federate` over three small hospitals of the bundled heart data: two rounds of two steps."""

import json
import shutil
from pathlib import Path

import pytest

from synthkit.data.bundled import example
from synthkit.domain.documents import schema_to_toml
from synthkit.privacy.ledger import verify_ledger

POLICIES = Path(__file__).parents[2] / "policies"
SITES = {"cleveland": 200, "hungarian": 200, "va": 150}
HEAD = """[study]
name = "heart-trial"
purpose = "a test"
expires = 2999-01-01

[training]
generator = "medvae-sgd"
rounds = 2
local_steps = 2
sample_rate = 0.2
noise_multiplier = 4.0
prior_noise_multiplier = 8.0
max_grad_norm = 1.0
delta = 1e-5
learning_rate = 0.01
"""


@pytest.fixture
def region(tmp_path, monkeypatch):
    heart = example("heart")
    for name in SITES:
        (tmp_path / "sites" / name).mkdir(parents=True)
        shutil.copyfile(heart.sites[name], tmp_path / "sites" / name / "patients.csv.gz")
    roster = [f'[[roster]]\nname = "{name}"\ndeclared_size = {size}\n' for name, size in SITES.items()]
    (tmp_path / "study.toml").write_text("\n".join([HEAD, *roster]))
    (tmp_path / "schema.toml").write_text(schema_to_toml(heart.schema))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def federate(synthkit, *more):
    given = ("--sites", "sites", "--study", "study.toml", "--schema", "schema.toml", "-o", "out")
    return synthkit("federate", *given, "--policy", "demo", *more)


def test_three_sites_make_one_model_and_a_second_run_is_refused(region, synthkit):
    answer = federate(synthkit, "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert set(document["sites"]) == set(SITES)
    assert len(document["rounds"]) == 3
    assert all(set(entry["sites"]) == set(SITES) and not entry["refusals"] for entry in document["rounds"])
    for name in SITES:
        summary = verify_ledger(region / "sites" / name / "ledger.jsonl")
        assert (summary.reservations, summary.commits) == (3, 3)
        assert document["sites"][name]["epsilon"] <= 4
    assert synthkit("generate", "out/model", "-n", "20", "-o", "rows.csv").code == 0
    ledgers = {name: (region / "sites" / name / "ledger.jsonl").read_bytes() for name in SITES}
    model = (region / "out" / "model" / "weights.safetensors").read_bytes()
    again = federate(synthkit)
    assert again.code == 4
    assert "model" in again.error
    assert (region / "out" / "model" / "weights.safetensors").read_bytes() == model
    assert {name: (region / "sites" / name / "ledger.jsonl").read_bytes() for name in SITES} == ledgers
    header = json.loads((region / "out" / "model" / "model.json").read_text())
    assert header["study_digest"] == document["study_digest"]
    assert header["spend"]["epsilon"] == max(entry["epsilon"] for entry in document["sites"].values())


def test_a_site_whose_policy_is_strict_refuses_with_its_rule(region, synthkit):
    shutil.copyfile(POLICIES / "strict.toml", region / "sites" / "va" / "policy.toml")
    answer = federate(synthkit)
    assert answer.code == 1
    assert "va refuses" in answer.error
    assert answer.error.count("[rule ") == 1
    assert not (region / "out" / "model").exists()
    for name in SITES:
        assert verify_ledger(region / "sites" / name / "ledger.jsonl").reservations == 0


def test_a_roster_site_without_a_folder_is_refused(region, synthkit):
    shutil.rmtree(region / "sites" / "va")
    answer = federate(synthkit)
    assert answer.code == 4
    assert "va" in answer.error
    assert not (region / "out" / "model").exists()
