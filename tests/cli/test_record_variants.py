"""`counterfactual`, and `complete` of records, at the keyboard: what comes out belongs together."""

from pathlib import Path

import pandas as pd
import pytest

from synthkit.cli.main import run
from synthkit.domain.documents import schema_from_toml
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator, save_sequence_model

SMALL = {"channels": 8, "hidden": 8, "latent": 2, "layers": 1, "most_visits": 8, "most_codes": 60}
PAIR = ("--where", "sex = Female", "--instead", "sex = Male")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Simulated records and a model of them that has learnt nothing."""
    folder = tmp_path_factory.mktemp("variants")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        size = ("-n", "30", "--visits-mean", "3", "--most-visits", "6", "--schema", "schema.toml")
        assert run(["simulate", *size, "-o", "records.csv", "--patients", "patients.csv"]) == 0
        schema = schema_from_toml(Path("schema.toml").read_text("utf-8"), "schema.toml")
        model = SequenceModel(
            schema=schema,
            generator=new_sequence_generator("eva-c", schema, SMALL, seed=0),
            spend=None,
            study="s",
            study_digest="0" * 64,
            site="north",
        )
        save_sequence_model(model, Path("model"))
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in built.iterdir():
        Path(path.name).symlink_to(path)
    return tmp_path


def errors(answer):
    assert "Traceback" not in answer.err
    return [line for line in answer.err.splitlines() if line.startswith("error: ")]


def test_pairs_are_the_same_patients_but_for_what_was_asked(ward, synthkit):
    done = synthkit("counterfactual", "model", "-n", "40", *PAIR, "-o", "pairs")
    assert done.code == 0, done.err
    first, second = (
        pd.read_csv(f"pairs/{kind}-patients.csv").set_index("patient")
        for kind in ("factual", "counterfactual")
    )
    assert set(first["sex"]) == {"Female"}
    assert set(second["sex"]) == {"Male"}
    assert len(first) == 40
    assert first.drop(columns="sex").equals(second.drop(columns="sex"))
    for kind in ("factual", "counterfactual"):
        assert set(pd.read_csv(f"pairs/{kind}.csv")["patient"]) == set(first.index)


def test_pairs_that_cannot_be_drawn_are_one_line_and_leave_no_folder(ward, synthkit):
    for options, words in (
        (("--instead", "sex = Robot"), "sex has no such category"),
        (("--instead", "code = I10"), ""),
        (("--where", "height > 3", "--instead", "sex = Male"), "height"),
    ):
        refused = synthkit("counterfactual", "model", "-n", "5", *options, "-o", "pairs")
        assert refused.code == 4, refused.err
        assert len(errors(refused)) == 1
        assert words in errors(refused)[0]
        assert not Path("pairs").exists()


def test_pairs_are_not_overwritten_unasked(ward, synthkit):
    assert synthkit("counterfactual", "model", "-n", "5", *PAIR, "-o", "pairs").code == 0
    again = synthkit("counterfactual", "model", "-n", "6", *PAIR, "-o", "pairs")
    assert again.code == 4
    assert "the file exists" in errors(again)[0]
    assert synthkit("counterfactual", "model", "-n", "6", *PAIR, "-o", "pairs", "--force").code == 0
    assert len(pd.read_csv("pairs/factual-patients.csv")) == 6


def test_given_visits_stand_as_they_were_and_the_rest_follows_them(ward, synthkit):
    tables = ("records.csv", "--patients", "patients.csv")
    done = synthkit("complete", "model", *tables, "-o", "continued.csv")
    assert done.code == 0, done.err
    given, made = (
        pd.read_csv(name)[["patient", "visit", "date", "code"]] for name in ("records.csv", "continued.csv")
    )
    lengths = given.groupby("patient")["visit"].max()
    kept = made[made["visit"] <= made["patient"].map(lengths)]
    order = ["patient", "visit", "code"]
    pd.testing.assert_frame_equal(
        kept.sort_values(order).reset_index(drop=True), given.sort_values(order).reset_index(drop=True)
    )
    assert len(made) > len(kept)
    sealed = synthkit("generate", "model", "-n", "5", "-o", "made.csv", "--where", "sex = Female")
    assert sealed.code == 0, sealed.err
