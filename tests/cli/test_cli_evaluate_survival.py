"""`evaluate --survival` on the bundled lung trial: the contract's object, a page, one line for bad input."""

import numpy as np
import pytest

from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_to_toml

TABLES = ("--real", "real.csv", "--schema", "schema.toml", "--target", "sex")
SURVIVAL = ("--survival", "time,status")


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """The lung trial, and three tables of rows drawn from it, in a folder of their own."""
    lung = example("lung")
    table = read_table(lung.sites["trial"], lung.schema)

    def save(name, rows):
        frame = table.frame.iloc[rows].reset_index(drop=True)
        made = SyntheticTable(schema=lung.schema, frame=frame)
        (tmp_path / name).write_bytes(made.to_csv_bytes())

    save("real.csv", np.arange(len(table)))
    for seed in range(3):
        save(f"made{seed}.csv", np.random.default_rng(seed).integers(0, len(table), 200))
    (tmp_path / "schema.toml").write_text(schema_to_toml(lung.schema))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("synthkit.evaluation.utility.TREES", 5)
    monkeypatch.setattr("synthkit.evaluation.survival.HALVES", 2)
    return tmp_path


def test_the_object_and_the_page_hold_what_the_contract_names(trial, synthkit):
    answer = synthkit(
        *("evaluate", *TABLES, "--synthetic", "made0.csv", *SURVIVAL, "--json", "--report", "page.html"),
        *("--synthetic", "made1.csv", "--synthetic", "made2.csv", "--stratum", "age > 60"),
        *("--covariate", "age", "--covariate", "sex"),
    )
    assert answer.code == 0, answer.err
    document = answer.document
    sex = document["hazard_ratios"]["sex = Female"]
    assert sex["real"]["hazard_ratio"] == pytest.approx(0.599, abs=5e-4)
    assert sex["real"]["lower"] < sex["real"]["hazard_ratio"] < sex["real"]["upper"]
    assert sex["pooled"]["upper"] > sex["pooled"]["lower"]
    assert 0.4 < document["c_index"]["real"] < 0.8
    assert set(document["calibration_slope"]) == {"all", "age > 60"}
    assert document["calibration_slope"]["all"]["p75"]["real"]["deviation"] >= 0
    for name in ("hazard_ratios", "c_index", "calibration_slope"):
        assert document["survival"][name] == document[name]
    assert document["survival"]["pooling"] == {"sets": 3, "rule": "partially synthetic"}
    page = (trial / "page.html").read_text()
    for heading in ("Survival: curves", "Survival: hazard ratios", "Survival: prediction of real patients"):
        assert heading in page
    assert "partially synthetic data" in page
    assert "sex = Female" in answer.err


def test_without_the_option_nothing_about_survival_is_there(trial, synthkit):
    answer = synthkit("evaluate", *TABLES, "--synthetic", "made0.csv", "--json")
    assert answer.code == 0, answer.err
    assert not {"survival", "hazard_ratios", "c_index", "calibration_slope"} & set(answer.document)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--survival", "time"), "two column names"),
        (("--survival", "time,nothing"), "no such column"),
        (("--survival", "status,time"), "holds no time"),
        (("--survival", "time,sex"), "do not say which one is the event"),
        (("--survival", "time,status", "--event-level", "2"), "no such category"),
        (("--survival", "time,status", "--stratum", "age > 900"), "outside the public bounds"),
        (("--survival", "time,status", "--covariate", "nothing"), "no such column"),
        (("--stratum", "age > 60"), "--survival"),
        (("--event-level", "dead"), "--survival"),
        (("--covariate", "age"), "--survival"),
        (("--synthetic", "made1.csv"), "--survival"),
    ],
)
def test_bad_input_is_one_line_and_exit_4(trial, synthkit, arguments, words):
    answer = synthkit("evaluate", *TABLES, "--synthetic", "made0.csv", *arguments)
    assert answer.code == 4
    assert words in answer.error


def test_a_time_of_zero_is_refused_by_the_schema(trial, synthkit):
    real = (trial / "real.csv").read_text().splitlines()
    (trial / "real.csv").write_text("\n".join([real[0], "0," + real[1].split(",", 1)[1], *real[2:]]) + "\n")
    answer = synthkit("evaluate", *TABLES, "--synthetic", "made0.csv", *SURVIVAL)
    assert answer.code == 4
    assert "column time, row 1 (line 2): outside the public bounds" in answer.error
    text = (trial / "schema.toml").read_text()
    (trial / "schema.toml").write_text(text.replace("minimum = 1\n", "minimum = 0\n", 1))
    answer = synthkit("evaluate", *TABLES, "--synthetic", "made0.csv", *SURVIVAL)
    assert answer.code == 4
    assert "zero or less" in answer.error
