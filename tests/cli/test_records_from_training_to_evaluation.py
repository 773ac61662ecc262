"""Records of visits, as a person at a keyboard meets them: simulate, train, generate, refuse."""

import json
import shutil
from pathlib import Path

import pytest

from synthkit.cli.main import run
from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.domain.documents import schema_from_toml

POLICY = Path(__file__).parents[2] / "policies" / "single-site.toml"
RECORDS = ("records.csv", "--patients", "patients.csv", "--schema", "schema.toml")
SHORT = ("--steps", "3", "--declared-size", "300", "--most-visits", "8", "--policy", "policy.toml")
PRIVATE = ("--generator", "eva", "--epsilon", "3", "--ledger", "north.ledger")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Simulated records, a policy, and a model trained on them privately for three steps."""
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        allowed = 'allowed_generators = ["eva", "lstm", "medvae"]'
        lines = [
            allowed if line.startswith("allowed_generators") else line
            for line in POLICY.read_text("utf-8").splitlines()
        ]
        Path("policy.toml").write_text("\n".join(lines) + "\n", "utf-8")
        size = ("-n", "300", "--visits-mean", "3", "--most-visits", "10")
        assert run(["simulate", *size, "-o", *RECORDS]) == 0
        assert run(["train", *RECORDS, *SHORT, *PRIVATE, "-o", "model"]) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def read(path, people=None):
    schema = schema_from_toml(Path("schema.toml").read_text("utf-8"), "schema")
    return read_synthetic_sequences(path, schema, patients=people)


def test_private_training_reports_what_it_cost(ward, synthkit):
    answer = synthkit("train", *RECORDS, *SHORT, *PRIVATE, "--epsilon", "1", "-o", "second", "--json")
    assert answer.code == 0, answer.err
    spend = answer.document["spend"]
    assert 0 < spend["epsilon"] <= 1.0
    assert spend["steps"] == 3
    header = json.loads(Path("model/model.json").read_text("utf-8"))
    assert (header["unsafe"], header["mode"]) == (False, "records")
    assert header["hyperparameters"]["most_visits"] == 8
    assert synthkit("budget", "verify", "--ledger", "north.ledger").code == 0


def test_generated_records_fit_the_schema_and_repeat_with_the_seed(ward, synthkit):
    draw = ("generate", "model", "-n", "40", "--seed", "5")
    first = synthkit(*draw, "-o", "one.csv", "--patients", "one-people.csv", "--json")
    second = synthkit(*draw, "-o", "two.csv", "--patients", "two-people.csv", "--json")
    assert (first.code, second.code) == (0, 0), first.err
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()
    assert Path("one-people.csv").read_bytes() == Path("two-people.csv").read_bytes()
    records = read("one.csv", "one-people.csv")
    assert records.patient_count == first.document["rows"] == 40
    assert records.visits_per_patient.max() <= 8
    other = synthkit("generate", "model", "-n", "40", "--seed", "6", "-o", "three.csv", "--json")
    assert other.document["table_digest"] != first.document["table_digest"]


def test_conditions_and_lengths_are_honoured_exactly(ward, synthkit):
    options = ("--where", "age >= 70 and sex = Female", "--visits", "4")
    answer = synthkit("generate", "model", "-n", "30", "-o", "old.parquet", *options, "--json")
    assert answer.code == 0, answer.err
    records = read("old.parquet")
    assert set(records.visits_per_patient) == {4}
    assert records.statics["age"].min() >= 70
    assert set(records.statics["sex"]) == {"Female"}
    assert 0 < answer.document["reliability"] <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--where", "code = I10"), "conditions are on the columns of a patient"),
        (("--visits", "9"), "1 to 8"),
        (("--mask-share", "0.5"), "option --mask-share"),
        (("--patients", "never.csv"), "two results would have one name"),
        (("--patients", "people.txt"), "the format is not known"),
    ],
)
def test_what_a_model_of_records_cannot_do_is_refused(ward, synthkit, options, words):
    answer = synthkit("generate", "model", "-n", "3", "-o", "never.csv", *options)
    assert (answer.code, words in answer.error) == (4, True), answer.err
    assert not Path("never.csv").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--generator", "medvae", "--epsilon", "3"), "is no generator of records of visits"),
        (("--generator", "evaa", "--epsilon", "3"), "--generator eva, eva-c, lstm, vae-lstm or vae-deconv"),
        (("--generator", "eva", "--epsilon", "3", "--encoder", "random"), "option --encoder"),
        (("--generator", "eva", "--epsilon", "3", "--mode", "paper"), "option --mode"),
        (("--generator", "eva"), "either --epsilon or --unsafe-no-dp"),
    ],
)
def test_trainings_that_cannot_be_are_refused_and_cost_nothing(ward, synthkit, options, words):
    before = Path("north.ledger").read_bytes()
    answer = synthkit("train", *RECORDS, *SHORT, "--ledger", "north.ledger", *options, "-o", "never")
    assert (answer.code, words in answer.error) == (4, True), answer.err
    assert Path("north.ledger").read_bytes() == before
    assert not Path("never").exists()


def test_schema_and_generator_have_to_go_together(ward, synthkit):
    flat = '[table]\nname = "flat"\n[columns.sex]\nkind = "binary"\ncategories = ["F", "M"]\n'
    Path("flat.toml").write_text(flat, "utf-8")
    answer = synthkit("train", "patients.csv", "--schema", "flat.toml", *PRIVATE, "-o", "never")
    assert (answer.code, "--generator medvae" in answer.error) == (4, True)
    medvae = ("--generator", "medvae", "--epsilon", "3")
    answer = synthkit("train", "records.csv", "--schema", "schema.toml", *medvae, "-o", "never")
    assert (answer.code, "--generator eva" in answer.error) == (4, True)


def test_a_policy_that_does_not_name_the_generator_refuses(ward, synthkit):
    text = Path("policy.toml").read_text("utf-8").replace('["eva", "lstm", "medvae"]', '["medvae"]')
    Path("narrow.toml").write_text(text, "utf-8")
    answer = synthkit("train", *RECORDS, *SHORT, "--policy", "narrow.toml", *PRIVATE, "-o", "never")
    assert (answer.code, "study.allowed_generators" in answer.error) == (1, True), answer.err


def test_a_budget_that_is_spent_ends_with_5(ward, synthkit):
    """The shipped cap of 6 holds two trainings of epsilon 3, of which one is done."""
    codes = [synthkit("train", *RECORDS, *SHORT, *PRIVATE, "-o", f"model{n}").code for n in (2, 3, 4)]
    assert codes[-1] == 5
    assert not Path("model4").exists()


def test_a_model_without_privacy_says_so_for_ever(ward, synthkit):
    rival = ("--generator", "vae-lstm", "--unsafe-no-dp")
    trained = synthkit("train", *RECORDS, *SHORT, *rival, "-o", "unsafe", "--json")
    assert (trained.code, trained.document["unsafe"]) == (0, True), trained.err
    assert "NOT PRIVATE" in trained.err
    made = synthkit("generate", "unsafe", "-n", "5", "-o", "unsafe.csv", "--json")
    assert made.document["private"] is False
    assert "WITHOUT privacy" in made.err


def test_evaluation_stands_between_floor_and_ceiling(ward, synthkit):
    """The records compared with themselves: every correlation is 1, every distance 0."""
    schema = ("--schema", "schema.toml", "--patients", "patients.csv")
    same = ("--real", "records.csv", "--synthetic", "records.csv", "--synthetic-patients", "patients.csv")
    answer = synthkit("evaluate", *same, *schema, "--quick", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["sequences"]
    assert found["synthetic"]["unigram"] == pytest.approx(1.0)
    assert found["synthetic"]["within"]["bigram"] == pytest.approx(1.0)
    assert set(found["distances"].values()) == {0.0}
    assert found["shape"]["real"] == found["shape"]["synthetic"]
    assert found["floor"]["within"]["lift"] < 0.5
    assert "log lifts within" in answer.err


def test_evaluation_refuses_what_says_nothing_of_records(ward, synthkit):
    same = ("--real", "records.csv", "--synthetic", "records.csv", "--schema", "schema.toml")
    answer = synthkit("evaluate", *same, "--survival", "time,status")
    assert (answer.code, "option --survival" in answer.error) == (4, True)


def test_evaluation_asks_the_model_for_held_out_records(ward, synthkit):
    same = ("--real", "records.csv", "--synthetic", "records.csv", "--synthetic-patients", "patients.csv")
    schema = ("--schema", "schema.toml", "--patients", "patients.csv")
    answer = synthkit("evaluate", *same, *schema, "--model", "model", "--quick", "--json")
    assert answer.code == 0, answer.err
    found = answer.document["held_out"]
    parts = found["codes"] + found["leaves"] + found["statics"] + found["kl"]
    assert found["log_likelihood"] == pytest.approx(-parts)
    assert 0 <= found["kl_share"] < 1
    assert found["weighted"] - found["given_statics"] < 0
    assert "nats a patient" in answer.err
    assert "given their static columns" in answer.err
