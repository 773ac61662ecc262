"""A service's lines for its operator, and its clean end.

Rule kept here: a line is on its way as soon as it is said, for a service's log is read while it runs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from synthkit.cli.console import Console
from synthkit.federation.processes import terminated_as_exception


def speaker(console: Console) -> Callable[[str], None]:
    """Says one line with the time."""

    def say(text: str) -> None:
        console.line(f"{time.strftime('%H:%M:%S')} {text}")
        sys.stdout.flush()
        sys.stderr.flush()

    return say


@contextmanager
def stopped_on_signal(
    say: Callable[[str], None], *, code: int, then: Callable[[], None] | None = None
) -> Iterator[None]:
    """End the command with this exit code when SIGTERM or Ctrl-C stops what runs in the block.

    By then the block has ended every process that it started. `then` is called last.
    """
    try:
        with terminated_as_exception():
            yield
    except (KeyboardInterrupt, SystemExit):
        say("stopped; no process is left")
        if then is not None:
            then()
        raise typer.Exit(code) from None
