"""Tables of a hospital's database for tests: SQLite files, typed as a database types them."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from synthkit.data.connectors import read_frame


def store(database: Path, name: str, frame: pd.DataFrame, *, numbers: Sequence[str] = ()) -> str:
    """Put a frame of texts into a table, the columns of `numbers` as INTEGER or REAL; the file's address."""
    columns = {
        column: [_number(text) if column in numbers else text for text in frame[column]] for column in frame
    }
    listed = ", ".join(f'"{column}"' for column in frame)
    rows = list(zip(*columns.values(), strict=True))
    with sqlite3.connect(database) as connection:
        connection.execute(f'CREATE TABLE "{name}" ({listed})')
        places = ", ".join("?" * len(columns))
        connection.executemany(f'INSERT INTO "{name}" VALUES ({places})', rows)  # noqa: S608
    connection.close()
    return f"sqlite:///{database}"


def store_file(database: Path, name: str, table: Path, *, numbers: Sequence[str] = ()) -> str:
    """The same of a CSV or Parquet file."""
    return store(database, name, read_frame(table), numbers=numbers)


def _number(text: str | None) -> int | float | None:
    if text is None:
        return None
    return float(text) if "." in text or "e" in text else int(text)
