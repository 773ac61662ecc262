"""Records survive being written and read, in every format and in any order of rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthkit.data.sequence_reading import Caps, read_sequences, read_synthetic_sequences
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.sequences import SyntheticSequences, pool_synthetic, starts_of
from synthkit.domain.schema import Column, Kind, Schema

CODES = ("E11", "I10", "010", "a,b", 'say "x"', "ä")


def schema_of(*, time: str | None = "date", statics: bool = True) -> Schema:
    code = Column(name="code", kind=Kind.CODE, categories=CODES, missing=True)
    others = (
        Column(name="weight", kind=Kind.NUMERIC, minimum=0, maximum=200, decimals=1, missing=True),
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=120),
        Column(name="site", kind=Kind.CATEGORICAL, categories=("north", "south, east")),
        Column(name="born", kind=Kind.DATETIME, minimum=-40_000, maximum=20_000),
    )
    columns = (code, *others) if statics else (code,)
    return Schema(columns=columns, patient_id="patient", visit="visit", time=time, name="ward")


def records_of(
    schema: Schema, *, patients: int = 40, seed: int = 0, is_dated: bool = True
) -> SyntheticSequences:
    rng = np.random.default_rng(seed)
    visits = rng.integers(1, 8, size=patients)
    chosen = [np.flatnonzero(rng.random(len(CODES)) < 0.4) for _ in range(visits.sum())]
    gaps = rng.integers(0, 200, size=visits.sum())
    gaps[starts_of(visits)[:-1]] = 0
    frame = pd.DataFrame(
        {
            "weight": np.where(rng.random(patients) < 0.2, np.nan, rng.integers(400, 900, patients) / 10),
            "age": rng.integers(18, 90, patients).astype(float),
            "site": np.array(["north", "south, east"], dtype=object)[rng.integers(0, 2, patients)],
            "born": rng.integers(-20_000, 10_000, patients).astype(float),
        }
    )
    return SyntheticSequences(
        schema=schema,
        codes=np.concatenate(chosen).astype(np.int32),
        visit_starts=starts_of(np.array([codes.size for codes in chosen])),
        patient_starts=starts_of(visits),
        statics=frame if schema.statics is not None else frame[[]],
        gaps=gaps.astype(np.int32) if schema.time else None,
        first_days=rng.integers(10_000, 12_000, patients).astype(np.int32) if schema.time else None,
        is_dated=is_dated,
    )


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("time", ["date", "day", None])
def test_what_is_written_is_read(tmp_path, ending, apart, time):
    schema = schema_of(time=time)
    records = records_of(schema, is_dated=time != "day")
    path, patients = tmp_path / f"long{ending}", tmp_path / f"patients{ending}" if apart else None
    write_sequences(records, path, patients=patients)
    back = read_synthetic_sequences(path, schema, patients=patients)
    assert back.digest == records.digest
    assert (back.is_dated, len(back)) == (time != "day", len(records))
    pd.testing.assert_frame_equal(back.statics, records.statics)
    np.testing.assert_array_equal(back.dense(), records.dense())


def test_equal_records_are_equal_bytes(tmp_path):
    for ending in (".csv", ".csv.gz", ".parquet"):
        files = [tmp_path / f"{name}{ending}" for name in "ab"]
        for file in files:
            write_sequences(records_of(schema_of()), file)
        assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"{name}{ending}" for name in "ab" for ending in (".csv", ".csv.gz", ".parquet")
    )


def test_a_table_without_static_columns(tmp_path):
    schema = schema_of(statics=False)
    records = records_of(schema)
    write_sequences(records, tmp_path / "long.parquet")
    assert read_synthetic_sequences(tmp_path / "long.parquet", schema).digest == records.digest


def test_rows_may_stand_in_any_order_and_twice(tmp_path):
    schema = schema_of()
    records = records_of(schema)
    write_sequences(records, tmp_path / "long.csv")
    lines = (tmp_path / "long.csv").read_text("utf-8").splitlines(keepends=True)
    rows = np.random.default_rng(3).permutation(np.repeat(lines[1:], 2)).tolist()
    (tmp_path / "mixed.csv").write_text("".join([lines[0], *rows]), "utf-8")
    mixed = read_sequences(tmp_path / "mixed.csv", schema)
    write_sequences(
        SyntheticSequences(**{k: v for k, v in vars(mixed).items() if k != "lots"}), tmp_path / "b.csv"
    )
    again = read_synthetic_sequences(tmp_path / "b.csv", schema)
    assert sorted(_patient(again, i) for i in range(40)) == sorted(_patient(records, i) for i in range(40))


def _patient(records, place):
    one = records.take(np.array([place]))
    return repr((one.codes.tolist(), one.visit_starts.tolist(), one.days.tolist(), one.statics.to_csv()))


def test_a_patients_part_depends_on_that_patient_alone(tmp_path):
    schema = schema_of()
    write_sequences(records_of(schema), tmp_path / "long.csv")
    lines = (tmp_path / "long.csv").read_text("utf-8").splitlines(keepends=True)
    fewer = [line for line in lines if not line.startswith("7,")]
    (tmp_path / "fewer.csv").write_text("".join(fewer), "utf-8")
    everybody = read_sequences(tmp_path / "long.csv", schema)
    others = read_sequences(tmp_path / "fewer.csv", schema)
    kept = np.delete(np.arange(40), 6)
    for part, same in zip(everybody.split((0.5, 0.5), seed=1), others.split((0.5, 0.5), seed=1), strict=True):
        assert 8 < len(part) < 32
        assert np.isin(part.lots, everybody.lots).all()
        np.testing.assert_array_equal(part.lots[np.isin(part.lots, everybody.lots[kept])], same.lots)


def test_encoded_parquet_columns_in_chunks_mean_what_plain_ones_do(tmp_path):
    """Dictionaries that differ between row groups, hold levels nobody has, and stand in another order."""
    schema = schema_of(time="day")
    write_sequences(records_of(schema, is_dated=False), tmp_path / "plain.parquet")
    table = pq.read_table(tmp_path / "plain.parquet")
    groups = []
    for start in range(0, table.num_rows, 60):
        part = table.slice(start, 60).to_pandas()
        ids = part["patient"].astype(str)
        part["patient"] = pd.Categorical(ids, categories=["nobody", *sorted(set(ids), reverse=True)])
        part["code"] = part["code"].astype(object)
        groups.append(pa.Table.from_pandas(part, preserve_index=False))
    with pq.ParquetWriter(tmp_path / "odd.parquet", groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group.cast(groups[0].schema))
    odd = read_synthetic_sequences(tmp_path / "odd.parquet", schema)
    assert odd.digest == read_synthetic_sequences(tmp_path / "plain.parquet", schema).digest


def test_a_longer_record_may_be_cut(tmp_path):
    schema = schema_of()
    records = records_of(schema)
    write_sequences(records, tmp_path / "long.parquet")
    cut = read_sequences(tmp_path / "long.parquet", schema, caps=Caps(visits=3, is_cut=True))
    assert cut.visits_per_patient.max() == 3
    np.testing.assert_array_equal(cut.dense(), records.first_visits(3).dense())
    np.testing.assert_array_equal(cut.days, records.first_visits(3).days)


def test_pooled_parts_are_the_whole():
    records = records_of(schema_of())
    parts = [records.take(np.arange(start, start + 10)) for start in range(0, 40, 10)]
    assert pool_synthetic(parts).digest == records.digest


def test_real_records_show_nothing_of_themselves(tmp_path):
    write_sequences(records_of(schema_of()), tmp_path / "long.csv")
    shown = repr(read_sequences(tmp_path / "long.csv", schema_of()))
    assert shown == "PatientSequences(schema='ward', patients=<private>)"
