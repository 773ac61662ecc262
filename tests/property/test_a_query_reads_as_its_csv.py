"""One table through CSV and through a database: equal cells, equal patients, equal lots."""

import csv
import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sql_desk import store

from synthkit.data import sql
from synthkit.data.connectors import read_partial, read_table
from synthkit.data.sequence_reading import read_code_rows, read_sequences
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.data.sources import SqlTable
from synthkit.domain.schema import Column, Kind, Schema

LEVELS = ("01", "1", "a,b", 'say "x"', "ä\nö", " ")
SCHEMA = Schema(
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=120, missing=True),
        Column(name="dose", kind=Kind.NUMERIC, minimum=-1e6, maximum=1e6, decimals=3, missing=True),
        Column(name="level", kind=Kind.CATEGORICAL, categories=LEVELS, missing=True),
        Column(name="grade", kind=Kind.ORDINAL, categories=("1", "2", "3"), missing=True),
        Column(name="admitted", kind=Kind.DATETIME, minimum=0, maximum=20_000, missing=True),
    ),
    patient_id="mrn",
)
NUMBERS = ("age", "dose", "grade")
DATES = st.dates(dt.date(1970, 1, 1), dt.date(2020, 1, 1)).map(dt.date.isoformat)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(("007", "7", "x1", "x2", "ü")),
        st.none() | st.integers(0, 120).map(str),
        st.none() | st.floats(-1e6, 1e6, allow_nan=False).map(repr),
        st.none() | st.sampled_from(LEVELS),
        st.none() | st.sampled_from(("1", "2", "3")),
        st.none() | DATES,
    ),
    min_size=1,
    max_size=12,
)


def both(folder: Path, rows: list[tuple[str | None, ...]]) -> tuple[Path, SqlTable]:
    frame = pd.DataFrame(rows, columns=["mrn", *SCHEMA.names], dtype=object)
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(frame.columns)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    url = store(folder / "ward.db", "t", frame, numbers=NUMBERS)
    return path, SqlTable(url=url, query="SELECT * FROM t")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_a_table_of_any_cells(rows):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "CHUNK", 5)
        path, query = both(Path(folder), rows)
        plain, asked = read_table(path, SCHEMA), read_table(query, SCHEMA)
        assert_frame_equal(plain.frame, asked.frame)
        assert np.array_equal(plain.patients, asked.patients)
        assert plain.lots is not None
        assert asked.lots is not None
        assert np.array_equal(plain.lots, asked.lots)
        first, second = read_partial(path, SCHEMA), read_partial(query, SCHEMA)
        assert_frame_equal(first.values, second.values)
        assert np.array_equal(first.known, second.known)


@pytest.mark.parametrize("apart", [True, False])
def test_records_of_visits(tmp_path, monkeypatch, apart):
    monkeypatch.setattr(sql, "CHUNK", 100)
    made = simulate(standard_process(visits_mean=3, most_visits=6), 60, seed=5)
    long, people = tmp_path / "long.csv", tmp_path / "people.csv" if apart else None
    write_sequences(made, long, patients=people)
    url = ""
    for name, file in (("long", long), ("people", people)):
        if file is not None:
            frame = pd.read_csv(file, dtype=str, keep_default_na=False).replace("", None)
            url = store(tmp_path / "ward.db", name, frame.astype(object).where(frame.notna(), None))
    query = SqlTable(url=url, query="SELECT * FROM long")
    statics = SqlTable(url=url, query="SELECT * FROM people") if apart else None
    plain = read_sequences(long, made.schema, patients=people)
    asked = read_sequences(query, made.schema, patients=statics)
    for name in ("codes", "visit_starts", "patient_starts", "gaps", "first_days", "lots"):
        left, right = getattr(plain, name), getattr(asked, name)
        assert left is not None
        assert np.array_equal(left, right), name
    assert_frame_equal(plain.statics, asked.statics)
    first = read_code_rows(long, made.schema, patients=people)
    second = read_code_rows(query, made.schema, patients=statics)
    assert_frame_equal(first.frame, second.frame)


def test_values_of_any_plain_type_have_the_text_of_csv(tmp_path):
    url = store(tmp_path / "ward.db", "t", pd.DataFrame({"a": ["x"]}))
    query = (
        "SELECT 1 AS a, 1.0 AS b, 0.1 AS c, '' AS d, NULL AS e, '1.50' AS f, 9e999 - 9e999 AS g "
        "UNION ALL SELECT 1.0, 1, 1e22, 'x', 7, '12:30 100%', 2"
    )
    found = sql.read_query(SqlTable(url=url, query=query))
    columns = {
        name: column.spelt_out().tolist() for name, column in zip(found.names, found.columns, strict=True)
    }
    assert columns == {
        "a": ["1", "1"],
        "b": ["1", "1"],
        "c": ["0.1", "10000000000000000000000"],
        "d": [None, "x"],
        "e": [None, "7"],
        "f": ["1.50", "12:30 100%"],
        "g": [None, "2"],
    }
