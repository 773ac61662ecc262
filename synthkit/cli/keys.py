"""Private keys as commands meet them: a file, and a passphrase from the environment or a person.

Knows where a passphrase may come from: never from an option, because every process on a machine can
read another's options.
"""

import os
import stat
import sys
from pathlib import Path

import typer

from synthkit.cli.loading import check_file, name_of
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError
from synthkit.release.signing import SigningKey, read_key


def passphrase_from(variable: str) -> str:
    """The passphrase in an environment variable.

    Raises:
        InputError: The variable is not set, or empty.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise InputError("holds no passphrase", where=f"variable {shown(variable)}", fix="export it first")
    return value


def load_key(path: Path, variable: str | None) -> SigningKey:
    """A private key; a passphrase is asked for only at a terminal.

    Args:
        path: The key that `release keygen` or `site init` wrote.
        variable: The environment variable with its passphrase.

    Raises:
        InputError: The key is missing or others may read it, or the passphrase is missing or superfluous.
        SignatureError: The passphrase is wrong, or this is no key.
    """
    check_file(path)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError("others may read this key", where=name_of(path), fix="make a new one, or chmod 600")
    secret = passphrase_from(variable) if variable is not None else None
    if secret is None and b"ENCRYPTED" in path.read_bytes():
        secret = _ask(path)
    return read_key(path, secret)


def _ask(path: Path) -> str:
    if not sys.stdin.isatty():
        raise InputError("the key is encrypted", where=name_of(path), fix="add --passphrase-env VAR")
    answer: str = typer.prompt(f"Passphrase of {name_of(path)}", hide_input=True, err=True)
    return answer
