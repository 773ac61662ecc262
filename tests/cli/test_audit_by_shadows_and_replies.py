"""`audit --shadow` and `audit-replies` from the command line: what they print, and what they refuse."""

from dataclasses import replace

import pytest

from synthkit.data.simulator.process import standard_process
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent
from synthkit.privacy.accounting import spend_of
from synthkit.training.artefact import load_model, save_model

SETS = ("members", "holdout", "reference")
AUDIT = (
    "audit",
    *(word for name in SETS for word in (f"--{name}", f"{name}.csv")),
    *("--schema", "schema.toml", "--synthetic", "synthetic.csv", "--json"),
)
STUDY = """
[study]
name = "heart"
purpose = "tests"
expires = 2030-01-01

[training]
generator = "medvae"
rounds = 0
local_steps = 0
sample_rate = 1.0
noise_multiplier = {noise}
prior_noise_multiplier = {noise}
max_grad_norm = 1.0
delta = 1e-5
learning_rate = 1.0

[[roster]]
name = "north"
public_key = ""
declared_size = 200
"""


def trained(folder, events) -> None:
    """The folder of a small model with this receipt."""
    old = load_model(folder / "model")
    save_model(replace(old, spend=spend_of(events, 1e-5)), folder / "trained")


STEPS = DpSgdEvent(noise_multiplier=2.0, sample_rate=0.25, steps=6)


def test_shadow_trainings_stand_among_the_attacks(clinic, synthkit):
    trained(clinic, [STEPS, GaussianEvent(noise_multiplier=5.0)])
    answer = synthkit(*AUDIT, "--model", "trained", "--shadow", "8", "--report", "audit.html")
    attacks = {attack["name"]: attack for attack in answer.document["attacks"]}
    assert attacks["membership by shadow trainings"]["decides"]
    assert attacks["membership by shadow trainings"]["stratum"] == "rare"
    assert not attacks["canaries in shadow trainings"]["decides"]
    assert answer.document["diagnostics"]["shadow_trainings"] == 8
    page = (clinic / "audit.html").read_text()
    assert "trains the same generator many times over" in page
    assert "Quasi-identifiers" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--shadow", "8"), "--model"),
        (("--shadow", "7", "--model", "model"), "8 or more"),
        (("--shadow", "2", "--model", "model"), "8 or more"),
    ],
)
def test_shadows_without_a_model_or_too_few_are_refused(clinic, synthkit, words, says):
    answer = synthkit(*AUDIT, *words)
    assert answer.code == 4
    assert "option --shadow" in answer.error
    assert says in answer.error


def test_a_receipt_that_says_too_little_is_refused_before_any_training(clinic, synthkit):
    trained(clinic, [STEPS])
    answer = synthkit(*AUDIT, "--model", "trained", "--shadow", "8")
    assert answer.code == 4
    assert "does not say what its training cost" in answer.error


def test_replies_are_read_and_the_claim_stands(clinic, synthkit):
    """The bound exceeds a true claim with probability at most 0.001."""
    (clinic / "study.toml").write_text(STUDY.format(noise="8.0"))
    words = ("audit-replies", "study.toml", "--schema", "schema.toml", "--canaries", "100")
    answer = synthkit(*words, "--json")
    assert answer.code == 0
    assert answer.document["agrees"] is True
    assert 0 <= answer.document["epsilon_shown_at_least"] <= answer.document["epsilon_claimed"] < 1
    assert answer.document["epsilon_ceiling"] > 1
    assert "the claim stands" in synthkit(*words).out


def test_a_claim_that_few_canaries_cannot_contradict_is_said_so(clinic, synthkit):
    (clinic / "study.toml").write_text(STUDY.format(noise="0.5"))
    words = ("audit-replies", "study.toml", "--schema", "schema.toml", "--canaries", "40")
    answer = synthkit(*words)
    assert answer.code == 0
    assert "raise --canaries" in answer.out


def test_too_few_canaries_are_refused(clinic, synthkit):
    (clinic / "study.toml").write_text(STUDY.format(noise="8.0"))
    answer = synthkit("audit-replies", "study.toml", "--schema", "schema.toml", "--canaries", "10")
    assert answer.code == 4
    assert "--canaries" in answer.error


def test_neither_is_for_records_and_both_say_so_in_one_line(tmp_path, monkeypatch, synthkit):
    monkeypatch.chdir(tmp_path)
    schema = standard_process().schema
    (tmp_path / "records.toml").write_text(schema_to_toml(schema), encoding="utf-8")
    study = STUDY.format(noise="8.0").replace('"medvae"', '"eva"')
    (tmp_path / "study.toml").write_text(study, encoding="utf-8")
    answer = synthkit("audit-replies", "study.toml", "--schema", "records.toml")
    assert answer.code == 4
    assert "records of visits" in answer.error
    tables = [word for name in (*SETS, "synthetic") for word in (f"--{name}", f"{name}.csv")]
    answer = synthkit("audit", *tables, "--schema", "records.toml", "--shadow", "8")
    assert answer.code == 4
    assert "option --shadow: trains generators of tables, not of records" in answer.error
