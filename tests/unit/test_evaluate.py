"""`evaluate` hands on sdmetrics' own score, sets a floor and a ceiling, and refuses what it cannot judge."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import canonical_json
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError, SchemaError
from synthkit.evaluation.pictures import associations, distributions
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=100),
        Column(name="pressure", kind=Kind.NUMERIC, minimum=50, maximum=250, decimals=1, missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Male", "Female")),
        Column(name="smoker", kind=Kind.BINARY, categories=("no", "yes"), target=True),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"), missing=True),
    )
)


def rows(count, seed):
    rng = np.random.default_rng(seed)
    age = np.round(rng.uniform(0, 100, count))
    pressure = np.round(np.clip(90 + 0.8 * age + rng.normal(0, 5, count), 50, 250), 1)
    pressure[rng.random(count) < 0.1] = np.nan
    smoker = np.where(rng.random(count) < np.where(age > 50, 0.95, 0.05), "yes", "no")
    ward = np.where(smoker == "yes", "A", rng.choice(["B", "C"], count)).astype(object)
    ward[rng.random(count) < 0.1] = None
    sex = rng.choice(["Male", "Female"], count)
    return pd.DataFrame(
        {"age": age, "pressure": pressure, "sex": sex, "smoker": smoker, "ward": ward}
    ).astype({"sex": object, "smoker": object})


def real(frame, schema=SCHEMA):
    return PatientTable(schema=schema, frame=frame, patients=np.arange(len(frame)))


def made(frame, schema=SCHEMA):
    return SyntheticTable(schema=schema, frame=frame)


def permuted(frame, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.permutation(frame[name].to_numpy()) for name in frame})


@pytest.fixture(scope="module")
def holdout():
    return real(rows(1200, seed=1))


@pytest.fixture(scope="module")
def fresh(holdout):
    """Independent rows of the same population in the synthetic table's place."""
    return evaluate(real=holdout, synthetic=made(rows(1200, seed=2)), train=real(rows(1500, seed=3)))


def direct_score(first, second):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdmetrics.reports.single_table import QualityReport

        report = QualityReport()
        kinds = {c.name: {"sdtype": "numerical" if c.is_numeric else "categorical"} for c in SCHEMA}
        report.generate(first, second, {"columns": kinds}, verbose=False)
        return [report.get_score(), *report.get_properties()["Score"]]


def test_quality_is_sdmetrics_own_score(holdout, fresh):
    """Asked directly, with the text as text and missing text written out."""
    first, second = (f.fillna({"ward": "missing"}) for f in (holdout.frame, rows(1200, seed=2)))
    own = fresh.quality
    assert [own.overall, own.column_shapes, own.column_pairs] == pytest.approx(direct_score(first, second))


def test_independent_real_rows_are_near_the_ceiling(fresh):
    assert fresh.quality.overall == pytest.approx(fresh.ceiling.overall, abs=0.02)
    assert fresh.quality.column_pairs > fresh.floor.column_pairs + 0.15
    assert fresh.total_variation["two_way"] == pytest.approx(
        fresh.total_variation["ceiling_two_way"], abs=0.03
    )
    assert fresh.total_variation["two_way"] < fresh.total_variation["floor_two_way"]


def test_permuted_columns_equal_the_floor(holdout):
    report = evaluate(real=holdout, synthetic=made(permuted(holdout.frame, seed=5)), targets=())
    assert report.quality.column_shapes == report.floor.column_shapes == pytest.approx(1.0)
    assert report.quality.column_pairs == pytest.approx(report.floor.column_pairs, abs=0.02)
    distances = report.total_variation
    assert distances["one_way"] == distances["floor_one_way"] == 0.0
    assert distances["two_way"] == pytest.approx(distances["floor_two_way"], abs=0.02)


def test_report_is_canonical_json_with_the_contracts_fields(fresh):
    document = json.loads(canonical_json(fresh.to_json()))
    assert {"overall", "column_shapes", "column_pairs", "floor", "ceiling"} <= set(document["quality"])
    assert set(document["utility"]["smoker = yes"]["synthetic"]) == {"accuracy", "auc"}
    assert set(document["moments"]["age"]["real"]) == {"mean", "std", "skewness", "kurtosis"}
    assert set(document["missing"]) == {"pressure", "ward"}
    assert document["notes"] == []


def test_same_seed_gives_the_same_report(holdout):
    tables = {"real": holdout, "synthetic": made(rows(400, seed=6)), "max_rows": 300}
    first = evaluate(**tables, seed=4)
    assert first == evaluate(**tables, seed=4)
    assert first.quality != evaluate(**tables, seed=5, targets=()).quality


def test_notes_say_what_departs_from_the_plain_case(holdout):
    report = evaluate(real=holdout, synthetic=made(rows(400, seed=6)), max_rows=300)
    text = " ".join(report.notes)
    assert "split by patient" in text
    assert "300 rows" in text


def test_others_are_reported_by_label_even_when_it_is_called_real(holdout):
    target = parse_target("age >= 50", SCHEMA)
    report = evaluate(
        real=holdout,
        synthetic=made(rows(300, seed=7)),
        train=real(rows(300, seed=8)),
        targets=(target,),
        others={"H1": real(rows(300, seed=9)), "real": real(rows(300, seed=10))},
    )
    (entry,) = report.utility
    assert list(entry.others) == ["H1", "real"]
    assert entry.others["real"] != entry.real


def test_one_class_only_gives_the_constants_accuracy_and_no_auc(holdout):
    collapsed = rows(300, seed=11).assign(smoker="no")
    report = evaluate(real=holdout, synthetic=made(collapsed), train=real(rows(300, seed=12)))
    share = float((holdout.frame["smoker"] == "no").mean())
    assert report.utility[0].synthetic.auc == 0.5
    assert report.utility[0].synthetic.accuracy == pytest.approx(share)


def test_a_constant_synthetic_table_scores_below_the_floor(holdout):
    """sdmetrics cannot score constant columns and would leave them out; no figure may be NaN."""
    first = holdout.frame.iloc[[0]]
    constant = pd.concat([first] * 300, ignore_index=True)
    report = evaluate(real=holdout, synthetic=made(constant), targets=())
    canonical_json(report.to_json())
    assert report.quality.overall < report.floor.overall
    assert not any("thresholds" in note for note in report.notes)


def test_unrelated_columns_are_scored_pair_by_pair_and_the_note_says_so():
    frame = permuted(rows(800, seed=13), seed=14)
    report = evaluate(real=real(frame), synthetic=made(permuted(frame, seed=15)), targets=())
    assert report.quality.column_pairs > 0.8
    assert any("thresholds" in note for note in report.notes)


def test_refuses_other_columns_empty_tables_and_single_columns(holdout):
    other = Schema(columns=SCHEMA.columns[:2])
    narrow = rows(10, seed=1)[["age", "pressure"]]
    with pytest.raises(SchemaError):
        evaluate(real=holdout, synthetic=made(narrow, other))
    with pytest.raises(InputError):
        evaluate(real=holdout, synthetic=made(rows(10, seed=1).iloc[:0]))
    with pytest.raises(InputError):
        evaluate(real=real(rows(1, seed=1)), synthetic=made(rows(10, seed=1)))
    with pytest.raises(InputError):
        evaluate(real=holdout, synthetic=made(rows(10, seed=1)), max_rows=0)
    one = Schema(columns=SCHEMA.columns[:1])
    with pytest.raises(InputError):
        evaluate(real=real(narrow[["age"]], one), synthetic=made(narrow[["age"]], one))


@pytest.mark.parametrize("names", [("sex", "smoker", "ward"), ("age", "pressure")])
def test_tables_of_one_kind_of_column_are_judged_and_pictured(names):
    schema = Schema(columns=tuple(SCHEMA.column(name) for name in names))
    first, second = real(rows(200, seed=1)[list(names)], schema), made(rows(150, seed=2)[list(names)], schema)
    canonical_json(evaluate(real=first, synthetic=second).to_json())
    assert associations(first, second).real.shape == (len(names), len(names))
    assert len(distributions(first, second)) == len(names)


def test_progress_names_each_stage(holdout):
    lines = []
    evaluate(real=holdout, synthetic=made(rows(100, seed=1)), progress=lines.append)
    assert any("smoker = yes" in line for line in lines)


def test_sdmetrics_is_not_imported_before_it_is_needed():
    code = "import sys, synthkit.evaluation.run; sys.exit('sdmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
