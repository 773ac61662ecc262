"""Caps on records bought with real noise: nearly nobody is cut, and no single patient decides them."""

import numpy as np
import pandas as pd
import pytest

from synthkit.data.purchase import buy
from synthkit.data.table import RowsOfCodes
from synthkit.domain.record_caps import RecordCaps
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import SchemaError
from synthkit.training.planning import purchase_for

CODES = tuple(f"c{number}" for number in range(40))
WARD = Schema(
    columns=(Column(name="code", kind=Kind.CODE, categories=CODES),),
    patient_id="patient",
    visit="visit",
    caps=RecordCaps(provenance=Provenance.DP),
)


def ward(visits, codes):
    """Patients of so many visits, each of whose visits has so many codes."""
    owners = np.repeat(np.arange(len(visits)), visits * codes)
    of_visit = np.concatenate([np.repeat(np.arange(v), c) for v, c in zip(visits, codes, strict=True)])
    chosen = np.concatenate([np.tile(np.arange(c), v) for v, c in zip(visits, codes, strict=True)])
    frame = pd.DataFrame({"code": np.array(CODES, dtype=object)[chosen]})
    return RowsOfCodes(schema=WARD, frame=frame, patients=owners, visits=of_visit.astype(np.int32))


def caps_of(table, *, epsilon):
    return buy(table, purchase_for(WARD, target_epsilon=epsilon, delta=1e-5)).caps


@pytest.fixture(scope="module")
def clinic():
    """2,000 patients: a fifth has 5 to 8 visits, a fifth 3 to 4 codes a visit, and nobody more of either."""
    rng = np.random.default_rng(4)
    few = rng.random(2000) < 0.8
    many = rng.random(2000) < 0.8
    visits = np.where(few, rng.integers(1, 5, 2000), rng.integers(5, 9, 2000))
    codes = np.where(many, rng.integers(1, 3, 2000), rng.integers(3, 5, 2000))
    return visits, codes


def test_caps_are_no_smaller_than_what_a_fifth_of_patients_has(clinic):
    """Noise of a total has std 20, the rule spares as many, and 400 lie over the next smaller caps: false
    alarm below 1e-30.
    """
    table = ward(*clinic)
    for _ in range(10):
        caps = caps_of(table, epsilon=0.5)
        assert caps.most_visits >= 8
        assert caps.most_codes >= 4
        assert caps.provenance is Provenance.DP


def test_one_patient_of_a_thousand_visits_decides_nothing(clinic):
    """At epsilon 4 a total's std is 3 and 20 patients may lie over: 8 and 4 come out unless a difference of
    two totals is off by 19. False alarm below 1e-3 over twenty purchases.
    """
    visits, codes = (np.append(column, extra) for column, extra in zip(clinic, (1000, 40), strict=True))
    found = [caps_of(ward(visits, codes), epsilon=4.0) for _ in range(20)]
    assert {(one.most_visits, one.most_codes) for one in found} == {(8, 4)}


def test_ten_patients_are_hidden_by_noise():
    """At epsilon 0.1 a total's std is 88: that ten count as more than four of these has odds below 1e-4."""
    table = ward(np.full(10, 3), np.full(10, 2))
    with pytest.raises(SchemaError, match="noise hides how long records are"):
        caps_of(table, epsilon=0.1)
