"""From records to a long table, patients after patients, whatever their number.

Knows the long table's form: patient and visit counted from 1, the day, one code a row. Refuses real
patients' records: only what was generated is written, and continued records with their given beginnings.
Rules: a visit without codes is one row with an empty code; the static columns stand in a table of their own,
or in every row; files appear whole or not at all, and equal records give equal bytes (of one version of the
Parquet library).
"""

import gzip
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthkit.data.connectors import arrow_array
from synthkit.data.continued import ContinuedSequences
from synthkit.data.reading import format_of
from synthkit.data.sequences import SyntheticSequences
from synthkit.data.table import EPOCH, SyntheticTable
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

Written = SyntheticSequences | ContinuedSequences

ORIGIN = np.datetime64(EPOCH.isoformat(), "D")


class SequenceWriter:
    """Open files that take records; made by `sequence_writer`."""

    def __init__(self, schema: Schema, long: "_Sink", patients: "_Sink | None") -> None:
        self._schema, self._long, self._patients = schema, long, patients
        self._written = 0

    def write(self, records: Written) -> None:
        """Append records; their patients are numbered on."""
        first = self._written + 1
        statics = _statics(records, is_text=(self._patients or self._long).is_text)
        if self._patients is not None:
            numbers = pa.array(np.arange(first, first + records.patient_count))
            self._patients.write(pa.table({str(self._schema.patient_id): numbers, **statics}))
            statics = {}
        self._long.write(_long_table(records, first, statics))
        self._written += records.patient_count


@contextmanager
def sequence_writer(
    schema: Schema, path: str | Path, *, patients: str | Path | None = None
) -> Iterator[SequenceWriter]:
    """Files for records of this schema, complete once the block ends without an error.

    Args:
        schema: A longitudinal schema.
        path: The long table: CSV, gzipped CSV or Parquet, by its ending.
        patients: The table of static columns, likewise; None: they stand in the long table.

    Raises:
        InputError: An ending is unknown, or a file cannot be written.
    """
    try:
        with ExitStack() as stack:
            long = stack.enter_context(_sink(Path(path)))
            table = None if patients is None else stack.enter_context(_sink(Path(patients)))
            yield SequenceWriter(schema, long, table)
            return
    except OSError:
        problem = InputError("cannot be written", where=shown(Path(path).name), fix="check folder and disk")
    raise problem


def write_sequences(records: Written, path: str | Path, *, patients: str | Path | None = None) -> None:
    """Write records; see `sequence_writer`.

    Raises:
        InputError: An ending is unknown, or a file cannot be written.
    """
    with sequence_writer(records.schema, path, patients=patients) as writer:
        writer.write(records)


def _statics(records: Written, *, is_text: bool) -> dict[str, pa.Array]:
    """The static columns as they are released, one value a patient."""
    schema = records.schema.statics
    if schema is None:
        return {}
    if not is_text:
        return {
            column.name: arrow_array(records.statics[column.name], column, is_exact=False)
            for column in schema
        }
    text = SyntheticTable(schema=schema, frame=records.statics).release_frame()
    return {name: pa.array(text[name].to_numpy(dtype=object), pa.string()) for name in schema.names}


def _long_table(records: Written, first: int, statics: dict[str, pa.Array]) -> pa.Table:
    """One row a code; `first` is the first patient's number."""
    schema, counts = records.schema, records.codes_per_visit
    rows = np.repeat(np.arange(records.visit_count), np.maximum(counts, 1))
    owners = records.patient_of_visit
    places = np.arange(records.visit_count) - records.patient_starts[owners] + 1
    codes = np.full(rows.size, -1, dtype=np.int32)
    codes[(counts > 0)[rows]] = records.codes
    columns = {
        str(schema.patient_id): pa.array((owners + first)[rows]),
        str(schema.visit): pa.array(places[rows]),
    }
    days = records.days
    if schema.time is not None and days is not None:
        dated = pa.array((ORIGIN + days).astype("datetime64[D]")) if records.is_dated else pa.array(days)
        columns[schema.time] = dated.take(pa.array(rows))
    listed = pa.array(schema.code.categories, pa.string())
    columns[schema.code.name] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), listed)
    repeated = {name: values.take(pa.array(owners[rows])) for name, values in statics.items()}
    return pa.table({**columns, **repeated})


class _Sink(Protocol):
    """A file that takes one table after the other."""

    is_text: bool

    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class _ParquetSink:
    is_text = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _CsvSink:
    is_text = True

    def __init__(self, path: Path, *, is_zipped: bool) -> None:
        self._file = path.open("xb")
        # The name and time of a gzip header would make equal records differ.
        self._zip = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0) if is_zipped else None
        self._is_first = True

    def write(self, table: pa.Table) -> None:
        text: str = table.to_pandas().to_csv(index=False, lineterminator="\n", header=self._is_first)
        (self._zip or self._file).write(text.encode("utf-8"))
        self._is_first = False

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()
        self._file.close()


@contextmanager
def _sink(path: Path) -> Iterator[_Sink]:
    """A draft beside the file, which takes the file's place once all is written."""
    ending = format_of(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    sink: _Sink
    sink = _ParquetSink(draft) if ending == ".parquet" else _CsvSink(draft, is_zipped=ending == ".csv.gz")
    try:
        try:
            yield sink
        finally:
            sink.close()
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
