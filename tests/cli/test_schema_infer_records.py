"""A drafted schema of records fits them, calls nothing public, and is refused for private training."""

from pathlib import Path

import pytest

from synthkit.cli.main import run
from synthkit.domain.documents import schema_from_toml
from synthkit.domain.schema import Kind, Provenance

ROLES = ("--visit", "visit", "--time", "date")
POLICY = str(Path(__file__).parents[2] / "policies" / "single-site.toml")


@pytest.fixture
def ward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = ("-n", "150", "--visits-mean", "3", "--most-visits", "6", "--schema", "stated.toml")
    assert run(["simulate", *size, "-o", "records.csv", "--patients", "patients.csv"]) == 0
    assert run(["simulate", *size, "-o", "whole.csv", "--force"]) == 0
    return tmp_path


def drafted(name="draft.toml"):
    return schema_from_toml(Path(name).read_text("utf-8"), name)


@pytest.mark.parametrize("tables", [("records.csv", "--patients", "patients.csv"), ("whole.csv",)])
def test_a_draft_fits_its_records_and_is_not_public(ward, synthkit, tables):
    done = synthkit("schema", "infer", *tables, *ROLES, "-o", "draft.toml")
    assert done.code == 0, done.err
    draft, stated = drafted(), drafted("stated.toml")
    assert draft.is_longitudinal
    assert (draft.patient_id, draft.visit, draft.time) == ("patient", "visit", "date")
    assert draft.names == stated.names
    assert set(draft.code.categories) <= set(stated.code.categories)
    assert {column.provenance for column in draft} == {Provenance.DATA}
    assert synthkit("schema", "check", *tables, "--schema", "draft.toml").code == 0
    private = ("--epsilon", "3", "--policy", POLICY, "--generator", "eva", "-o", "never")
    refused = synthkit("train", *tables, "--schema", "draft.toml", *private)
    assert refused.code == 4
    assert "were read off the patients" in refused.err
    assert not Path("never").exists()


def test_what_changes_within_a_patient_is_left_out_and_named(ward, synthkit):
    rows = Path("whole.csv").read_text("utf-8").splitlines()
    grown = [f"{row},{place}" for place, row in enumerate(rows[1:])]
    Path("grown.csv").write_text("\n".join([f"{rows[0]},cost", *grown]) + "\n", "utf-8")
    done = synthkit("schema", "infer", "grown.csv", *ROLES, "-o", "draft.toml")
    assert done.code == 0, done.err
    assert drafted().ignored == ("cost",)
    assert "change from row to row of a patient: cost" in done.out
    assert synthkit("schema", "check", "grown.csv", "--schema", "draft.toml").code == 0


def test_codes_that_are_numbers_are_codes_where_they_are_named(ward, synthkit):
    rows = [f"p{n},{visit},{250 + (n + visit) % 30}" for n in range(40) for visit in (1, 2)]
    Path("icd.csv").write_text("\n".join(["pid,stay,item", *rows]) + "\n", "utf-8")
    asked = synthkit("schema", "infer", "icd.csv", "--visit", "stay", "-o", "draft.toml")
    assert asked.code == 4
    assert "which column holds the codes?" in asked.err
    assert (
        synthkit("schema", "infer", "icd.csv", "--visit", "stay", "--code", "item", "-o", "draft.toml").code
        == 0
    )
    assert drafted().code.kind is Kind.CODE
    assert len(drafted().code.categories) == 30
    assert synthkit("schema", "check", "icd.csv", "--schema", "draft.toml").code == 0


def test_who_forgets_to_say_visits_is_told_and_wrong_options_are_one_line(ward, synthkit):
    hint = synthkit("schema", "infer", "records.csv", "-o", "flat.toml")
    assert hint.code == 0
    assert "draft it as records: --visit" in hint.out
    for options, words in (
        (("--time", "date"), "belongs to records of visits"),
        (("--visit", "nothing"), "there is no column nothing"),
        (("--visit", "visit", "--code", "CANARY"), "there is no column CANARY"),
    ):
        refused = synthkit("schema", "infer", "records.csv", *options, "-o", "never.toml")
        assert refused.code == 4
        assert words in refused.err
        assert len([line for line in refused.err.splitlines() if line.startswith("error: ")]) == 1
        assert not Path("never.toml").exists()
