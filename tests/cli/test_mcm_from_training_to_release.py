"""MCM on the command line: trained, drawn from, rows completed, audited, sealed, and federated."""

import shutil

import pandas as pd
import pytest
from cli_clinic import SITE, policy_text
from test_cli_audit_and_release import AUDIT, seal
from test_federate_small_sites import HEAD, SITES

from synthkit.data.bundled import example
from synthkit.domain.documents import schema_to_toml
from synthkit.domain.privacy import GaussianEvent
from synthkit.generators import mcm
from synthkit.privacy.ledger import verify_ledger
from synthkit.training.artefact import load_model

SINGLE = "lenient-single.toml"
STEPS = ("--steps", "3", "--sample-rate", "0.2")
PER_KIND = {"mcm": (), "mcm-sgd": STEPS}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A narrow network and few steps of the fit: nothing here looks at quality."""
    for name, value in {"hidden": 16, "chains": 512, "sweeps": 10, "fit_steps": 30}.items():
        monkeypatch.setitem(mcm.TABLE_DEFAULTS, name, value)
    monkeypatch.setitem(mcm.STEP_DEFAULTS, "hidden", 16)


@pytest.fixture
def hospital(clinic):
    """The clinic with a policy for one site, under which an audit of 300 patients can pass."""
    (clinic / SINGLE).write_text(policy_text(max_advantage="0.4", min_sites="1"), encoding="utf-8")
    return clinic


def train(synthkit, kind, *more, output="mcm"):
    given = ("--schema", "schema.toml", "--declared-size", "300", "--site", SITE, "--policy", SINGLE)
    return synthkit("train", "members.csv", *given, "--generator", kind, *more, "-o", output, "--json")


@pytest.fixture(params=PER_KIND)
def trained(request, hospital, synthkit):
    """A model at epsilon 3, in the folder `mcm`."""
    kind = request.param
    answer = train(synthkit, kind, "--epsilon", "3", *PER_KIND[kind], "--ledger", "own.ledger")
    assert answer.code == 0, answer.err
    return kind


def test_what_is_spent_is_what_the_ledger_says(trained, hospital):
    model, ledger = load_model(hospital / "mcm"), verify_ledger(hospital / "own.ledger")
    assert model.generator.kind == trained
    assert 0 < model.spend.epsilon <= 3
    assert (ledger.reservations, ledger.commits) == (1, 1)
    kinds = [type(event) for event in ledger.events]
    assert (kinds == [GaussianEvent]) is (trained == "mcm"), "tables are one release"


def test_rows_meet_their_conditions_and_the_seed_decides_them(trained, hospital, synthkit):
    where = ("--where", "age >= 60 and sex = Male", "--where", "disease = yes")
    for name in ("some.csv", "again.csv"):
        answer = synthkit("generate", "mcm", "-n", "200", "-o", name, "--seed", "7", *where, "--json")
        assert answer.code == 0, answer.err
        assert 0 < answer.document["reliability"] <= 1
    rows = pd.read_csv(hospital / "some.csv")
    assert len(rows) == 200
    assert (rows["age"] >= 60).all()
    assert (set(rows["sex"]), set(rows["disease"])) == ({"Male"}, {"yes"})
    assert (hospital / "some.csv").read_bytes() == (hospital / "again.csv").read_bytes()


def test_rows_are_completed_and_known_cells_stay(trained, hospital, synthkit):
    frame = pd.read_csv(hospital / "members.csv", dtype=str, keep_default_na=False)
    frame.loc[::2, ["thalach", "disease"]] = ""
    frame.to_csv(hospital / "partial.csv", index=False)
    assert synthkit("complete", "mcm", "partial.csv", "-o", "done.csv", "--seed", "4").code == 0
    made = pd.read_csv(hospital / "done.csv", dtype=str, keep_default_na=False)
    known = frame.to_numpy() != ""
    assert (made.to_numpy()[known] == frame.to_numpy()[known]).all()
    assert set(made["disease"]) == {"no", "yes"}


def test_what_the_model_draws_is_sealed_and_other_rows_are_not(hospital, synthkit):
    """The audit reads the model too, and `seal` draws the rows again."""
    assert train(synthkit, "mcm", "--epsilon", "3", "--ledger", "own.ledger").code == 0
    assert synthkit("release", "keygen", "--name", "north", "--role", "site", "-o", "keys").code == 0
    counted = ("--ledger", "own.ledger", "--model", "mcm", "--policy", SINGLE)
    told = {"model": "mcm", "ledger": "own.ledger", "policy": SINGLE}
    assert synthkit("generate", "mcm", "-n", "230", "-o", "drawn.csv", "--seed", "2").code == 0
    answers = {}
    for table in ("drawn.csv", "synthetic.csv"):
        audited = synthkit(*AUDIT, table, *counted, "--save", f"audit-{table}.json")
        assert audited.code == 0, audited.err
        answers[table] = seal(
            synthkit,
            synthetic=table,
            **told,
            audit=f"audit-{table}.json",
            output=f"candidate-{table}",
            seed=2,
        )
    assert answers["drawn.csv"].code == 0, answers["drawn.csv"].err
    assert answers["synthetic.csv"].code == 1
    assert "not the rows that the model draws" in answers["synthetic.csv"].error


def test_without_privacy_the_model_says_so_and_the_better_way_is_named(hospital, synthkit):
    answers = {
        kind: train(synthkit, kind, "--unsafe-no-dp", *PER_KIND[kind], output=kind) for kind in PER_KIND
    }
    for kind, answer in answers.items():
        assert answer.code == 0, answer.err
        assert answer.document["unsafe"]
        assert not load_model(hospital / kind).is_private
        assert ("--generator mcm-sgd learns more" in answer.err) is (kind == "mcm")


def test_options_that_a_kind_does_not_take_are_refused_with_its_own_remedy(hospital, synthkit):
    answer = train(synthkit, "mcm", "--epsilon", "3", "--steps", "3")
    assert answer.code == 4
    assert "or --generator mcm-sgd" in answer.error
    answer = train(synthkit, "mcm-sgd", "--epsilon", "3", "--encoder", "random")
    assert answer.code == 4
    assert "mcm-sgd has no encoder to freeze" in answer.error
    assert not (hospital / "mcm").exists()


def test_three_hospitals_tables_are_averaged_and_fitted_once(tmp_path, monkeypatch, synthkit):
    heart = example("heart")
    text = HEAD.replace('"medvae-sgd"', '"mcm"').replace("learning_rate = 0.01", "learning_rate = 1.0")
    text = text.replace("rounds = 2", "rounds = 0").replace("local_steps = 2", "local_steps = 0")
    text = text.replace("sample_rate = 0.2", "sample_rate = 1.0")
    for name in SITES:
        (tmp_path / "sites" / name).mkdir(parents=True)
        shutil.copyfile(heart.sites[name], tmp_path / "sites" / name / "patients.csv.gz")
        text += f'\n[[roster]]\nname = "{name}"\ndeclared_size = {SITES[name]}\n'
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "schema.toml").write_text(schema_to_toml(heart.schema))
    monkeypatch.chdir(tmp_path)
    given = ("--sites", "sites", "--study", "study.toml", "--schema", "schema.toml", "--policy", "demo")
    answer = synthkit("federate", *given, "-o", "out", "--json")
    assert answer.code == 0, answer.err
    assert len(answer.document["rounds"]) == 1
    for name in SITES:
        summary = verify_ledger(tmp_path / "sites" / name / "ledger.jsonl")
        assert (summary.reservations, summary.commits) == (1, 1)
    weights = load_model(tmp_path / "out" / "model").generator.get_weights()
    assert weights["tables"].any()
    assert weights["table_noise"] > 0, "only the fit at the coordinator knows it"
    assert synthkit("generate", "out/model", "-n", "20", "-o", "rows.csv").code == 0
