"""`evaluate-conditions` on a real model: exact exits 0, a row in the wrong place 1, bad input 4."""

from dataclasses import replace

import pytest

from synthkit.data.table import SyntheticTable
from synthkit.training import synthesis

TABLE = ("--real", "holdout.csv", "--schema", "schema.toml")


def test_every_row_meets_its_request_and_the_object_and_page_say_so(clinic, synthkit):
    answer = synthkit(
        *("evaluate-conditions", "model", *TABLE, "--column", "sex", "--column", "cp", "--pairs"),
        *("-n", "40", "--report", "conditions.html", "--json"),
    )
    assert answer.code == 0, answer.err
    document = answer.document
    assert document["exact"] is True
    assert document["verdict"] == "PASS"
    assert all(one["satisfied"] == one["rows"] == 40 for one in document["requests"])
    assert all(0 < one["reliability"] <= 1 for one in document["requests"])
    assert sum(len(one["wanted"]) == 2 for one in document["requests"]) == 2 * (
        sum(len(one["wanted"]) == 1 for one in document["requests"]) - 2
    )
    assert sum(document["unconditional"]["sex"].values()) == 40
    assert "PASS" in answer.err
    assert "Requested against delivered" in (clinic / "conditions.html").read_text()


def test_a_row_in_the_wrong_place_fails(clinic, synthkit, monkeypatch):
    """The real sampler, one cell of each conditional table turned over."""
    draw = synthesis.synthesize

    def turned(model, count, *, seed, conditions=()):
        made = draw(model, count, seed=seed, conditions=conditions)
        frame = made.table.frame.copy()
        if conditions:
            frame.loc[0, "sex"] = {"Female": "Male", "Male": "Female"}[frame.loc[0, "sex"]]
        return replace(made, table=SyntheticTable(schema=made.table.schema, frame=frame))

    monkeypatch.setattr(synthesis, "synthesize", turned)
    answer = synthkit("evaluate-conditions", "model", *TABLE, "--column", "sex", "-n", "20", "--json")
    assert answer.code == 1
    assert [one["satisfied"] for one in answer.document["requests"]] == [19, 19]
    assert "FAIL" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", *TABLE, "--column", "nonsense"),
        ("model", *TABLE, "--column", "age"),
        ("model", *TABLE, "-n", "0"),
        ("absent", *TABLE),
        ("model", "--real", "absent.csv", "--schema", "schema.toml"),
        ("model", *TABLE, "--report", "absent/page.html"),
        ("model", "--real", "holdout.csv", "--schema", "other.toml"),
    ],
    ids=["unknown column", "number", "no rows", "no model", "no table", "no folder", "other schema"],
)
def test_bad_input_is_one_line_and_exit_4(clinic, synthkit, arguments):
    text = (clinic / "schema.toml").read_text()
    (clinic / "other.toml").write_text(text.replace("maximum = ", "maximum = 1", 1))
    answer = synthkit("evaluate-conditions", *arguments)
    assert answer.code == 4
    assert answer.error


def test_it_explains_itself_with_an_example(synthkit):
    answer = synthkit("evaluate-conditions", "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "Example:\n    synthkit evaluate-conditions" in answer.out
    assert "--json" in answer.out


def test_evaluate_repeats_adds_intervals_and_refuses_none(clinic, synthkit, monkeypatch):
    monkeypatch.setattr("synthkit.evaluation.utility.TREES", 5)
    tables = ("--real", "holdout.csv", "--train", "members.csv", "--synthetic", "synthetic.csv")
    asked = ("evaluate", *tables, "--schema", "schema.toml", "--target", "sex", "--json")
    answer = synthkit(*asked, "--repeats", "2", "--report", "page.html")
    assert answer.code == 0
    score = answer.document["utility"]["sex = Male"]
    assert set(score["real"]) == {"accuracy", "auc"}
    assert score["repeats"]["ratio"]["auc"]["lower"] <= score["repeats"]["ratio"]["auc"]["upper"]
    assert set(answer.document["spread"]["age"]) == {"ratio", "chance", "outside"}
    assert "Means with 95 % intervals" in (clinic / "page.html").read_text()
    assert synthkit(*asked, "--repeats", "0").code == 4
