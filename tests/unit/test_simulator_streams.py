"""A seed means the same patients, whoever else is simulated and however they are written."""

from dataclasses import replace

import numpy as np
import pytest

from synthkit.data.sequence_reading import read_synthetic_sequences
from synthkit.data.sequence_writing import sequence_writer
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import CHUNK, simulate, simulate_chunks
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.vocabulary import CodeType
from synthkit.errors import InputError


@pytest.fixture(scope="module")
def process():
    return standard_process(visits_mean=6, most_visits=30)


def test_fewer_patients_are_the_first_of_more(process):
    many = simulate(process, CHUNK + 300, seed=4)
    for count in (1, 250, CHUNK, CHUNK + 1):
        assert simulate(process, count, seed=4).digest == many.take(np.arange(count)).digest


def test_another_seed_is_other_patients(process):
    digests = {simulate(process, 50, seed=seed).digest for seed in range(4)}
    assert len(digests) == 4


def test_chunks_written_one_by_one_are_the_whole(process, tmp_path):
    for name in ("a", "b"):
        long, patients = tmp_path / f"{name}.parquet", tmp_path / f"{name}.csv"
        with sequence_writer(process.schema, long, patients=patients) as writer:
            for records in simulate_chunks(process, CHUNK + 200, seed=9):
                writer.write(records)
    for ending in (".parquet", ".csv"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    back = read_synthetic_sequences(tmp_path / "a.parquet", process.schema, patients=tmp_path / "a.csv")
    assert back.digest == simulate(process, CHUNK + 200, seed=9).digest


def test_a_failed_writing_leaves_nothing_behind(process, tmp_path):
    def fail():
        with sequence_writer(process.schema, tmp_path / "a.parquet", patients=tmp_path / "a.csv") as writer:
            writer.write(simulate(process, 5, seed=0))
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_schema_is_longitudinal_public_and_typed(process):
    schema = process.schema
    assert schema.is_longitudinal
    assert not schema.not_public()
    assert not schema.to_buy()
    assert schema_from_toml(schema_to_toml(schema), "simulated.toml") == schema
    assert {kind: len(schema.vocabulary.of_type(kind)) for kind in CodeType} == {
        CodeType.DIAGNOSIS: 168,
        CodeType.DRUG: 53,
        CodeType.LABORATORY: 19,
        CodeType.PROCEDURE: 12,
        CodeType.UNTYPED: 0,
    }


def test_records_keep_the_caps_and_the_rules(process):
    records = simulate(process, 600, seed=2)
    longest = records.visits_per_patient.max()
    assert longest == process.most_visits
    assert set(records.statics["end"][records.visits_per_patient < longest]) == {"died", "left"}
    assert records.codes_per_visit.min() == 1
    first = records.is_first_visit
    assert (records.gaps[first] == 0).all()
    assert records.gaps[~first].min() >= 1
    assert records.gaps.max() <= process.longest
    coded = records.dense()
    alone = coded[:, process.rest]
    assert alone.any()
    np.testing.assert_array_equal(alone, coded.sum(axis=1) - alone == 0)
    rises = np.diff(records.codes) > 0
    rises[records.visit_starts[1:-1] - 1] = True
    assert rises.all()


def test_the_digest_covers_every_parameter(process):
    changed = replace(process, swing=process.swing * 0.5)
    assert changed.digest != process.digest
    assert standard_process(visits_mean=6, most_visits=30).digest == process.digest


@pytest.mark.parametrize("options", [{"visits_mean": 0.5}, {"visits_mean": 1000}, {"most_visits": 0}])
def test_odd_lengths_are_refused(options):
    with pytest.raises(InputError, match="visits a patient"):
        standard_process(**options)


def test_nobody_is_refused(process):
    with pytest.raises(InputError, match="there is nobody to simulate"):
        simulate(process, 0, seed=0)
