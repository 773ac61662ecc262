"""Child processes that leave nobody behind.

Knows commands, logs and process ids; what the commands are is `synthkit.federation.commands`. Rules kept
here: a child that dies is noticed and named, with the end of its log if the coordinator may read that log,
else with the log's name; whatever ends the block (success, an error, Ctrl-C, SIGTERM) ends every child and
every process that a child started, also those that moved to a session of their own, as Flower's executor
does, or that lost their parent: all of them inherit a random mark in their environment. A process is ended
only if it is still the one that was found: its id and its start time must agree. One service runs in a
folder, as long as it holds the lock there.
"""

import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import FrameType

from synthkit.errors import InputError, PeerError

GRACE_S = 8.0
"""Seconds between asking processes to end and ending them."""

KILL_S = 5.0
"""Seconds in which what was ended has to be gone."""

LOCK_S = 1.0
"""Seconds in which whoever only looks at a lock lets go of it."""

TAIL_LINES = 20

MARK = "SYNTHKIT_CHILDREN"
"""Environment variable that says which `Children` a process belongs to."""

PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process, told from a later one with the same number by its start time (clock ticks)."""

    number: int
    started: int


class Children:
    """Processes started together and ended together; use as a context manager.

    Args:
        log_dir: Where each child's output goes, `NAME.log`.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._quotable: set[str] = set()
        self._begins: dict[str, int] = {}
        self._mark = secrets.token_hex(16)

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        is_quotable: bool = False,
    ) -> None:
        """Start a child under a name; `is_quotable` says that its log may appear in an error's text."""
        if is_quotable:
            self._quotable.add(name)
        with (self._log_dir / f"{name}.log").open("ab") as output:
            self._begins[name] = output.tell()
            self._children[name] = subprocess.Popen(  # noqa: S603
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, MARK: self._mark},
                cwd=cwd,
                start_new_session=True,
            )

    def check_alive(self) -> None:
        """Check that no child has ended.

        Raises:
            PeerError: One has.
        """
        for name, child in self._children.items():
            if child.poll() is not None:
                raise PeerError(
                    f"ended with status {child.returncode}",
                    where=f"process {name}",
                    fix=self.last_words(name),
                )

    def ended(self) -> dict[str, int]:
        """Exit status by name of the children that have ended and were not started again."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def last_words(self, name: str) -> str:
        """The end of a child's log, or where the log is if a site wrote it."""
        return self.log_tail(name) if name in self._quotable else f"see {name}.log"

    def log_tail(self, name: str, lines: int = TAIL_LINES) -> str:
        """The end of a child's log on one line; what it wrote since it was last started, no more."""
        content = (self._log_dir / f"{name}.log").read_bytes()[self._begins.get(name, 0) :]
        text = content.decode("utf-8", errors="replace")
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())

    def stop(self) -> None:
        """End all children, newest first, and everything they started."""
        with _uninterrupted():
            family = [found for child in self._children.values() for found in _descendants(child.pid)]
            for child in reversed(self._children.values()):
                if child.poll() is None:
                    child.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
            for child in self._children.values():
                _wait_or_kill(child, deadline)
            _end_all(family, f"{MARK}={self._mark}".encode())
            self._children.clear()


@contextmanager
def only_service(lock: Path) -> Iterator[None]:
    """Hold a folder's lock for as long as its one service runs.

    Raises:
        InputError: Another one does.
    """
    descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_S
        while not _is_ours(descriptor):
            if time.monotonic() > deadline:
                raise InputError("another service runs here", where=lock.parent.name, fix="stop it first")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_service_running(lock: Path) -> bool:
    """Whether a service holds this lock."""
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _is_ours(descriptor)
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def terminated_as_exception() -> Iterator[None]:
    """Let SIGTERM unwind the stack like Ctrl-C does, so that `with` blocks clean up.

    Outside the main thread, where Python allows no handler, this changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM while processes are being ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_or_kill(child: subprocess.Popen[bytes], deadline: float) -> None:
    """Reap a child; end it if it is still there at the deadline."""
    try:
        child.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _descendants(root: int) -> list[ProcessId]:
    """Everything below a process, taken before it ends: afterwards its children have another parent.

    Where there is no /proc the list is empty and only direct children are ended.
    """
    children: dict[int, list[ProcessId]] = {}
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit() and (found := _stat(int(entry.name))) is not None:
            parent, process = found
            children.setdefault(parent, []).append(process)
    family: list[ProcessId] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        family.extend(below)
        waiting.extend(process.number for process in below)
    return family


def _stat(number: int) -> tuple[int, ProcessId] | None:
    """Parent and identity of a process; None if it has ended, reaped or not."""
    try:
        fields = (PROC / str(number) / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0] in "ZX":
        return None
    return int(fields[1]), ProcessId(number=number, started=int(fields[19]))


def _end_all(family: list[ProcessId], mark: bytes) -> None:
    """End what outlived the children, and what it started meanwhile, and see it gone."""
    deadline = time.monotonic() + KILL_S
    while True:
        survivors = {process for process in (*family, *_marked(mark)) if _is_running(process)}
        if not survivors or time.monotonic() > deadline:
            return
        for process in survivors:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.number, signal.SIGKILL)
        time.sleep(0.02)


def _marked(mark: bytes) -> list[ProcessId]:
    """Processes that carry the mark in their environment."""
    found: list[ProcessId] = []
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                process = _stat(int(entry.name))
                found.extend([process[1]] if process else [])
    return found


def _is_running(process: ProcessId) -> bool:
    """Whether it is still the same process, and more than an entry that waits to be reaped."""
    found = _stat(process.number)
    return found is not None and found[1] == process
