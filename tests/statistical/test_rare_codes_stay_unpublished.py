"""A code that one patient alone holds enters a bought code list with probability at most its failure delta.

Measured through `buy`, on rows of codes, with a failure delta large enough to be measured. Bounds are exact
binomial quantiles: a true probability of 0.05 is exceeded by more than MOST of DRAWS with probability below
1e-9, and reaches fewer than FEWEST likewise.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from synthkit.data import purchase as purchase_module
from synthkit.data.purchase import MOST_CODES, Purchase, buy
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.privacy import mechanisms
from synthkit.privacy.mechanisms import Names, name_threshold, names_statistic

FAILURE, DRAWS = 0.05, 400
MOST, FEWEST = int(binom.isf(1e-9, DRAWS, FAILURE)), int(binom.ppf(1e-9, DRAWS, FAILURE))
OTHERS = 30
CODE = Column(name="code", kind=Kind.CODE, provenance=Provenance.DP)
WARD = Column(name="ward", kind=Kind.CATEGORICAL, provenance=Provenance.DP)


def rows_of_codes(own: int, *, has_ward: bool = False) -> PatientTable:
    """Thirty patients with one common code, and one with `own` codes of her own and a ward of her own."""
    columns = (CODE, WARD) if has_ward else (CODE,)
    schema = Schema(columns=columns, patient_id="patient", visit="visit")
    codes = ["I10"] * OTHERS + [f"own{number}" for number in range(own)]
    wards = ["all"] * OTHERS + ["own ward"] * own
    frame = pd.DataFrame({"code": codes, "ward": wards}, dtype=object)[[c.name for c in columns]]
    patients = np.append(np.arange(OTHERS), np.full(own, OTHERS))
    return PatientTable(schema=schema, frame=frame, patients=patients)


def published(table: PatientTable, *, noise: float = 3.0) -> int:
    """In how many of the draws anything of the one patient's own is published."""
    bought = Purchase(draft=table.schema, noise_multiplier=noise, failure_delta=FAILURE)
    hits = 0
    for _ in range(DRAWS):
        lists = [column.categories for column in buy(table, bought)]
        hits += any(name.startswith("own") for names in lists for name in names)
    return hits


@pytest.mark.parametrize(("own", "has_ward"), [(1, False), (MOST_CODES, False), (200, False), (5, True)])
def test_a_lone_patients_codes_are_published_at_most_that_often(own, has_ward):
    """False-alarm probability below 1e-9 a case; see the module's docstring."""
    assert published(rows_of_codes(own, has_ward=has_ward)) <= MOST


def test_the_bound_is_nearly_reached_so_that_little_budget_is_wasted(monkeypatch):
    """With one code a patient the probability is the failure delta itself. False alarm below 1e-9."""
    monkeypatch.setattr(purchase_module, "MOST_CODES", 1)
    assert published(rows_of_codes(1)) >= FEWEST


def test_a_threshold_for_one_code_instead_of_all_would_be_found_out(monkeypatch):
    """Thirty-two codes at the price of one publish something in most of the draws."""

    def for_one(**given):
        return name_threshold(**{**given, "most_per_patient": 1})

    monkeypatch.setattr(mechanisms, "name_threshold", for_one)
    assert published(rows_of_codes(MOST_CODES)) > 2 * MOST


@pytest.mark.parametrize("own", [1, MOST_CODES, 1000])
def test_one_patient_moves_the_codes_support_by_at_most_one(own):
    """In the Euclidean norm, whatever the record; and by no less, so that nothing is wasted."""
    table = rows_of_codes(own)
    names = table.frame["code"].to_numpy(dtype=object)
    support = names_statistic(table.patients, Names(names=names, most_per_patient=MOST_CODES))
    kept = table.patients < OTHERS
    without = names_statistic(table.patients[kept], Names(names=names[kept], most_per_patient=MOST_CODES))
    moved = [support.get(name, 0.0) - without.get(name, 0.0) for name in {*support, *without}]
    assert math.sqrt(sum(value**2 for value in moved)) == pytest.approx(1.0)
    assert sum(value != 0 for value in moved) == min(own, MOST_CODES)


def test_codes_that_many_hold_are_published():
    """Four hundred patients hold it: 130 standard deviations of the noise above the threshold."""
    schema = rows_of_codes(1).schema
    patients = np.repeat(np.arange(400), 2)
    frame = pd.DataFrame({"code": np.tile(["E11", "I10"], 400)}, dtype=object)
    table = PatientTable(schema=schema, frame=frame, patients=patients)
    completed = buy(table, Purchase(draft=schema, noise_multiplier=2.0, failure_delta=1e-9))
    assert completed.code.categories == ("E11", "I10", "other")
    assert completed.vocabulary.types[0].value == "untyped"
