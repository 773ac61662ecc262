"""What a person sees: headings, pairs, tables, a verdict, progress. The only module that knows rich.

Knows two streams. With `--json`, standard output carries one JSON object and nothing else, and all text
for people goes to standard error. Rules: progress goes to standard error always, and only for work over
two seconds; colour and bars only on a terminal; a figure that is not finite is null in JSON.
"""

import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from synthkit.domain.canonical import JsonObject

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PATIENCE_SECONDS = 2.0
"""Work shorter than this shows no progress."""

PLAIN_SECONDS = 5.0
"""Least time between two plain progress lines of one stage."""

STYLES = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow", "INVALID": "bold magenta"}


class Console:
    """Text for people, and one object for machines.

    Args:
        as_json: Whether standard output belongs to the machine.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._out: TextIO = sys.stderr if as_json else sys.stdout

    def line(self, text: str = "") -> None:
        """One line."""
        self._out.write(f"{text}\n")

    def heading(self, text: str) -> None:
        """A title, after an empty line."""
        self.line()
        self._styled(text, "bold")

    def items(self, texts: Iterable[str]) -> None:
        """One text a line, with a dash."""
        for text in texts:
            self.line(f"  - {text}")

    def pairs(self, pairs: Mapping[str, str]) -> None:
        """Names and values, the values in one column."""
        width = max(map(len, pairs), default=0)
        for name, value in pairs.items():
            self.line(f"  {name:<{width}}  {value}")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns as wide as their widest cell."""
        lines = [tuple(header), *(tuple(row) for row in rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
        for line in lines:
            cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            self.line(f"  {'  '.join(cells)}".rstrip())

    def verdict(self, word: str, text: str = "") -> None:
        """The last line: the word that the exit code says too."""
        self.line()
        self._styled(f"{word}{': ' if text else ''}{text}", STYLES.get(word, "bold"))

    def note(self, text: str) -> None:
        """Something to read before going on."""
        self.line(f"note: {text}")

    def result(self, document: JsonObject) -> None:
        """The machine's object, if it was asked for. Call it once."""
        if self._as_json:
            sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False) + "\n")

    @contextmanager
    def progress(self, stage: str) -> Iterator["Progress"]:
        """Show what is being done for as long as the block runs."""
        progress = Progress(stage, sys.stderr)
        try:
            yield progress
        finally:
            progress.close()

    def _styled(self, text: str, style: str) -> None:
        if not self._out.isatty():
            self.line(text)
            return
        from rich.console import Console as RichConsole  # noqa: PLC0415 - only a terminal needs it

        rich = RichConsole(file=self._out, highlight=False, markup=False, emoji=False)
        rich.print(text, style=style, soft_wrap=True)


class Progress:
    """One piece of work in progress. Call it with the name of each stage; `at` counts within a stage."""

    def __init__(self, stage: str, stream: TextIO) -> None:
        self._stage, self._stream = stage, stream
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._is_shown = self._is_closed = False
        self._last = 0.0
        self._timer = threading.Timer(PATIENCE_SECONDS, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, stage: str) -> None:
        """The next stage begins."""
        with self._lock:
            self._stage = stage
            if self._is_shown:
                self._show()

    def at(self, done: int, total: int) -> None:
        """`done` of `total` steps of this stage are done."""
        with self._lock:
            if not self._is_shown:
                return
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=done, total=total)
            elif time.monotonic() - self._last >= PLAIN_SECONDS:
                self._write(f"{self._stage}: {done} of {total}")

    def close(self) -> None:
        """The work is over: leave no bar behind."""
        self._timer.cancel()
        with self._lock:
            self._is_shown, self._is_closed = False, True
            if self._bar is not None:
                self._bar.stop()

    def _appear(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_shown = True
            if self._stream.isatty():
                self._start_bar()
            self._show()

    def _start_bar(self) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415 - only a terminal needs it
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=RichConsole(file=self._stream), transient=True)
        self._task = self._bar.add_task(self._stage, total=None)
        self._bar.start()

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, description=self._stage, total=None)
        else:
            self._write(f"{self._stage} ...")

    def _write(self, text: str) -> None:
        self._last = time.monotonic()
        self._stream.write(f"{text}\n")
        self._stream.flush()


def epsilon_text(epsilon: float | None) -> str:
    """Three decimals, never rounded down: a printed epsilon is never below the one that holds."""
    if epsilon is None:
        return "none (trained without differential privacy)"
    return f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:.10g}" if math.isfinite(epsilon) else "infinity"


def figure(value: float) -> str:
    """A number as the documents write it: delta 0.00001 is 1e-05."""
    return f"{value:g}"


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
