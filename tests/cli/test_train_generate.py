"""From a bare table to synthetic rows by commands alone, and every way in which `train` refuses."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_ward import ward_table

from synthkit.cli.main import run
from synthkit.data.connectors import read_synthetic
from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_from_toml
from synthkit.privacy.ledger import verify_ledger

QUICK = ("--generator", "medvae-sgd", "--steps", "3", "--sample-rate", "0.2", "--declared-size", "300")


@pytest.fixture(scope="session")
def built_ward(tmp_path_factory):
    """A table, its inferred schema made public by hand, its three parts, and a model of few steps."""
    folder = tmp_path_factory.mktemp("ward")
    table = ward_table(400)
    made = SyntheticTable(schema=table.schema, frame=table.frame)
    (folder / "patients.csv").write_bytes(made.to_csv_bytes())
    (folder / "twelve.csv").write_bytes(
        SyntheticTable(schema=table.schema, frame=table.frame.head(12)).to_csv_bytes()
    )
    names = {"table": str(folder / "patients.csv"), "data": str(folder / "data.toml")}
    assert run(["schema", "infer", names["table"], "-o", names["data"]]) == 0
    text = (folder / "data.toml").read_text()
    assert 'provenance = "data"' in text
    (folder / "schema.toml").write_text(text.replace('provenance = "data"', 'provenance = "public"'))
    (folder / "parts").mkdir()
    public = ("--schema", str(folder / "schema.toml"))
    assert run(["split", names["table"], *public, "-o", str(folder / "parts")]) == 0
    members = str(folder / "parts" / "members.csv")
    model, ledger = str(folder / "model"), str(folder / "ward.ledger")
    code = run(["train", members, *public, *QUICK, "--epsilon", "2", "--ledger", ledger, "-o", model])
    assert code == 0
    return folder


@pytest.fixture
def ward(built_ward, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built_ward, folder)
    monkeypatch.chdir(folder)
    return folder


def train(synthkit, *more, table="parts/members.csv", schema="schema.toml", output="new"):
    given = more if "--epsilon" in more or "--unsafe-no-dp" in more else ("--epsilon", "1", *more)
    return synthkit("train", table, "--schema", schema, *QUICK, "-o", output, *given)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(answer, code, folder, before):
    """One line, the right code, and not one file changed, made or gone."""
    assert answer.code == code, answer.err
    assert answer.error
    assert answer.out == ""
    assert files(folder) == before


def test_the_parts_are_disjoint_and_whole(ward):
    parts = [
        (ward / "parts" / f"{name}.csv").read_text().splitlines()
        for name in ("members", "holdout", "reference")
    ]
    lines = (ward / "patients.csv").read_text().splitlines()
    assert all(part[0] == lines[0] for part in parts)
    assert sorted(line for part in parts for line in part[1:]) == sorted(lines[1:])


def test_generated_files_have_the_schemas_columns_and_formats(ward, synthkit):
    schema = schema_from_toml((ward / "schema.toml").read_text(), "schema")
    for name in ("rows.csv", "rows.csv.gz", "rows.parquet"):
        answer = synthkit("generate", "model", "-n", "500", "-o", name, "--seed", "7", "--json")
        assert (answer.code, answer.document["rows"], answer.document["private"]) == (0, 500, True)
        table = read_synthetic(ward / name, schema)
        assert tuple(table.frame.columns) == schema.names
        assert table.digest == answer.document["table_digest"]
    assert [file.name for file in ward.glob(".*.tmp")] == []
    text = pd.read_csv(ward / "rows.csv", dtype=str)
    assert text["admitted"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
    assert text["creatinine"].dropna().str.fullmatch(r"\d+\.\d{2}").all()
    assert text["age"].str.fullmatch(r"\d+").all()
    assert text["creatinine"].isna().any()
    types = {field.name: str(field.type) for field in pq.read_schema(ward / "rows.parquet")}
    assert (types["admitted"], types["age"], types["creatinine"]) == ("date32[day]", "int64", "double")


def test_train_says_what_was_spent_and_the_ledger_agrees(ward, synthkit):
    answer = train(synthkit, "--epsilon", "1.5", "--ledger", "own.ledger", "--json")
    assert answer.code == 0, answer.err
    spend = answer.document["spend"]
    ledger = verify_ledger(ward / "own.ledger")
    assert 0 < spend["epsilon"] <= 1.5
    assert spend["steps"] == 3 == sum(event.steps for event in ledger.events if hasattr(event, "steps"))
    assert (ledger.reservations, ledger.commits) == (1, 1)
    assert {"delta", "accountant", "adjacency", "noise_multiplier", "sample_rate"} <= set(spend)
    assert answer.document["encoder_provenance"] == "trained"
    assert not answer.document["unsafe"]


def test_conditions_are_honoured_in_every_row(ward, synthkit):
    where = ("--where", "age >= 70 and sex = Female", "--where", "stage is missing", "--where", "dose != 0")
    answer = synthkit("generate", "model", "-n", "400", "-o", "some.csv", *where, "--json")
    assert answer.code == 0, answer.err
    assert 0 < answer.document["reliability"] <= 1
    rows = pd.read_csv(ward / "some.csv")
    assert len(rows) == 400
    assert (rows["age"] >= 70).all()
    assert set(rows["sex"]) == {"Female"}
    assert rows["stage"].isna().all()
    assert (rows["dose"] != 0).all()


@pytest.mark.parametrize("text", ["age >= 700", "colour = red", "age >> 3", "sex = Female and sex = Male"])
def test_a_condition_that_cannot_be_met_is_refused(ward, synthkit, text):
    before = files(ward)
    refused(synthkit("generate", "model", "-n", "5", "-o", "some.csv", "--where", text), 4, ward, before)


def test_the_seed_decides_the_rows(ward, synthkit):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert synthkit("generate", "model", "-n", "200", "-o", f"{name}.csv", "--seed", seed).code == 0
    assert (ward / "a.csv").read_bytes() == (ward / "b.csv").read_bytes() != (ward / "c.csv").read_bytes()


def test_the_seed_does_not_decide_the_noise(ward, synthkit):
    weights = []
    for name in ("one", "other"):
        assert train(synthkit, "--seed", "5", "--ledger", f"{name}.ledger", output=name).code == 0
        weights.append((ward / name / "weights.safetensors").read_bytes())
    assert weights[0] != weights[1]
    headers = [json.loads((ward / name / "model.json").read_text()) for name in ("one", "other")]
    assert headers[0]["schema_digest"] == headers[1]["schema_digest"]


def test_bounds_read_off_the_data_are_refused(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, schema="data.toml")
    refused(answer, 4, ward, before)
    assert 'provenance = "public"' in answer.error


def test_an_exhausted_budget_ends_with_five_and_leaves_no_model(ward, synthkit):
    """The shipped policy's cap is 6: trainings of 2.5 fit a few times, then never again."""
    ledger = ("--ledger", "own.ledger", "--epsilon", "2.5")
    codes = []
    for turn in range(12):
        before = files(ward)
        answer = train(synthkit, *ledger, output=f"m{turn}")
        codes.append(answer.code)
        if answer.code:
            break
    assert codes[-1] == 5
    assert len(codes) > 2
    assert {path: data for path, data in files(ward).items() if path.suffix != ".lock"} == {
        path: data for path, data in before.items() if path.suffix != ".lock"
    }
    assert answer.error
    assert not (ward / f"m{len(codes) - 1}").exists()


def test_twelve_patients_are_too_few(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, "--ledger", "own.ledger", table="twelve.csv")
    refused(answer, 4, ward, before)
    assert "12" not in answer.error.replace("twelve.csv", "")


@pytest.mark.parametrize("what", ["file", "folder with content"])
def test_an_output_that_exists_is_refused_before_the_ledger_is_touched(ward, synthkit, what):
    if what == "file":
        (ward / "new").write_text("mine")
    else:
        (ward / "new").mkdir()
        (ward / "new" / "note").write_text("mine")
    before = files(ward)
    refused(train(synthkit, "--ledger", "ward.ledger"), 4, ward, before)


def test_a_ledger_of_another_site_or_cap_is_refused(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, "--ledger", "ward.ledger", "--site", "south")
    assert answer.code == 6
    answer = train(synthkit, "--ledger", "ward.ledger", "--policy", "demo")
    assert answer.code in (1, 6)
    after = files(ward)
    assert after[ward / "ward.ledger"] == before[ward / "ward.ledger"]
    assert not (ward / "new").exists()


def test_more_than_the_policy_allows_is_refused_by_its_rule(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, "--epsilon", "3.5")
    refused(answer, 1, ward, before)
    assert "study.max_epsilon" in answer.error


def test_epsilon_or_unsafe_but_not_both_and_not_neither(ward, synthkit):
    before = files(ward)
    refused(train(synthkit, "--epsilon", "1", "--unsafe-no-dp"), 4, ward, before)
    bare = synthkit("train", "parts/members.csv", "--schema", "schema.toml", "-o", "new")
    refused(bare, 4, ward, before)


def test_a_model_without_privacy_says_so_for_ever(ward, synthkit):
    answer = train(synthkit, "--unsafe-no-dp", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["unsafe"]
    assert answer.document["spend"] is None
    assert "NOT PRIVATE" in answer.err
    header = json.loads((ward / "new" / "model.json").read_text())
    assert header["unsafe"] is True
    assert header["spend"] is None
    made = synthkit("generate", "new", "-n", "10", "-o", "rows.csv", "--json")
    assert made.code == 0
    assert made.document["private"] is False
    assert "WITHOUT privacy" in made.err
    assert not list(ward.glob("parts/*.ledger"))


def test_generate_refuses_an_altered_model_and_an_existing_file(ward, synthkit):
    data = bytearray((ward / "model" / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    before = files(ward)
    refused(synthkit("generate", "model", "-n", "5", "-o", "patients.csv"), 4, ward, before)
    (ward / "model" / "weights.safetensors").write_bytes(bytes(data))
    before = files(ward)
    refused(synthkit("generate", "model", "-n", "5", "-o", "some.csv"), 4, ward, before)
    refused(synthkit("generate", "nowhere", "-n", "5", "-o", "some.csv"), 4, ward, before)
