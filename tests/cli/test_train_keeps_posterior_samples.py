"""`synthkit train` on records: what it says of posterior samples and of the latent, and what it refuses."""

import json
from pathlib import Path

import pytest

from synthkit.cli.main import run

POLICY = Path(__file__).parents[2] / "policies" / "single-site.toml"
RECORDS = ("records.csv", "--patients", "patients.csv", "--schema", "schema.toml")
SHORT = ("--steps", "10", "--declared-size", "300", "--most-visits", "6", "--policy", "policy.toml")
EVA = ("--generator", "eva")


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        lines = [
            'allowed_generators = ["eva", "lstm"]' if line.startswith("allowed_generators") else line
            for line in POLICY.read_text("utf-8").splitlines()
        ]
        Path("policy.toml").write_text("\n".join(lines) + "\n", "utf-8")
        size = ("-n", "300", "--visits-mean", "3", "--most-visits", "10")
        assert run(["simulate", *size, "-o", *RECORDS]) == 0
    return folder


def test_private_samples_are_charged_with_the_steps_and_drawn_from(ward, synthkit, monkeypatch):
    monkeypatch.chdir(ward)
    terms = ("--epsilon", "3", "--ledger", "n.ledger", "--weights", "posterior", "-o", "private")
    answer = synthkit("train", *RECORDS, *SHORT, *EVA, *terms, "--json")
    assert answer.code == 0, answer.err
    kept, spend = answer.document["posterior"], answer.document["spend"]
    assert (kept["samples"], kept["steps"]) == (4, [7, 8, 9, 10])
    assert kept["epsilon_of_each"] == sorted(kept["epsilon_of_each"])
    assert kept["epsilon_of_each"][-1] == pytest.approx(spend["epsilon"], rel=1e-6)
    assert spend["steps"] == 10
    assert "no further charge" in answer.err
    latent = answer.document["latent"]
    assert latent["measured_on"] == "records of its own"
    assert 0 <= latent["kl_share"] < 1
    header = json.loads(Path("private/model.json").read_text("utf-8"))
    assert header["latent"] == latent
    assert header["posterior"]["steps"] == kept["steps"]
    drawn = [synthkit("generate", "private", "-n", "20", "-o", f"{n}.csv", "--json") for n in "ab"]
    assert drawn[0].document["table_digest"] == drawn[1].document["table_digest"]


def test_without_privacy_the_chain_says_so_and_a_collapsed_latent_is_told(ward, synthkit, monkeypatch):
    monkeypatch.chdir(ward)
    terms = ("--unsafe-no-dp", "--weights", "posterior", "-o", "unsafe")
    answer = synthkit("train", *RECORDS, *SHORT, *EVA, *terms, "--json")
    assert answer.code == 0, answer.err
    assert (answer.document["unsafe"], answer.document["spend"]) == (True, None)
    assert answer.document["posterior"]["epsilon_of_each"] is None
    assert "NOT PRIVATE" in answer.err
    latent = answer.document["latent"]
    assert latent["measured_on"] == "training patients"
    assert latent["trail"][-1] == [10, latent["kl_share"]]
    assert latent["is_collapsed"] is (latent["kl_nats"] < 0.1)
    assert ("latent has collapsed" in answer.err) is latent["is_collapsed"]


def test_an_lstm_without_a_latent_trains_privately(ward, synthkit, monkeypatch):
    monkeypatch.chdir(ward)
    terms = ("--generator", "lstm", "--epsilon", "3", "--ledger", "n.ledger", "--weights", "point")
    answer = synthkit("train", *RECORDS, *SHORT, *terms, "-o", "lstm", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["spend"]["steps"] == 10
    assert (answer.document["latent"], answer.document["posterior"]) == (None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--weights", "mean"), "no weights 'mean'"),
        (("--generator", "medvae", "--weights", "posterior"), "medvae is no generator of records"),
    ],
)
def test_other_weights_are_refused(ward, synthkit, monkeypatch, given, said):
    monkeypatch.chdir(ward)
    answer = synthkit("train", *RECORDS, *SHORT, *EVA, *given, "--epsilon", "3", "-o", "none")
    assert answer.code == 4
    assert said in answer.error
    assert not Path("none").exists()
