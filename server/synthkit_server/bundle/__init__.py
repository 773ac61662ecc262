"""The code-free Flower app bundle that ships with this package.

Knows two files, `pyproject.toml` and `LICENSE`. Refuses to hold code: a SuperLink can send a site the
names of installed modules and nothing that runs. Its SHA-256 is what a site puts on its allow-list.
"""

from importlib.resources import files

from synthkit.domain.canonical import sha256_hex
from synthkit_server.flower_adapter import build_bundle_bytes

BUNDLE_FILES = ("pyproject.toml", "LICENSE")


def build_bundle() -> bytes:
    """The bundle; the same bytes on every machine with this release."""
    folder = files(__name__)
    return build_bundle_bytes({name: (folder / name).read_bytes() for name in BUNDLE_FILES})


def bundle_digest() -> str:
    """SHA-256 of the bundle: what a site approves once per release."""
    return sha256_hex(build_bundle())
