"""What a record cannot be is refused in one line with its row; what is odd but clear has one meaning."""

import pytest

from synthkit.data.sequence_reading import Caps, read_sequences
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError, SchemaError

CANARY = "CANARY-7731"
CODES = tuple(f"C{number}" for number in range(700))
SCHEMA = Schema(
    columns=(
        Column(name="code", kind=Kind.CODE, categories=CODES),
        Column(name="sex", kind=Kind.BINARY, categories=("f", "m")),
    ),
    patient_id="patient",
    visit="visit",
    time="day",
)
SOUND = ["p1,1,5,C1,f", "p1,1,5,C2,f", "p1,2,9,C1,f", "p2,1,7,C3,m"]


def written(tmp_path, rows, header="patient,visit,day,code,sex"):
    path = tmp_path / "long.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def refused(path, schema=SCHEMA, **options):
    with pytest.raises(InputError) as refusal:
        read_sequences(path, schema, **options)
    text = str(refusal.value)
    assert CANARY not in text
    assert "\n" not in text
    return text


def test_the_sound_table_is_read(tmp_path):
    records = read_sequences(written(tmp_path, SOUND), SCHEMA)
    assert records.visits_per_patient.tolist() == [2, 1]
    assert records.codes.tolist() == [1, 2, 1, 3]
    assert records.gaps.tolist() == [0, 4, 0]
    assert records.first_days.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (f"p2,1,7,{CANARY},m", "long.csv: column code, row 5 (line 6): not a listed code"),
        ("p2,1,7,,m", "column code, row 5 (line 6): an empty cell where missing is not allowed"),
        (",1,7,C1,m", "column patient, row 5 (line 6): no patient id"),
        ("p2,,7,C1,m", "column visit, row 5 (line 6): no visit number"),
        (f"p2,{CANARY},7,C1,m", "column visit, row 5 (line 6): not a whole number"),
        ("p2,1.5,7,C1,m", "column visit, row 5 (line 6): not a whole number"),
        ("p2,1e300,7,C1,m", "column visit, row 5 (line 6): not a whole number"),
        ("p2,2,,C1,m", "column day, row 5 (line 6): no time"),
        (f"p2,2,{CANARY},C1,m", "column day, row 5 (line 6): not a whole number of days"),
        ("p2,2,2020-01-01,C1,m", "column day, row 5 (line 6): not a whole number of days"),
        ("p2,2,6,C1,m", "column day, row 5 (line 6): a visit dated before the one before it"),
        ("p2,0,8,C1,m", "column day, row 4 (line 5): a visit dated before the one before it"),
        ("p2,1,8,C1,m", "column day, row 4 (line 5): two times in one visit"),
        ("p2,1,8,C3,m", "column day, row 5 (line 6): two times in one visit"),
        ("p2,2,8,C3,f", "column sex, row 5 (line 6): a static column changes within a patient"),
        (f"p3,1,8,C3,{CANARY}", "column sex, line 6: not one of the categories"),
    ],
)
def test_a_broken_row_is_named_and_not_shown(tmp_path, row, text):
    assert text in refused(written(tmp_path, [*SOUND, row]))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("patient,visit,code,sex,day2", "column day: the column is missing"),
        ("a,b,c,d,e", "no column of the schema is in the header line"),
        ("patient,visit,day,code,gender", "column sex: the column is missing"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, header, text):
    assert text in refused(written(tmp_path, SOUND, header))


def test_an_unexpected_column_is_refused(tmp_path):
    rows = [f"{row},x" for row in SOUND]
    text = refused(written(tmp_path, rows, "patient,visit,day,code,sex,more"))
    assert "column more: the column is not expected here" in text


def test_four_hundred_visits_meet_the_cap(tmp_path):
    path = written(tmp_path, [f"p1,{visit},{visit},C1,f" for visit in range(1, 401)])
    assert read_sequences(path, SCHEMA).visits_per_patient.tolist() == [400]
    text = refused(path, caps=Caps(visits=300))
    assert "row 301 (line 302): a visit beyond a patient's first 300" in text
    kept = read_sequences(path, SCHEMA, caps=Caps(visits=300, is_cut=True))
    assert kept.visits_per_patient.tolist() == [300]


def test_a_visit_of_very_many_codes_meets_the_cap(tmp_path):
    path = written(tmp_path, [f"p1,1,1,{code},f" for code in CODES])
    assert "a visit with more than 500 codes" in refused(path)
    assert read_sequences(path, SCHEMA, caps=Caps(codes=700)).codes_per_visit.tolist() == [700]


def test_a_code_listed_twice_in_a_visit_counts_once(tmp_path):
    records = read_sequences(written(tmp_path, [*SOUND, SOUND[0], SOUND[3]]), SCHEMA)
    assert records.codes.tolist() == [1, 2, 1, 3]


def test_visits_are_ordered_by_their_number_and_numbers_may_be_left_out(tmp_path):
    records = read_sequences(written(tmp_path, ["p1,30,9,C3,f", "p1,7,9,C1,f", "p1,20,9,C2,f"]), SCHEMA)
    assert records.codes.tolist() == [1, 2, 3]
    assert records.gaps.tolist() == [0, 0, 0]


def test_an_empty_code_is_a_visit_without_codes_where_the_schema_says_so(tmp_path):
    columns = (Column(name="code", kind=Kind.CODE, categories=CODES, missing=True), SCHEMA.columns[1])
    schema = Schema(columns=columns, patient_id="patient", visit="visit", time="day")
    records = read_sequences(written(tmp_path, ["p1,1,5,,f", "p1,2,9,C1,f", "p1,2,9,,f"]), schema)
    assert records.codes_per_visit.tolist() == [0, 1]


def test_a_patient_without_visits_is_refused(tmp_path):
    (tmp_path / "patients.csv").write_text("patient,sex\np1,f\np9,m\np2,m\n")
    path = written(tmp_path, [row.rsplit(",", 1)[0] for row in SOUND], "patient,visit,day,code")
    text = refused(path, patients=tmp_path / "patients.csv")
    assert text.startswith("patients.csv: row 2 (line 3): a patient without visits")


def test_visits_of_nobody_known_are_refused(tmp_path):
    (tmp_path / "patients.csv").write_text("patient,sex\np1,f\n")
    path = written(tmp_path, [row.rsplit(",", 1)[0] for row in SOUND], "patient,visit,day,code")
    text = refused(path, patients=tmp_path / "patients.csv")
    assert "column patient, row 4 (line 5): a visit of a patient who is not in patients.csv" in text


def test_a_patient_listed_twice_is_refused(tmp_path):
    (tmp_path / "patients.csv").write_text("patient,sex\np1,f\np2,m\np1,f\n")
    path = written(tmp_path, [row.rsplit(",", 1)[0] for row in SOUND], "patient,visit,day,code")
    assert "a patient's second row" in refused(path, patients=tmp_path / "patients.csv")


def test_a_flat_schema_is_refused(tmp_path):
    flat = Schema(columns=SCHEMA.columns)
    with pytest.raises(SchemaError, match="not of a longitudinal table"):
        read_sequences(written(tmp_path, SOUND), flat)


def test_files_that_are_none(tmp_path):
    assert "there is no such file" in refused(tmp_path / "none.parquet")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1" + b"x" * 40)
    assert "is not a Parquet file with rows" in refused(tmp_path / "odd.parquet")
