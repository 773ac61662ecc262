"""Every comparison figure on tables small enough to check by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Scale, Schema
from synthkit.domain.utility import Moments
from synthkit.evaluation.fidelity import total_variation
from synthkit.evaluation.moments import missing_rates, moments, moments_by_column
from synthkit.evaluation.pictures import associations, distributions
from synthkit.evaluation.states import bin_edges, levels_of, states_of
from synthkit.evaluation.utility import auc

LETTERS = Column(name="letter", kind=Kind.CATEGORICAL, categories=("a", "b"), missing=True)
SIGNS = Column(name="sign", kind=Kind.BINARY, categories=("x", "y"))
NUMBER = Column(name="number", kind=Kind.INTEGER, minimum=0, maximum=6, missing=True)


def real(schema, **columns):
    frame = pd.DataFrame(columns)
    return PatientTable(schema=schema, frame=frame, patients=np.arange(len(frame)))


def synthetic(schema, **columns):
    return SyntheticTable(schema=schema, frame=pd.DataFrame(columns))


def distance(schema, first, second):
    levels = levels_of(schema, first, second)
    return total_variation(states_of(first, schema, levels), states_of(second, schema, levels))


def test_total_variation_of_one_way_tables():
    schema = Schema(columns=(LETTERS,))
    first, second = pd.DataFrame({"letter": list("aabb")}), pd.DataFrame({"letter": list("abbb")})
    assert distance(schema, first, second) == (0.25, 0.0)


def test_total_variation_of_two_way_tables_sees_a_relation_that_one_way_tables_cannot():
    schema = Schema(columns=(LETTERS, SIGNS))
    related = pd.DataFrame({"letter": list("aabb"), "sign": list("xxyy")})
    unrelated = pd.DataFrame({"letter": list("aabb"), "sign": list("xyxy")})
    assert distance(schema, related, unrelated) == (0.0, 0.5)


def test_missing_is_a_state_of_its_own():
    schema = Schema(columns=(LETTERS, NUMBER))
    full = pd.DataFrame({"letter": ["a", "a"], "number": [6.0, 6.0]})
    holed = pd.DataFrame({"letter": ["a", None], "number": [np.nan, 6.0]})
    one_way, _ = distance(schema, full, holed)
    assert one_way == 0.5, "a missing number must not share the last bin"


def test_undeclared_level_counts_as_a_difference():
    schema = Schema(columns=(LETTERS,))
    first, second = pd.DataFrame({"letter": ["a", "a"]}), pd.DataFrame({"letter": ["a", "z"]})
    assert distance(schema, first, second)[0] == 0.5


def test_long_code_lists_give_the_same_distance_without_a_dense_table():
    codes = tuple(f"c{i}" for i in range(300))
    schema = Schema(columns=tuple(Column(name=n, kind=Kind.CODE, categories=codes) for n in ("p", "q")))
    first = pd.DataFrame({"p": ["c0", "c1"], "q": ["c299", "c299"]})
    second = pd.DataFrame({"p": ["c0", "c1"], "q": ["c299", "c2"]})
    assert distance(schema, first, second) == (0.25, 0.5)


def test_bins_come_from_the_public_bounds():
    assert bin_edges(NUMBER).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    wide = Column(name="w", kind=Kind.INTEGER, minimum=1, maximum=100)
    assert bin_edges(wide).tolist() == [0.5 + 5 * i for i in range(21)]
    real_valued = Column(name="r", kind=Kind.NUMERIC, minimum=0, maximum=10, decimals=1)
    assert bin_edges(real_valued).tolist() == [0.5 * i for i in range(21)]
    log = Column(name="l", kind=Kind.NUMERIC, minimum=0, maximum=99, decimals=1, scale=Scale.LOG)
    assert bin_edges(log, bins=2) == pytest.approx([0, 9, 99])


def test_moments_of_an_even_and_of_a_skewed_column():
    even = moments(np.array([1.0, 2.0, np.nan, 3.0, 4.0]))
    assert vars(even) == pytest.approx(
        {"mean": 2.5, "std": math.sqrt(1.25), "skewness": 0.0, "kurtosis": -1.36}
    )
    coin = moments(np.array([0.0, 0.0, 0.0, 1.0]))
    assert vars(coin) == pytest.approx(
        {"mean": 0.25, "std": math.sqrt(3) / 4, "skewness": 2 / math.sqrt(3), "kurtosis": -2 / 3}
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 / 3])
def test_constant_column_has_no_spread(value):
    assert moments(np.full(7, value)) == Moments(
        mean=pytest.approx(value), std=0.0, skewness=0.0, kurtosis=0.0
    )


def test_moments_leave_out_a_column_without_values_and_missing_rates_show_it():
    schema = Schema(columns=(LETTERS, NUMBER))
    a = real(schema, letter=["a", None, "b", "b"], number=[1.0, 2.0, 3.0, np.nan])
    b = synthetic(schema, letter=["a", "b"], number=[np.nan, np.nan])
    assert moments_by_column(a, b) == {}
    assert missing_rates(a, b) == {"letter": (0.25, 0.0), "number": (0.25, 1.0)}


def test_auc_counts_ties_half():
    yes = np.array([False, False, True, True])
    assert auc(yes, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(yes, np.zeros(4)) == 0.5
    assert auc(np.ones(4, dtype=bool), np.arange(4.0)) == 0.5


def test_pearson_association_over_rows_where_both_are_present():
    other = Column(name="other", kind=Kind.INTEGER, minimum=0, maximum=6, missing=True)
    schema = Schema(columns=(NUMBER, other))
    a = real(schema, number=[1.0, 2.0, 3.0, np.nan, 6.0], other=[1.0, 3.0, 2.0, 0.0, np.nan])
    b = synthetic(schema, number=[1.0, 2.0, 3.0], other=[3.0, 2.0, 1.0])
    maps = associations(a, b)
    assert maps.real == pytest.approx(np.array([[1, 0.5], [0.5, 1]]))
    assert maps.synthetic == pytest.approx(np.ones((2, 2))), "the sign is left out"


def test_cramers_v_of_a_two_by_two_table():
    schema = Schema(columns=(LETTERS, SIGNS))
    a = real(schema, letter=list("aaaabbbb"), sign=list("xxxyxyyy"))
    b = synthetic(schema, letter=list("aabb"), sign=list("xxyy"))
    maps = associations(a, b)
    assert maps.real[0, 1] == maps.real[1, 0] == pytest.approx(0.5)
    assert maps.synthetic[0, 1] == pytest.approx(1.0)


def test_correlation_ratio_of_two_groups_and_of_a_constant():
    schema = Schema(columns=(LETTERS, NUMBER))
    a = real(schema, letter=list("aabb"), number=[0.0, 2.0, 4.0, 6.0])
    b = synthetic(schema, letter=list("aabb"), number=[5.0, 5.0, 5.0, 5.0])
    maps = associations(a, b)
    assert maps.real[0, 1] == maps.real[1, 0] == pytest.approx(math.sqrt(0.8))
    assert math.isnan(maps.synthetic[0, 1])
    assert maps.synthetic[1, 1] == 1.0


def test_distribution_shares_keep_the_missing_share_and_sum_to_one():
    schema = Schema(columns=(LETTERS, NUMBER))
    a = real(schema, letter=["a", None, "b", "b"], number=[0.0, 1.0, 2.0, np.nan])
    b = synthetic(schema, letter=["a", "a", "a", "a"], number=[1.0, 1.0, 1.0, 1.0])
    letters, numbers = distributions(a, b)
    assert letters.labels == ("a", "b")
    assert letters.real.tolist() == [0.25, 0.5]
    assert (letters.real_missing, letters.synthetic_missing) == (0.25, 0.0)
    assert numbers.labels == ("0", "1", "2")
    assert numbers.real.tolist() == [0.25, 0.25, 0.25]
    assert numbers.real_missing == 0.25


def test_distribution_of_a_long_tail_ends_in_one_open_bin():
    visits = Column(name="visits", kind=Kind.INTEGER, minimum=0, maximum=1000)
    schema = Schema(columns=(visits, SIGNS))
    values = np.append(np.arange(999) % 30, 1000.0)
    signs = ["x"] * values.size
    (shown,) = distributions(
        real(schema, visits=values, sign=signs), synthetic(schema, visits=values, sign=signs), ("visits",)
    )
    assert shown.labels[-1].endswith("+")
    assert shown.real.sum() == pytest.approx(1.0)
    assert shown.real[-1] == pytest.approx(0.001)


def test_many_levels_are_pooled_into_the_last_bar():
    codes = tuple(f"c{i}" for i in range(40))
    schema = Schema(columns=(Column(name="code", kind=Kind.CODE), SIGNS))
    a = real(schema, code=list(codes), sign=["x"] * 40)
    b = synthetic(schema, code=["c0"] * 40, sign=["x"] * 40)
    shown = distributions(a, b, ("code",))[0]
    assert len(shown.labels) == 12
    assert shown.labels[-1] == "29 others"
    assert shown.real[-1] == pytest.approx(29 / 40)
    assert shown.synthetic.sum() == pytest.approx(1.0)
