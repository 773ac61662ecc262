"""Records become numbers and numbers records; caps cut a patient by that patient alone."""

import numpy as np
import pytest
from record_ward import SMALL, encoding_of, records_of, simulated, tiny_schema

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.domain.calendar import LONGEST_DAYS, STARTS, Calendar
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import SchemaError
from synthkit.generators.sequence_base import batch_of

TIMED = Calendar(is_timed=True, is_dated=True)


def test_every_gap_of_a_kind_is_of_that_kind():
    kinds = np.arange(TIMED.kinds)
    low, high = (
        TIMED.days_of(kinds, np.zeros(kinds.size)),
        TIMED.days_of(kinds, np.full(kinds.size, 1 - 1e-9)),
    )
    assert np.array_equal(TIMED.kind_of(low), kinds)
    assert np.array_equal(TIMED.kind_of(high), kinds)
    assert (low[0], high[-1]) == (0, LONGEST_DAYS)
    assert (np.diff(STARTS) > 0).all()
    assert TIMED.kind_of(np.array([10**6]))[0] == TIMED.kinds - 1


def test_every_day_of_a_year_is_of_that_year():
    years = np.arange(TIMED.years)
    for share in (0.0, 0.5, 1 - 1e-9):
        assert np.array_equal(TIMED.year_of(TIMED.first_day_of(years, np.full(years.size, share))), years)


def test_decoding_undoes_encoding():
    records = simulated(60)
    encoding = encoding_of(records, {**SMALL, "most_visits": 100, "most_codes": 250})
    made = encoding.decode(encoding.in_order(records), np.random.default_rng(0))
    for name in ("codes", "visit_starts", "patient_starts", "gaps", "first_days"):
        assert np.array_equal(getattr(made, name), getattr(records, name)), name
    assert made.statics["sex"].tolist() == records.statics["sex"].tolist()


def test_caps_keep_the_first_visits_and_codes_whoever_else_is_there():
    schema = tiny_schema()
    long, short = [[0, 1, 3], [2], [0, 2, 3]], [[1]]
    caps = {**SMALL, "most_visits": 2, "most_codes": 2, "dated": 0}
    encoding = fit_sequence_encoding(schema, caps)
    alone = encoding.encode(records_of([long], schema))
    both = encoding.encode(records_of([long, short], schema))
    kept = both.take(np.array([1]))  # in order of size
    assert alone.codes.tolist() == kept.codes.tolist() == [0, 1, 2]
    assert np.diff(alone.visit_starts).tolist() == np.diff(kept.visit_starts).tolist() == [2, 1]


def test_a_batch_spells_visits_out_code_by_code():
    schema = tiny_schema()
    encoding = fit_sequence_encoding(schema, {**SMALL, "dated": 0})
    states = encoding.in_order(records_of([[[0, 2], [], [3]], [[1]]], schema))
    batch = batch_of(states, encoding.layout, np.array([0, 1]))
    assert batch.tokens.tolist() == [[0, 2, 4, 4, 3, 4], [1, 4, 4, 4, 4, 4]]
    assert batch.last.tolist() == [[-1, 0, 2, -1, -1, 3], [-1, 1, -1, -1, -1, -1]]
    assert batch.visit.tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 0, 0, 0, 0]]
    assert batch.begin.tolist() == [[0, 0, 0, 3, 4, 4], [0, 0, 0, 0, 0, 0]]
    assert batch.is_step.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]
    assert batch.leave.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert batch.entry.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert batch.present[0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_the_encoding_is_a_function_of_the_schema_alone():
    first, second = (encoding_of(simulated(20, seed=seed)).layout for seed in (1, 2))
    assert first == second


def test_another_code_list_and_conditions_on_codes_are_refused():
    encoding = fit_sequence_encoding(tiny_schema(), {**SMALL, "dated": 0})
    with pytest.raises(SchemaError, match="another code list"):
        encoding.encode(records_of([[[0]]], tiny_schema(6)))
    with pytest.raises(SchemaError, match="not on codes"):
        encoding.restrict(parse_conditions(["code = c1"], tiny_schema()))


def test_a_flat_schema_is_refused():
    flat = Schema(columns=(Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=9),), patient_id="id")
    with pytest.raises(SchemaError, match="not of a longitudinal table"):
        fit_sequence_encoding(flat, SMALL)
