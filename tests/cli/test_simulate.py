"""`synthkit simulate` writes records, patients and a schema that fit each other."""

import json

from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import schema_from_toml

FILES = ("-o", "records.parquet", "--patients", "patients.csv", "--schema", "schema.toml")


def test_what_is_written_is_the_process(synthkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = synthkit("simulate", "-n", "120", *FILES, "--seed", "3", "--visits-mean", "5", "--json")
    assert answer.code == 0
    document = json.loads(answer.out)
    process = standard_process(visits_mean=5)
    schema = schema_from_toml((tmp_path / "schema.toml").read_text("utf-8"), "schema.toml")
    assert schema == process.schema
    records = read_synthetic_sequences("records.parquet", schema, patients="patients.csv")
    assert records.digest == simulate(process, 120, seed=3).digest
    found = {name: document[name] for name in ("patients", "visits", "codes", "process_digest")}
    expected = (120, records.visit_count, records.codes.size, process.digest)
    assert tuple(found.values()) == expected


def test_help_has_an_example(synthkit):
    answer = synthkit("simulate", "--help")
    assert answer.code == 0
    assert "Example:\n    synthkit simulate -n 20000" in answer.out


def test_bad_options_are_one_line_and_write_nothing(synthkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, words in (
        (("-n", "10", "-o", "a.txt", "--schema", "s.toml"), "the format is not known"),
        (("-n", "10", "-o", "a.csv", "--schema", "a.csv"), "two results would have one name"),
        (("-n", "10", "-o", "a.csv", "--schema", "s.toml", "--visits-mean", "0"), "visits a patient"),
        (("-n", "10", "-o", "no/a.csv", "--schema", "s.toml"), "its folder does not exist"),
    ):
        answer = synthkit("simulate", *options)
        assert answer.code == 4
        assert answer.err.count("\n") == 1
        assert words in answer.err
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(synthkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "patients.csv").write_text("mine")
    answer = synthkit("simulate", "-n", "10", *FILES)
    assert (answer.code, (tmp_path / "patients.csv").read_text()) == (4, "mine")


def test_schema_check_reads_records_and_names_the_row(synthkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = ("-o", "records.csv", "--patients", "patients.csv", "--schema", "schema.toml")
    assert synthkit("simulate", "-n", "30", *written, "--visits-mean", "3").code == 0
    check = ("schema", "check", "records.csv", "--patients", "patients.csv", "--schema", "schema.toml")
    assert json.loads(synthkit(*check, "--json").out) == {"valid": True, "count": 0, "violations": []}
    rows = (tmp_path / "records.csv").read_text("utf-8").splitlines()
    rows[5] = rows[5].rsplit(",", 1)[0] + ",CANARY-7731"
    (tmp_path / "records.csv").write_text("\n".join(rows), "utf-8")
    answer = synthkit(*check)
    assert answer.code == 4
    assert "column code, row 5 (line 6)" in answer.error
    assert "CANARY" not in answer.out + answer.error


def test_a_patients_table_is_refused_where_no_records_are(synthkit, tmp_path):
    (tmp_path / "flat.toml").write_text(
        '[table]\n[columns.age]\nkind = "integer"\nminimum = 0\nmaximum = 120\n', "utf-8"
    )
    answer = synthkit(
        "schema", "check", "a.csv", "--schema", str(tmp_path / "flat.toml"), "--patients", "b.csv"
    )
    assert (answer.code, "option --patients" in answer.error) == (4, True)
