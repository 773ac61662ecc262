"""`train --mode paper` on records: never by accident, its records taken everywhere, and released nowhere."""

import json
import shutil
from pathlib import Path

import pytest
from cli_clinic import SITE, make_ledger, policy_text

from synthkit.cli.main import run
from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.domain.documents import schema_from_toml

POLICY = Path(__file__).parents[2] / "policies" / "single-site.toml"
RECORDS = ("records.csv", "--patients", "records-people.csv", "--schema", "schema.toml")
PAPER = ("--mode", "paper", "--unsafe-no-dp")
SIZE = ("--visits-mean", "3", "--most-visits", "8")
MADE = ("--patients", "people.csv")
SETS = tuple(
    word
    for name, file in (("members", "records"), ("holdout", "held"), ("reference", "other"))
    for word in (f"--{name}", f"{file}.csv", f"--{name}-patients", f"{file}-people.csv")
)
QUICK = ("--epochs", "2", "--visit-vocabulary", "300")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Simulated records, held-out ones, and EVA_c as published, trained for two epochs."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(POLICY, "policy.toml")
        assert run(["simulate", "-n", "300", *SIZE, "-o", *RECORDS]) == 0
        for seed, name in (("8", "held"), ("9", "other")):
            files = (f"{name}.csv", "--patients", f"{name}-people.csv", "--schema", f"{name}.toml")
            assert run(["simulate", "-n", "200", "--seed", seed, *SIZE, "-o", *files]) == 0
        trained = ("--generator", "eva-c", *PAPER, *QUICK, "--site", SITE)
        assert run(["train", *RECORDS, *trained, "-o", "model"]) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--generator", "eva", "--mode", "paper"), "--unsafe-no-dp"),
        (("--generator", "eva", *PAPER, "--epsilon", "3"), "without --epsilon"),
        (("--generator", "eva", *PAPER, "--steps", "9"), "option --steps"),
        (("--generator", "eva", *PAPER, "--kl-weight", "1"), "option --kl-weight"),
        (("--generator", "eva", *PAPER, "--drop-rare", "0.1"), "option --drop-rare"),
        (("--generator", "eva", *PAPER, "--held-out", "rest.csv"), "option --held-out"),
        (("--generator", "eva", *PAPER, "--visit-vocabulary", "0"), "setting words"),
        (("--generator", "eva", *PAPER, "--most-visits", "1001"), "setting most_visits"),
        (("--generator", "lstm", *PAPER), "no paper mode"),
        (("--generator", "medvae", *PAPER), "medvae is no generator of records"),
        (("--generator", "eva", "--unsafe-no-dp", "--visit-vocabulary", "9"), "--mode paper"),
        (("--generator", "eva", "--unsafe-no-dp", "--mode", "papers"), "private or paper"),
    ],
)
def test_what_is_not_said_in_full_is_refused_in_one_line(ward, synthkit, options, words):
    answer = synthkit("train", *RECORDS, *options, "-o", "never")
    assert (answer.code, words in answer.error) == (4, True), answer.err
    assert not Path("never").exists()
    assert not Path("never.schema.toml").exists()


def test_it_says_what_it_holds_what_it_dropped_and_what_it_copies(ward, synthkit):
    made = synthkit("train", *RECORDS, "--generator", "eva", *PAPER, *QUICK, "-o", "plain", "--json")
    assert made.code == 0, made.err
    assert "NOT PRIVATE" in made.err
    found = made.document
    assert (found["mode"], found["unsafe"], found["spend"]) == ("paper", True, None)
    assert set(found["dropped"]) == {"age", "sex", "site", "end", "date"}
    assert found["verbatim"]["visits"] == 1.0
    assert 0 < found["replaced_share"] < 1
    assert found["words"] <= 300
    header = json.loads(Path("plain/model.json").read_text("utf-8"))
    assert header["verbatim"] == found["verbatim"]


def test_its_records_are_read_compared_and_attacked(ward, synthkit):
    """Under the schema that training wrote: the long tables keep columns that the paper does not know."""
    draw = ("generate", "model", "-n", "150", "--where", "sex = Female")
    made = synthkit(*draw, "-o", "made.csv", "--patients", "made-people.csv", "--json")
    assert (made.code, made.document["private"]) == (0, False), made.err
    schema = schema_from_toml(Path("model.schema.toml").read_text("utf-8"), "schema")
    records = read_synthetic_sequences("made.csv", schema, patients="made-people.csv")
    assert set(records.statics["sex"]) == {"Female"}
    both = ("--schema", "model.schema.toml", "--synthetic", "made.csv")
    people = ("--synthetic-patients", "made-people.csv")
    real = ("--real", "held.csv", "--patients", "held-people.csv")
    judged = synthkit("evaluate", *real, *both, *people, "--model", "model", "--quick", "--json")
    assert judged.code == 0, judged.err
    assert judged.document["held_out"]["log_likelihood"] < 0


def test_a_release_is_refused_with_what_was_measured_and_opened_by_the_policys_own_words_alone(
    ward, synthkit
):
    """The whole way: drawn, audited under the asset's ledger, and refused when it is to be sealed."""
    make_ledger(ward / "ward.ledger")
    assert synthkit("generate", "model", "-n", "120", "-o", "made.csv", "--seed", "5", *MADE).code == 0
    assert synthkit("release", "keygen", "--name", SITE, "--role", "site", "-o", "keys").code == 0
    for allowed, code in (("false", 1), ("true", 0)):
        rules = policy_text(max_advantage="0.6", allow_non_private=allowed)
        Path(f"{allowed}.toml").write_text(rules, "utf-8")
        papers = ("--schema", "model.schema.toml", "--policy", f"{allowed}.toml", "--ledger", "ward.ledger")
        audit = ("audit", *SETS, "--synthetic", "made.csv", "--synthetic-patients", "people.csv", *papers)
        assert synthkit(*audit, "--model", "model", "--save", f"{allowed}.json").code in (0, 1, 2)
        options = ("--table", "made.csv", *MADE, "--model", "model", "--audit", f"{allowed}.json", *papers)
        given = ("--site", SITE, "--key", "keys/north.pem", "--seed", "5", "-o", f"out-{allowed}")
        sealed = synthkit("release", "seal", *options, *given, "--json")
        assert sealed.code == code, sealed.err
        assert Path(f"out-{allowed}").exists() is (code == 0)
        if code:
            assert "100.0 % of the visits it makes are a training patient's" in sealed.error
            assert "release.allow_non_private" in sealed.error
        else:
            assert sealed.document["epsilon"] is None


def test_another_models_options_stay_its_own(ward, synthkit):
    flat = '[table]\nname = "flat"\n[columns.sex]\nkind = "binary"\ncategories = ["Female", "Male"]\n'
    Path("flat.toml").write_text(flat, "utf-8")
    answer = synthkit(
        "train",
        "records-people.csv",
        "--schema",
        "flat.toml",
        *PAPER,
        "--visit-vocabulary",
        "9",
        "-o",
        "never",
    )
    assert (answer.code, "option --visit-vocabulary" in answer.error) == (4, True)
    masked = synthkit("generate", "model", "-n", "3", "--mask-share", "0.5", "-o", "never.csv")
    assert (masked.code, "option --mask-share" in masked.error) == (4, True)
    completed = synthkit("complete", "model", "records-people.csv", "-o", "never.csv")
    assert completed.code == 4
