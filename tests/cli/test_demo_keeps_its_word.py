"""`demo --data heart`: what it says it did is what lies in its folder, and no patient is in it."""

import datetime as dt
import gzip
import json
import re

import pytest

from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.table import SyntheticTable
from synthkit.privacy.ledger import verify_ledger
from synthkit.release.bundle import verify
from synthkit.release.signing import TrustStore

SITES = ("cleveland", "hungarian", "switzerland", "va")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo, once: its exit code, its JSON and its folder."""
    import contextlib
    import io

    output = tmp_path_factory.mktemp("demo") / "out"
    spoken = io.StringIO()
    with contextlib.redirect_stdout(spoken), contextlib.redirect_stderr(io.StringIO()):
        code = run(["demo", "--data", "heart", "--output", str(output), "--json"])
    return code, json.loads(spoken.getvalue()), output


def test_the_exit_code_says_whether_it_was_released(shown):
    code, document, output = shown
    assert code == (0 if document["released"] else 1)
    assert (output / "release.synthkit").exists() is document["released"]
    assert bool(document["refused"]) is not document["released"]
    assert set(document["verdicts"]) == set(SITES)


def test_every_site_spent_what_its_ledger_says_and_the_stranger_nothing(shown):
    _, document, output = shown
    for name in SITES:
        summary = verify_ledger(output / "sites" / name / "ledger.jsonl")
        assert summary.reservations == summary.commits == 1
        assert 0 < document["spend"][name]["epsilon"] <= 3
    assert verify_ledger(output / "sites" / "Northfield" / "ledger.jsonl").reservations == 0
    assert "Northfield" not in document["spend"]


def test_the_release_verifies_with_the_recipients_keys(shown):
    _, document, output = shown
    if not document["released"]:  # an audit may refuse; then nothing may lie there to be verified
        assert not (output / "release.synthkit").exists()
        assert document["refused"]
        return
    trust = TrustStore.read(output / "recipient-trust.json")
    bundle = verify(output / "release.synthkit", trust, today=dt.datetime.now(dt.UTC).date())
    assert bundle.manifest.rows == 1000
    assert {part["document"]["site"] for part in bundle.manifest.statements} == set(SITES)


def test_the_report_stands_alone(shown):
    page = (shown[2] / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert not re.findall(r"<(?:link|iframe|script[^>]+src|img[^>]+src=[\"']?(?!data:))", page)
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    assert not re.findall(r"url\((?!#)|@import", page)


def leaving(output):
    return {
        name: (output / name).read_bytes()
        for name in ("report.html", "release.synthkit", "recipient-trust.json")
        if (output / name).exists()
    }


def test_no_private_key_leaves(shown):
    output = shown[2]
    keys = [path for path in output.rglob("*.key") if path.is_file()]
    assert len(keys) == 2 * (len(SITES) + 1) + 1
    for name, data in leaving(output).items():
        assert b"PRIVATE KEY" not in data, name
        for path in keys:
            body = path.read_bytes().splitlines()
            secret = max(body, key=len)
            assert len(secret) > 30
            assert secret not in data, (name, path.name)


def test_no_patients_line_leaves(shown):
    """Whole lines of the sources, as they are and as a release would write them, each of 14 cells.

    A generated row equal to a real one cannot be ruled out by DP; it has 14 columns, some of fine grain.
    """
    output = shown[2]
    heart, lines = example("heart"), set()
    for path in heart.sites.values():
        lines |= set(gzip.decompress(path.read_bytes()).splitlines()[1:])
        as_released = SyntheticTable(schema=heart.schema, frame=read_table(path, heart.schema).frame)
        lines |= set(as_released.to_csv_bytes().splitlines()[1:])
    lines = {line for line in lines if len(line) > 25}
    assert len(lines) > 500
    made = set((output / "synthetic.csv").read_bytes().splitlines()[1:])
    if "release.synthkit" in leaving(output):
        assert any(line in leaving(output)["release.synthkit"] for line in made)
    others = {path.name: path.read_bytes() for path in (output / "model").iterdir()}
    others |= {path.name: path.read_bytes() for path in output.rglob("ledger.jsonl")}
    for name, data in {**leaving(output), **others}.items():
        found = [line for line in lines if line in data]
        assert not found, name


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert run(["demo", "--data", "heart", "--output", str(tmp_path)]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_study_that_every_policy_refuses_ends_with_the_rule(tmp_path, capsys):
    code = run(["demo", "--data", "heart", "--epsilon", "9", "--output", str(tmp_path / "out")])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1
    assert "[rule study.max_epsilon]" in error
    for name in SITES:
        assert verify_ledger(tmp_path / "out" / "sites" / name / "ledger.jsonl").reservations == 0
