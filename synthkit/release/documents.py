"""Strict reading of the three signed documents of a release: manifest, statement, approval.

Knows their form; not who signed them, and not whether they agree (see `claims`). Rules kept here: a
document is read back to the very bytes that were signed, so a field is neither missing nor unknown;
every field has its type and range; whatever is wrong, the error is a BundleError and quotes nothing
that could break a terminal.
"""

import datetime as dt
import re
from collections.abc import Callable
from typing import Protocol, TypeVar

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.privacy import PrivacySpend
from synthkit.domain.release import Approval, BundleManifest, Part, SiteStatement
from synthkit.errors import BundleError, SynthkitError

MAX_PARTS = 64
MAX_STATEMENTS = 256
_LARGEST = 2**53
"""Above it a JSON number no longer means the same to every reader."""

_DIGEST = re.compile("[0-9a-f]{64}")
_PART_NAME = re.compile(r"\w[\w.-]{0,99}")

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, SynthkitError)
"""What the nouns' own readers raise on a document that is not theirs."""


class _Document(Protocol):
    def to_json(self) -> JsonObject: ...


_Read = TypeVar("_Read", bound=_Document)


def quoted(text: str) -> str:
    """A name from a bundle as an error message may show it: one line, printable, short."""
    return repr(text[:60])


def read_manifest(document: JsonObject) -> BundleManifest:
    """The manifest of that document.

    Raises:
        BundleError: A field is missing, unknown, of the wrong type or out of range.
    """
    manifest = _read(BundleManifest.from_json, document, "manifest")
    for name in ("release", "study", "generator", "version"):
        _check_text(getattr(manifest, name), name, "manifest")
    if manifest.recipient != "":
        _check_text(manifest.recipient, "recipient", "manifest")
    for name in ("study_digest", "model_digest", "schema_digest", "table_digest"):
        _check_digest(getattr(manifest, name), name, "manifest")
    for name in ("epsilon_disjoint", "epsilon_worst_overlap", "delta"):
        _check_figure(getattr(manifest, name), name, "manifest")
    _check_count(manifest.rows, "rows", "manifest")
    _check_time(manifest.created, "created", "manifest")
    if not 1 <= len(manifest.statements) <= MAX_STATEMENTS:
        raise BundleError("states nothing: no site's statement", where="manifest")
    _check_parts(manifest.parts)
    return manifest


def read_statement(document: JsonObject, *, where: str = "statement") -> SiteStatement:
    """The site statement of that document.

    Raises:
        BundleError: As `read_manifest`.
    """
    statement = _read(SiteStatement.from_json, document, where)
    for name in ("site", "asset"):
        _check_text(getattr(statement, name), name, where)
    for name in ("table_digest", "policy_digest"):
        _check_digest(getattr(statement, name), name, where)
    if statement.encoder_digest != "":
        _check_digest(statement.encoder_digest, "encoder_digest", where)
    if not isinstance(statement.ledger_head, str) or not isinstance(statement.audit, dict):
        raise BundleError("ledger_head or audit has the wrong type", where=where)
    _check_count(statement.ledger_counter, "ledger_counter", where)
    if statement.spend is not None:
        _check_spend(statement.spend, where)
    return statement


def read_approval(document: JsonObject, *, where: str = "approval") -> Approval:
    """The approval of that document.

    Raises:
        BundleError: As `read_manifest`.
    """
    approval = _read(Approval.from_json, document, where)
    for name in ("site", "officer"):
        _check_text(getattr(approval, name), name, where)
    _check_digest(approval.manifest_digest, "manifest_digest", where)
    if not isinstance(approval.reason, str) or not (approval.reason.isprintable() or not approval.reason):
        raise BundleError("the reason is not one printable line", where=where)
    _check_time(approval.approved, "approved", where)
    return approval


def check_part_name(name: object) -> None:
    """Refuse a part's name that is no plain file name.

    Raises:
        BundleError: It has a separator, a leading dot, or more than 100 characters.
    """
    if not isinstance(name, str) or not _PART_NAME.fullmatch(name):
        raise BundleError("a part's name is no plain file name", where="manifest")


def _read(reader: Callable[[JsonObject], _Read], document: JsonObject, where: str) -> _Read:
    """Read a document and require that it is exactly what the result would write."""
    try:
        value = reader(document)
        same = canonical_json(value.to_json()) == canonical_json(document)
    except _MALFORMED as error:
        raise BundleError("a field is missing or malformed", where=where) from error
    if not same:
        raise BundleError("a field is unknown or not in canonical form", where=where)
    return value


def _check_parts(parts: tuple[Part, ...]) -> None:
    if len(parts) > MAX_PARTS:
        raise BundleError("more parts than any release needs", where="manifest")
    for part in parts:
        check_part_name(part.name)
        _check_count(part.size_bytes, "size_bytes", "manifest")
        _check_digest(part.sha256, "sha256", "manifest")
    if len({part.name.casefold() for part in parts}) != len(parts):
        raise BundleError("a part is listed twice", where="manifest")


def _check_spend(spend: PrivacySpend, where: str) -> None:
    _check_figure(spend.epsilon, "epsilon", where)
    _check_figure(spend.delta, "delta", where)
    _check_text(spend.accountant, "accountant", where)
    if spend.epsilon is None or spend.delta is None or not spend.events:
        raise BundleError("a spend needs events, epsilon and delta", where=where)
    if not 0 < spend.delta < 1:
        raise BundleError("delta is not within (0, 1)", where=where)


def _check_text(value: object, name: str, where: str) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        raise BundleError(f"{name} is not a short printable text", where=where)


def _check_digest(value: object, name: str, where: str) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BundleError(f"{name} is not a SHA-256 in lower-case hexadecimal", where=where)


def _check_count(value: object, name: str, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise BundleError(f"{name} is not a whole number", where=where)


def _check_figure(value: object, name: str, where: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        raise BundleError(f"{name} is not a number of at least 0, or beyond reason", where=where)


def _check_time(value: dt.datetime, name: str, where: str) -> None:
    if value.utcoffset() != dt.timedelta(0):
        raise BundleError(f"{name} is not a time in UTC", where=where)
