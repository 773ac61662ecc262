"""Commands that are imported when they are called, and not before.

Knows a table of names, each with one line of help and the function behind it. Refuses to import a
command in order to list it: `synthkit --help` has to answer at once, and a command whose libraries are
missing must not take the others down.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc, getdoc
from typing import Any

import click
import typer
from typer.core import TyperGroup
from typer.main import get_command as to_command

from synthkit.errors import InputError

WIDTH = 100
"""Widest help text, in characters."""

SECTIONS = ("Args:", "Returns:", "Raises:", "Source:")
"""Parts of a docstring that are for programmers: they end a command's help."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One command. `target` is "module:function"; the function carries Typer's annotations."""

    target: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """Commands under one name."""

    summary: str
    entries: Mapping[str, Entry]


class _PlainHelp(click.HelpFormatter):
    """Takes back the escapes that Typer puts before brackets for rich, which is not used for help."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        plain = [(name, text.replace("\\[", "[")) for name, text in rows]
        super().write_dl(plain, col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _PlainHelp


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and summaries, and imports one only to run or explain it.

    Args:
        name: What is typed.
        table: The commands, in the order in which help lists them.
        help: The text above the list.
        params: Options of the group itself.
    """

    def __init__(
        self,
        *,
        name: str,
        table: Mapping[str, Entry | Family],
        help: str,  # noqa: A002 - click's word
        params: list[click.Parameter] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            help=help,
            params=params or [],
            context_settings=dict(CONTEXT),
            rich_markup_mode=None,
            suggest_commands=False,
            no_args_is_help=True,
        )
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        del ctx
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none.

        Raises:
            InputError: The command is known, but not part of this installation.
        """
        del ctx
        entry = self._table.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Family):
            return LazyGroup(name=cmd_name, table=entry.entries, help=entry.summary)
        return _command(cmd_name, entry.target)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name is answered with the nearest one of the table."""
        if args and args[0] not in self._table and not args[0].startswith("-"):
            near = get_close_matches(args[0], self._table)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List names and summaries without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self._table.items()])


def _command(name: str, target: str) -> click.Command:
    """The command that calls this function."""
    holder = typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=CONTEXT
    )
    function = _function(name, target)
    holder.command(name, help=help_text(getdoc(function) or ""))(function)
    command = to_command(holder)
    command.context_class = _Context
    return command


def _function(name: str, target: str) -> Callable[..., Any]:
    module_name, _, function_name = target.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise InputError(
            "this command is not part of this installation",
            where=f"synthkit {name}",
            fix="install the full package",
        ) from error
    function: Callable[..., Any] = getattr(module, function_name)
    return function


def help_text(docstring: str) -> str:
    """A docstring as help: without the parts for programmers, and the example's lines kept as written."""
    lines: list[str] = []
    for line in cleandoc(docstring).splitlines():
        if line in SECTIONS:
            break
        # The backspace is click's sign for "do not refill this paragraph".
        lines += ["\b", line] if line in ("Example:", "Examples:") else [line]
    return "\n".join(lines).rstrip()
