"""Files that are no records at all, given to every command that reads some: one line, nothing left behind.

The line names the file and says what to do; it is the same from every command, and holds no cell.
"""

import os
from pathlib import Path

import pandas as pd
import pytest

from synthkit.cli.main import run

CANARY = "CANARY-4417"
SIZE = ("--visits-mean", "3", "--most-visits", "6", "--schema", "schema.toml")
POLICY = ("--policy", str(Path(__file__).parents[2] / "policies" / "single-site.toml"))
SCHEMA = ("--schema", "schema.toml")
TRAIN = ("--generator", "eva", "--steps", "1", "--declared-size", "150", *POLICY, "-o", "never")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["simulate", "-n", "150", *SIZE, "-o", "records.csv", "--patients", "people.csv"]) == 0
        spoil(Path("records.csv").read_text("utf-8"))
    return folder


def spoil(sound):
    header, *rows = sound.splitlines()
    Path("empty.csv").write_bytes(b"")
    Path("header.csv").write_text(header + "\n", "utf-8")
    Path("columns.csv").write_text(f"a,b,c\n1,2,{CANARY}\n", "utf-8")
    Path("semicolons.csv").write_text(sound.replace(",", ";"), "utf-8")
    Path("noise.csv").write_bytes(os.urandom(64) + b"\xff" + CANARY.encode())
    Path("gzip.csv.gz").write_bytes(b"\x1f\x8b" + CANARY.encode())
    pd.DataFrame([row.split(",") for row in rows], columns=header.split(",")).to_parquet("whole.parquet")
    whole = Path("whole.parquet").read_bytes()
    Path("cut.parquet").write_bytes(whole[: len(whole) // 2])
    Path("text.parquet").write_text(CANARY, "utf-8")
    place = len(whole) // 3
    Path("flipped.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])


@pytest.fixture
def ward(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in written.iterdir():
        Path(path.name).symlink_to(path)
    return tmp_path


def called(capsys, *arguments):
    capsys.readouterr()
    code = run(list(arguments))
    found = capsys.readouterr()
    assert "Traceback" not in found.out + found.err
    assert CANARY not in found.out + found.err
    return code, [line for line in found.err.splitlines() if line.startswith("error: ")]


def everywhere(capsys, table, people="people.csv"):
    """What each command that reads records says of one table."""
    real = ("--real", "records.csv", "--patients", "people.csv")
    made = ("--synthetic", "records.csv", "--synthetic-patients", "people.csv")
    audit = [
        word
        for name in ("holdout", "reference")
        for word in (f"--{name}", "records.csv", f"--{name}-patients", "people.csv")
    ]
    commands = (
        ("schema", "check", table, "--patients", people),
        ("split", table, "--patients", people, "-o", "never"),
        ("train", table, "--patients", people, *TRAIN, "--epsilon", "1", "--ledger", "never.ledger"),
        ("train", table, "--patients", people, *TRAIN, "--unsafe-no-dp"),
        ("evaluate", "--real", table, "--patients", people, *made, "--quick", "--report", "never.html"),
        ("evaluate", *real, "--synthetic", table, "--synthetic-patients", people),
        ("evaluate-simulated", table, "--patients", people),
        ("audit", "--members", table, "--members-patients", people, *audit, *made, *POLICY),
    )
    return [called(capsys, *command, *SCHEMA) for command in commands]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("absent.csv", "absent.csv: there is no such file"),
        ("empty.csv", "empty.csv: the file is empty"),
        ("header.csv", "header.csv: the table has a header but no rows"),
        ("columns.csv", "columns.csv: no column of the schema is in the header line"),
        ("semicolons.csv", "semicolons.csv: "),
        ("noise.csv", "noise.csv: is not UTF-8 text"),
        ("gzip.csv.gz", "gzip.csv.gz: "),
        ("cut.parquet", "cut.parquet: is not a Parquet file with rows"),
        ("text.parquet", "text.parquet: is not a Parquet file with rows"),
        ("flipped.parquet", "flipped.parquet: "),
    ],
)
def test_a_file_without_records_is_the_same_line_from_every_command(ward, capsys, table, words):
    before = set(ward.iterdir())
    answers = everywhere(capsys, table)
    assert {code for code, _ in answers} == {4}
    assert len({line for _, lines in answers for line in lines}) == 1
    assert all(len(lines) == 1 for _, lines in answers)
    line = answers[0][1][0]
    assert line.startswith(f"error: {words}")
    assert line.endswith(")")  # what to do
    assert set(ward.iterdir()) == before


def test_a_spoilt_table_of_patients_is_named_instead_of_the_records(ward, capsys):
    for people in ("empty.csv", "absent.csv"):
        answers = everywhere(capsys, "records.csv", people)
        assert {code for code, _ in answers} == {4}
        assert all(lines[0].startswith(f"error: {people}: ") for _, lines in answers)


def test_twelve_patients_are_too_few_for_whatever_protects_them(ward, capsys):
    for name in ("records.csv", "people.csv"):
        header, *rows = Path(name).read_text("utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",", 1)[0]) <= 12]
        Path(f"few-{name}").write_text("\n".join([header, *kept]) + "\n", "utf-8")
    tables = ("few-records.csv", "--patients", "few-people.csv", *SCHEMA)
    code, lines = called(capsys, "train", *tables, *TRAIN, "--epsilon", "1", "--ledger", "few.ledger")
    assert (code, len(lines)) == (4, 1)
    assert "noise would drown them" in lines[0]
    assert " 12 " not in lines[0]
    assert not Path("never").exists()
    assert called(capsys, "split", *tables, "--shares", "0.98", "0.01", "0.01", "-o", "never")[0] == 4
    both = ("records.csv", "--patients", "people.csv")
    sides = ("--holdout", both[0], "--holdout-patients", both[2], "--reference", both[0])
    made = ("--reference-patients", both[2], "--synthetic", both[0], "--synthetic-patients", both[2])
    members = ("--members", "few-records.csv", "--members-patients", "few-people.csv")
    assert called(capsys, "audit", *members, *sides, *made, *SCHEMA, *POLICY)[0] == 3
