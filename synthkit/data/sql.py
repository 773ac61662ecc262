"""From one query on a database to text, column by column, each distinct value once.

Knows SQLAlchemy, whose one home this is, and no schema. Refuses anything but one SELECT, and to write: the
transaction is read-only where the database knows such a thing, and never committed. Rules: rows are streamed;
a value has the text a CSV cell would have (`synthkit.data.values`). No message repeats what a driver said:
it may hold the password, the query or a cell. Errors are raised outside the `except` that met them.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

import numpy as np
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, CursorResult, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from synthkit.data.sources import SqlTable
from synthkit.data.values import PLAIN, text_of
from synthkit.errors import InputError

PASSWORD_VARIABLE = "SYNTHKIT_DB_PASSWORD"  # noqa: S105 - its name, not a password
"""Environment variable with the password, for an address that names a user and no password."""

CHUNK = 20_000
"""Rows held as Python values at a time."""

READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
"""What forbids writing, by dialect; SQLite's file is opened read-only, too. Others rely on the rollback."""

NOISE = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\(", re.DOTALL)
ONE_SELECT = re.compile(r"(?:select|with|values)\b", re.IGNORECASE)
UNKNOWN = re.compile(
    r"no such (?:table|column)|does not exist|doesn't exist|unknown column|invalid (?:object|column)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EncodedColumn:
    """Each row's level, int32 (rows,), -1 where the cell is missing; the levels' texts, in order of
    appearance.
    """

    levels: np.ndarray
    texts: list[str]

    def spelt_out(self) -> np.ndarray:
        """Each row's text, object array (rows,); missing None."""
        return np.asarray(np.array([*self.texts, None], dtype=object)[self.levels], dtype=object)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class EncodedTable:
    """A query's columns, as named by the database; names may repeat, and there may be no rows."""

    names: tuple[str, ...]
    columns: tuple[EncodedColumn, ...]


def read_query(source: SqlTable) -> EncodedTable:
    """Run one query and take its rows.

    Args:
        source: The address, whose password may stand in `PASSWORD_VARIABLE` instead, and the query.

    Raises:
        InputError: The address is none, its driver is not installed, the database cannot be opened or
            refuses the query, the query is not one SELECT, or a column holds no plain values.
    """
    _check_query(source)
    with _connection(source) as connection:
        result = _ran(connection, source)
        names = tuple(map(str, result.keys()))
        builders = [_Builder() for _ in names]
        for rows in _chunks(result, source):
            for place, (builder, values) in enumerate(zip(builders, zip(*rows, strict=True), strict=True), 1):
                if not builder.takes(values):
                    fix = "cast it in the query, or leave it out"
                    raise InputError(f"column {place} holds no plain values", where=source.where, fix=fix)
    return EncodedTable(names=names, columns=tuple(builder.column() for builder in builders))


class _Builder:
    """One column while it is read."""

    def __init__(self) -> None:
        # 1, 1.0 and True are equal to a dict, and different texts.
        self._known: dict[tuple[type, object], int] = {}
        self._places: dict[str, int] = {}
        self._parts: list[np.ndarray] = []

    def takes(self, values: Sequence[object]) -> bool:
        """Add a chunk; False where a value is not plain."""
        if not all(value is None or isinstance(value, (*PLAIN, UUID)) for value in values):
            return False
        self._parts.append(np.fromiter(map(self._level, values), dtype=np.int32, count=len(values)))
        return True

    def _level(self, value: object) -> int:
        key = (type(value), value)
        found = self._known.get(key)
        if found is None:
            text = text_of(value)
            found = -1 if text is None else self._places.setdefault(text, len(self._places))
            if value == value:  # noqa: PLR0124 - NaN would be a new key each time
                self._known[key] = found
        return found

    def column(self) -> EncodedColumn:
        levels = np.concatenate([np.zeros(0, dtype=np.int32), *self._parts])
        return EncodedColumn(levels=levels, texts=list(self._places))


def _check_query(source: SqlTable) -> None:
    """A first guard of three: one statement that reads. It does not parse SQL; the transaction forbids."""
    rest = source.query.strip().removesuffix(";")
    if not rest:
        raise InputError("the query is missing", where=source.where, fix='add --query "SELECT ..."')
    while (noise := NOISE.match(rest)) is not None:
        rest = rest[noise.end() :]
    if ONE_SELECT.match(rest) is None:
        raise InputError("the query is no SELECT", where=source.where, fix="give one that only reads")


def _address(source: SqlTable) -> URL:
    url: URL | None = None
    try:
        url = make_url(source.url)
    except (ArgumentError, ValueError):
        url = None
    if url is None:
        fix = "for example sqlite:///hospital.db or postgresql+psycopg://reader@host/name"
        raise InputError("is no database address", where=source.where, fix=fix)
    password = os.environ.get(PASSWORD_VARIABLE)
    if url.username and url.password is None and password:
        url = url.set(password=password)
    return _closed_to_writing(url) if url.get_backend_name() == "sqlite" else url


def _closed_to_writing(url: URL) -> URL:
    """SQLite's file opened read-only: otherwise a wrong name would make an empty database."""
    name = url.database or ""
    if name in ("", ":memory:"):
        return url
    path = name if name.startswith("file:") else f"file:{quote(name)}"
    return url.set(database=path, query={**url.query, "mode": "ro", "uri": "true"})


@contextmanager
def _connection(source: SqlTable) -> Iterator[Connection]:
    """A connection in a read-only transaction, rolled back and closed whatever happens."""
    connection, (what, fix) = _opened(source)
    if connection is None:
        raise InputError(what, where=source.where, fix=fix)
    try:
        yield connection
    finally:
        connection.close()


def _opened(source: SqlTable) -> tuple[Connection | None, tuple[str, str]]:
    """The connection, or what to say of its failure."""
    url = _address(source)
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    except (NoSuchModuleError, ImportError):
        fix = "pip install it beside synthkit, for example psycopg for postgresql+psycopg://"
        return None, ("no driver for this kind of database is installed", fix)
    except Exception:  # noqa: BLE001, RUF100 - drivers raise what they like, and quote what they were given
        return None, ("is no usable database address", "check its options")
    connection: Connection | None = None
    try:
        connection = engine.connect()
        statement = READ_ONLY.get(url.get_backend_name())
        if statement is not None:
            connection.exec_driver_sql(statement)
        return connection, ("", "")
    except Exception:  # noqa: BLE001, RUF100
        if connection is not None:
            connection.close()
    if url.get_backend_name() == "sqlite":
        return None, ("there is no such database file, or it cannot be read", "check its path and rights")
    fix = f"check host, name, user, the password in {PASSWORD_VARIABLE} or in the address, and the network"
    return None, ("the database cannot be opened", fix)


def _ran(connection: Connection, source: SqlTable) -> "CursorResult[tuple[object, ...]]":
    what = "the database refuses the query"
    try:
        # Without parameters a driver leaves % and : alone.
        streaming = connection.execution_options(stream_results=True, no_parameters=True)
        result = streaming.exec_driver_sql(source.query)
        if result.returns_rows:
            return result
        what = "the query gives no table"
    except Exception as error:  # noqa: BLE001, RUF100
        if UNKNOWN.search(str(getattr(error, "orig", error))):
            what = "the query names a table or column that the database does not know"
    raise InputError(what, where=source.where, fix="try it in the database's own client; one SELECT")


def _chunks(
    result: "CursorResult[tuple[object, ...]]", source: SqlTable
) -> Iterator[Sequence[Sequence[object]]]:
    parts = result.partitions(CHUNK)
    while True:
        rows: Sequence[Sequence[object]] | None = None
        is_read = False
        try:
            rows = next(parts, None)
            is_read = True
        except Exception:  # noqa: BLE001, RUF100
            is_read = False
        if not is_read:
            fix = "try the query in the database's own client"
            raise InputError("the rows cannot be read to their end", where=source.where, fix=fix)
        if rows is None:
            return
        yield rows
