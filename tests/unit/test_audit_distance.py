"""Gower's distance and its blocked search agree with the definition, cell by cell."""

import numpy as np
import pandas as pd
import pytest

from synthkit.audit import distance
from synthkit.domain.schema import Column, Kind, Schema

CODES = tuple(f"c{j}" for j in range(100))
SCHEMA = Schema(
    columns=(
        Column(name="a", kind=Kind.NUMERIC, minimum=0, maximum=10, decimals=1, missing=True),
        Column(name="b", kind=Kind.INTEGER, minimum=0, maximum=100),
        Column(name="day", kind=Kind.DATETIME, minimum=0, maximum=20000),
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M"), missing=True),
        Column(name="code", kind=Kind.CATEGORICAL, categories=CODES),
    )
)


def draw(seed: int, size: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": np.where(rng.random(size) < 0.2, np.nan, np.round(rng.uniform(0, 10, size), 1)),
            "b": rng.integers(0, 101, size).astype(float),
            "day": rng.integers(0, 20001, size).astype(float),
            "sex": rng.choice(np.array(["F", "M", None], dtype=object), size),
            "code": rng.choice(np.array(CODES, dtype=object), size),
        }
    )


def by_definition(x: pd.Series, y: pd.Series) -> float:
    total = 0.0
    for column in SCHEMA:
        first, second = x[column.name], y[column.name]
        if pd.isna(first) or pd.isna(second):
            total += float(pd.isna(first) != pd.isna(second))
        elif column.is_numeric:
            total += abs(first - second) / (column.maximum - column.minimum)
        else:
            total += float(first != second)
    return total


def test_the_search_agrees_with_the_definition_across_block_borders() -> None:
    left, right = draw(0, 7), draw(1, 2100)
    queries, points = distance.encode(SCHEMA, [left, right])
    found = distance.nearest(queries, points, distance.public_space(queries), k=3)
    for i in range(len(left)):
        exact = np.array([by_definition(left.iloc[i], right.iloc[j]) for j in range(len(right))])
        assert found.distances[i] == pytest.approx(np.sort(exact)[:3], abs=1e-5)
        assert exact[found.closest[i]] == pytest.approx(exact.min(), abs=1e-5)
    columns = [by_definition(left.iloc[i], right.iloc[2080]) for i in range(len(left))]
    assert found.to_query[2080] == pytest.approx(min(columns), abs=1e-5)


def test_weights_and_unknown_columns_are_honoured() -> None:
    queries, points = distance.encode(SCHEMA, [draw(0, 1), draw(1, 1)])
    space = distance.Space(numbers=np.float32([0, 3, 0]), codes=np.float32([0, 2]))
    x, y = draw(0, 1).iloc[0], draw(1, 1).iloc[0]
    expected = 3 * abs(x["b"] - y["b"]) / 100 + 2 * (x["code"] != y["code"])
    assert distance.nearest(queries, points, space, k=1).distances[0, 0] == pytest.approx(expected, abs=1e-5)


def test_a_patient_is_not_its_own_neighbour_when_excluded() -> None:
    (rows,) = distance.encode(SCHEMA, [pd.concat([draw(0, 6)] * 2, ignore_index=True)])
    space, patients = distance.public_space(rows), np.tile(np.arange(6), 2)
    assert distance.nearest(rows, rows, space, k=1).distances.max() == pytest.approx(0.0, abs=1e-6)
    apart = distance.nearest(rows, rows, space, k=1, exclude=(patients, patients)).distances
    assert apart.min() > 0.1


def test_keys_compare_what_a_release_would_write() -> None:
    """12 and 12.0, 0.04 and 0.0, minus zero and zero, None and NaN read the same; 0.1 does not."""
    row = {"a": 0.0, "b": 12.0, "day": 3.0, "sex": None, "code": "c1"}
    variants = [
        row,
        row | {"a": 0.04},
        row | {"a": -0.0},
        row | {"sex": np.nan},
        row | {"b": 12},
        row | {"a": 0.1},
    ]
    (rows,) = distance.encode(SCHEMA, [pd.DataFrame(variants)])
    assert np.unique(rows.keys[:5]).size == 1
    assert rows.keys[5] != rows.keys[0]


def test_reference_weights_make_the_mean_pair_about_one_apart() -> None:
    (rows,) = distance.encode(SCHEMA, [draw(2, 800)])
    space = distance.reference_space(rows, seed=0)
    everyone = distance.nearest(rows.take(np.arange(50)), rows, space, k=800).distances
    assert everyone.mean() == pytest.approx(1.0, abs=0.1)
