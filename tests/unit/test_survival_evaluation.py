"""Survival evaluation on odd tables: a word where a figure cannot be given, never a crash, never a guess."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import canonical_json
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError
from synthkit.evaluation import survival as module
from synthkit.evaluation.rubin import Rule
from synthkit.evaluation.survival import SurvivalTables, evaluate_survival
from synthkit.evaluation.survival_task import survival_task
from synthkit.report.survival_sections import survival_line, survival_sections

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=20, maximum=100, missing=True),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"), missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Male", "Female")),
        Column(name="time", kind=Kind.DURATION, minimum=1, maximum=2000, unit="days", missing=True),
        Column(name="status", kind=Kind.EVENT, categories=("1", "2"), missing=True),
    )
)


def rows(count, seed, *, slope=0.04):
    """Exponential times whose log hazard rises with age and is 0.7 higher in ward C; a third censored."""
    rng = np.random.default_rng(seed)
    age = np.round(rng.uniform(20, 100, count))
    ward = rng.choice(["A", "B", "C"], count).astype(object)
    risk = slope * (age - 60) + 0.7 * (ward == "C")
    time = 300 * rng.exponential(np.exp(-risk))
    until = rng.uniform(50, 2000, count)
    status = np.where(time <= until, "2", "1").astype(object)
    time = np.clip(np.ceil(np.minimum(time, until)), 1, 2000)
    sex = rng.choice(["Male", "Female"], count).astype(object)
    return pd.DataFrame({"age": age, "ward": ward, "sex": sex, "time": time, "status": status})


def patients(frame, schema=SCHEMA, each=1):
    return PatientTable(schema=schema, frame=frame, patients=np.arange(len(frame)) // each)


@pytest.fixture(autouse=True)
def two_halves(monkeypatch):
    """Two halves instead of ten: the yardstick itself is looked at where it is not set."""
    monkeypatch.setattr(module, "HALVES", 2)


def measure(real, *synthetic, schema=SCHEMA, strata=(), each=1, has_page=False):
    table = patients(real, schema, each)
    halves = table.split((0.5, 0.5), seed=0)
    tables = SurvivalTables(
        real=table,
        baseline=halves[0],
        test=halves[1],
        synthetic=tuple(SyntheticTable(schema=schema, frame=frame) for frame in synthetic),
        source_size=len(real),
    )
    task = survival_task("time,status", schema, strata=strata)
    report = evaluate_survival(task, tables, seed=0, say=str)
    canonical_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    if has_page:
        assert len(survival_sections(report)) == 3
        assert survival_line(report)
    return report


def ratio(report, name):
    return next(one for one in report.hazard_ratios if one.name == name)


@pytest.fixture(scope="module")
def fresh():
    """Other rows of the same population in the synthetic table's place."""
    return measure(rows(800, 1), rows(800, 2), strata=["age > 75", "age < 21"], has_page=True)


def test_fresh_rows_of_the_same_population_agree(fresh):
    assert all(one.is_inside and one.overlap > 0.5 for one in fresh.hazard_ratios if one.name != "ward = B")
    assert ratio(fresh, "age").real.hazard_ratio == pytest.approx(np.exp(0.04), rel=0.01)
    assert ratio(fresh, "ward = C").synthetic.hazard_ratio == pytest.approx(np.exp(0.7), rel=0.3)
    assert fresh.references == {"ward": "A", "sex": "Male"}
    assert fresh.c_index.real > 0.7
    assert abs(fresh.c_index.difference) < 3 * fresh.c_index.difference_error
    assert 0 < fresh.distance.largest_gap < 2 * fresh.halves_distance.largest_gap
    assert fresh.censored[0] == pytest.approx(fresh.censored[1], abs=0.07)
    assert fresh.event_level == "2"
    assert (fresh.sets, fresh.rule) == (1, "")
    assert fresh.half_sample_error < 0.2


def test_calibration_is_of_everyone_and_of_each_stratum(fresh):
    asked = {(one.stratum, one.percentile) for one in fresh.calibration_slope}
    assert asked == {(label, p) for label in ("all", "age > 75", "age < 21") for p in (25, 75)}
    everyone = [one for one in fresh.calibration_slope if one.stratum == "all"]
    assert all(one.real.deviation < 3 * one.real.standard_error for one in everyone)
    assert all(one.synthetic.deviation < 3 * one.synthetic.standard_error for one in everyone)
    document = fresh.to_json()["calibration_slope"]
    assert document["age > 75"]["p75"]["synthetic"]["slope"] > 0
    assert document["age < 21"]["p25"]["real"] is None
    assert any("age < 21" in note for note in fresh.notes)


def test_a_table_without_relations_is_seen():
    """Shuffled ages: the synthetic age effect is gone, C falls to guessing but for the ward."""
    real, flat = rows(800, 1), rows(800, 2)
    flat["age"] = np.random.default_rng(3).permutation(flat["age"].to_numpy())
    report = measure(real, flat)
    assert ratio(report, "age").is_inside is False
    assert ratio(report, "age").overlap == 0
    assert report.log_hazard_error > 3 * report.half_sample_error
    assert report.c_index.difference < -3 * report.c_index.difference_error


def test_no_event_in_the_synthetic_rows():
    none = rows(300, 2).assign(status="1")
    report = measure(rows(300, 1), none, has_page=True)
    assert ratio(report, "age").synthetic is None
    assert ratio(report, "age").real is not None
    assert report.c_index.synthetic is None
    assert report.censored[1] == 1.0
    assert any("No event was seen in the synthetic rows" in note for note in report.notes)


def test_no_event_in_the_real_rows():
    report = measure(rows(300, 1).assign(status="1"), rows(300, 2), has_page=True)
    assert ratio(report, "age").real is None
    assert report.c_index.real is None
    assert report.calibration_slope == ()
    assert report.log_hazard_error is None
    assert any("no C and no calibration" in note for note in report.notes)


def test_all_events_and_heavy_ties_have_a_word():
    every = rows(300, 2).assign(status="2")
    coarse = rows(300, 1)
    coarse["time"] = np.ceil(coarse["time"] / 100) * 100
    notes = " ".join(measure(coarse, every).notes)
    assert "No row is censored in the synthetic rows" in notes
    assert "Efron" in notes


def test_a_covariate_of_one_value_in_one_table_has_no_ratio_there():
    report = measure(rows(300, 1), rows(300, 2).assign(sex="Male"))
    assert ratio(report, "sex = Female").synthetic is None
    assert ratio(report, "sex = Female").real is not None
    assert ratio(report, "age").synthetic is not None
    assert any("Of one value only in the synthetic rows" in n and "sex = Female" in n for n in report.notes)


def test_a_covariate_that_separates_the_events_is_not_trusted():
    split = rows(300, 2)
    split["sex"] = np.where(split["status"] == "2", "Female", "Male").astype(object)
    report = measure(rows(300, 1), split, has_page=True)
    assert any("did not converge safely" in note or "could not be fitted" in note for note in report.notes)


def test_covariates_that_say_the_same_do_not_stop_it():
    twin = Column(name="twin", kind=Kind.INTEGER, minimum=20, maximum=100)
    schema = replace(SCHEMA, columns=(*SCHEMA.columns, twin))
    real, made = (frame.assign(twin=frame["age"]) for frame in (rows(200, 1), rows(200, 2)))
    report = measure(real, made, schema=schema)
    assert any("Cox model" in note for note in report.notes)


def test_rows_with_gaps_leave_the_cox_models_and_stay_in_the_curves():
    real = rows(400, 1)
    real.loc[:79, "age"] = np.nan
    report = measure(real, rows(400, 2))
    assert any("20.0 % of the real rows miss a covariate" in note for note in report.notes)
    assert report.real_curve.at_risk[0] == 400


def test_a_covariate_mostly_missing_leaves_instead_of_the_rows():
    real = rows(300, 1)
    real.loc[:199, "ward"] = None
    report = measure(real, rows(300, 2))
    assert [one.name for one in report.hazard_ratios] == ["age", "sex = Female"]
    assert any("missing more often than present" in note and "ward" in note for note in report.notes)


def test_a_table_without_any_time_is_refused():
    with pytest.raises(InputError, match="the synthetic table: no row has both a time and an event"):
        measure(rows(100, 1), rows(100, 2).assign(time=np.nan))


def test_missing_unit_empty_stratum_and_repeated_patients_have_a_word():
    bare = replace(
        SCHEMA, columns=tuple(replace(c, unit="") if c.name == "time" else c for c in SCHEMA.columns)
    )
    young = rows(300, 1)
    young["age"] = young["age"].clip(upper=60)
    report = measure(young, rows(300, 2), schema=bare, strata=["age > 90"], each=2)
    notes = " ".join(report.notes)
    assert "no unit for time" in notes
    assert "No real patient to test on is in the stratum age > 90" in notes
    assert "several rows" in notes
    empty = [one for one in report.calibration_slope if one.stratum == "age > 90"]
    assert all(one.real is None and one.synthetic is None for one in empty)


def test_an_event_that_nobody_named_has_a_word(fresh):
    assert any("status do not say which one is the event: 2, listed second" in note for note in fresh.notes)


def test_several_tables_are_pooled_and_the_first_one_is_the_one_shown():
    real, made = rows(400, 1), [rows(400, seed) for seed in (2, 3, 4)]
    report = measure(real, *made)
    alone = measure(real, made[0])
    assert report.rule == Rule.PARTIAL.value
    assert report.sets == 3
    age, single = ratio(report, "age"), ratio(alone, "age")
    assert age.synthetic == single.synthetic
    assert single.pooled is None
    assert age.pooled.standard_error > age.synthetic.standard_error
    assert age.pooled.quantile > 1.96
    assert any("noise that all its tables share" in note for note in report.notes)


def test_a_larger_synthetic_table_does_not_narrow_the_pooled_interval():
    real = rows(300, 1)
    small = ratio(measure(real, *(rows(300, seed) for seed in (2, 3, 4))), "age").pooled
    large = ratio(measure(real, *(rows(900, seed) for seed in (2, 3, 4))), "age").pooled
    assert large.standard_error == pytest.approx(small.standard_error, rel=0.25)
    assert large.standard_error > 0.75 * ratio(measure(real, real), "age").real.standard_error


def test_large_tables_are_sampled_and_said_so(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 150)
    report = measure(rows(400, 1), rows(400, 2))
    assert any("seeded sample of at most 150 rows" in note for note in report.notes)
    again = measure(rows(400, 1), rows(400, 2))
    assert again.to_json() == report.to_json()


def test_no_note_holds_a_count_of_rows(fresh):
    whole = measure(rows(793, 1), rows(797, 2), strata=["age > 95"])
    assert not any("793" in note or "797" in note for note in (*whole.notes, *fresh.notes))


def test_lifelines_is_not_imported_before_a_survival_table_is_asked_about():
    code = "import synthkit.evaluation.run, sys; sys.exit('lifelines' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
