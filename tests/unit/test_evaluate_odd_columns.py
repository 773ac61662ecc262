"""Columns without values or variety and one-sided targets: every figure finite, and a note that says so."""

import numpy as np
import pandas as pd
import pytest

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import canonical_json
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.evaluation.pairs import pair_densities
from synthkit.evaluation.pictures import associations, distributions
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target
from synthkit.report.documents import evaluation_page

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=100),
        Column(name="pressure", kind=Kind.NUMERIC, minimum=50, maximum=250, decimals=1, missing=True),
        Column(name="smoker", kind=Kind.BINARY, categories=("no", "yes"), target=True),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"), missing=True),
    )
)
ODD = {
    "constant number": {"age": 40.0},
    "number all missing": {"pressure": np.nan},
    "text all missing": {"ward": None},
    "one category": {"ward": "B"},
    "one class": {"smoker": "no"},
    "all at once": {"age": 40.0, "pressure": np.nan, "ward": "B", "smoker": "yes"},
}
TARGETS = ("smoker", "pressure >= 100")


def rows(count, seed, changes=()):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": np.round(rng.uniform(0, 100, count)),
            "pressure": np.round(rng.uniform(60, 200, count), 1),
            "smoker": rng.choice(np.array(["no", "yes"], dtype=object), count),
            "ward": rng.choice(np.array(["A", "B", "C"], dtype=object), count),
        }
    )
    for name, value in dict(changes).items():
        frame[name] = pd.Series([value] * count, dtype=frame[name].dtype)
    return frame


def judged(first, second, *, targets=TARGETS, repeats=1, has_page=False):
    real, train = (
        PatientTable(schema=SCHEMA, frame=rows(120, seed, first), patients=np.arange(120)) for seed in (1, 2)
    )
    synthetic = SyntheticTable(schema=SCHEMA, frame=rows(100, 3, second))
    asked = None if targets is None else tuple(parse_target(text, SCHEMA) for text in targets)
    report = evaluate(real=real, synthetic=synthetic, train=train, targets=asked, repeats=repeats)
    if not has_page:
        return report, ""
    pictures = distributions(real, synthetic), associations(real, synthetic), pair_densities(real, synthetic)
    return report, evaluation_page(report, *pictures)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Enough for a verdict on one-sided targets."""
    monkeypatch.setattr("synthkit.evaluation.utility.TREES", 5)


@pytest.mark.parametrize(
    ("name", "sides"),
    [*((name, "both") for name in ODD), ("all at once", "real"), ("all at once", "synthetic")],
)
def test_odd_columns_are_judged_pictured_and_noted(name, sides):
    first, second = (ODD[name] if sides in (side, "both") else {} for side in ("real", "synthetic"))
    has_page = name == "all at once"
    report, page = judged(first, second, repeats=1 + has_page, has_page=has_page)
    canonical_json(report.to_json())
    scores = [*vars(report.quality).values(), *report.total_variation.values()]
    scores += [s for u in report.utility for s in (u.real.auc, u.synthetic.auc, u.real.accuracy)]
    assert all(0 <= score <= 1 for score in scores)
    text = " ".join(report.notes)
    for column in ODD[name]:
        for side in ("real", "synthetic") if sides == "both" else (sides,):
            assert any(f"in the {side} rows" in note and column in note for note in report.notes), text
    assert has_page is ("Usefulness in short" in page)


def test_a_target_without_answers_is_left_out_and_the_others_stand():
    report, _ = judged(ODD["number all missing"], {})
    assert [entry.target for entry in report.utility] == ["smoker = yes"]
    assert any("pressure >= 100 is not asked" in note for note in report.notes)


def test_a_target_of_one_class_has_no_auc_interval_and_says_so():
    report, page = judged(ODD["one class"], {}, targets=("smoker",), repeats=2, has_page=True)
    (entry,) = report.utility
    assert entry.real.auc == 0.5
    assert entry.repeats.real.auc is None
    assert entry.repeats.real.accuracy.mean == 1.0
    assert "nothing to say" in page
    assert any("says nothing" in note for note in report.notes)


def test_a_marked_target_of_one_value_is_named():
    report, _ = judged(ODD["one class"], {}, targets=None)
    assert report.utility == ()
    assert any("Marked as a target" in note and "smoker" in note for note in report.notes)


def test_plain_tables_carry_no_remark():
    report, _ = judged({}, {}, targets=("smoker",))
    assert not any("value" in note or "answer" in note for note in report.notes)
