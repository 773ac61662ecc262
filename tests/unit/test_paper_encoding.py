"""Imputation, scaling and coding as published, and what happens to columns that cannot be learnt from."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from small_ward import STAGES, WARD, ward_table

from synthkit.data.paper_columns import Role
from synthkit.data.paper_encoding import PaperEncoding, prepare
from synthkit.data.table import PatientTable
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import InputError, SchemaError


def prepared(table, **changes):
    return prepare(table, **{"rare_below": 0.0, "seed": 0, **changes})


def changed(table: PatientTable, **columns) -> PatientTable:
    return dataclasses.replace(table, frame=table.frame.assign(**columns))


def test_ranges_and_vocabularies_are_the_rows_own():
    table = ward_table(200)
    encoding, rows = prepared(table)
    age = encoding.columns[0]
    assert (age.role, age.minimum, age.maximum) == (
        Role.NUMERIC,
        table.frame["age"].min(),
        table.frame["age"].max(),
    )
    assert (rows.numeric.min(), rows.numeric.max()) == (0.0, 1.0)
    roles = {column.column.name: column.role for column in encoding.columns}
    assert (roles["sex"], roles["outcome"]) == (Role.BINARY, Role.BINARY)
    assert (roles["stage"], roles["unit"]) == (Role.CATEGORICAL, Role.CATEGORICAL)
    assert encoding.to_json()["provenance"] == "data"


def test_what_was_there_comes_back_exactly_and_what_was_not_is_filled():
    table = ward_table(300)
    encoding, rows = prepared(table)
    back = encoding.decode(rows).frame
    for name in table.frame:
        present = table.frame[name].notna()
        pd.testing.assert_series_equal(back[name][present], table.frame[name][present], check_dtype=False)
    assert not back.isna().any().any()
    assert table.frame["creatinine"].isna().any()
    filled = back["creatinine"][table.frame["creatinine"].isna()]
    observed = table.frame["creatinine"].dropna()
    assert filled.between(observed.min(), observed.max()).all()
    assert set(back["stage"]) <= set(STAGES)


def test_imputation_uses_the_other_columns():
    """Stage rises with age by plan: imputed stages do too. Fixed seed; ten standard errors from 0."""
    table = ward_table(2000)
    encoding, rows = prepared(table)
    back = encoding.decode(rows).frame
    gaps = table.frame["stage"].isna().to_numpy()
    ranks = back["stage"].map({stage: rank for rank, stage in enumerate(STAGES)}).to_numpy(dtype=float)
    assert np.corrcoef(ranks[gaps], table.frame["age"].to_numpy()[gaps])[0, 1] > 0.6


def test_the_same_seed_imputes_the_same():
    first, second = prepared(ward_table(150))[1], prepared(ward_table(150))[1]
    assert np.array_equal(first.numeric, second.numeric)
    assert np.array_equal(first.categories, second.categories)


def test_a_round_trip_through_the_header():
    encoding, _ = prepared(ward_table(80))
    assert PaperEncoding.from_json(encoding.to_json(), WARD) == encoding
    with pytest.raises(ValueError, match="not the schema's"):
        PaperEncoding.from_json({**encoding.to_json(), "columns": []}, WARD)


def test_decoded_numbers_keep_the_schemas_bounds_and_decimals():
    """The linear head knows no bounds."""
    encoding, rows = prepared(ward_table(60))
    wild = dataclasses.replace(rows, numeric=rows.numeric * 80 - 40)
    frame = encoding.decode(wild).frame
    for column in WARD:
        if column.is_numeric:
            assert frame[column.name].between(column.minimum, column.maximum).all()
            assert np.array_equal(frame[column.name].round(column.decimals), frame[column.name])


def test_conditions_select_the_rows_that_meet_them_all():
    table = ward_table(300)
    encoding, rows = prepared(table)
    frame = encoding.decode(rows).frame
    texts = ["age >= 60 and sex = Female", "stage != IV", "dose in (0, 50)"]
    meets = encoding.satisfying(rows, parse_conditions(texts, WARD))
    expected = (
        (frame["age"] >= 60)
        & (frame["sex"] == "Female")
        & (frame["stage"] != "IV")
        & frame["dose"].isin([0, 50])
    )
    assert np.array_equal(meets, expected.to_numpy())
    assert 0 < meets.sum() < len(meets)


def test_constant_columns_are_written_back_and_not_learnt():
    table = changed(ward_table(60), visits=3.0, unit="icu", sex="Male")
    encoding, rows = prepared(table)
    assert [c.column.name for c in encoding.of(Role.CONSTANT)] == ["visits", "sex", "unit"]
    assert rows.numeric.shape[1] == len([c for c in WARD if c.is_numeric]) - 1
    frame = encoding.decode(rows).frame
    assert (set(frame["visits"]), set(frame["unit"]), set(frame["sex"])) == ({3.0}, {"icu"}, {"Male"})


def test_a_constant_column_with_gaps_is_constant():
    values = np.where(np.arange(60) % 3 == 0, np.nan, 2.5)
    encoding, rows = prepared(changed(ward_table(60), creatinine=values))
    assert set(encoding.decode(rows).frame["creatinine"]) == {2.5}


def refusal(table, **changes):
    with pytest.raises(InputError) as caught:
        prepared(table, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_that_cannot_be_learnt_from_are_refused_in_one_line():
    table = ward_table(40)
    assert "column creatinine: every cell is empty" in refusal(changed(table, creatinine=np.nan))
    assert "column stage: every cell is empty" in refusal(changed(table, stage=None))
    infinite = np.where(np.arange(40) == 7, np.inf, 1.0)
    assert "column creatinine: holds an infinite value" in refusal(changed(table, creatinine=infinite))
    assert "at least two patients" in refusal(table.take(np.arange(1)))
    assert "at least two patients" in refusal(table.take(np.arange(0)))


def test_a_table_of_constants_is_refused():
    schema = Schema(columns=(Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=100),))
    frame = pd.DataFrame({"age": np.full(20, 50.0)})
    encoding, _ = prepared(PatientTable(schema=schema, frame=frame, patients=np.arange(20)))
    with pytest.raises(InputError, match="one single value"):
        _ = encoding.layout


def test_what_is_still_to_be_bought_is_refused():
    schema = Schema(columns=(Column(name="age", kind=Kind.INTEGER, provenance=Provenance.DP),))
    frame = pd.DataFrame({"age": np.arange(20.0)})
    with pytest.raises(SchemaError, match="still to be bought"):
        prepared(PatientTable(schema=schema, frame=frame, patients=np.arange(20)))


def test_rare_columns_are_dropped_and_the_schema_says_so():
    drug = np.where(np.arange(200) < 18, "Male", "Female").astype(object)
    table = changed(ward_table(200), sex=drug)
    assert prepared(table)[0].schema == WARD
    schema = prepared(table, rare_below=0.1)[0].schema
    assert schema.names == tuple(name for name in WARD.names if name != "sex")
    assert schema.ignored == ("sex",)
    assert prepared(table, rare_below=0.09)[0].schema == WARD
