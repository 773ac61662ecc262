"""Box-Cox, rescaling and coding as the published MCM has them, and back again."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_ward import STAGES, WARD, ward_table

from synthkit.data.paper_boxcox import BoxCoxEncoding, fit_boxcox, masks
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError


def table_of(**columns) -> PatientTable:
    """Numbers in numeric columns that allow whatever the numbers are."""
    kinds = {"kind": Kind.NUMERIC, "minimum": -1e6, "maximum": 1e6, "decimals": 3, "missing": True}
    schema = Schema(name="numbers", columns=tuple(Column(name=name, **kinds) for name in columns))
    frame = pd.DataFrame({name: np.asarray(values, dtype=float) for name, values in columns.items()})
    return PatientTable(schema=schema, frame=frame, patients=np.arange(len(frame)))


def test_the_power_is_that_of_greatest_likelihood_after_adding_one():
    """Against scipy's own search, which is another one."""
    rng = np.random.default_rng(0)
    skewed, even = rng.lognormal(1.0, 0.7, 400).round(3), (rng.random(400) * 50 + 3).round(3)
    encoding = fit_boxcox(table_of(skewed=skewed, even=even))
    for column, numbers in zip(encoding.columns, (skewed, even), strict=True):
        assert column.power == pytest.approx(stats.boxcox(numbers + 1)[1], abs=1e-4)


def test_features_are_the_published_formula():
    numbers = np.random.default_rng(1).lognormal(2.0, 0.5, 300).round(3)
    encoding = fit_boxcox(table_of(number=numbers))
    transformed = stats.boxcox(numbers + 1, lmbda=encoding.columns[0].power)
    expected = (transformed - transformed.min()) / (transformed.max() - transformed.min())
    np.testing.assert_allclose(encoding.features(numbers[:, None])[:, 0], expected, atol=1e-9)


@pytest.mark.parametrize("shift", [-500.0, -3.0, 0.0, 1e5])
def test_values_come_back_wherever_the_numbers_lie(shift):
    """Also below zero, at zero, and far from it, where a power alone would lose every digit."""
    numbers = (np.random.default_rng(2).gamma(2.0, 30.0, 300) + shift).round(3)
    encoding = fit_boxcox(table_of(number=numbers))
    features = encoding.features(numbers[:, None])
    assert (features.min(), features.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(encoding.values(features)[:, 0], numbers)


def test_every_kind_of_column_comes_back_exactly():
    table = ward_table(200)
    encoding = fit_boxcox(table)
    values = encoding.code(table.frame)
    back = encoding.table(encoding.values(encoding.features(values))).frame
    assert not back.isna().any().any()
    for name in WARD.names:
        present = table.frame[name].notna()
        pd.testing.assert_series_equal(back[name][present], table.frame[name][present], check_dtype=False)
    untouched = encoding.table(values).frame
    pd.testing.assert_frame_equal(untouched, table.frame, check_dtype=False)


def test_an_empty_cell_is_no_feature_and_a_category_is_one_feature_a_level():
    table = ward_table(200)
    encoding = fit_boxcox(table)
    values = encoding.code(table.frame)
    place = WARD.names.index("creatinine")
    empty = table.frame["creatinine"].isna().to_numpy()
    assert empty.any()
    assert np.array_equal(np.isnan(values[:, place]), empty)
    assert (encoding.features(values)[empty][:, encoding.owners == place] == 0).all()
    widths = {name: int((encoding.owners == place).sum()) for place, name in enumerate(WARD.names)}
    assert (widths["unit"], widths["stage"], widths["sex"], widths["age"]) == (3, 1, 1, 1)


def test_ordinal_positions_are_rescaled_and_the_nearest_is_taken():
    table = ward_table(200)
    encoding = fit_boxcox(table)
    stage = encoding.columns[WARD.names.index("stage")]
    assert stage.fitted.levels == STAGES
    found = stage.features(np.array([0.0, 1.0, 2.0, 3.0]))[:, 0]
    np.testing.assert_allclose(found, [0, 1 / 3, 2 / 3, 1])
    assert stage.values(np.array([[0.1], [0.2], [0.6], [0.99]])).tolist() == [0, 1, 2, 3]


def test_a_constant_column_is_no_feature_and_is_written_back():
    table = table_of(fixed=[4.0] * 5, moving=[1.0, 2.0, 3.0, 4.0, 9.0])
    encoding = fit_boxcox(table)
    assert encoding.owners.tolist() == [1]
    assert encoding.values(np.array([[0.0], [1.0]])).tolist() == [[4.0, 1.0], [4.0, 9.0]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0, 1.0], "b": [2.0, 2.0]}, "one single value"),
        ({"a": [1.0, np.inf]}, "infinite"),
        ({"a": [np.nan, np.nan]}, "every cell is empty"),
        ({"a": []}, "no patient"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_one_line(columns, words):
    with pytest.raises(InputError, match=words) as caught:
        fit_boxcox(table_of(**columns))
    assert "\n" not in str(caught.value)


def test_the_header_form_reads_back_and_an_altered_one_does_not():
    encoding = fit_boxcox(ward_table(60))
    document = encoding.to_json()
    assert BoxCoxEncoding.from_json(document, WARD) == encoding
    assert document["provenance"] == "data"
    for field, value in (("power", 9.0), ("centre", -1.0), ("role", "binary"), ("levels", ["VII"])):
        entry = {**document["columns"][0], field: value}
        with pytest.raises(ValueError, match=r"column|range"):
            BoxCoxEncoding.from_json({**document, "columns": [entry, *document["columns"][1:]]}, WARD)


def test_a_level_that_no_patient_has_is_not_told_to_the_network():
    table = ward_table(60)
    kept = table.frame[table.frame["unit"] != "icu"].reset_index(drop=True)
    encoding = fit_boxcox(dataclasses.replace(table, frame=kept, patients=np.arange(len(kept))))
    place = WARD.names.index("unit")
    assert np.isnan(encoding.code(table.frame)[(table.frame["unit"] == "icu").to_numpy(), place]).all()


def test_masks_are_of_the_number_asked_for_and_of_every_column():
    counts = np.array([0, 3, 5, 2] * 500)
    found = masks(counts, 5, np.random.default_rng(0))
    assert np.array_equal(found.sum(axis=1), counts)
    # 2.5 of 5 columns a row in the mean: 1000 of 2000 rows a column, standard deviation 16.
    assert np.abs(found.sum(axis=0) - 1000).max() < 100
