"""Revocation lists: what a site or an officer takes back, signed, and only ever longer.

Knows signed lists, trusted keys, and the public keys that a release was signed with; knows no tables and
no network. Rules kept here: one list has one signer and is signed as a whole; each entry names the hash of
the one before, so that a list can only be extended; whoever may not revoke revokes nothing; a list that
cannot be read refuses everything, because it may be the one that revokes; a revoked key signs nothing,
whenever it signed, because a thief writes any date.

Not covered, and said to the reader: offline nobody can know that a longer list exists than the one at hand.
Two lists of one signer that lie side by side are compared; the shorter must be the longer's beginning.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json, digest_of
from synthkit.errors import BundleError, InputError, SignatureError
from synthkit.release.framing import parse_canonical
from synthkit.release.signing import SigningKey, check_envelope, open_document, seal_document
from synthkit.release.trust import TrustedKey, TrustStore

KIND = "revocation"
FORMAT = 1
MAX_ENTRIES = 10_000
MAX_FILE_BYTES = 16 * 1024**2
MIN_REASON_CHARACTERS, MAX_REASON_CHARACTERS = 10, 500

_DIGEST = re.compile("[0-9a-f]{64}")
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Subject(StrEnum):
    """What an entry takes back."""

    RELEASE = "release"
    """One release, by its manifest's digest."""
    KEY = "key"
    """Everything that a key ever signed, by its public half."""


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """One entry. `digest` is the manifest's digest or the public key, `previous` the former entry's hash."""

    subject: Subject
    digest: str
    reason: str
    revoked: dt.datetime
    number: int
    previous: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest) or not re.fullmatch("(?:[0-9a-f]{64})?", self.previous):
            raise ValueError("not a digest")
        if not is_reason(self.reason) or self.revoked.utcoffset() != dt.timedelta(0):
            raise ValueError("no reason in one line, or no time in UTC")

    @property
    def words(self) -> str:
        """When and why, in one line."""
        return f"on {self.revoked.date().isoformat()}: {self.reason}"

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "subject": self.subject.value,
            "digest": self.digest,
            "reason": self.reason,
            "revoked": self.revoked.isoformat(),
            "number": self.number,
            "previous": self.previous,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "Revocation":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        moment = dt.datetime.fromisoformat(document["revoked"])
        return cls(**{**document, "subject": Subject(document["subject"]), "revoked": moment})


@dataclass(frozen=True, kw_only=True)
class RevocationList:
    """All that one key revokes, oldest first; never empty, because nobody signs that nothing happened.

    `signer` and `public_key` are the envelope's; who they are is the trust store's answer.
    """

    signer: str
    public_key: str
    entries: tuple[Revocation, ...]

    @property
    def counter(self) -> int:
        """Number of entries. It only grows: of two lists the one with the larger counter is the newer."""
        return len(self.entries)

    @property
    def head(self) -> str:
        """Hash of the last entry; with the counter, what a reader notes to recognise an older list."""
        return digest_of(self.entries[-1].to_json())

    @property
    def as_of(self) -> dt.date:
        """When it was last extended."""
        return self.entries[-1].revoked.date()

    def to_json(self) -> JsonObject:
        """The document that is signed."""
        return {"format": FORMAT, "entries": [entry.to_json() for entry in self.entries]}


def is_reason(reason: object) -> bool:
    """Whether this is a reason a recipient can read: one printable line, neither empty nor endless."""
    if not isinstance(reason, str) or reason != reason.strip() or not reason.isprintable():
        return False
    return MIN_REASON_CHARACTERS <= len(reason) <= MAX_REASON_CHARACTERS


def extend_list(
    earlier: RevocationList | None,
    *,
    subject: Subject,
    digest: str,
    reason: str,
    key: SigningKey,
    signer: str,
    now: dt.datetime,
) -> JsonObject:
    """The signed list with one more entry.

    Args:
        earlier: The list so far; None begins one.
        subject: What is taken back.
        digest: The manifest's digest or the public key, 64 lower-case hexadecimal characters.
        reason: Why, in one line; every recipient reads it.
        key: The revoking site's or officer's key.
        signer: The name under which trust stores list that key.
        now: The time, with its zone.

    Raises:
        InputError: The digest or the reason is none, the list is another key's, or says this already.
    """
    if not _DIGEST.fullmatch(digest):
        raise InputError("is not 64 lower-case hexadecimal characters", where=subject.value, fix="check it")
    if not is_reason(reason.strip()):
        limits = f"{MIN_REASON_CHARACTERS} to {MAX_REASON_CHARACTERS} printable characters, one line"
        raise InputError("is no reason that a recipient can read", where="reason", fix=limits)
    if now.utcoffset() is None:
        raise TypeError("now needs a time zone")
    entries = () if earlier is None else earlier.entries
    if earlier is not None and (earlier.public_key, earlier.signer) != (key.public_key_hex, signer):
        raise InputError("is another key's list", where="revocation list", fix="begin a list of your own")
    if any((entry.subject, entry.digest) == (subject, digest) for entry in entries):
        raise InputError("is revoked already", where=subject.value, fix="pass the list on as it is")
    entry = Revocation(
        subject=subject,
        digest=digest,
        reason=reason.strip(),
        revoked=now.astimezone(dt.UTC).replace(microsecond=0),
        number=len(entries) + 1,
        previous=digest_of(entries[-1].to_json()) if entries else "",
    )
    longer = RevocationList(signer=signer, public_key=key.public_key_hex, entries=(*entries, entry))
    return seal_document(longer.to_json(), KIND, key, signer)


def parse_list(data: bytes, *, where: str) -> tuple[RevocationList, JsonObject]:
    """A list whose signature and chain hold, and its envelope; whose key it is, is not yet known.

    Raises:
        BundleError: Not a list in its only byte form, empty, altered, reordered, or with a gap.
        SignatureError: The signature is wrong.
    """
    envelope = check_envelope(parse_canonical(data, where=where), KIND, where=where)
    document = envelope["document"]
    try:
        entries = tuple(Revocation.from_json(entry) for entry in document["entries"])
        found = RevocationList(signer=envelope["signer"], public_key=envelope["public_key"], entries=entries)
        is_same = canonical_json(found.to_json()) == canonical_json(document)
    except _MALFORMED as error:
        raise BundleError("a field is missing or malformed", where=where) from error
    if not is_same:
        raise BundleError("a field is unknown, or of an unknown format", where=where)
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise BundleError("revokes nothing, or more than any list needs", where=where)
    _check_chain(entries, where)
    return found, envelope


def read_lists(path: Path, trust: TrustStore) -> tuple[RevocationList, ...]:
    """The lists in a file, or in every `.json` file of a folder, each signed by a trusted key.

    Of lists by one key the longest is returned; every other has to be its beginning.

    Raises:
        InputError: The path is missing, or holds no list.
        BundleError: A list is malformed, or two by one key contradict each other.
        SignatureError: A list is signed wrongly, or by a key that is unknown, revoked, or of a role that
            may not revoke. One such list spoils all.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError("holds no revocation list", where=path.name, fix="name what `release revoke` wrote")
    longest: dict[str, RevocationList] = {}
    for file in files:
        found, envelope = parse_list(read_file(file), where=file.name)
        open_document(envelope, KIND, trust, where=file.name)
        held = longest.get(found.public_key, found)
        shorter, longer = sorted((held, found), key=lambda one: one.counter)
        if longer.entries[: shorter.counter] != shorter.entries:
            raise BundleError("contradicts another list by the same key", where=file.name, fix="ask which")
        longest[found.public_key] = longer
    _check_signers(tuple(longest.values()), trust)
    return tuple(longest.values())


def read_file(path: Path) -> bytes:
    """A list's bytes.

    Raises:
        InputError: Missing, unreadable, or too large to be one.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError("too large for a revocation list", where=path.name, fix="check the name")
        return path.read_bytes()
    except OSError as error:
        raise InputError("cannot be read", where=path.name, fix="check the path") from error


def revocation_of_key(
    public_key: str, lists: Sequence[RevocationList], trust: TrustStore
) -> tuple[str, Revocation] | None:
    """Who revoked this key and why, or None.

    Its owner may (by that key or another in the owner's name and role), and the owner's own hospital: the
    site for its officers, an officer who is bound to the site for the site.
    """
    target = trust.find(public_key)
    if target is None:
        return None
    for one in lists:
        issuer = trust.find(one.public_key)
        if issuer is not None and _answers_for(issuer, target):
            for entry in one.entries:
                if (entry.subject, entry.digest) == (Subject.KEY, public_key):
                    return one.signer, entry
    return None


def revocations_of_release(
    manifest_digest: str, lists: Sequence[RevocationList]
) -> tuple[tuple[RevocationList, Revocation], ...]:
    """Every entry that names this release, whoever signed it; whether they may is the caller's question."""
    return tuple(
        (one, entry)
        for one in lists
        for entry in one.entries
        if (entry.subject, entry.digest) == (Subject.RELEASE, manifest_digest)
    )


def _answers_for(issuer: TrustedKey, target: TrustedKey) -> bool:
    is_owner = (issuer.name, issuer.role) == (target.name, target.role)
    return is_owner or (bool(_hospital(issuer)) and _hospital(issuer) == _hospital(target))


def _hospital(key: TrustedKey) -> str:
    return key.name if key.role == "site" else key.site


def _check_chain(entries: Sequence[Revocation], where: str) -> None:
    previous = ""
    for number, entry in enumerate(entries, start=1):
        if entry.number != number or entry.previous != previous:
            raise BundleError("the entries are not in the order they were made", where=where)
        previous = digest_of(entry.to_json())


def _check_signers(lists: Sequence[RevocationList], trust: TrustStore) -> None:
    """Refuse a list by a key that another list revokes; a key may well revoke itself."""
    for one in lists:
        others = [other for other in lists if other.public_key != one.public_key]
        found = revocation_of_key(one.public_key, others, trust)
        if found is not None:
            issuer, entry = found
            raise SignatureError(
                f"signed by a key that {issuer!r} revoked {entry.words}",
                where=f"revocation list of {one.signer!r}",
                fix="leave this list out",
            )
