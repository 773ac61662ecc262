"""A survival table with a fault in its time or event: each command says so in one line and writes nothing."""

import pytest

SCHEMA = """
[table]
name = "trial"

[columns.age]
kind = "integer"
minimum = 18
maximum = 110

[columns.time]
kind = "duration"
minimum = 1
maximum = 3000
unit = "days"

[columns.status]
kind = "event"
categories = ["0", "1"]
"""

HEADER = "age,time,status"
FAULTS = [
    ("70,0,1", "column time, row 2 (line 3): outside the public bounds"),
    ("70,-3,1", "column time, row 2 (line 3): outside the public bounds"),
    ("70,30,2", "column status, row 2 (line 3): not one of the categories"),
]


def table(*cells):
    return "\n".join([HEADER, *cells]) + "\n"


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """A folder with a schema and forty patients."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.toml").write_text(SCHEMA)
    rows = [f"{20 + i},{1 + 37 * i % 900},{i % 2}" for i in range(40)]
    (tmp_path / "whole.csv").write_text(table(*rows))
    return tmp_path


def train(synthkit, name):
    """Two steps without privacy."""
    return synthkit(
        *("train", name, "--schema", "schema.toml", "--generator", "mcm-sgd", "--unsafe-no-dp"),
        *("--declared-size", "40", "--steps", "2", "-o", "model"),
    )


@pytest.mark.parametrize(("row", "words"), FAULTS)
def test_neither_checked_nor_trained_on(ward, synthkit, row, words):
    (ward / "faulty.csv").write_text(table("50,12,0", row))
    answer = synthkit("schema", "check", "faulty.csv", "--schema", "schema.toml")
    assert answer.code == 4
    assert words in answer.out + answer.err
    answer = train(synthkit, "faulty.csv")
    assert answer.code == 4
    assert words in answer.error
    assert not (ward / "model").exists()


def test_partial_rows_that_contradict_the_schema_are_not_completed(ward, synthkit):
    assert train(synthkit, "whole.csv").code == 0
    for row, words in FAULTS:
        (ward / "partial.csv").write_text(table("50,,", row))
        answer = synthkit("complete", "model", "partial.csv", "-o", "completed.csv")
        assert answer.code == 4
        assert words in answer.error
        assert not (ward / "completed.csv").exists()


@pytest.mark.parametrize("level", ["0", "1"])
def test_no_event_or_nothing_but_events_is_trained_on_and_drawn_from(ward, synthkit, level):
    rows = (ward / "whole.csv").read_text().splitlines()[1:]
    (ward / "one.csv").write_text(table(*(f"{row.rsplit(',', 1)[0]},{level}" for row in rows)))
    answer = train(synthkit, "one.csv")
    assert answer.code == 0, answer.err
    answer = synthkit("generate", "model", "-n", "30", "-o", "made.csv")
    assert answer.code == 0, answer.err
    times = [float(row.split(",")[1]) for row in (ward / "made.csv").read_text().splitlines()[1:]]
    assert len(times) == 30
    assert 1 <= min(times) <= max(times) <= 3000
