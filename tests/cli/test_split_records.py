"""Records are divided by patient, row for row, with their table of static columns; or refused in one line."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synthkit.data.sequence_reading import read_sequences
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.documents import schema_to_toml

PARTS = ("members", "holdout", "reference")
PATIENTS = 400


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    process = standard_process(visits_mean=3, most_visits=8)
    (folder / "schema.toml").write_text(schema_to_toml(process.schema), "utf-8")
    records = simulate(process, PATIENTS, seed=2)
    for ending in ("csv", "parquet"):
        write_sequences(records, folder / f"records.{ending}", patients=folder / f"people.{ending}")
    write_sequences(records, folder / "whole.csv")
    return folder, process.schema


@pytest.fixture
def ward(written, tmp_path, monkeypatch):
    folder, schema = written
    monkeypatch.chdir(tmp_path)
    for path in folder.iterdir():
        Path(path.name).symlink_to(path)
    return schema


def divided(synthkit, ending, *more):
    return synthkit(
        "split",
        f"records.{ending}",
        "--patients",
        f"people.{ending}",
        "--schema",
        "schema.toml",
        "-o",
        f"parts-{ending}",
        *more,
    )


def test_every_patient_is_in_one_part_with_all_rows_as_they_were(ward, synthkit):
    done = divided(synthkit, "csv", "--json")
    assert done.code == 0, done.err
    long = [pd.read_csv(done.document[name], dtype=str) for name in PARTS]
    people = [pd.read_csv(done.document[f"{name}_patients"], dtype=str) for name in PARTS]
    for given, parts in ((Path("records.csv"), long), (Path("people.csv"), people)):
        source = pd.read_csv(given, dtype=str)
        together = pd.concat(parts).sort_values(list(source.columns)).reset_index(drop=True)
        assert together.equals(source.sort_values(list(source.columns)).reset_index(drop=True))
    owners = [set(part["patient"]) for part in long]
    assert owners == [set(part["patient"]) for part in people]
    assert sum(map(len, owners)) == len(set.union(*owners)) == PATIENTS
    shares = [len(part) / PATIENTS for part in owners]
    # A share's standard deviation is .023 at most: five of them.
    assert all(abs(found - asked) < 0.115 for found, asked in zip(shares, (0.7, 0.2, 0.1), strict=True))


def test_the_command_divides_as_the_library_does_whatever_the_format(ward, synthkit):
    for ending in ("csv", "parquet"):
        assert divided(synthkit, ending).code == 0
    whole = read_sequences("records.csv", ward, patients="people.csv")
    for place, name in enumerate(PARTS):
        expected = whole.split((0.7, 0.2, 0.1), seed=0)[place]
        for ending in ("csv", "parquet"):
            folder = Path(f"parts-{ending}")
            found = read_sequences(
                folder / f"{name}.{ending}", ward, patients=folder / f"{name}-patients.{ending}"
            )
            assert (found.codes == expected.codes).all()
            assert (found.patient_starts == expected.patient_starts).all()
            assert found.statics.equals(expected.statics)
    kept = pq.read_schema("parts-parquet/members.parquet")
    assert kept.equals(pq.read_schema("records.parquet"))


def test_static_columns_in_every_row_need_no_second_table(ward, synthkit):
    done = synthkit("split", "whole.csv", "--schema", "schema.toml", "-o", "parts", "--seed", "3")
    assert done.code == 0, done.err
    assert sorted(path.name for path in Path("parts").iterdir()) == sorted(f"{n}.csv" for n in PARTS)
    assert Path("parts").stat().st_mode & 0o077 == 0


def test_what_cannot_be_divided_is_one_line_and_leaves_no_file(ward, synthkit):
    rows = Path("records.csv").read_text("utf-8").splitlines()
    Path("wrong.csv").write_text("\n".join([rows[0], "CANARY-7,1,2010-01-01,CANARY-8"]) + "\n", "utf-8")
    few = [row for row in Path("whole.csv").read_text("utf-8").splitlines() if row.startswith(("pa", "1,"))]
    Path("few.csv").write_text("\n".join(few) + "\n", "utf-8")
    schema = ("--schema", "schema.toml", "-o", "never")
    for arguments, words in (
        (("wrong.csv", "--patients", "people.csv"), "a visit of a patient who is not in people.csv"),
        (("few.csv",), "few.csv: too few patients for so many parts"),
        (("records.csv",), "the column is missing"),
        (("absent.parquet", "--patients", "people.csv"), "there is no such file"),
    ):
        done = synthkit("split", *arguments, *schema)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.code == 4
        assert len(errors) == 1
        assert words in errors[0]
        assert "CANARY" not in done.err + done.out
        assert not Path("never").exists()


def test_nothing_is_overwritten_unasked(ward, synthkit):
    assert divided(synthkit, "csv").code == 0
    before = Path("parts-csv/holdout-patients.csv").read_bytes()
    again = divided(synthkit, "csv", "--seed", "4")
    assert again.code == 4
    assert "the file exists" in again.err
    assert Path("parts-csv/holdout-patients.csv").read_bytes() == before
    assert divided(synthkit, "csv", "--seed", "4", "--force").code == 0
    assert Path("parts-csv/holdout-patients.csv").read_bytes() != before
