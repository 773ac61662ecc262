"""Pair plots: shares by hand, the same cuts for both tables, and a chart of either size."""

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.evaluation.pairs import MOST_COLUMNS, most_related, pair_densities
from synthkit.report.figures import Confusion, PairDensity
from synthkit.report.grids import confusion_chart, pair_chart


def tables(first, second):
    names = list(first)
    schema = Schema(
        columns=tuple(Column(name=n, kind=Kind.INTEGER, minimum=0, maximum=9, missing=True) for n in names)
    )
    frames = [pd.DataFrame({n: np.array(side[n], dtype=float) for n in names}) for side in (first, second)]
    real = PatientTable(schema=schema, frame=frames[0], patients=np.arange(len(frames[0])))
    return real, SyntheticTable(schema=schema, frame=frames[1])


def test_shares_by_hand_and_rows_with_a_missing_number_in_no_cell():
    real, made = tables({"a": [0, 0, 1, np.nan], "b": [0, 1, 1, 0]}, {"a": [1, 1], "b": [0, 0]})
    (pair,) = pair_densities(real, made)
    assert (pair.x, pair.y, pair.x_labels, pair.y_labels) == ("a", "b", ("0", "1"), ("0", "1"))
    assert pair.real.tolist() == [[0.25, 0.0], [0.25, 0.25]]
    assert pair.synthetic.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_the_most_related_columns_are_chosen_and_constants_never():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 10, 300)
    first = {f"noise{i}": rng.integers(0, 10, 300) for i in range(5)}
    first |= {"one": base, "flat": np.full(300, 3), "two": np.clip(base + rng.integers(0, 2, 300), 0, 9)}
    real, made = tables(first, first)
    chosen = most_related(real)
    assert len(chosen) == MOST_COLUMNS
    assert {"one", "two"} <= set(chosen)
    assert "flat" not in chosen
    assert len(pair_densities(real, made)) == 6


def test_fewer_than_two_numbers_make_no_pair():
    real, made = tables({"a": [1, 2], "b": [3, 3]}, {"a": [1, 2], "b": [3, 4]})
    assert pair_densities(real, made) == ()


@pytest.mark.parametrize("count", [1, 3])
def test_charts_are_repeatable_and_show_both_tables(count):
    pair = PairDensity(
        x="<x>",
        y="y",
        x_labels=("1", "2"),
        y_labels=("1",),
        real=np.full((1, 2), 0.5),
        synthetic=np.zeros((1, 2)),
    )
    chart = pair_chart((pair,) * count)
    assert chart == pair_chart((pair,) * count)
    assert chart.count(">real<") == chart.count(">synthetic<") == count
    assert "&lt;x&gt;" in chart
    assert "<x>" not in chart


def test_one_wrong_row_shows_in_a_matrix():
    counts = np.array([[600, 400], [999, 1]])
    chart = confusion_chart(
        Confusion(column="c", requests=("unconditional", "a"), values=("a", "b"), counts=counts)
    )
    assert "&lt;1" in chart
    assert ">99<" in chart
    assert ">100<" not in chart


def test_figures_refuse_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="fit"):
        Confusion(column="c", requests=("a",), values=("a",), counts=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="fit"):
        PairDensity(
            x="x", y="y", x_labels=("1",), y_labels=("1",), real=np.zeros((1, 1)), synthetic=np.zeros((2, 1))
        )
