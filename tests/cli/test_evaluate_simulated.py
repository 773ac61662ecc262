"""`evaluate-simulated`: patients of the process agree with it, other records do not, others are refused."""

from pathlib import Path

import pytest

from synthkit.cli.main import run

SIZE = ("--visits-mean", "8", "--most-visits", "20")
RECORDS = ("records.csv", "--patients", "patients.csv", "--schema", "schema.toml")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["simulate", "-n", "600", *SIZE, "--seed", "3", "-o", *RECORDS]) == 0
    return folder


@pytest.fixture
def ward(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in made.iterdir():
        Path(path.name).write_bytes(path.read_bytes())
    return tmp_path


def without_memory(name):
    """Every visit's codes exchanged with another's: as frequent as before, and of nobody's history."""
    header, *rows = Path("records.csv").read_text("utf-8").splitlines()
    visits = {}
    for row in rows:
        visit, code = row.rsplit(",", 1)
        visits.setdefault(visit, []).append(code)
    names, codes = list(visits), list(visits.values())
    # In strides: neighbours in the file end up far apart.
    strewn = [codes[place] for start in range(97) for place in range(start, len(codes), 97)]
    turned = [f"{n},{c}" for n, listed in zip(names, strewn, strict=True) for c in listed]
    Path(name).write_text("\n".join([header, *turned]) + "\n", "utf-8")


def asked(synthkit, table):
    options = ("--patients", "patients.csv", "--schema", "schema.toml", *SIZE, "--seed", "9")
    return synthkit("evaluate-simulated", table, *options, "--json")


def test_the_truth_agrees_with_itself_and_lost_memory_shows(ward, synthkit):
    """The bounds are five standard errors wide; a fixed seed's outcome."""
    without_memory("dealt.csv")
    true, dealt = asked(synthkit, "records.csv"), asked(synthkit, "dealt.csv")
    assert (true.code, dealt.code) == (0, 0), (true.err, dealt.err)
    assert true.document["possible_visits"] == 1.0
    assert dealt.document["possible_visits"] < 0.9
    again = "the same code again"
    right, wrong = (one.document["questions"][again] for one in (true, dealt))
    assert right["synthetic"]["strength"] == pytest.approx(1.0, abs=0.08)
    assert wrong["synthetic"]["strength"] < 0.2
    assert wrong["synthetic"]["deviation"] > 5 * wrong["ceiling"]["deviation"]
    # What was asked of too few visits is null, never NaN.
    assert all(value is None or value == value for value in right["floor"].values())  # noqa: PLR0124


def test_records_of_another_schema_are_one_line(ward, synthkit):
    text = Path("schema.toml").read_text("utf-8")
    Path("other.toml").write_text(text.replace('name = "simulated"', 'name = "ward"'), "utf-8")
    tables = ("records.csv", "--patients", "patients.csv")
    answer = synthkit("evaluate-simulated", *tables, "--schema", "other.toml")
    assert answer.code == 4
    assert "not in the simulator's schema" in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("error: ")]) == 1


def test_the_command_explains_itself(synthkit):
    answer = synthkit("evaluate-simulated", "--help")
    assert answer.code == 0
    assert "Example:" in answer.out
