"""What the benchmarks share: the bundled patients pooled into one table, stopwatches, a printed table.

Knows the bundled diabetes example. Pooling eight hospitals' patients is for measuring alone: no command
of synthkit does it.
"""

import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from synthkit.data.bundled import Example, example
from synthkit.data.connectors import read_table
from synthkit.data.table import PatientTable, pool

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an action took: wall and processor seconds, and the process's peak memory in MB (2**20)."""

    wall: float
    processor: float
    peak_mb: float


def measured(action: Callable[[], T]) -> tuple[T, Cost]:
    """An action's result and cost. The peak is the whole process's so far."""
    wall, processor = time.perf_counter(), time.process_time()
    result = action()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return result, Cost(wall=wall, processor=processor, peak_mb=peak_mb())


def peak_mb() -> float:
    """Peak resident memory of this process, in MB (2**20)."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def in_own_process(action: Callable[..., T], *arguments: object) -> T:
    """Call a module's function in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as worker:
        return worker.submit(action, *arguments).result()


def pooled(found: Example | None = None) -> PatientTable:
    """All training patients of the bundled diabetes example as one table, 40,280 rows."""
    found = found or example("diabetes")
    return pool([read_table(path, found.schema) for path in found.sites.values()])


def print_machine() -> None:
    """One line on where the figures come from."""
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}"
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; the first to the left, the rest to the right."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    for line in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells]))
