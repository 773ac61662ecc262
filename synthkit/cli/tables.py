"""Tables as commands are given them: files, or a database's address with the query beside it.

Knows which query belongs to which table. Refuses an address without a query, a query without an address, and
one that could mean two tables: members and holdout taken for one another would turn an audit upside down.
Rule: an address is never printed, for a password may stand in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from synthkit.data.sources import SqlTable, TableSource, is_address, source_name
from synthkit.errors import InputError

ADDRESS_FIX = 'add --query "SELECT ..."'
NAMED = re.compile(r"([a-z][a-z-]*)=(.*)", re.DOTALL)

TableArgument = Annotated[
    str, typer.Argument(metavar="TABLE", help="A .csv, .csv.gz or .parquet file, or a database's address.")
]
PatientsOption = Annotated[
    str | None,
    typer.Option(
        "--patients", metavar="TABLE", help="Records: the table of static columns, one row each patient."
    ),
]
QueryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="[TABLE=]SELECT",
        help="What to read where a table is a database's address, as sqlite:///hospital.db or "
        "postgresql+psycopg://reader@host/name; repeat as NAME=SELECT, NAME the option's, for several. Its "
        "password: in SYNTHKIT_DB_PASSWORD.",
    ),
]


@dataclass(frozen=True, kw_only=True, repr=False)
class GivenTables:
    """A command's tables by the name of their option."""

    found: Mapping[str, TableSource]

    def of(self, name: str) -> TableSource:
        """A table that the command cannot do without."""
        return self.found[name]

    def get(self, name: str) -> TableSource | None:
        """A table that may have been left out."""
        return self.found.get(name)


def given_tables(query: list[str] | None, **tables: str | None) -> GivenTables:
    """Put queries to the addresses among a command's tables.

    Args:
        query: As given: SELECT, or NAME=SELECT.
        tables: As given, by their option's name with _ for -; `table` is the argument. None: left out.

    Raises:
        InputError: An address lacks its query, or a query its address; or it is not said whose it is.
    """
    named = {name.replace("_", "-"): text for name, text in tables.items() if text is not None}
    addresses = [name for name, text in named.items() if is_address(text)]
    queries = _by_name(query or [], addresses)
    for name in addresses:
        if name not in queries:
            raise InputError("is a database, which needs a query", where=_place(name), fix=ADDRESS_FIX)
    return GivenTables(
        found={
            name: SqlTable(url=text, query=queries[name], where=f"database ({_place(name)})")
            if name in addresses
            else Path(text)
            for name, text in named.items()
        }
    )


def _by_name(query: list[str], addresses: list[str]) -> dict[str, str]:
    """Each query by the name of its table; what is named takes precedence over order, which means nothing."""
    queries: dict[str, str] = {}
    unnamed: list[str] = []
    for text in query:
        found = NAMED.fullmatch(text)
        if found is None:
            unnamed.append(text)
            continue
        name, select = found.groups()
        if name not in addresses or name in queries:
            what = "two queries for one table" if name in queries else "no database was given for this query"
            listed = ", ".join(sorted(addresses)) or "none is one"
            raise InputError(what, where=f"option --query {name}=", fix=f"databases here: {listed}")
        queries[name] = select
    open_ones = [name for name in addresses if name not in queries]
    if unnamed and len(open_ones) != 1:
        what, fix = "no table here is a database", "give an address such as sqlite:///hospital.db"
        if open_ones:
            what, fix = "it is not said whose query this is", f'write "{open_ones[0]}=SELECT ..."'
        raise InputError(what, where="option --query", fix=fix)
    if len(unnamed) > 1:
        raise InputError("two queries for one table", where="option --query", fix="leave one out")
    return queries | dict(zip(open_ones, unnamed, strict=False))


def _place(name: str) -> str:
    return "TABLE" if name == "table" else f"option --{name}"


def table_name(source: TableSource) -> str:
    """What messages call a table: a file's name, or that it is a database."""
    return source_name(source)


def check_is_file(source: TableSource) -> Path:
    """A table that has to be a file, because it is read more than once and copied row by row.

    Raises:
        InputError: It is a database.
    """
    if not isinstance(source, Path):
        raise InputError(
            "records are divided in files, row for row",
            where=source.where,
            fix="export them first, or keep the three parts as three queries",
        )
    return source


def default_ledger(source: TableSource, asset: str) -> Path:
    """Where an asset's ledger lies unless said: beside the table.

    Raises:
        InputError: The table is a database. A ledger in whatever folder a command is called from would be a
            second one, with a budget of its own, in the next folder.
    """
    if not isinstance(source, Path):
        raise InputError(
            "a database has no folder for the asset's ledger",
            where="option --ledger",
            fix="add --ledger FILE",
        )
    return source.with_name(f"{asset}.ledger")
