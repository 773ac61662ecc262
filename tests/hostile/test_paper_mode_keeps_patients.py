"""The leak of the published system, shown and not denied: its libraries are the training patients.

These tests pass because the leak is there. They say what the private mode closes, and that every door to
a release is shut on what comes of it (tests/cli/test_train_paper.py has the doors of the command line).
"""

import logging

import numpy as np
import pandas as pd
import pytest
from small_ward import WARD, ward_table

from synthkit.data.table import PatientTable
from synthkit.domain.audit import Verdict
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.policy import ReleaseRules
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.release import Decision
from synthkit.errors import ConditionError, InputError, ReleaseRefusedError
from synthkit.release.gate import decide
from synthkit.training.paper_medvae import MedVaeSettings, PublishedMedVae, train_medvae

GROUPS = ["sex", "stage", "unit", "outcome"]


@pytest.fixture(scope="module")
def table() -> PatientTable:
    return ward_table(160, seed=2)


@pytest.fixture(scope="module")
def model(table) -> PublishedMedVae:
    """As the authors' notebook trains it: without a KL term that has a gradient."""
    settings = MedVaeSettings(epochs=150, kl_weight=0.0)
    return train_medvae(table, settings, seed=0, study="ward", site="north")


def where(*texts):
    return parse_conditions(texts, WARD)


def test_the_library_holds_every_training_patient(model, table):
    """Each present cell of each of them stands in the folder, in the order of the table."""
    assert len(model.library) == len(table)
    held = model.encoding.decode(model.library.rows).frame
    for name in WARD.names:
        present = table.frame[name].notna()
        pd.testing.assert_series_equal(held[name][present], table.frame[name][present], check_dtype=False)


def test_the_library_of_a_condition_is_the_patients_who_satisfy_it(model, table):
    frame = model.encoding.decode(model.library.rows).frame
    old = np.flatnonzero(frame["age"] >= 70)
    women = np.flatnonzero(frame["sex"] == "Female")
    assert np.array_equal(model._members(where("age >= 70")), old)
    assert np.array_equal(model._members(where("sex = Female")), women)
    both = model._members(where("age >= 70", "sex = Female"))
    assert np.array_equal(both, np.intersect1d(old, women))
    assert 0 < both.size < min(old.size, women.size)


def test_a_library_of_one_patient_gives_rows_of_that_patient(model):
    """All rows of a condition that one patient meets repeat that patient's other cells. Fixed seeds."""
    held = model.encoding.decode(model.library.rows).frame
    alone = held[~held.duplicated(GROUPS, keep=False)].iloc[0]
    conditions = where(*(f'{name} = "{alone[name]}"' for name in GROUPS))
    assert model._members(conditions).size == 1
    rows, met = model.draw(100, seed=1, conditions=conditions)
    assert met > 0.5
    assert abs(rows.frame["age"].mean() - alone["age"]) < 0.25 * held["age"].std()
    assert rows.frame["age"].std() < 0.25 * held["age"].std()


def test_rows_drawn_without_conditions_are_near_copies(model, table):
    """Most agree with some training patient in every column of categories; with strangers few do."""
    names = [column.name for column in WARD if not column.is_numeric]
    made = model.draw(300, seed=1)[0].frame[names]
    seen = set(model.encoding.decode(model.library.rows).frame[names].itertuples(index=False, name=None))
    copied = np.mean([row in seen for row in made.itertuples(index=False, name=None)])
    assert copied > 0.9


def test_conditions_are_met_in_every_row_and_the_published_rate_is_reported(model):
    table, met = model.draw(200, seed=3, conditions=where("age >= 70", "sex = Female", "dose != 0"))
    assert len(table) == 200
    assert (table.frame["age"] >= 70).all()
    assert set(table.frame["sex"]) == {"Female"}
    assert (table.frame["dose"] != 0).all()
    assert 0 < met < 1


def test_the_seed_decides_model_and_rows():
    few, settings = ward_table(40), MedVaeSettings(epochs=2)
    one, same, other = (train_medvae(few, settings, seed=seed, study="s", site="x") for seed in (1, 1, 2))
    assert np.array_equal(one.library.mean, same.library.mean)
    assert not np.array_equal(one.library.mean, other.library.mean)
    assert one.draw(50, seed=4)[0].digest == same.draw(50, seed=4)[0].digest
    assert one.draw(50, seed=4)[0].digest != one.draw(50, seed=5)[0].digest


def test_what_no_patient_meets_is_refused_in_one_line(model):
    for text, words in (
        ("visits = 12", "no training patient"),
        ("creatinine is missing", "no cell is ever empty"),
    ):
        with pytest.raises(ConditionError, match=words) as caught:
            model.draw(5, seed=0, conditions=where(text))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="at least 1"):
        model.draw(0, seed=0)


def test_twelve_patients_and_two_make_a_model_and_one_does_not():
    settings = MedVaeSettings(epochs=2)
    for count in (12, 2):
        model = train_medvae(ward_table(count), settings, seed=0, study="s", site="x")
        rows, _ = model.draw(30, seed=0)
        assert len(rows) == 30
        assert not rows.frame.isna().any().any()
    with pytest.raises(InputError, match="at least two patients"):
        train_medvae(ward_table(1), settings, seed=0, study="s", site="x")


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate", "kl_weight", "rare_below"])
def test_settings_out_of_range_are_refused(name):
    for value in (-1, float("nan")):
        with pytest.raises(InputError, match=name):
            MedVaeSettings(**{name: value})


def test_each_training_is_logged_as_unsafe(caplog):
    with caplog.at_level(logging.WARNING, logger="synthkit.unsafe"):
        train_medvae(ward_table(12), MedVaeSettings(epochs=1), seed=0, study="s", site="x")
    assert "WITHOUT differential privacy" in caplog.text


@pytest.mark.parametrize("verdict", Verdict)
def test_no_verdict_opens_the_gate_unless_the_policy_says_so_in_so_many_words(model, verdict):
    rules = ReleaseRules(
        inconclusive="officer", fail="officer", four_eyes=False, allow_non_private=False, valid_days=90
    )
    assert (model.is_private, model.encoder_provenance) == (False, EncoderProvenance.NON_DP)
    for requested in (None, *Decision):
        with pytest.raises(ReleaseRefusedError, match="allow_non_private"):
            decide(
                verdict=verdict,
                rules=rules,
                private=model.is_private,
                encoder_provenance=model.encoder_provenance,
                requested=requested,
                reason="The registry needs it for its yearly report",
            )
