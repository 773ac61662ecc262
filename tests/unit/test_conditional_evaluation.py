"""Requested against delivered: an honest sampler is diagonal, each lie is counted, few patients are not."""

import json

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import canonical_json
from synthkit.domain.conditional import FEW_REAL, MISSING
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.evaluation.conditional import check_schemas, evaluate_conditions, satisfied
from synthkit.report.conditional_sections import conditional_page, confusions

SCHEMA = Schema(
    columns=(
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"), missing=True),
        Column(name="dose", kind=Kind.INTEGER, minimum=0, maximum=9),
    )
)


def population(count, seed):
    """Dose follows sex; ward C is held by very few."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(np.array(["F", "M"], dtype=object), count)
    ward = rng.choice(np.array(["A", "B", "C", None], dtype=object), count, p=[0.6, 0.29, 0.01, 0.1])
    dose = np.where(sex == "F", rng.integers(0, 4, count), rng.integers(6, 10, count)).astype(float)
    return pd.DataFrame({"sex": sex, "ward": ward, "dose": dose})


def honest(count, seed, conditions):
    """Rejection sampling from the population itself."""
    frame = population(40_000, seed)
    wanted = {condition.column: condition.values[0] for condition in conditions}
    if wanted:
        frame = frame[satisfied(frame, wanted)]
    return SyntheticTable(schema=SCHEMA, frame=frame.head(count).reset_index(drop=True)), 0.5


def lying(column, value):
    """The same rows, of which the last one holds another value."""

    def draw(count, seed, conditions):
        table, reliability = honest(count, seed, conditions)
        if conditions:
            frame = table.frame.copy()
            frame.loc[count - 1, column] = value
            table = SyntheticTable(schema=SCHEMA, frame=frame)
        return table, reliability

    return draw


def deaf(count, seed, conditions):
    """Sets the requested cell and passes nothing on to the other columns."""
    table, _ = honest(count, seed, ())
    frame = table.frame.assign(**{c.column: c.values[0] for c in conditions})
    return SyntheticTable(schema=SCHEMA, frame=frame), 1.0


@pytest.fixture(scope="module")
def real():
    return PatientTable(schema=SCHEMA, frame=population(600, 99), patients=np.arange(600))


def by_label(report):
    return {delivery.label: delivery for delivery in report.deliveries}


def test_an_honest_sampler_is_diagonal_and_nearer_than_its_floor(real):
    report = evaluate_conditions(honest, real, rows=300)
    assert report.is_exact
    found = by_label(report)
    assert list(found) == ["sex = F", "sex = M", "ward = A", "ward = B", "ward = C"]
    female = found["sex = F"]
    assert (female.rows, female.satisfied, female.delivered) == (300, 300, {"F": 300})
    assert female.real_rows == int((real.frame["sex"] == "F").sum())
    assert female.distance < 0.5 * female.floor
    assert female.ceiling < 0.5 * female.floor
    assert female.reliability == 0.5
    matrices = {matrix.column: matrix for matrix in confusions(report)}
    assert matrices["sex"].counts[1:].tolist() == [[300, 0], [0, 300]]
    assert matrices["ward"].values == ("A", "B", "C", MISSING)
    assert matrices["ward"].counts[0].sum() == 300, "the unconditional row keeps its empty cells"


def test_a_sampler_that_passes_nothing_on_does_not_beat_the_floor(real):
    female = by_label(evaluate_conditions(deaf, real, rows=300, columns=("sex",)))["sex = F"]
    assert female.satisfied == 300
    assert female.distance == pytest.approx(female.floor, abs=0.05)


@pytest.mark.parametrize("value", ["B", None])
def test_one_wrong_row_is_counted_and_named(real, value):
    report = evaluate_conditions(lying("ward", value), real, rows=50, columns=("ward",))
    assert not report.is_exact
    wrong = by_label(report)["ward = A"]
    assert (wrong.rows, wrong.satisfied) == (50, 49)
    assert wrong.delivered == {"A": 49, value or MISSING: 1}
    assert by_label(report)["ward = B"].is_exact is (value == "B")
    page = conditional_page(report)
    assert "do not meet their condition" in page
    assert "49 of 50" in page


def test_pairs_are_requested_together_and_a_lie_in_either_column_is_seen(real):
    report = evaluate_conditions(lying("sex", "M"), real, rows=40, columns=("sex", "ward"), pairs=True)
    found = by_label(report)
    assert len(found) == 2 + 3 + 6
    assert found["sex = F and ward = B"].satisfied == 39
    assert found["sex = M and ward = B"].satisfied == 40
    assert found["sex = F and ward = B"].delivered == {}


def test_few_real_patients_are_neither_counted_nor_compared(real):
    assert 0 < int((real.frame["ward"] == "C").sum()) < FEW_REAL
    report = evaluate_conditions(honest, real, rows=50)
    rare = by_label(report)["ward = C"]
    assert (rare.real_rows, rare.distance, rare.floor, rare.ceiling) == (None, None, None, None)
    assert rare.satisfied == 50
    assert f"under {FEW_REAL}" in conditional_page(report)
    document = json.loads(canonical_json(report.to_json()))
    assert document["requests"][-1]["real_rows"] is None


def test_many_rows_of_few_patients_are_few_patients(real):
    crowded = PatientTable(schema=SCHEMA, frame=real.frame, patients=np.arange(600) % (FEW_REAL - 1))
    report = evaluate_conditions(honest, crowded, rows=20, columns=("sex",))
    assert all(delivery.real_rows is None for delivery in report.deliveries)


def test_a_refused_request_is_named_and_delivers_no_wrong_row(real):
    def picky(count, seed, conditions):
        if any(condition.values == ("C",) for condition in conditions):
            raise ConditionError("no training patient meets it", where="ward")
        return honest(count, seed, conditions)

    report = evaluate_conditions(picky, real, rows=20)
    rare = by_label(report)["ward = C"]
    assert (rare.rows, rare.satisfied, rare.reliability) == (0, 0, None)
    assert rare.refused
    assert report.is_exact
    assert report.verdict is Verdict.PASS
    page = conditional_page(report)
    assert "refused 1 of 5" in page
    assert "C (refused)" in page


def test_a_model_that_refuses_everything_does_not_pass(real):
    def mute(count, seed, conditions):
        if conditions:
            raise ConditionError("never", where="here")
        return honest(count, seed, conditions)

    report = evaluate_conditions(mute, real, rows=20)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "refused every request" in conditional_page(report)


def test_the_same_seed_gives_the_same_report(real):
    first = evaluate_conditions(honest, real, rows=30, seed=4)
    assert first == evaluate_conditions(honest, real, rows=30, seed=4)
    assert first != evaluate_conditions(honest, real, rows=30, seed=5)


def test_refusals_come_before_any_draw(real):
    def never(count, seed, conditions):
        raise AssertionError("drawn")

    with pytest.raises(ConditionError, match="unknown column"):
        evaluate_conditions(never, real, columns=("sexx",))
    with pytest.raises(ConditionError, match="no categories"):
        evaluate_conditions(never, real, columns=("dose",))
    with pytest.raises(InputError):
        evaluate_conditions(never, real, rows=0)
    numbers = Schema(columns=SCHEMA.columns[2:])
    table = PatientTable(schema=numbers, frame=real.frame[["dose"]], patients=real.patients)
    with pytest.raises(InputError):
        evaluate_conditions(never, table)
    with pytest.raises(SchemaError):
        check_schemas(SCHEMA, numbers)


def test_too_many_requests_are_refused_and_long_columns_left_out_with_a_note():
    codes = tuple(f"c{i}" for i in range(50))
    schema = Schema(
        columns=(*SCHEMA.columns, *(Column(name=n, kind=Kind.CODE, categories=codes) for n in ("p", "q")))
    )
    frame = population(60, 1).assign(p="c1", q="c2").astype({"p": object, "q": object})
    table = PatientTable(schema=schema, frame=frame, patients=np.arange(60))

    def draw(count, seed, conditions):
        free, reliability = honest(count, seed, [c for c in conditions if c.column in SCHEMA.names])
        return SyntheticTable(schema=schema, frame=free.frame.assign(p="c1", q="c2")), reliability

    report = evaluate_conditions(draw, table, rows=10)
    assert any("p, q" in note for note in report.notes)
    assert len(report.deliveries) == 5
    with pytest.raises(InputError, match="--pairs"):
        evaluate_conditions(draw, table, columns=("p", "q"), pairs=True)
