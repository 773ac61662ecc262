"""`train` as it is by default: one release of tables, a fit that costs nothing, and options it refuses."""

import json
import math

import pandas as pd
import pytest
from small_ward import WARD, ward_table

from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.privacy import GaussianEvent
from synthkit.generators import medvae
from synthkit.privacy.accounting import admission_epsilon
from synthkit.privacy.ledger import verify_ledger
from synthkit.training.artefact import load_model

PUBLIC = ("--schema", "schema.toml", "--declared-size", "300")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few codes and few steps of the fit: nothing here looks at quality."""
    monkeypatch.setitem(medvae.DEFAULTS, "codes", 50)
    monkeypatch.setitem(medvae.DEFAULTS, "fit_steps", 20)


@pytest.fixture
def ward(tmp_path, monkeypatch):
    table = SyntheticTable(schema=WARD, frame=ward_table(300).frame)
    (tmp_path / "patients.csv").write_bytes(table.to_csv_bytes())
    (tmp_path / "schema.toml").write_text(schema_to_toml(WARD))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(synthkit, *more, output="model"):
    given = more if "--unsafe-no-dp" in more or "--epsilon" in more else ("--epsilon", "2", *more)
    return synthkit("train", "patients.csv", *PUBLIC, *given, "-o", output)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_release_is_all_that_is_spent(ward, synthkit):
    answer = train(synthkit, "--ledger", "own.ledger", "--json")
    assert answer.code == 0, answer.err
    spend, ledger = answer.document["spend"], verify_ledger(ward / "own.ledger")
    assert ledger.events == (GaussianEvent(noise_multiplier=spend["noise_multiplier"]),)
    assert (ledger.reservations, ledger.commits) == (1, 1)
    assert 1.98 <= admission_epsilon(ledger.events, spend["delta"]) <= 2
    assert 0 < spend["epsilon"] <= 2
    assert spend["prior_noise_multiplier"] == spend["noise_multiplier"]
    assert spend["steps"] == spend["sample_rate"] == 1
    assert (answer.document["unsafe"], answer.document["encoder_provenance"]) == (False, "trained")
    model = load_model(ward / "model")
    assert model.generator.kind == "medvae"
    assert model.spend.epsilon == spend["epsilon"]
    assert sorted(path.name for path in (ward / "model").iterdir()) == ["model.json", "weights.safetensors"]


def test_the_words_name_no_step_and_no_batch(ward, synthkit):
    answer = train(synthkit)
    assert answer.code == 0, answer.err
    said = answer.out.lower()
    assert "medvae" in said
    assert "one release of all two-way tables" in said
    assert "steps" not in said
    assert "sample_rate" not in said


@pytest.mark.parametrize("option", ["--steps=3", "--sample-rate=0.2", "--learning-rate=0.1"])
@pytest.mark.parametrize("privacy", [("--epsilon", "2"), ("--unsafe-no-dp",)])
def test_options_of_a_training_by_steps_are_refused_in_one_line(ward, synthkit, option, privacy):
    before = files(ward)
    answer = train(synthkit, *privacy, *option.split("="))
    assert answer.code == 4
    assert option.split("=")[0] in answer.error
    assert "medvae is fitted to one release and takes no steps" in answer.error
    assert "medvae-sgd" in answer.error, "what to do instead"
    assert answer.out == ""
    assert files(ward) == before


def test_they_are_taken_where_steps_are(ward, synthkit):
    quick = ("--steps", "2", "--sample-rate", "0.2", "--learning-rate", "0.1")
    answer = train(synthkit, "--generator", "medvae-sgd", *quick, "--json")
    assert answer.code == 0, answer.err
    assert answer.document["spend"]["steps"] == 2


def test_an_unknown_generator_is_refused_in_one_line(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, "--generator", "eva")
    assert answer.code == 4
    assert "eva" in answer.error
    assert files(ward) == before


def test_rows_are_generated_under_conditions_with_their_reliability(ward, synthkit):
    assert train(synthkit).code == 0
    where = ("--where", "age >= 70 and sex = Female", "--where", "dose != 0")
    answers = [
        synthkit("generate", "model", "-n", "300", "-o", name, "--seed", "7", *given, "--json")
        for name, given in (("some.csv", where), ("again.csv", where), ("all.csv", ()))
    ]
    assert [answer.code for answer in answers] == [0, 0, 0], answers[0].err
    assert (ward / "some.csv").read_bytes() == (ward / "again.csv").read_bytes()
    rows = pd.read_csv(ward / "some.csv")
    assert len(rows) == 300
    assert (rows["age"] >= 70).all()
    assert set(rows["sex"]) == {"Female"}
    assert (rows["dose"] != 0).all()
    some, again, everything = (answer.document["reliability"] for answer in answers)
    assert 0 < some < 1
    assert some == again
    assert everything == 1


def test_rarer_conditions_are_less_reliable(ward, synthkit):
    assert train(synthkit).code == 0
    shares = []
    for where in ("age >= 30", "age >= 80", "age >= 80 and stage = I and unit = icu"):
        answer = synthkit(
            "generate", "model", "-n", "5", "-o", "r.csv", "--force", "--where", where, "--json"
        )
        assert answer.code == 0, answer.err
        shares.append(answer.document["reliability"])
    assert shares == sorted(shares, reverse=True)
    assert all(math.isfinite(share) and 0 < share <= 1 for share in shares)


def test_the_same_seed_makes_another_model_each_time(ward, synthkit):
    """The noise is the operating system's; what the seed fixes is where the fit starts."""
    for name in ("one", "other"):
        assert train(synthkit, "--seed", "5", "--ledger", f"{name}.ledger", output=name).code == 0
    one, other = (load_model(ward / name).generator.get_weights() for name in ("one", "other"))
    assert (one["tables"] != other["tables"]).any()
    assert (one["codes"] != other["codes"]).any()


def test_without_privacy_the_tables_are_exact_and_the_model_says_so(ward, synthkit):
    answers = [train(synthkit, "--unsafe-no-dp", "--json", output=name) for name in ("one", "other")]
    for answer in answers:
        assert answer.code == 0, answer.err
        assert answer.document["unsafe"]
        assert answer.document["spend"] is None
        assert "NOT PRIVATE" in answer.err
    one, other = ((ward / name / "weights.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
    assert json.loads((ward / "one" / "model.json").read_text())["unsafe"] is True
    assert not list(ward.glob("*.ledger"))
