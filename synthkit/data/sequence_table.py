"""A long table as it lies in a file or database: column by column, each distinct cell once.

Knows file formats through `reading`, and no schema. Refuses to hold more than one Parquet column as text
at a time: records run to tens of millions of rows. Messages name column and row, never a cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthkit.data.reading import encoded_texts, format_of, read_encoded, read_raw
from synthkit.data.sources import SqlTable
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SchemaError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Cells:
    """One column: each row's level, int32 (rows,), -1 where the cell is empty, and the levels' texts in
    order of appearance.
    """

    levels: np.ndarray
    texts: list[str]

    @property
    def empty(self) -> np.ndarray:
        """Positions of the empty cells."""
        return np.flatnonzero(self.levels < 0)


class LongTable:
    """A file's columns.

    Args:
        source: A CSV, gzipped CSV or Parquet file; a CSV file's bytes, which then touch no disk; or a query.
        where: What messages call it.

    Raises:
        InputError: The source cannot be read as a table.
    """

    def __init__(self, source: Path | bytes | SqlTable, where: str) -> None:
        self.where = where
        self.lines: np.ndarray | None = None
        """Each row's line in the file; None where a file has no lines."""
        self._source = source if isinstance(source, Path) else None
        self._frame: pd.DataFrame | None = None
        self._encoded: dict[str, Cells] | None = None
        if isinstance(source, SqlTable):
            found = read_encoded(source, where)
            cells = (Cells(levels=one.levels, texts=one.texts) for one in found.columns)
            self._encoded = dict(zip(found.names, cells, strict=True))
            self.names = found.names
            return
        if isinstance(source, Path) and format_of(source) == ".parquet":
            self.names = self._parquet_names()
            return
        raw = read_raw(source, where)
        self._frame, self.lines = raw.frame, raw.lines
        self.names = tuple(str(name) for name in raw.frame.columns)

    def _parquet_names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = ()
        what, fix = "is not a Parquet file with rows", "export it again"
        try:
            with pq.ParquetFile(self._source) as file:
                names = tuple(file.schema_arrow.names) if file.metadata.num_rows else ()
        except FileNotFoundError:
            what, fix = "there is no such file", "check the name"
        except (pa.ArrowException, OSError, ValueError):
            names = ()
        if not names or len(set(names)) != len(names):
            raise InputError(what, where=self.where, fix=fix)
        return names

    def cells(self, name: str) -> Cells:
        """One column's cells.

        Raises:
            InputError: The column holds no plain values, or cannot be read.
        """
        if self._encoded is not None:
            return self._encoded[name]
        if self._frame is not None:
            levels, texts = pd.factorize(self._frame[name])
            return Cells(levels=levels.astype(np.int32), texts=[str(text) for text in texts])
        column: pa.ChunkedArray | None = None
        try:
            with pq.ParquetFile(self._source) as file:
                column = file.read(columns=[name]).column(0)
        except (pa.ArrowException, OSError, ValueError):
            column = None
        if column is None:
            raise InputError("a column cannot be read", where=self.where, fix="export it again")
        return _compact(*encoded_texts(column, self.names.index(name) + 1, self.where))

    def judged(
        self, name: str, cells: Cells, judge: Callable[[str], int | None], *, what: str, fix: str
    ) -> np.ndarray:
        """Each level's number, int64 (levels,); each distinct cell is judged once, None refuses it.

        Raises:
            SchemaError: A cell is refused.
        """
        values = [judge(text) for text in cells.texts]
        wrong = np.array([value is None for value in values] + [False])
        if wrong.any():
            self.refuse(name, what, fix, np.flatnonzero(wrong[cells.levels]))
        return np.array([value or 0 for value in values], dtype=np.int64)

    def refuse(self, column: str, what: str, fix: str, rows: np.ndarray) -> NoReturn:
        """Raise the error about the first of these rows (positions from 0)."""
        raise SchemaError(what, where=f"{self.where}: column {shown(column)}, {self.place(rows)}", fix=fix)

    def place(self, rows: np.ndarray) -> str:
        """The first of these rows in words."""
        row = int(rows.min())
        return f"row {row + 1}" + ("" if self.lines is None else f" (line {int(self.lines[row])})")


def _compact(levels: np.ndarray, texts: list[str | None]) -> Cells:
    """Only levels that are some row's, in order of appearance, and none that is missing."""
    places = np.full(len(texts) + 1, -1, dtype=np.int32)
    kept = [place for place in pd.unique(levels).tolist() if place >= 0 and texts[place] is not None]
    places[kept] = np.arange(len(kept), dtype=np.int32)
    return Cells(levels=places[levels], texts=[texts[place] or "" for place in kept])
