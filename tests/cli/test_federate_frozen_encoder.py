"""`federate --encoder`: one public encoder at all sites, in the signed study, unmoved by their rounds."""

import json

import pytest
from small_ward import SMALL, WARD, ward_table

from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_to_toml
from synthkit.training.artefact import load_model
from synthkit.training.freeze import encoder_digest

SITES = ("north", "south", "west")
STUDY = """[study]
name = "trial"
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
def region(tmp_path, monkeypatch, synthkit):
    """Three sites' tables, a study's draft, and a model of simulated rows."""
    roster = [f'[[roster]]\nname = "{name}"\ndeclared_size = 150\n' for name in SITES]
    smaller = "\n".join(["[training.hyperparameters]", *(f"{k} = {v}" for k, v in SMALL.items())])
    (tmp_path / "study.toml").write_text("\n".join([STUDY, smaller, *roster]))
    (tmp_path / "schema.toml").write_text(schema_to_toml(WARD))
    for seed, name in enumerate((*SITES, "simulation")):
        folder = tmp_path / "sites" / name
        folder.mkdir(parents=True)
        made = SyntheticTable(schema=WARD, frame=ward_table(160, seed=seed).frame)
        (folder / "patients.csv").write_bytes(made.to_csv_bytes())
    monkeypatch.chdir(tmp_path)
    words = ("--unsafe-no-dp", "--generator", "medvae-sgd", "--steps", "3", "--seed", "5")
    for site in ("simulation", "north"):
        table = "sites/simulation/patients.csv"
        more = ("--site", site, "-o", f"of-{site}")
        assert synthkit("train", table, "--schema", "schema.toml", *words, *more).code == 0
    return tmp_path


def federate(synthkit, *more):
    given = ("--sites", "sites", "--study", "study.toml", "-o", "out", "--policy", "demo", "--json")
    return synthkit("federate", *given, *more)


def test_all_sites_keep_the_public_encoder_and_the_model_names_it(region, synthkit):
    answer = federate(synthkit, "--encoder", "public:of-simulation")
    assert answer.code == 0, answer.err
    assert answer.err.count("vouch") == 1
    digest = encoder_digest(load_model(region / "of-simulation").generator)
    header = json.loads((region / "out" / "model" / "model.json").read_text())
    assert (header["encoder_provenance"], header["encoder_digest"]) == ("public", digest)
    assert encoder_digest(load_model(region / "out" / "model").generator) == digest
    assert digest in (region / "out" / "study.json").read_text()
    assert all(not entry["refusals"] for entry in answer.document["rounds"])


def test_random_features_at_all_sites(region, synthkit):
    answer = federate(synthkit, "--encoder", "random")
    assert answer.code == 0, answer.err
    header = json.loads((region / "out" / "model" / "model.json").read_text())
    assert header["encoder_provenance"] == "public"
    assert "vouch" not in answer.err


@pytest.mark.parametrize(
    ("encoder", "says"),
    [("dp:1", "one site on its own"), ("public:of-north", "without privacy"), ("learnt", "no such way")],
)
def test_an_unsound_encoder_is_refused_before_any_site_spends(region, synthkit, encoder, says):
    answer = federate(synthkit, "--encoder", encoder)
    assert answer.code == 4, answer.err
    assert says in answer.error
    ledgers = list(region.glob("sites/*/ledger.jsonl"))
    assert not any('"reserve"' in ledger.read_text() for ledger in ledgers)
