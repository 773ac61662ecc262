"""Every command that reads real rows takes a database's address and a query, with the outcome of the file."""

import shutil

import pytest
from sql_desk import store_file

from synthkit.cli.ledgers import TEMPLATE_ASSET
from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import schema_to_toml
from synthkit.privacy.ledger import Ledger

SETS = ("members", "holdout", "reference")
NUMBERS = [column.name for column in example("heart").schema if column.is_numeric]
URL = "sqlite:///hospital.db"


@pytest.fixture(scope="module")
def database(built_clinic, tmp_path_factory):
    """The clinic's tables in one database, numbers as numbers."""
    path = tmp_path_factory.mktemp("db") / "hospital.db"
    for name in SETS:
        store_file(path, name, built_clinic / f"{name}.csv", numbers=NUMBERS)
    return path


@pytest.fixture
def ward(clinic, database):
    shutil.copy(database, clinic / "hospital.db")
    return clinic


def test_schema_commands(ward, synthkit):
    query = ("--query", "SELECT * FROM members")
    assert synthkit("schema", "infer", URL, *query, "-o", "drawn.toml").code == 0
    assert synthkit("schema", "infer", "members.csv", "-o", "read.toml").code == 0
    drawn, read = ((ward / f"{name}.toml").read_text() for name in ("drawn", "read"))
    assert drawn == read
    assert synthkit("schema", "check", URL, *query, "--schema", "schema.toml").code == 0
    broken = ("--query", "SELECT * FROM members WHERE age > 1000")
    assert "gives no rows" in synthkit("schema", "check", URL, *broken, "--schema", "schema.toml").error


def test_a_violation_is_told_by_its_row(ward, synthkit):
    query = "SELECT *, 1000 AS extra FROM members"
    answer = synthkit("schema", "check", URL, "--query", query, "--schema", "schema.toml")
    assert answer.code == 4
    assert "column extra" in answer.out
    old = "SELECT age + 1000 AS age, sex, cp, trestbps, chol, fbs, restecg, thalach, exang, oldpeak, slope, "
    old += "ca, thal, disease FROM members LIMIT 1"
    answer = synthkit("schema", "check", URL, "--query", old, "--schema", "schema.toml")
    assert "column age, row 1: " in answer.out
    assert "line" not in answer.out


def test_split_asks_once_and_loses_nobody(ward, synthkit):
    # Random order: asked twice, rows and masks would not belong together.
    query = "SELECT row_number() OVER () AS mrn, * FROM members ORDER BY random()"
    text = (ward / "schema.toml").read_text()
    (ward / "ids.toml").write_text(text.replace("[table]", '[table]\npatient_id = "mrn"', 1))
    answer = synthkit("split", URL, "--query", query, "--schema", "ids.toml", "-o", "parts")
    assert answer.code == 0, answer.err
    assert synthkit("split", URL, "--query", query, "--schema", "ids.toml", "-o", "again").code == 0
    rows = {
        name: [line.split(",")[0] for line in (ward / name).read_text().splitlines()[1:]]
        for name in (f"{folder}/{part}.csv" for folder in ("parts", "again") for part in SETS)
    }
    for part in SETS:
        assert sorted(rows[f"parts/{part}.csv"]) == sorted(rows[f"again/{part}.csv"])
    everyone = [row for part in SETS for row in rows[f"parts/{part}.csv"]]
    assert len(everyone) == len(set(everyone)) == len((ward / "members.csv").read_text().splitlines()) - 1


def test_audit_of_three_queries_is_the_audit_of_three_files(ward, synthkit):
    rest = ("--synthetic", "synthetic.csv", "--schema", "schema.toml", "--policy", "lenient.toml", "--json")
    files = [word for name in SETS for word in (f"--{name}", f"{name}.csv")]
    urls = [word for name in SETS for word in (f"--{name}", URL)]
    queries = [word for name in SETS for word in ("--query", f"{name}=SELECT * FROM {name}")]  # noqa: S608
    plain, asked = synthkit("audit", *files, *rest), synthkit("audit", *urls, *queries, *rest)
    assert plain.code == asked.code
    left, right = plain.document, asked.document
    assert left["attacks"] == right["attacks"]
    assert left["attacks"]
    assert left["verdict"] == right["verdict"]
    short = synthkit("audit", *urls, *queries[:-2], *rest)
    assert "option --reference: is a database, which needs a query" in short.error


def test_training_demands_a_ledger_with_a_place(ward, synthkit):
    table = ("train", URL, "--query", "SELECT * FROM members", "--schema", "schema.toml")
    options = ("--epsilon", 3, "--declared-size", 300, "--policy", "single-site")
    options += ("--generator", "medvae-sgd", "--steps", 2, "--sample-rate", 0.1)
    answer = synthkit(*table, *options, "-o", "trained")
    assert answer.code == 4
    assert "a database has no folder for the asset's ledger" in answer.error
    assert not (ward / "trained").exists()
    answer = synthkit(*table, *options, "--ledger", "own.ledger", "-o", "trained", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["spend"]["epsilon"] <= 3
    # Whatever the database is called, the ledger is the asset's.
    assert Ledger.open(ward / "own.ledger").asset == TEMPLATE_ASSET


def test_partial_rows(ward, synthkit):
    query = "SELECT age, sex FROM members LIMIT 5"
    answer = synthkit("complete", "model", URL, "--query", query, "-o", "full.csv")
    assert answer.code == 0, answer.err
    ages = [line.split(",")[:2] for line in (ward / "full.csv").read_text().splitlines()[1:]]
    given = [line.split(",")[:2] for line in (ward / "members.csv").read_text().splitlines()[1:6]]
    assert ages == given


@pytest.mark.slow
def test_evaluation(ward, synthkit):
    rest = ("--synthetic", "synthetic.csv", "--schema", "schema.toml", "--target", "disease", "--json")
    queries = ("--query", "real=SELECT * FROM holdout", "--query", "train=SELECT * FROM members")
    asked = synthkit("evaluate", "--real", URL, "--train", URL, *queries, *rest)
    plain = synthkit("evaluate", "--real", "holdout.csv", "--train", "members.csv", *rest)
    assert plain.code == asked.code == 0, asked.err
    assert plain.document == asked.document


def test_evaluation_of_conditions(ward, synthkit):
    # Without ids a row's half of the ceiling follows from its cells as written: 2.0 in the file, so here too.
    store_file(ward / "hospital.db", "as_written", ward / "holdout.csv")
    command = (
        "evaluate-conditions",
        "model",
        "--schema",
        "schema.toml",
        "--column",
        "sex",
        "-n",
        50,
        "--json",
    )
    asked = synthkit(*command, "--real", URL, "--query", "SELECT * FROM as_written")
    plain = synthkit(*command, "--real", "holdout.csv")
    assert plain.document == asked.document


def test_records_with_their_patients(tmp_path, monkeypatch, synthkit):
    monkeypatch.chdir(tmp_path)
    process = standard_process(visits_mean=3, most_visits=6)
    (tmp_path / "records.toml").write_text(schema_to_toml(process.schema), encoding="utf-8")
    write_sequences(simulate(process, 80, seed=3), "long.parquet", patients="people.csv")
    for name, file in (("visits", "long.parquet"), ("people", "people.csv")):
        store_file(tmp_path / "hospital.db", name, tmp_path / file)
    addresses = (URL, "--patients", URL, "--query", "SELECT * FROM visits")
    addresses += ("--query", "patients=SELECT * FROM people", "--schema", "records.toml")
    answer = synthkit("schema", "check", *addresses)
    assert answer.code == 0, answer.err
    assert "TABLE" in answer.out
    options = ("--generator", "eva", "--unsafe-no-dp", "--steps", 2, "-o", "trained")
    assert synthkit("train", *addresses, *options).code == 0
    files = ("long.parquet", "--patients", "people.csv", "--schema", "records.toml")
    options = ("--generator", "eva", "--unsafe-no-dp", "--steps", 2, "-o", "again")
    assert synthkit("train", *files, *options).code == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("trained", "again")]
    assert weights[0] == weights[1]
    assert "row for row" in synthkit("split", *addresses, "-o", "parts").error


@pytest.mark.parametrize("command", ["infer", "check", "split", "train", "audit", "evaluate", "complete"])
def test_help_says_how(capsys, command):
    words = ["schema", command] if command in ("infer", "check") else [command]
    assert run([*words, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--query" in said
    assert "SYNTHKIT_DB_PASSWORD" in said
