"""Files that are either wholly there or not at all. Knows bytes and paths, no meaning.

Rule: data and folder are synced before the call returns, because what is sent or spent next may rest on
the file. A crash leaves at most a `.partial` file, which no reader looks at and the next write replaces.
"""

import os
from pathlib import Path

MODE = 0o666
"""Before the umask: the site's folder, not each file in it, is what keeps others out."""


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file: all of it or nothing, on disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)
    _sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Make a folder, or take one that is there, for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Create a file that must not exist yet; nobody else may read it from its first byte on.

    Raises:
        FileExistsError: It is there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
