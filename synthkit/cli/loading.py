"""Reading what commands are given, and writing what they make.

Knows files by their name, and where the shipped policies lie. Refuses to replace a file unasked, and to
start work whose result could not be written. Rule: a message names the file, never its folder.
"""

import datetime as dt
import json
import os
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from synthkit.data.sources import source_name
from synthkit.domain.canonical import JsonObject
from synthkit.domain.documents import policy_from_toml, schema_from_toml
from synthkit.domain.policy import SitePolicy
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, PolicyError
from synthkit.release.framing import write_atomic

MOST_BYTES = 64 * 1024**2
"""No schema, policy, audit or header is larger."""


def name_of(path: Path) -> str:
    """What messages call a file; a database's address, given by mistake, may hold a password."""
    return source_name(path) if path.name else shown(str(path))


def check_file(path: Path) -> None:
    """Refuse a path that is not a file to read.

    Raises:
        InputError: Missing, or a folder.
    """
    if path.is_dir():
        raise InputError("is a folder, not a file", where=name_of(path), fix="name the file in it")
    if not path.exists():
        raise InputError("there is no such file", where=name_of(path), fix="check the name")


def read_text(path: Path) -> str:
    """A small UTF-8 file's text.

    Raises:
        InputError: Missing, unreadable, too large, or not UTF-8.
    """
    check_file(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError("is too large to be this document", where=name_of(path), fix="check the name")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError("cannot be read", where=name_of(path), fix="check its permissions") from error
    except UnicodeDecodeError:
        problem = InputError("is not UTF-8 text", where=name_of(path), fix="save it as UTF-8")
    raise problem


def read_json(path: Path) -> JsonObject:
    """A file that holds one JSON object.

    Raises:
        InputError: It does not.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError("does not hold a JSON object", where=name_of(path), fix="check the name")
    return document


def load_schema(path: Path) -> Schema:
    """A schema's TOML.

    Raises:
        InputError: The file cannot be read.
        SchemaError: The schema contradicts itself.
    """
    return schema_from_toml(read_text(path), name_of(path))


def load_policy(name: str) -> SitePolicy:
    """A policy by path, or by the name of a shipped one (`standard`, `strict`, ...).

    Raises:
        InputError: There is no such file, and no shipped policy of that name.
        PolicyError: A rule is missing, unknown or contradicts another.
    """
    path = policy_path(name)
    return policy_from_toml(read_text(path), name_of(path))


def check_in_force(policy: SitePolicy) -> None:
    """Refuse a policy whose last day has passed.

    Raises:
        PolicyError: Rule `policy.expires`.
    """
    if dt.datetime.now().astimezone().date() > policy.expires:
        raise PolicyError(
            f"the policy expired on {policy.expires.isoformat()}",
            rule="policy.expires",
            where=f"policy {shown(policy.name)}",
            fix="review it and have it signed again",
        )


def policy_path(name: str) -> Path:
    """Where a policy lies; a file of that very name, but no folder, comes before a shipped one."""
    path = Path(name)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    shipped = {file.stem: file for folder in _policy_folders() for file in sorted(folder.glob("*.toml"))}
    if name not in shipped:
        names = ", ".join(sorted(shipped))
        raise InputError("there is no such policy", where=shown(name), fix=f"a file, or one of {names}")
    return shipped[name]


def _policy_folders() -> Iterable[Path]:
    """Least preferred first: beside the package in a checkout, then where a wheel puts them."""
    return (
        Path(__file__).parents[2] / "policies",
        Path(sysconfig.get_path("data")) / "share" / "synthkit" / "policies",
    )


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse before any work if the result could not be written there.

    Raises:
        InputError: The file exists (unless `force`), or its folder is missing or not writable.
    """
    if path.is_dir():
        raise InputError("is a folder", where=name_of(path), fix="name a file in it")
    if os.path.lexists(path) and not force:
        raise InputError("the file exists", where=name_of(path), fix="choose another name, or add --force")
    if not path.parent.is_dir():
        raise InputError("its folder does not exist", where=name_of(path), fix="make the folder first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError("its folder cannot be written", where=name_of(path), fix="check its rights")


def save_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: It exists (unless `force`), or cannot be written.
    """
    write_atomic(path, text.encode("utf-8"), overwrite=force)
