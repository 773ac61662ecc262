"""From a file or a query to text: CSV, gzipped CSV, Parquet, a database; cell by cell, nothing guessed.

Knows formats. Refuses to know a schema. Rules: only an empty cell is missing ("NA" is a text);
every reader gives the same text for the same value (whole floats without .0, ISO dates, true/false);
what is not a table is refused in one line that holds no cell, no directory and no count of rows.
Errors are raised outside the `except` that met them, so that no chained exception carries a cell.
"""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthkit.data.sources import SqlTable, source_name
from synthkit.data.sql import EncodedTable, read_query
from synthkit.data.values import text_of
from synthkit.errors import InputError

FORMATS = (".csv", ".csv.gz", ".parquet")
FORMATS_FIX = f"use a file ending in {', '.join(FORMATS)}"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RawTable:
    """Cells as text (missing: None), column names as found; `lines` is each row's line in the file, or
    None where a file has no lines.
    """

    frame: pd.DataFrame
    lines: np.ndarray | None


def format_of(path: Path) -> str:
    """The file's format by its name.

    Raises:
        InputError: The ending is none of `FORMATS`.
    """
    for ending in FORMATS:
        if path.name.lower().endswith(ending):
            return ending
    raise InputError("the format is not known", where=source_name(path), fix=FORMATS_FIX)


def read_raw(source: Path | bytes | SqlTable, where: str) -> RawTable:
    """Read a table's cells as text.

    Args:
        source: The file; a CSV file's bytes, which then touch no disk; or a query.
        where: What messages call it.

    Raises:
        InputError: The file is missing, unreadable, empty, not a table, ragged, not UTF-8, has two
            columns of one name, or has no rows; or the database does not answer the query.
    """
    if isinstance(source, SqlTable):
        found = read_encoded(source, where)
        columns = {name: column.spelt_out() for name, column in zip(found.names, found.columns, strict=True)}
        return RawTable(frame=pd.DataFrame(columns, dtype=object), lines=None)
    ending = ".csv" if isinstance(source, bytes) else format_of(source)
    data = source if isinstance(source, bytes) else _bytes_of(source, where)
    if not data:
        raise InputError("the file is empty", where=where, fix="give a table with a header and rows")
    if ending == ".parquet":
        return _read_parquet(data, where)
    if ending == ".csv.gz":
        data = _unzipped(data, where)
    return _read_csv(data, where)


def read_encoded(source: SqlTable, where: str) -> EncodedTable:
    """A query's columns, each distinct cell once, with a header and rows.

    Raises:
        InputError: The database does not answer the query, two columns have one name, or there are no rows.
    """
    found = read_query(source)
    _check_header(found.names, where)
    if not found.columns or not found.columns[0].levels.size:
        raise InputError("the query gives no rows", where=where, fix="check its conditions")
    return found


def _bytes_of(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        what, fix = "there is no such file", "check the name"
    except IsADirectoryError:
        what, fix = "is a folder, not a file", "name the file in it"
    except OSError:
        what, fix = "the file cannot be read", "check its permissions"
    raise InputError(what, where=where, fix=fix)


def _unzipped(data: bytes, where: str) -> bytes:
    with contextlib.suppress(OSError, EOFError, zlib.error):
        return gzip.decompress(data)
    raise InputError("is not a whole gzip file", where=where, fix="export it again, or name it .csv")


def _read_csv(data: bytes, where: str) -> RawTable:
    text = _decoded(data, where)
    rows, lines, problem = _parsed_rows(text)
    if problem:
        raise InputError(problem, where=where, fix="export it as comma-separated UTF-8 with one header line")
    if not rows:
        raise InputError("the file is empty", where=where, fix="give a table with a header and rows")
    header = rows.pop(0)
    _check_header(header, where)
    if not rows:
        raise InputError("the table has a header but no rows", where=where, fix="export it again")
    columns = {name: _emptied(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
    return RawTable(frame=pd.DataFrame(columns, dtype=object), lines=np.array(lines[1:]))


def _decoded(data: bytes, where: str) -> str:
    if data[:2] == b"\x1f\x8b":
        raise InputError("is compressed", where=where, fix="name it .csv.gz")
    if data[:4] == b"PAR1":
        raise InputError("is a Parquet file", where=where, fix="name it .parquet")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError("is not UTF-8 text", where=where, fix="save it as CSV in UTF-8")
    return text


def _parsed_rows(text: str) -> tuple[list[list[str]], list[int], str]:
    """Rows, the line each ends on, and what is wrong with the file ("" when nothing is).

    Blank lines are passed over, as every CSV reader does.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                return rows, lines, f"line {reader.line_num}: not as many cells as the header has"
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error:
        return rows, lines, f"line {reader.line_num}: broken quotes or a cell without end"
    return rows, lines, ""


def _check_header(names: Sequence[str], where: str) -> None:
    """Positions, not names: without its header line, a file's first row holds a patient's cells."""
    places: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"header: column {place} has no name", where=where, fix="name every column")
        if name in places:
            raise InputError(
                f"header: columns {places[name]} and {place} have the same name",
                where=where,
                fix="rename one",
            )
        places[name] = place


def _emptied(cells: Sequence[str]) -> list[str | None]:
    return [cell or None for cell in cells]


def _read_parquet(data: bytes, where: str) -> RawTable:
    table: pa.Table | None = None
    with contextlib.suppress(pa.ArrowException, OSError, ValueError):
        table = pq.ParquetFile(io.BytesIO(data)).read()
    if table is None:
        raise InputError("is not a readable Parquet file", where=where, fix="export it again")
    _check_header(table.column_names, where)
    if not table.num_columns or not table.num_rows:
        raise InputError("the table has no columns or no rows", where=where, fix="export it again")
    columns = {name: _texts_of(table.column(name), place, where) for place, name in _numbered(table)}
    return RawTable(frame=pd.DataFrame(columns, dtype=object), lines=None)


def _numbered(table: pa.Table) -> Iterator[tuple[int, str]]:
    return enumerate(table.column_names, 1)


def _texts_of(column: pa.ChunkedArray, place: int, where: str) -> np.ndarray:
    """One Parquet column as text, object array (rows,)."""
    levels, texts = encoded_texts(column, place, where)
    return np.asarray(np.array([*texts, None], dtype=object)[levels], dtype=object)


def encoded_texts(column: pa.ChunkedArray, place: int, where: str) -> tuple[np.ndarray, list[str | None]]:
    """One Parquet column as each row's level, int32 (rows,), and the levels' texts; -1 where it is missing.

    Each distinct value is converted once. A level may be no row's; a text may be None, where a value means
    a missing one.

    Raises:
        InputError: The column at this place (from 1) holds no plain values.
    """
    if pa.types.is_dictionary(column.type) and not pa.types.is_string(column.type.value_type):
        column = column.cast(column.type.value_type)
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        column = _widened(column)
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise InputError(
            f"header: column {place} holds no plain values", where=where, fix="flatten it, or leave it out"
        )
    if column.type == pa.null():
        return np.full(len(column), -1, dtype=np.int32), []
    # A column of repeated texts is never spelt out: tens of millions of rows would not fit.
    is_encoded = pa.types.is_dictionary(column.type)
    chunks = (column.unify_dictionaries() if is_encoded else column.dictionary_encode()).chunks
    levels = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) for chunk in chunks]
    texts = [text_of(value) for value in chunks[-1].dictionary.to_pylist()] if chunks else []
    return np.concatenate([np.zeros(0, dtype=np.int32), *levels]), texts


def _widened(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Short floats as the doubles their shortest text means: 0.1, not 0.10000000149011612."""
    numbers = column.cast(pa.float32()).to_numpy()
    return pa.chunked_array([pa.array(numbers.astype(str).astype(float))])
