"""The ledger's bytes: one entry a line, each bound to the one before. No files, no privacy.

Knows the hash chain and which fields each kind of entry has. Refuses an entry with a field missing,
unknown or of the wrong type: a reader that skips what it does not know would undercount.

Format 1. A line is the canonical JSON of the entry's fields with `hash` added as the last member:
`{...,"hash":"<64 hex>"}` and a line feed. `hash` is SHA-256 over the canonical JSON without it, so every
byte of a line is covered; `prev` is the hash of the entry before (64 zeros for the first).

Every entry: v, n (from 0, no gaps), prev, kind, time (UTC, ISO 8601). By kind, all of v 1:

- open: asset, site, epsilon, delta, adjacency, reference (an event, or null)
- reserve: study, server_round, base_digest, events
- commit: reservation (its n), reply_digest
- abandon: reservation, reason, refunded (true only if nothing was drawn)
- audit: study, table_digest, verdict
- repair: lost_bytes, lost_digest (an incomplete last line that was cut off)

Format 2 changes one kind, and is what an audit is recorded in now:

- audit: study, table_digest, verdict, report_digest (of the whole audit report), salt (64 random hex)

Why the salt: the head leaves the site, with each statement and to each witness. The report's figures follow
from the patients, so who knows all patients but one could compute the report, the entry and the head for both
cases. With 32 bytes in the entry that nobody outside knows, no head after it can be computed by guessing.
"""

import json
from collections.abc import Set
from dataclasses import dataclass
from typing import NoReturn

from synthkit.domain.canonical import JsonObject, canonical_json, sha256_hex
from synthkit.errors import LedgerError

GENESIS_PREV = "0" * 64

_HASH_KEY = b',"hash":"'
_TAIL_BYTES = len(_HASH_KEY) + 64 + len(b'"}')

_COMMON: dict[str, type] = {"v": int, "n": int, "prev": str, "kind": str, "time": str}
_Fields = dict[str, tuple[type, ...]]
_AUDIT: _Fields = {"study": (str,), "table_digest": (str,), "verdict": (str,)}
_FORMATS: dict[str, dict[int, _Fields]] = {
    "open": {
        1: {
            "asset": (str,),
            "site": (str,),
            "epsilon": (float, int),
            "delta": (float, int),
            "adjacency": (str,),
            "reference": (dict, type(None)),
        }
    },
    "reserve": {1: {"study": (str,), "server_round": (int,), "base_digest": (str,), "events": (list,)}},
    "commit": {1: {"reservation": (int,), "reply_digest": (str,)}},
    "abandon": {1: {"reservation": (int,), "reason": (str,), "refunded": (bool,)}},
    "audit": {1: _AUDIT, 2: {**_AUDIT, "report_digest": (str,), "salt": (str,)}},
    "repair": {1: {"lost_bytes": (int,), "lost_digest": (str,)}},
}
"""By kind and `v`: the fields and their types."""

_VERSIONS = (1, 2)
_KEPT_BACK = frozenset({"report_digest", "salt"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One verified line. `fields` are those of its kind, of the types listed in the module's text."""

    n: int
    prev: str
    kind: str
    time: str
    fields: JsonObject
    hash: str

    @property
    def shown(self) -> JsonObject:
        """The fields without the report's digest and the salt: what a listing may say, for it is sent on."""
        return {name: value for name, value in self.fields.items() if name not in _KEPT_BACK}


def seal_entry(*, n: int, prev: str, kind: str, time: str, fields: JsonObject) -> bytes:
    """The line, line feed included, that records these fields as entry `n` after `prev`.

    Its `v` is the one whose fields these are, so an entry that was read is written the same again.
    """
    version = _version_of(kind, fields.keys()) or 1
    body = canonical_json({**fields, "v": version, "n": n, "prev": prev, "kind": kind, "time": time})
    return body[:-1] + _HASH_KEY + sha256_hex(body).encode() + b'"}\n'


def parse_entry(line: bytes, *, n: int, prev: str, where: str) -> Entry:
    """Read and verify the line that has to be entry `n` after the entry with hash `prev`.

    Args:
        line: One line without its line feed.
        n: The number it must have.
        prev: The hash it must continue.
        where: Name of the ledger, for the message.

    Raises:
        LedgerError: The line was altered, is out of order, or is not of a known format.
    """
    place = f"{where} line {n + 1}"
    digest, body = _split_hash(line, place)
    if sha256_hex(body) != digest:
        refuse("the entry was altered: its hash does not fit", place)
    document = _decode(body, place)
    _check_fields(document, place)
    if document["n"] != n:
        refuse(f"entry number {document['n']} stands where {n} belongs", place)
    if document["prev"] != prev:
        refuse("the entry does not continue the one before it", place)
    fields = {name: document[name] for name in _FORMATS[document["kind"]][document["v"]]}
    return Entry(n=n, prev=prev, kind=document["kind"], time=document["time"], fields=fields, hash=digest)


def _split_hash(line: bytes, place: str) -> tuple[str, bytes]:
    """(hash, canonical bytes it covers)."""
    tail = line[-_TAIL_BYTES:]
    if len(line) <= _TAIL_BYTES or not tail.startswith(_HASH_KEY) or not tail.endswith(b'"}'):
        refuse("not a ledger entry", place)
    return tail[len(_HASH_KEY) : -2].decode("ascii", "replace"), line[:-_TAIL_BYTES] + b"}"


def _decode(body: bytes, place: str) -> JsonObject:
    try:
        document = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        refuse("the entry is not JSON", place)
    if not isinstance(document, dict):
        refuse("the entry is not a JSON object", place)
    return document


def _check_fields(document: JsonObject, place: str) -> None:
    """Exactly the fields of this kind and version, each of its type; bool never passes for a number."""
    kind, version = document.get("kind"), document.get("v")
    if version not in _VERSIONS:
        refuse("the entry is of another format version", place)
    if not isinstance(kind, str) or kind not in _FORMATS:
        refuse("the entry is of an unknown kind", place)
    found = _version_of(kind, document.keys() - _COMMON.keys())
    if found is None or not _COMMON.keys() <= document.keys():
        refuse("the entry has fields missing or unknown", place)
    if found != version:
        refuse("the entry is of another format version than its fields", place)
    for name, single in _COMMON.items():
        if type(document[name]) is not single:
            refuse(f"field {name} has the wrong type", place)
    for name, allowed in _FORMATS[kind][found].items():
        if type(document[name]) not in allowed:
            refuse(f"field {name} has the wrong type", place)


def _version_of(kind: str, names: Set[str]) -> int | None:
    """The version whose fields of this kind have these names; None for no known one."""
    formats = _FORMATS.get(kind, {})
    return next((version for version, fields in formats.items() if fields.keys() == names), None)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def refuse(what: str, place: str) -> NoReturn:
    """Raise the error that every unverifiable ledger ends in."""
    raise LedgerError(what, where=place, fix="stop training; compare with the witness and a backup")
