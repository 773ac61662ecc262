"""No address, password, query or driver's word reaches a message, a log or file; nothing is written back."""

# ruff: noqa: S105, S608, PLR0917 - planted secrets, hostile queries and parametrized cases

import json
import logging
import sqlite3
from pathlib import Path

import pytest
from cli_sites import call_plain
from sql_desk import store_file

from synthkit.cli.tables import given_tables
from synthkit.data import sql
from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.sources import SqlTable, is_address
from synthkit.domain.documents import schema_to_toml
from synthkit.errors import InputError

SECRET, CELL = "GEHEIM-4711", "Smith-0815"
"""Planted: a password, and a patient's cell."""


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ward")
    heart = example("heart")
    store_file(folder / "hospital.db", "patients", heart.sites["cleveland"], numbers=("age", "chol"))
    (folder / "schema.toml").write_text(schema_to_toml(heart.schema), encoding="utf-8")
    return folder


def address(ward: Path) -> str:
    """A working address with a secret in it: SQLite passes over an unknown key of a file's URI."""
    return f"sqlite:///{ward}/hospital.db?key={SECRET}"


BROKEN = [
    (f"postgresql://reader:{SECRET}@127.0.0.1:1/ward", "SELECT 1"),
    (f"nosuch://reader:{SECRET}@127.0.0.1/ward", "SELECT 1"),
    (f"sqlite://reader:{SECRET}@/ward.db", "SELECT 1"),
    (f"sqlite:///{SECRET}/ward.db", "SELECT 1"),
    (f"postgresql://reader:{SECRET}@h:not-a-port/ward", "SELECT 1"),
    (f"postgresql://reader:{SECRET}/x@h/ward", "SELECT 1"),
    (f"postgresql:/reader:{SECRET}@h/ward", "SELECT 1"),
    (f"{{}}:///{SECRET}", "SELECT 1"),
]


@pytest.mark.parametrize(("url", "query"), BROKEN)
@pytest.mark.parametrize("debug", [False, True])
def test_a_broken_address_is_one_line_without_it(ward, monkeypatch, capsys, caplog, url, query, debug):
    monkeypatch.setenv("SYNTHKIT_DEBUG", "1" if debug else "")
    caplog.set_level(logging.DEBUG)
    table = ("schema", "check", url, "--query", query, "--schema", ward / "schema.toml")
    code, text = call_plain(capsys, *table)
    assert code == 4
    assert text.count("error: ") == 1
    assert SECRET not in text + caplog.text
    assert query not in text


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT * FROM nothing WHERE name = '{CELL}'",
        f'SELECT "{CELL}" FROM patients, nothing',
        f"SELECT '{CELL}' AS age",
        f"SELECT '{CELL}' AS age, 1 AS age",
        f"SELECT x'00' AS age, '{CELL}' AS b",
        f"SELECT '{CELL}",
        f"SELECT '{CELL}' WHERE 1 = 2",
        f"SELECT '{CELL}'; SELECT 1",
        f"DELETE FROM patients WHERE age = '{CELL}'",
        f"WITH a AS (SELECT 1) DELETE FROM patients WHERE age <> '{CELL}'",
        f"-- {CELL}\n/* SELECT */ UPDATE patients SET age = '{CELL}'",
        f"PRAGMA user_version = 7 -- {CELL}",
        f"ATTACH DATABASE '{CELL}.db' AS other",
        "",
    ],
)
def test_a_refused_query_is_one_line_and_changes_nothing(ward, tmp_path, monkeypatch, capsys, query):
    monkeypatch.chdir(tmp_path)
    before = (ward / "hospital.db").read_bytes()
    code, text = call_plain(
        capsys, "schema", "check", address(ward), "--query", query, "--schema", ward / "schema.toml"
    )
    assert code == 4
    assert text.count("error: ") == 1
    assert "Traceback" not in text
    for secret in (SECRET, CELL):
        assert secret not in text
    assert (ward / "hospital.db").read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_makes_no_database(tmp_path):
    with pytest.raises(InputError, match="no such database file"):
        sql.read_query(SqlTable(url=f"sqlite:///{tmp_path}/new.db", query="SELECT 1 AS a"))
    assert list(tmp_path.iterdir()) == []


def test_the_connection_itself_cannot_write(ward):
    """Past the first guard: the file is open for reading alone, whatever the statement."""
    source = SqlTable(url=address(ward), query="SELECT 1")
    with sql._connection(source) as connection:
        for statement in ("DELETE FROM patients", "CREATE TABLE t (a)", "DROP TABLE patients"):
            with pytest.raises(Exception, match="readonly") as caught:
                connection.exec_driver_sql(statement)
            assert SECRET not in str(caught.value)


def test_errors_carry_no_cause(ward):
    """A chained exception would carry the driver's words into any traceback."""
    with pytest.raises(InputError) as caught:
        sql.read_query(SqlTable(url=address(ward), query=f"SELECT {CELL} FROM nothing"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_password_comes_from_the_environment_alone_where_it_is_left_out(monkeypatch):
    source = SqlTable(url="postgresql://reader@h/ward", query="SELECT 1")
    monkeypatch.setenv(sql.PASSWORD_VARIABLE, SECRET)
    assert sql._address(source).password == SECRET
    assert SECRET not in repr(source) + str(sql._address(source))
    named = SqlTable(url="postgresql://reader:other@h/ward", query="SELECT 1")
    assert sql._address(named).password == "other"
    monkeypatch.delenv(sql.PASSWORD_VARIABLE)
    assert sql._address(source).password is None


def test_nothing_that_a_training_writes_holds_the_address(ward, tmp_path, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    arguments = (
        "train",
        address(ward),
        "--query",
        "SELECT * FROM patients",
        "--schema",
        ward / "schema.toml",
    )
    options = (
        "--unsafe-no-dp",
        "--generator",
        "medvae-sgd",
        "--steps",
        2,
        "-o",
        tmp_path / "model",
        "--json",
    )
    code, text = call_plain(capsys, *arguments, *options)
    assert code == 0, text
    assert SECRET not in text + caplog.text
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for file in files:
        data = file.read_bytes()
        assert SECRET.encode() not in data
        assert b"sqlite" not in data


@pytest.mark.parametrize("url", [f"postgresql://reader:{SECRET}@host", f"mysql:/reader:{SECRET}@host"])
def test_an_address_where_only_a_file_can_stand_is_not_repeated(ward, capsys, url):
    real = ("--real", address(ward), "--query", "SELECT * FROM patients", "--schema", ward / "schema.toml")
    for command in (
        ("evaluate", *real, "--synthetic", url),
        ("schema", "check", "patients.csv", "--schema", url),
        ("schema", "infer", "patients.csv", "-o", url),
        ("generate", "model", "-n", 5, "-o", url),
        ("train", "patients.csv", "--schema", ward / "schema.toml", "-o", url),
    ):
        code, text = call_plain(capsys, *command)
        assert code == 4, command
        assert SECRET not in text


def test_names_and_reprs_hide_the_address(ward):
    found = given_tables(["members=SELECT 1"], members=address(ward), holdout="holdout.csv")
    assert SECRET not in repr(found) + repr(found.of("members"))
    assert found.of("holdout") == Path("holdout.csv")
    with pytest.raises(InputError) as caught:
        read_table(address(ward), example("heart").schema)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        (None, {"table": "sqlite:///a.db"}),
        (["SELECT 1"], {"table": "a.csv"}),
        (["SELECT 1"], {"members": "sqlite:///a.db", "holdout": "sqlite:///a.db"}),
        (["members=SELECT 1"], {"members": "sqlite:///a.db", "holdout": "sqlite:///a.db"}),
        (["holdout=SELECT 1"], {"members": "sqlite:///a.db", "holdout": "a.csv"}),
        (["members=SELECT 1", "members=SELECT 2"], {"members": "sqlite:///a.db"}),
        (["members=SELECT 1", "SELECT 2"], {"members": "sqlite:///a.db"}),
        (["SELECT 1", "SELECT 2"], {"members": "sqlite:///a.db"}),
        (["SELECT 1", "SELECT 2"], {"members": "sqlite:///a.db", "holdout": "sqlite:///a.db"}),
    ],
)
def test_a_query_that_could_mean_another_table_is_refused(query, tables):
    with pytest.raises(InputError):
        given_tables(query, **tables)


def test_addresses_and_files_are_told_apart():
    texts = {"sqlite:///a.db": True, "postgresql+psycopg://h/d": True, "a.csv": False, "/a/b.csv": False}
    texts |= {"C:/data/a.csv": False, "./odd:name.csv": False, "mysql:/u@h/d": True}
    assert {text: is_address(text) for text in texts} == texts


def test_the_planted_secret_is_one_that_can_be_found(ward):
    """The search above would find it: the address works, and holds it."""
    found = sql.read_query(SqlTable(url=address(ward), query="SELECT age FROM patients LIMIT 1"))
    assert found.names == ("age",)
    assert SECRET in json.dumps(address(ward))
    assert sqlite3.connect(ward / "hospital.db").execute("SELECT COUNT(*) FROM patients").fetchone()[0] > 9
