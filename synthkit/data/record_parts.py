"""Records divided by patient into files that are what the site gave, row for row.

Knows a site's files and which rows belong to whom. Refuses records that break their schema, and a part that
would be empty: nothing can be trained on, or held out from, nobody. Rules: a patient's rows go together, with
the row of static columns; which part they go to follows from the seed and that patient's id alone, as
everywhere; cells are copied, never rewritten. A message says nothing of how many rows or patients there are.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthkit.data.connectors import read_frame, write_atomically
from synthkit.data.reading import format_of
from synthkit.data.sequence_reading import Caps, read_code_rows, read_sequences
from synthkit.data.sequence_table import LongTable
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

LONGEST = Caps(visits=2**31 - 1)
"""A split cuts no record: what is too long to train on is said where it is trained on."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RecordParts:
    """Checked files, and each row's part: int64, one a row of each; a part no share covers is -1."""

    table: Path
    patients: Path | None
    rows: np.ndarray
    people: np.ndarray | None

    def endings(self) -> tuple[str, str | None]:
        """What the parts' files end in: plain CSV for CSV of either kind, else Parquet."""
        kept = [None if path is None else _ending(path) for path in (self.table, self.patients)]
        return str(kept[0]), kept[1]


def divide_records(
    table: Path, schema: Schema, *, patients: Path | None, shares: tuple[float, ...], seed: int
) -> RecordParts:
    """Check records and say which part each row belongs to.

    Args:
        table: The long table, as `read_sequences` takes it; where the code list is still to be bought, codes
            may be any text.
        schema: A longitudinal schema.
        patients: The table of static columns, or None.
        shares: About what share of the patients comes into each part; they sum to at most 1.
        seed: Of the division; it may be known.

    Raises:
        InputError: A file cannot be read as a table, or a part would be empty.
        SchemaError: A record breaks the schema.
    """
    if schema.to_buy():
        read_code_rows(table, schema, patients=patients)
    else:
        read_sequences(table, schema, patients=patients, caps=LONGEST)
    rows = _parts_of(table, schema, shares, seed)
    if any(not (rows == part).any() for part in range(len(shares))):
        raise InputError(
            "too few patients for so many parts", where=shown(table.name), fix="give more, or other --shares"
        )
    people = None if patients is None else _parts_of(patients, schema, shares, seed)
    return RecordParts(table=table, patients=patients, rows=rows, people=people)


def _parts_of(path: Path, schema: Schema, shares: tuple[float, ...], seed: int) -> np.ndarray:
    cells = LongTable(path, shown(path.name)).cells(str(schema.patient_id))
    lots = pd.util.hash_array(np.array(cells.texts, dtype=object), categorize=False)
    levels = np.arange(lots.size)
    people = PatientTable(schema=schema, frame=pd.DataFrame(index=levels), patients=levels, lots=lots)
    parts = np.full(lots.size, -1, dtype=np.int64)
    for place, mask in enumerate(people.split_masks(shares, seed=seed)):
        parts[mask] = place
    return np.asarray(parts[cells.levels])


def write_part(parts: RecordParts, part: int, table: Path, patients: Path | None) -> None:
    """One part's files, each whole or not at all.

    Raises:
        InputError: A file cannot be read again, or not be written.
    """
    for source, target, rows in (
        (parts.table, table, parts.rows),
        (parts.patients, patients, parts.people),
    ):
        if source is not None and target is not None and rows is not None:
            write_atomically(target, _chosen(source, rows == part))


def _ending(path: Path) -> str:
    return ".parquet" if format_of(path) == ".parquet" else ".csv"


def _chosen(source: Path, is_chosen: np.ndarray) -> bytes:
    """The chosen rows of a file, in its format; Parquet keeps its types and is never spelt out as text."""
    if _ending(source) == ".csv":
        text: str = read_frame(source).loc[is_chosen].to_csv(index=False, lineterminator="\n")
        return text.encode("utf-8")
    buffer = io.BytesIO()
    with pq.ParquetFile(source) as file, pq.ParquetWriter(buffer, file.schema_arrow) as writer:
        for batch in _batches(file, is_chosen):
            writer.write_batch(batch)
    return buffer.getvalue()


def _batches(file: pq.ParquetFile, is_chosen: np.ndarray) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in file.iter_batches():
        yield batch.filter(pa.array(is_chosen[done : done + batch.num_rows]))
        done += batch.num_rows
