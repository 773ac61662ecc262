"""The ledger's file: one exclusive lock, appends that are on disk before they return. No meaning.

Knows bytes and durability. Refuses to overwrite. Every error of the operating system becomes a
LedgerError of one line that names the file, not its folder.

Source of the order write, flush, fsync, and fsync of the folder after creation: POSIX fsync(2), and
Pillai et al., OSDI 2014, on what file systems may reorder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synthkit.errors import LedgerError

PRIVATE_MODE = 0o600


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The file's bytes from an offset on, and which file they came from (device, inode)."""

    data: bytes
    size: int
    identity: tuple[int, int]


@contextmanager
def os_errors(path: Path, action: str) -> Iterator[None]:
    """Turn an OSError within the block into a one-line LedgerError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LedgerError(
            f"cannot {action} the ledger: {reason}", where=path.name, fix="check the folder and its rights"
        ) from error


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the one lock of the ledger at `path`, over threads and processes. Blocks until free.

    The lock is a file beside the ledger, so that it survives whatever happens to the ledger. The system
    releases it when its holder dies.
    """
    lock = path.with_name(path.name + ".lock")
    descriptor = _open_locked(lock, path)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(lock: Path, path: Path) -> int:
    """A descriptor that holds the lock on the file that is now at `lock`."""
    while True:
        with os_errors(path, "lock"):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                held = os.fstat(descriptor)
            except OSError:
                os.close(descriptor)
                raise
        # Someone may have deleted the lock file while we waited: our lock would then guard nothing.
        try:
            if os.path.samestat(held, lock.stat()):
                return descriptor
        except OSError:
            pass
        os.close(descriptor)


def create_file(path: Path, content: bytes) -> None:
    """Make a new file that is either absent or whole, never partial, and never replaces another.

    Raises:
        LedgerError: A file is already there, or the folder cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os_errors(path, "create"):
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_MODE)
        try:
            _write_durably(descriptor, content)
            os.link(draft, path)
        except FileExistsError as error:
            raise LedgerError(
                "a ledger is already there", where=path.name, fix="open it; a ledger is never replaced"
            ) from error
        finally:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)


def append_bytes(path: Path, content: bytes) -> None:
    """Append, and return only once the bytes are on disk."""
    with os_errors(path, "write"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            _write_durably(descriptor, content)
        finally:
            os.close(descriptor)


def cut_file(path: Path, size: int) -> None:
    """Shorten the file to `size` bytes, durably."""
    with os_errors(path, "repair"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_snapshot(path: Path, offset: int = 0) -> Snapshot:
    """All bytes from `offset` on; none if the file is shorter."""
    with os_errors(path, "read"), path.open("rb") as handle:
        status = os.fstat(handle.fileno())
        handle.seek(offset)
        data = handle.read()
        return Snapshot(data=data, size=offset + len(data), identity=(status.st_dev, status.st_ino))


def _write_durably(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
