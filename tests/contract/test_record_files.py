"""The files that are sealed are the files that are written: to the byte, whatever the records hold."""

import numpy as np
import pandas as pd
import pytest

from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.sequences import SyntheticSequences, starts_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.release.contents import read_drawn

CODES = ("E11", "010", "a,b", 'say "x"', "ä", " x ")
STATICS = (
    Column(name="weight", kind=Kind.NUMERIC, minimum=-5, maximum=200, decimals=1, missing=True),
    Column(name="ward", kind=Kind.CATEGORICAL, categories=("north", "south, east"), missing=True),
    Column(name="born", kind=Kind.DATETIME, minimum=-40_000, maximum=20_000),
)


def records(*, time, statics, is_dated=True, patients=30):
    code = Column(name="code", kind=Kind.CODE, categories=CODES, missing=True)
    columns = (code, *STATICS) if statics else (code,)
    schema = Schema(columns=columns, patient_id="patient", visit="visit", time=time, name="ward")
    rng = np.random.default_rng(4)
    visits = rng.integers(1, 5, size=patients)
    chosen = [np.flatnonzero(rng.random(len(CODES)) < 0.3) for _ in range(visits.sum())]
    gaps = rng.integers(0, 200, size=visits.sum())
    gaps[starts_of(visits)[:-1]] = 0
    frame = pd.DataFrame(
        {
            "weight": np.where(rng.random(patients) < 0.3, np.nan, rng.integers(-4, 900, patients) / 10),
            "ward": np.array(["north", "south, east", None], dtype=object)[rng.integers(0, 3, patients)],
            "born": rng.integers(-20_000, 10_000, patients).astype(float),
        }
    )
    return SyntheticSequences(
        schema=schema,
        codes=np.concatenate(chosen).astype(np.int32),
        visit_starts=starts_of(np.array([codes.size for codes in chosen])),
        patient_starts=starts_of(visits),
        statics=frame if statics else frame[[]],
        gaps=gaps.astype(np.int32) if time else None,
        first_days=rng.integers(-12_000, 12_000, patients).astype(np.int32) if time else None,
        is_dated=is_dated,
    )


KINDS = [
    {"time": "date", "statics": True},
    {"time": "day", "statics": True, "is_dated": False},
    {"time": None, "statics": True},
    {"time": "date", "statics": False},
]


@pytest.mark.parametrize("kind", KINDS)
def test_sealed_bytes_are_written_bytes(tmp_path, kind):
    drawn = records(**kind)
    patients = tmp_path / "patients.csv" if kind["statics"] else None
    write_sequences(drawn, tmp_path / "records.csv", patients=patients)
    files = drawn.files
    assert files.records == (tmp_path / "records.csv").read_bytes()
    assert files.patients == (patients.read_bytes() if patients else None)
    again = read_synthetic_sequences(tmp_path / "records.csv", drawn.schema, patients=patients)
    assert again.files.parts == files.parts


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipient_counts_the_same_digest_from_the_bytes_alone(kind):
    drawn = records(**kind)
    found = read_drawn(drawn.files.parts, drawn.schema.to_json())
    assert (found.digest, found.rows) == (drawn.digest, drawn.files.records.count(b"\n") - 1)


def test_the_digest_moves_with_every_part_of_a_record():
    clean = records(time="date", statics=True)
    seen = {clean.digest}
    later = SyntheticSequences(**{**vars(clean), "first_days": clean.first_days + 1})
    other = clean.statics.copy()
    other["ward"] = other["ward"].to_numpy()[::-1].copy()
    codes = clean.codes.copy()
    codes[0] = codes[0] - 1 if codes[0] else codes[0] + 1
    for changed in (
        later,
        SyntheticSequences(**{**vars(clean), "statics": other}),
        SyntheticSequences(**{**vars(clean), "codes": codes}),
        clean.take(np.arange(29)),
        clean.take(np.arange(30)[::-1]),
    ):
        seen.add(changed.digest)
    assert len(seen) == 6
