"""The ledger's bytes: one entry a line, each bound to the one before. No files, no privacy.

Knows the hash chain and which fields each kind of entry has. Refuses an entry with a field missing,
unknown or of the wrong type: a reader that skips what it does not know would undercount.

Format 1. A line is the canonical JSON of the entry's fields with `hash` added as the last member:
`{...,"hash":"<64 hex>"}` and a line feed. `hash` is SHA-256 over the canonical JSON without it, so every
byte of a line is covered; `prev` is the hash of the entry before (64 zeros for the first).

Every entry: v (1), n (from 0, no gaps), prev, kind, time (UTC, ISO 8601). By kind:

- open: asset, site, epsilon, delta, adjacency, reference (an event, or null)
- reserve: study, server_round, base_digest, events
- commit: reservation (its n), reply_digest
- abandon: reservation, reason, refunded (true only if nothing was drawn)
- audit: study, table_digest, verdict
- repair: lost_bytes, lost_digest (an incomplete last line that was cut off)
"""

import json
from dataclasses import dataclass
from typing import NoReturn

from synthkit.domain.canonical import JsonObject, canonical_json, sha256_hex
from synthkit.errors import LedgerError

VERSION = 1
GENESIS_PREV = "0" * 64

_HASH_KEY = b',"hash":"'
_TAIL_BYTES = len(_HASH_KEY) + 64 + len(b'"}')

_COMMON: dict[str, type] = {"v": int, "n": int, "prev": str, "kind": str, "time": str}
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "open": {
        "asset": (str,),
        "site": (str,),
        "epsilon": (float, int),
        "delta": (float, int),
        "adjacency": (str,),
        "reference": (dict, type(None)),
    },
    "reserve": {"study": (str,), "server_round": (int,), "base_digest": (str,), "events": (list,)},
    "commit": {"reservation": (int,), "reply_digest": (str,)},
    "abandon": {"reservation": (int,), "reason": (str,), "refunded": (bool,)},
    "audit": {"study": (str,), "table_digest": (str,), "verdict": (str,)},
    "repair": {"lost_bytes": (int,), "lost_digest": (str,)},
}
_NAMES = {kind: frozenset(fields) | frozenset(_COMMON) for kind, fields in _FIELDS.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One verified line. `fields` are those of its kind, of the types listed in the module's text."""

    n: int
    prev: str
    kind: str
    time: str
    fields: JsonObject
    hash: str


def seal_entry(*, n: int, prev: str, kind: str, time: str, fields: JsonObject) -> bytes:
    """The line, line feed included, that records these fields as entry `n` after `prev`."""
    body = canonical_json({**fields, "v": VERSION, "n": n, "prev": prev, "kind": kind, "time": time})
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
    fields = {name: document[name] for name in _FIELDS[document["kind"]]}
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
    """Exactly the fields of this kind, each of its type; bool never passes for a number."""
    if document.get("v") != VERSION:
        refuse("the entry is of another format version", place)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        refuse("the entry is of an unknown kind", place)
    if document.keys() != _NAMES[kind]:
        refuse("the entry has fields missing or unknown", place)
    for name, single in _COMMON.items():
        if type(document[name]) is not single:
            refuse(f"field {name} has the wrong type", place)
    for name, allowed in _FIELDS[kind].items():
        if type(document[name]) not in allowed:
            refuse(f"field {name} has the wrong type", place)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def refuse(what: str, place: str) -> NoReturn:
    """Raise the error that every unverifiable ledger ends in."""
    raise LedgerError(what, where=place, fix="stop training; compare with the witness and a backup")
