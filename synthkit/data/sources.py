"""Where a table comes from: a file, or one query on a database.

Knows paths, database addresses and what messages call them. Refuses to open anything; see
`synthkit.data.reading`. Rule: an address may hold a password, so neither a repr nor a name shows any of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

ADDRESS = re.compile(r"[a-z][a-z0-9+_.-]+:/", re.IGNORECASE)
"""How a database address begins: dialect, perhaps a driver, a colon and a stroke. A drive has one letter."""


@dataclass(frozen=True, kw_only=True, repr=False)
class SqlTable:
    """One query on a database. `url`: SQLAlchemy's; `query`: one SELECT; `where`: what messages call it."""

    url: str
    query: str
    where: str = "database"

    def __repr__(self) -> str:
        return f"SqlTable(where={self.where!r})"


TableSource = Path | SqlTable
NamedSource = str | TableSource
"""As callers may give it: a text is a path."""


def is_address(text: str) -> bool:
    """Whether a text is meant as a database's address and not as a file's path."""
    return ADDRESS.match(text) is not None or "://" in text


def as_source(source: NamedSource) -> TableSource:
    """A path given as text becomes one.

    Raises:
        InputError: The text is a database's address, which says nothing without a query.
    """
    if isinstance(source, str):
        if is_address(source):
            raise InputError("a database needs a query", where="database", fix="give an SqlTable")
        return Path(source)
    return source


def source_name(source: TableSource) -> str:
    """What messages call a table: a file's name without its folder, or the name its query was given.

    An address that was given where only a file can stand is not repeated either.
    """
    if isinstance(source, SqlTable):
        return source.where
    return "a database's address" if is_address(str(source)) else shown(source.name)
