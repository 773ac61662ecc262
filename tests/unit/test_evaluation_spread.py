"""Spread: the ratio of standard deviations by hand, its chance by simulation, and the report's mark."""

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.utility import Quality, Spread, UtilityReport
from synthkit.evaluation.moments import moments, moments_by_column, spread, spread_by_column
from synthkit.report.documents import evaluation_page

SCHEMA = Schema(columns=(Column(name="n", kind=Kind.NUMERIC, minimum=-100, maximum=100, missing=True),))


def tables(first, second):
    frames = [pd.DataFrame({"n": np.array(values, dtype=float)}) for values in (first, second)]
    real = PatientTable(schema=SCHEMA, frame=frames[0], patients=np.arange(len(frames[0])))
    return real, SyntheticTable(schema=SCHEMA, frame=frames[1])


def test_ratio_by_hand_leaves_missing_cells_out():
    found = spread_by_column(*tables([0, 2, np.nan, 0, 2], [0, 1, 0, 1]))["n"]
    assert found.ratio == pytest.approx(0.5)
    assert found.chance == pytest.approx(1.96 * np.sqrt((-2 + 2) / 16 + (-2 + 2) / 16))
    assert found.is_outside
    assert not found.is_chance


def test_constant_columns_have_ratio_one_or_none():
    assert spread_by_column(*tables([3, 3], [5, 5]))["n"].ratio == 1.0
    narrow = spread_by_column(*tables([3, 3], [5, 6]))["n"]
    assert narrow.ratio is None
    assert narrow.is_outside
    assert spread_by_column(*tables([3, 4], [5, 5]))["n"].ratio == 0.0
    assert spread_by_column(*tables([3, 4], [np.nan, np.nan])) == {}


def test_two_samples_of_one_population_leave_chance_once_in_twenty():
    """600 pairs of normal samples, expected 5 % outside: standard error 0.9 %, so 1.5 % to 9 % is 4 sigma.

    False-alarm probability below 1e-4; the seed is fixed.
    """
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(600):
        pair = rng.normal(size=300), rng.normal(size=500)
        outside += not spread((moments(pair[0]), moments(pair[1])), (300, 500)).is_chance
    assert 0.015 < outside / 600 < 0.09


@pytest.mark.parametrize(
    ("ratio", "chance", "mark"),
    [
        (1.015, 0.1, None),
        (0.985, 0.001, None),
        (0.93, 0.01, "narrower by 7.0 %"),
        (1.05, 0.06, "wider by 5.0 %, within chance"),
        (None, 0.0, "real is constant"),
    ],
)
def test_the_report_marks_columns_outside_two_per_cent(ratio, chance, mark):
    real, synthetic = tables([0, 2, 5], [0, 1, 7])
    quality = Quality(overall=1.0, column_shapes=1.0, column_pairs=1.0)
    report = UtilityReport(
        quality=quality,
        floor=quality,
        ceiling=quality,
        total_variation={},
        utility=(),
        moments=moments_by_column(real, synthetic),
        spread={"n": Spread(ratio=ratio, chance=chance)},
    )
    page = evaluation_page(report)
    assert report.to_json()["spread"]["n"]["outside"] is (mark is not None)
    if mark is None:
        assert "is within 2 % of the real one" in page
    else:
        assert page.count(mark) == 2, "in the summary and in the table"
