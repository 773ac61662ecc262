"""`federate` on records of visits: three small hospitals, one model, and what stops it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import schema_to_toml, study_from_toml
from synthkit.privacy.ledger import verify_ledger
from synthkit.training import record_rounds
from synthkit.training.record_settling import settle

POLICIES = Path(__file__).parents[2] / "policies"
SITES = {"north": 120, "south": 100, "west": 100}
STUDY = """[study]
name = "ward-trial"
purpose = "a test"
expires = 2999-01-01

[training]
generator = "eva"
rounds = 1
local_steps = 2
sample_rate = 0.2
noise_multiplier = 4.0
prior_noise_multiplier = 8.0
max_grad_norm = 30.0
delta = 1e-5
learning_rate = 0.003
prior_first = true

[training.hyperparameters]
channels = 8
hidden = 8
latent = 3
layers = 2
most_visits = 4
pairs = 1

"""


@pytest.fixture(autouse=True)
def short_settling(monkeypatch):
    """Two corrections of a hundred records each: what they are good for is measured elsewhere."""
    monkeypatch.setattr(record_rounds, "settle", partial(settle, rounds=2))
    monkeypatch.setattr(record_rounds, "MOST_VISITS", 300)


@pytest.fixture
def region(tmp_path, monkeypatch):
    """West's static columns stand in every row, the others' in a table of their own."""
    process = standard_process(visits_mean=2, most_visits=4)
    everyone, begin = simulate(process, sum(SITES.values()), seed=3), 0
    for name, size in SITES.items():
        folder = tmp_path / "sites" / name
        folder.mkdir(parents=True)
        part = everyone.take(np.arange(begin, begin + size))
        people = None if name == "west" else folder / "patients.csv"
        write_sequences(part, folder / ("visits.csv" if name == "west" else "records.csv"), patients=people)
        begin += size
    roster = [f'[[roster]]\nname = "{name}"\ndeclared_size = {size}\n' for name, size in SITES.items()]
    (tmp_path / "study.toml").write_text("\n".join([STUDY, *roster]), "utf-8")
    (tmp_path / "schema.toml").write_text(schema_to_toml(process.schema), "utf-8")
    allowed = 'allowed_generators = ["eva"]'
    lines = (POLICIES / "demo.toml").read_text("utf-8").splitlines()
    lines = [allowed if line.startswith("allowed_generators") else line for line in lines]
    (tmp_path / "policy.toml").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def federate(synthkit, *more):
    given = ("--sites", "sites", "--study", "study.toml", "--schema", "schema.toml", "-o", "out")
    return synthkit("federate", *given, "--policy", "policy.toml", *more)


def test_three_sites_make_one_model_of_records(region, synthkit):
    answer = federate(synthkit, "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert [set(entry["sites"]) for entry in document["rounds"]] == [set(SITES)] * 2
    for name in SITES:
        summary = verify_ledger(region / "sites" / name / "ledger.jsonl")
        assert (summary.reservations, summary.commits) == (2, 2)
    drawn = synthkit(
        "generate", "out/model", "-n", "20", "-o", "made.csv", "--patients", "made-p.csv", "--json"
    )
    assert (drawn.code, drawn.document["rows"], drawn.document["private"]) == (0, 20, True)


def test_a_plan_that_buys_its_shares_last_is_refused_by_name(region, synthkit):
    text = (region / "study.toml").read_text("utf-8").replace("prior_first = true\n", "")
    (region / "study.toml").write_text(text, "utf-8")
    answer = federate(synthkit)
    assert (answer.code, "prior_first = true" in answer.error) == (4, True), answer.err
    assert not (region / "out" / "model").exists()


@pytest.mark.parametrize("spoil", ["none", "three", "no statics by name"])
def test_a_site_with_other_files_than_records_and_patients_is_refused(region, synthkit, spoil):
    north = region / "sites" / "north"
    if spoil == "none":
        (north / "records.csv").unlink()
        (north / "patients.csv").unlink()
    elif spoil == "three":
        (north / "more.csv").write_text("a\n1\n", "utf-8")
    else:
        (north / "patients.csv").rename(north / "people.csv")
    answer = federate(synthkit)
    assert (answer.code, "site north" in answer.error) == (4, True), answer.err


def test_the_order_of_rounds_is_part_of_what_is_signed(region):
    schema = standard_process(visits_mean=2, most_visits=4).schema
    text = (region / "study.toml").read_text("utf-8")
    first = study_from_toml(text, "study", schema=schema)
    last = study_from_toml(text.replace("prior_first = true\n", ""), "study", schema=schema)
    assert first.digest != last.digest
    assert first.from_json(first.to_json()) == first
    assert "prior_first" not in last.to_json()["plan"]
    assert [first.plan.is_prior_round(number) for number in (1, 2)] == [True, False]
    assert [last.plan.is_prior_round(number) for number in (1, 2)] == [False, True]
    assert sorted(map(repr, first.plan.round_events(1) + first.plan.round_events(2))) == sorted(
        map(repr, last.plan.round_events(1) + last.plan.round_events(2))
    )
