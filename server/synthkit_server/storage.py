"""Files that are either wholly there or not at all.

Knows bytes, weights and paths. Rules kept here: owner-only mode; data and directory are synced before
the call returns; a reader never sees half a file.
"""

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from synthkit.errors import InputError
from synthkit.federation.messages import Weights


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step that survives a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append one line and sync it, and the directory if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a rename or a new entry in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_weights(path: Path, weights: Weights) -> None:
    """Write arrays as safetensors, atomically."""
    write_atomically(path, save_safetensors({name: np.asarray(a, order="C") for name, a in weights.items()}))


def read_weights(path: Path) -> Weights:
    """Read arrays from a safetensors file.

    Raises:
        InputError: The file is missing or is not safetensors.
    """
    try:
        return dict(load_safetensors(path.read_bytes()))
    except OSError:
        raise InputError("weights file cannot be read", where=path.name, fix="check the path") from None
    except SafetensorError:
        raise InputError("not a safetensors file", where=path.name, fix="write it again") from None
