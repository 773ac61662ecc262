r"""The byte form of a `.synthkit` file: one header, then the parts, and nothing else.

Knows lengths and canonical JSON; knows neither keys nor what the header says. Rule kept here: there is
no slack. Every byte is the magic line, the header's length, the header in its only byte form, or a
part, so that an altered byte always meets a signature or a hash.

    SYNTHKIT-RELEASE 1\n | 8 bytes, big-endian: length of the header | header | part | part | ...
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.errors import BundleError, InputError

MAGIC = b"SYNTHKIT-RELEASE 1\n"
_LENGTH_BYTES = 8

MAX_BUNDLE_BYTES = 1024**3
"""A bundle is held in memory while it is checked, and checked before anything in it is believed."""
MAX_HEADER_BYTES = 8 * 1024**2
"""Room for 256 statements; the header is parsed before any signature could be checked."""


def encode(header: JsonObject, blobs: Sequence[bytes]) -> bytes:
    """The bundle's bytes.

    Raises:
        InputError: Header or bundle would be larger than a reader accepts.
    """
    head = canonical_json(header)
    if len(head) > MAX_HEADER_BYTES:
        raise InputError("statements and approvals are too large", where="release", fix="leave fields out")
    data = b"".join((MAGIC, len(head).to_bytes(_LENGTH_BYTES, "big"), head, *blobs))
    if len(data) > MAX_BUNDLE_BYTES:
        raise InputError("larger than 1 GiB", where="release", fix="release fewer rows at a time")
    return data


def cut_frame(data: bytes) -> tuple[bytes, memoryview]:
    """Split a bundle into the header's bytes and all that follows.

    Raises:
        BundleError: Not a bundle, of another format, truncated, or over a limit.
    """
    start = len(MAGIC) + _LENGTH_BYTES
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError("larger than 1 GiB", where="bundle", fix="no release is; do not open it")
    if data[: len(MAGIC)] != MAGIC:
        raise BundleError("not a release bundle of format 1", where="bundle", fix="check the file")
    if len(data) < start:
        raise BundleError("truncated within the frame", where="bundle", fix="fetch it again")
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    if length > MAX_HEADER_BYTES:
        raise BundleError("the header is larger than any release needs", where="bundle header")
    if len(data) < start + length:
        raise BundleError("truncated within the header", where="bundle", fix="fetch it again")
    return data[start : start + length], memoryview(data)[start + length :]


def parse_canonical(data: bytes, *, where: str) -> JsonObject:
    """Parse a JSON object that must be in its only byte form.

    Raises:
        BundleError: Not JSON, not an object, or another spelling of the same document.
    """
    try:
        document = json.loads(data.decode("utf-8"))
        again = canonical_json(document)
    except (ValueError, RecursionError) as error:
        raise BundleError("not a JSON document", where=where) from error
    if not isinstance(document, dict):
        raise BundleError("not a JSON object", where=where)
    if again != data:
        raise BundleError("not in canonical form", where=where, fix="it was altered after sealing")
    return document


def cut_parts(rest: memoryview, sizes: Sequence[int]) -> tuple[bytes, ...]:
    """Split what follows the header into parts of exactly these sizes.

    Raises:
        BundleError: Bytes are missing or left over.
    """
    if len(rest) < sum(sizes):
        raise BundleError("truncated within the parts", where="bundle", fix="fetch it again")
    if len(rest) > sum(sizes):
        raise BundleError("bytes follow the last part", where="bundle", fix="fetch it again")
    parts, start = [], 0
    for size in sizes:
        parts.append(bytes(rest[start : start + size]))
        start += size
    return tuple(parts)


def read_bytes(path: Path) -> bytes:
    """Read a bundle from disk, but no more than a bundle may hold.

    Raises:
        InputError: The file cannot be read.
        BundleError: It is larger than any bundle.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise InputError("cannot be read", where=path.name, fix="check the path") from error
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError("larger than 1 GiB", where=path.name, fix="no release is; do not open it")
    return data


def write_atomic(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        InputError: The file exists (unless `overwrite`), or the folder cannot be written.
    """
    if not overwrite and os.path.lexists(path):
        raise InputError("the file exists", where=path.name, fix="choose another name; none is overwritten")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".synthkit-")
    except OSError as error:
        raise InputError("cannot be written", where=path.name, fix="check the folder") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o640)
        _put(temporary, path, overwrite=overwrite)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError("cannot be written", where=path.name, fix="check folder and disk") from error
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the finished file its name. A hard link, unlike a rename, never replaces another file."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise InputError("the file exists", where=path.name, fix="choose another name") from error
    except OSError:  # a file system without hard links: the check above has to do
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
