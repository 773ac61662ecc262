"""Strict reading of TOML: every key is expected, present and of its type, or the document is refused.

Knows tables, keys and types. Refuses to know what a document means. Rules: an unknown key is an error
that names the key and its table, never ignored; nothing is converted silently (true is not 1, a date
is not a text); a number is finite; every message is one line.
"""

import datetime as dt
import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from synthkit.errors import InputError, SynthkitError

TomlTable = dict[str, Any]

Refuse = Callable[[str, str, str, str], SynthkitError]
"""Makes the error: what is wrong, the dotted key, where, what to do."""


def shown(name: str) -> str:
    """A name as it may stand in a one-line message: quoted and shortened where it has to be."""
    short = name if len(name) <= 60 else name[:57] + "..."
    return short if short.isprintable() and short else json.dumps(short)


def parse_toml(text: str, where: str) -> TomlTable:
    """Parse a document.

    Raises:
        InputError: The text is not TOML; the message gives the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = " ".join(str(error).split())
    except RecursionError:
        problem = "nested too deeply"
    raise InputError(f"not valid TOML: {problem}", where=where, fix="correct that line")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table of a document, with typed access. `path` is its dotted name, "" for the root."""

    values: TomlTable
    path: str
    where: str
    refuse: Refuse

    def key(self, name: str) -> str:
        """The dotted name of a key of this table."""
        return f"{self.path}.{shown(name)}" if self.path else shown(name)

    def error(self, what: str, name: str, fix: str = "") -> SynthkitError:
        """The error to raise about one key of this table."""
        table = f"{self.where}: [{self.path}]" if self.path else self.where
        return self.refuse(f"{shown(name)} {what}", self.key(name), table, fix)

    def check_keys(self, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> None:
        """Refuse unknown keys first, then missing ones: a misspelt key is both, and the first helps more."""
        known = required + optional
        for name in self.values:
            if name not in known:
                raise self.error("is not a known key", name, f"known here: {', '.join(known)}")
        for name in required:
            if name not in self.values:
                raise self.error("is missing", name, "write it out; there is no default")

    def has(self, name: str) -> bool:
        """Whether the key is there."""
        return name in self.values

    def section(self, name: str) -> "Section":
        """The sub-table of that name; an absent one reads as empty."""
        return self._sub(self.values.get(name, {}), name, self.key(name))

    def sections(self, name: str) -> tuple["Section", ...]:
        """The array of tables [[name]]; an absent one reads as empty."""
        entries = self.values.get(name, [])
        if not isinstance(entries, list):
            raise self.error("must be an array of tables", name, f"write [[{shown(name)}]]")
        return tuple(
            self._sub(entry, name, f"{self.key(name)}[{place}]") for place, entry in enumerate(entries, 1)
        )

    def _sub(self, value: object, name: str, path: str) -> "Section":
        if not isinstance(value, dict):
            raise self.error("must be a table", name, f"write [{shown(name)}]")
        return Section(values=cast(TomlTable, value), path=path, where=self.where, refuse=self.refuse)

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self.error("must be a text", name, "put it in quotes")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str = "") -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value not in choices:
            raise self.error("is none of the allowed words", name, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.error("must be true or false", name)
        return value

    def number(self, name: str, default: float = 0.0) -> float:
        """A finite number, always as float, so that 3 and 3.0 give the same digest."""
        return self._finite(self.values.get(name, default), name)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._finite(value, name) for value in self._list(name))

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error("must be a whole number", name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise self.error("must be a list of texts", name, "put each entry in quotes")
        return tuple(values)

    def date(self, name: str) -> dt.date:
        """A TOML date, or a text in the form YYYY-MM-DD."""
        return self._date(self.values.get(name), name)

    def dates(self, name: str) -> tuple[dt.date, ...]:
        """A list of dates."""
        return tuple(self._date(value, name) for value in self._list(name))

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name, [])
        if not isinstance(value, list):
            raise self.error("must be a list", name, "write it in [brackets]")
        return value

    def _finite(self, value: object, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error("must be a number", name)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error("must be a finite number", name)
        return number

    def _date(self, value: object, name: str) -> dt.date:
        if isinstance(value, str):
            try:
                value = dt.datetime.strptime(value, "%Y-%m-%d").date()
            except ValueError:
                value = None
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise self.error("must be a date", name, "for example 2030-12-31")
        return value
