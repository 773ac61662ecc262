"""Tables in and out: a file becomes a table of any type only when it fits its schema.

Knows files and schemas. Refuses a table that breaks its schema in any cell. Rules: a message names
column and row, never a cell; a file is written whole or not at all.
"""

import datetime as dt
import gzip
import io
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthkit.data.checking import CheckedCells, CheckResult, Rule, check_cells, check_error
from synthkit.data.partial import CompletedTable, PartialTable
from synthkit.data.reading import RawTable, format_of, read_raw
from synthkit.data.sources import NamedSource, TableSource, as_source, source_name
from synthkit.data.table import EPOCH, PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SchemaError


def read_frame(path: NamedSource) -> pd.DataFrame:
    """Read a CSV, gzipped CSV or Parquet file, or a query, as text: object columns, missing None.

    Raises:
        InputError: It cannot be read as a table.
    """
    return read_text(path).frame


def read_text(path: NamedSource) -> RawTable:
    """The same with the rows' lines: for who needs rows both as they came and checked, and asks once.

    Raises:
        InputError: It cannot be read as a table.
    """
    source = as_source(path)
    return read_raw(source, source_name(source))


def read_table(
    path: NamedSource | RawTable,
    schema: Schema,
    *,
    where: str | None = None,
    one_row_per_patient: bool = False,
    is_draft: bool = False,
) -> PatientTable:
    """Read patients' rows and check them.

    Args:
        path: A CSV, gzipped CSV or Parquet file; a query; or what `read_text` read.
        schema: What it has to fit. Columns it ignores are dropped, as are the patient id, once it has
            grouped the rows, and a visit column that is not a data column.
        where: What messages call the file; its name without the directory unless given.
        one_row_per_patient: Whether a patient's second row is refused.
        is_draft: Whether columns may still have to be bought: any number or text fits them then.

    Raises:
        InputError: The file cannot be read as a table.
        SchemaError: It does not fit, the message names the first violation; or something is still to be
            bought.
    """
    if not is_draft:
        _check_complete(schema)
    source = path if isinstance(path, RawTable) else as_source(path)
    cells = _read_cells(source, schema, where, one_row_per_patient)
    frame = _frame(cells, schema)
    return PatientTable(schema=schema, frame=frame, patients=cells.patients, lots=cells.lots)


def read_synthetic(path: str | Path | bytes, schema: Schema, *, where: str | None = None) -> SyntheticTable:
    """Read a table that was generated; it holds the schema's data columns and nothing else.

    Args:
        path: A CSV, gzipped CSV or Parquet file; or a CSV file's bytes, which then touch no disk.
        schema: What it has to fit.
        where: What messages call the file; its name without the directory unless given.

    Raises:
        InputError: The file cannot be read as a table.
        SchemaError: It does not fit; the message names the first violation.
    """
    _check_complete(schema)
    visit = schema.visit if schema.visit in schema.names else None
    released = Schema(columns=schema.columns, name=schema.name, visit=visit)
    source = path if isinstance(path, bytes) else Path(path)
    cells = _read_cells(source, released, where, False)
    return SyntheticTable(schema=schema, frame=_frame(cells, schema))


def read_partial(
    path: NamedSource, schema: Schema, *, keep_missing: Sequence[str] = (), where: str | None = None
) -> PartialTable:
    """Read rows that are to be completed: an empty cell, or an absent column, is to be filled.

    Args:
        path: A CSV, gzipped CSV or Parquet file, or a query, with at least one of the schema's columns.
        schema: The model's. Columns it ignores are dropped, as are the patient id and a visit or time column
            that is not a data column.
        keep_missing: Columns whose empty cells are known to be missing: they stay empty, and count as known.
        where: What messages call the file; its name without the directory unless given.

    Raises:
        InputError: The file cannot be read as a table.
        SchemaError: A cell or column does not fit, the message names the first violation; something is still
            to be bought; or a column of `keep_missing` is not in the file, or never missing by the schema.
    """
    _check_complete(schema)
    source = as_source(path)
    place = where if where is not None else source_name(source)
    raw = read_raw(source, place)
    present = tuple(replace(column, missing=True) for column in schema if column.name in raw.frame)
    roles = (schema.patient_id, schema.visit, schema.time)
    ignored = (*schema.ignored, *(name for name in roles if name and name not in schema.names))
    fitted = Schema(columns=present or schema.columns, name=schema.name, ignored=ignored)
    checked = check_cells(raw, fitted)
    if not checked.result.is_valid:
        raise check_error(_of_a_model(checked.result), place)
    _check_keep_missing(keep_missing, schema, raw.frame.columns, place)
    nothing = np.full(len(raw.frame), None, dtype=object)
    cells = pd.DataFrame({name: raw.frame.get(name, nothing) for name in schema.names}, dtype=object)
    values = {
        column.name: checked.columns.get(column.name, nothing.astype(float) if column.is_numeric else nothing)
        for column in schema
    }
    return PartialTable(
        schema=schema,
        cells=cells,
        values=pd.DataFrame(values),
        known=cells.notna().to_numpy() | np.isin(schema.names, list(keep_missing)),
        dropped=tuple(name for name in raw.frame.columns if name in ignored),
    )


def _of_a_model(result: CheckResult) -> CheckResult:
    """The same, with advice that holds where the schema is a model's and cannot be changed any more."""
    fixes = {Rule.UNEXPECTED_COLUMN: "leave it out: the model does not know it"}
    told = (replace(one, expected=fixes.get(one.rule, one.expected)) for one in result.violations)
    return replace(result, violations=tuple(told))


def _check_keep_missing(names: Sequence[str], schema: Schema, found: pd.Index, where: str) -> None:
    for name in names:
        column = schema.column(name)
        place = f"{where}: column {shown(name)}"
        if not column.missing:
            raise SchemaError(
                "no cell is missing by the schema", where=place, fix="take it out of --keep-missing"
            )
        if name not in found:
            raise SchemaError(
                "the column is absent, so nothing in it is known to be missing",
                where=place,
                fix="add it with empty cells, or take it out of --keep-missing",
            )


def _check_complete(schema: Schema) -> None:
    if schema.to_buy():
        raise SchemaError(
            "its bounds, bins or categories are still to be bought",
            where=f"column {shown(schema.to_buy()[0])}",
            fix="give the schema that `schema buy` or `train` completed",
        )


def _read_cells(
    source: TableSource | bytes | RawTable, schema: Schema, where: str | None, one_row: bool
) -> CheckedCells:
    place = where or ("table" if isinstance(source, bytes | RawTable) else source_name(source))
    raw = source if isinstance(source, RawTable) else read_raw(source, place)
    cells = check_cells(raw, schema, one_row_per_patient=one_row)
    if not cells.result.is_valid:
        raise check_error(cells.result, place)
    return cells


def _frame(cells: CheckedCells, schema: Schema) -> pd.DataFrame:
    return pd.DataFrame({name: cells.columns[name] for name in schema.names})


def write_table(table: SyntheticTable, path: str | Path) -> None:
    """Write a synthetic table as CSV, gzipped CSV or Parquet, by the file's ending.

    The CSV is the table's canonical bytes. Parquet has real types: int64, double, date32, string. The
    file appears whole or not at all; an existing one is replaced.

    Raises:
        InputError: The ending is unknown or the file cannot be written.
    """
    _write(path, csv=table.to_csv_bytes, parquet=lambda: _parquet_bytes(table.frame, table.schema))


def write_completed(table: CompletedTable, path: str | Path) -> None:
    """Write a completed table, in the formats of `write_table`.

    The CSV has given cells as they were written. In Parquet they have their exact value, so that a column of
    whole numbers is double where one with a fraction was given; of a date, the day.

    Raises:
        InputError: The ending is unknown or the file cannot be written.
    """
    _write(
        path,
        csv=table.to_csv_bytes,
        parquet=lambda: _parquet_bytes(table.frame, table.schema, is_exact=True),
    )


def _write(path: str | Path, *, csv: Callable[[], bytes], parquet: Callable[[], bytes]) -> None:
    target = Path(path)
    ending = format_of(target)
    data = parquet() if ending == ".parquet" else csv()
    write_atomically(target, gzip.compress(data, mtime=0) if ending == ".csv.gz" else data)


def write_atomically(target: Path, data: bytes) -> None:
    """A file that appears whole or not at all; an existing one is replaced.

    Raises:
        InputError: The file cannot be written.
    """
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        return
    except OSError:
        draft.unlink(missing_ok=True)
    raise InputError("the file cannot be written", where=shown(target.name), fix="check the folder")


def _parquet_bytes(frame: pd.DataFrame, schema: Schema, *, is_exact: bool = False) -> bytes:
    arrays = {column.name: arrow_array(frame[column.name], column, is_exact) for column in schema}
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()


def arrow_array(values: pd.Series, column: Column, is_exact: bool) -> pa.Array:
    """One column with its real type, rounded as it is released unless every value is to stay exact."""
    if not column.is_numeric:
        return pa.array(values.to_numpy(dtype=object), type=pa.string(), from_pandas=True)
    numbers = values.to_numpy(dtype=float)
    missing = np.isnan(numbers)
    filled = np.where(missing, 0.0, numbers)
    if column.kind is Kind.DATETIME:
        days = [EPOCH + dt.timedelta(days=int(day)) for day in filled]
        return pa.array(days, type=pa.date32(), mask=missing)
    if column.is_whole and not (is_exact and (filled != np.rint(filled)).any()):
        return pa.array(np.rint(filled).astype(np.int64), mask=missing)
    if is_exact:
        return pa.array(filled, mask=missing)
    rounded = np.char.mod(f"%.{column.decimals}f", filled).astype(float) + 0.0
    return pa.array(rounded, mask=missing)
