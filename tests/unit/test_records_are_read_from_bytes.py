"""Generated records are read from bytes as from files, and refused in the same words."""

from pathlib import Path

import pytest

from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.sequences import SyntheticSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import schema_from_toml
from synthkit.errors import InputError, SchemaError

BARE = """
[table]
name = "bare"
patient_id = "patient"
visit = "visit"
[columns.code]
kind = "code"
categories = ["A", "B", "CANARY7731"]
missing = true
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Records of 40 simulated patients, as both files."""
    folder = tmp_path_factory.mktemp("records")
    process = standard_process(visits_mean=2, most_visits=4)
    found = simulate(process, 40, seed=3)
    write_sequences(found, folder / "records.csv", patients=folder / "patients.csv")
    return process.schema, folder / "records.csv", folder / "patients.csv"


def test_bytes_and_files_give_the_same_records(written):
    schema, long, people = written
    read = read_synthetic_sequences(long, schema, patients=people)
    again = read_synthetic_sequences(long.read_bytes(), schema, patients=people.read_bytes())
    assert isinstance(again, SyntheticSequences)
    assert again.files.parts == read.files.parts
    assert read.files.patients == people.read_bytes()


def test_records_without_static_columns_are_read_from_one_file():
    schema = schema_from_toml(BARE, "bare.toml")
    data = b"patient,visit,code\n1,1,A\n1,1,B\n2,1,\n"
    read = read_synthetic_sequences(data, schema)
    assert read.files.parts == {"records.csv": data}
    with pytest.raises(SchemaError, match="the schema has no static column"):
        read_synthetic_sequences(data, schema, patients=b"patient\n1\n2\n")


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", InputError, "c.vault: the file is empty"),
        (
            b"patient,visit,code\n1,1,SECRET\n",
            SchemaError,
            "code, row 1 .line 2.: not a listed",
        ),
        (b"patient,visit\n1,1\n", SchemaError, "c.vault: column code: the column is missing"),
        (b"\xff\xfe\x00", InputError, "c.vault: "),
        (b"PAR1", InputError, "c.vault: "),
    ],
)
def test_bytes_that_are_no_records_are_refused_without_a_cell(data, error, words):
    with pytest.raises(error, match=words) as caught:
        read_synthetic_sequences(data, schema_from_toml(BARE, "bare.toml"), where="c.vault")
    assert "SECRET" not in str(caught.value)


def test_static_columns_in_bytes_are_called_by_the_name_they_leave_under(written):
    schema, long, people = written
    broken = people.read_bytes().replace(b"Female", b"SECRET", 1)
    with pytest.raises(SchemaError, match=r"patients\.csv: ") as caught:
        read_synthetic_sequences(Path(long).read_bytes(), schema, patients=broken)
    assert "SECRET" not in str(caught.value)
