r"""The vault: generated tables as they lie at a site before they leave, encrypted for named readers.

Knows AES-256-GCM, X25519 and HKDF-SHA256 from `cryptography`, and what a vault is about (its label). Knows
no generator, policy or table: what is locked are bytes. Rules kept here:

- a fresh content key for every vault, from the operating system; it is wrapped once for each reader and
  stands nowhere else;
- the whole header, label and readers included, is authenticated with the content: a header moved to other
  content, or edited in one byte, opens nothing;
- opening is in memory; this module writes no file but a vault;
- a reader's vault key is derived one way from her signing key (HKDF over the Ed25519 seed with a label of
  its own), so that there is one secret file to guard, and the two keys never meet in one algorithm.

What it does not do: a vault has no author. Whoever knows the readers' public keys can write one, so what is
in it is believed only after the audit has judged it and sealing has drawn it again from the model. Nor does
it keep rows from someone who can read the model's folder and draws them again, or from root.

    SYNTHKIT-VAULT 1\n | 8 bytes, big-endian: length of the header | header | 12 bytes of nonce | content
"""

import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.toml_reading import shown
from synthkit.errors import BundleError, InputError, SignatureError
from synthkit.release.framing import MAX_BUNDLE_BYTES, MAX_HEADER_BYTES, parse_canonical
from synthkit.release.signing import SigningKey
from synthkit.release.trust import TrustedKey

MAGIC = b"SYNTHKIT-VAULT 1\n"
FORMAT = 1
ENDING = ".vault"
MAX_READERS = 64

_LENGTH_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_PURPOSE = b"vault"
_WRAP = b"synthkit vault wrap 1\n"
_HEX_KEY, _HEX_WRAPPED = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{96}")
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class VaultLabel:
    """What a vault is about, in clear and authenticated; all digests are SHA-256 in hexadecimal."""

    site: str
    asset: str
    study_digest: str
    model_digest: str
    schema_digest: str
    policy_digest: str
    table_digest: str
    created: dt.datetime
    """In UTC, to the second."""

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {**vars(self), "created": self.created.isoformat()}

    @classmethod
    def from_json(cls, document: JsonObject) -> "VaultLabel":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        label = cls(**{**document, "created": dt.datetime.fromisoformat(document["created"])})
        texts = [getattr(label, field.name) for field in fields(cls) if field.name != "created"]
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise TypeError("a text is expected")
        if label.created.utcoffset() != dt.timedelta(0):
            raise ValueError("not a time in UTC")
        return label


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader's copy of the content key; `ephemeral` is the public half made for this copy alone."""

    name: str
    role: str
    vault_key: str
    ephemeral: str
    wrapped: str

    def __post_init__(self) -> None:
        keys = (self.vault_key, self.ephemeral)
        if not all(_HEX_KEY.fullmatch(key) for key in keys) or not _HEX_WRAPPED.fullmatch(self.wrapped):
            raise ValueError("not lower-case hexadecimal of the right length")
        if not (self.name.isprintable() and self.role.isprintable()):
            raise ValueError("not a printable name")


@dataclass(frozen=True, kw_only=True, repr=False)
class Vault:
    """A vault as it was read: label and readers in clear, the content still locked."""

    label: VaultLabel
    readers: tuple[Reader, ...]
    sizes: Mapping[str, int]
    header: bytes
    sealed: bytes

    def __repr__(self) -> str:
        return f"Vault(site={self.label.site!r}, readers={[reader.name for reader in self.readers]!r})"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the reader's own papers say that a vault has to be about; empty texts are not compared."""

    site: str = ""
    asset: str = ""
    schema_digest: str = ""
    policy_digest: str = ""
    model_digest: str = ""
    table_digest: str = ""


_ABOUT = {
    "site": "was made at another site",
    "asset": "was made for another patient population",
    "schema_digest": "was made by another schema",
    "policy_digest": "was made under another policy",
    "model_digest": "was made by another model",
    "table_digest": "holds another candidate than the one that was audited",
}


def vault_key_of(key: SigningKey) -> str:
    """The public half of a signing key's vault key: what trust files list as `vault_key`."""
    return _private_of(key).public_key().public_bytes_raw().hex()


def lock(files: Mapping[str, bytes], label: VaultLabel, readers: Sequence[TrustedKey]) -> bytes:
    """Encrypt files for these readers.

    Args:
        files: File names and their bytes, at least one.
        label: What they are.
        readers: Trust-store entries with a `vault_key`.

    Raises:
        InputError: Nobody could open it, a reader has no vault key, or it would be too large.
    """
    if not 1 <= len(readers) <= MAX_READERS:
        raise InputError("has no reader, or more than any vault needs", where="vault", fix="see --trust")
    content_key = os.urandom(32)
    header = canonical_json(
        {
            "format": FORMAT,
            "label": label.to_json(),
            "files": [{"name": name, "size_bytes": len(data)} for name, data in files.items()],
            "readers": [vars(_wrapped(content_key, label, reader)) for reader in readers],
        }
    )
    nonce = os.urandom(_NONCE_BYTES)
    frame = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + header
    content = b"".join(files.values())
    if len(header) > MAX_HEADER_BYTES or len(content) > MAX_BUNDLE_BYTES - MAX_HEADER_BYTES:
        raise InputError("would be larger than 1 GiB", where="vault", fix="generate fewer rows at a time")
    return frame + nonce + AESGCM(content_key).encrypt(nonce, content, frame)


def read_vault(data: bytes, *, where: str) -> Vault:
    """Read what stands in clear. Nothing of it is authentic before `unlock` has opened the content.

    Raises:
        BundleError: Not a vault, truncated, or its header is malformed.
    """
    start = len(MAGIC) + _LENGTH_BYTES
    if data[: len(MAGIC)] != MAGIC:
        raise BundleError("not a vault of format 1", where=where, fix="name what `generate` wrote")
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    if (
        len(data) < start
        or length > MAX_HEADER_BYTES
        or len(data) < start + length + _NONCE_BYTES + _TAG_BYTES
    ):
        raise BundleError("truncated", where=where, fix="fetch it again, or generate anew")
    document = parse_canonical(data[start : start + length], where=where)
    try:
        vault = Vault(
            label=VaultLabel.from_json(document["label"]),
            readers=tuple(Reader(**entry) for entry in document["readers"]),
            sizes={entry["name"]: entry["size_bytes"] for entry in document["files"]},
            header=data[: start + length],
            sealed=data[start + length :],
        )
        is_sound = document["format"] == FORMAT and len(document) == 4 and _are_sizes(vault.sizes)
    except _MALFORMED as error:
        raise BundleError("its header is malformed", where=where, fix="generate anew") from error
    if not is_sound:
        raise BundleError(
            "its header is of an unknown form", where=where, fix="use the version that wrote it"
        )
    return vault


def unlock(vault: Vault, key: SigningKey, *, where: str) -> dict[str, bytes]:
    """Open a vault in memory.

    Returns:
        The files by name. Their label is authentic now.

    Raises:
        SignatureError: It was not written for this key.
        BundleError: Header or content was altered.
    """
    mine = vault_key_of(key)
    copy = next((reader for reader in vault.readers if reader.vault_key == mine), None)
    if copy is None:
        names = ", ".join(f"{shown(reader.name)} ({shown(reader.role)})" for reader in vault.readers)
        raise SignatureError("this key does not open it", where=where, fix=f"it was locked for {names}")
    nonce, content = vault.sealed[:_NONCE_BYTES], vault.sealed[_NONCE_BYTES:]
    try:
        shared = _private_of(key).exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(copy.ephemeral)))
        content_key = AESGCM(_wrapping_key(shared, copy)).decrypt(
            bytes(_NONCE_BYTES), bytes.fromhex(copy.wrapped), _bound(vault.label, copy)
        )
        plain = AESGCM(content_key).decrypt(nonce, content, vault.header)
    except (InvalidTag, ValueError) as error:  # ValueError: a point of low order, or a key of wrong length
        raise BundleError("was altered: it does not open", where=where, fix="generate anew") from error
    if len(plain) != sum(vault.sizes.values()):
        raise BundleError("its files are not as long as its header says", where=where, fix="generate anew")
    files, place = {}, 0
    for name, size in vault.sizes.items():
        files[name] = plain[place : place + size]
        place += size
    return files


def check_label(label: VaultLabel, expected: Expected, *, where: str) -> None:
    """Refuse a vault that is about something else than the papers beside it: swapped, or an older one.

    Raises:
        BundleError: A field of the label differs; named in words.
    """
    for name, what in _ABOUT.items():
        wanted = getattr(expected, name)
        if wanted and getattr(label, name) != wanted:
            raise BundleError(what, where=where, fix="give the vault that belongs to these papers")


def _private_of(key: SigningKey) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(key.derive(_PURPOSE))


def _wrapped(content_key: bytes, label: VaultLabel, reader: TrustedKey) -> Reader:
    """One reader's copy. Its wrapping key is used once, so that the nonce may be zero."""
    if not reader.vault_key:
        raise InputError(
            "lists no vault key", where=f"trusted key {reader.name!r}", fix="make its trust file anew"
        )
    ephemeral = X25519PrivateKey.generate()
    copy = Reader(
        name=reader.name,
        role=reader.role,
        vault_key=reader.vault_key,
        ephemeral=ephemeral.public_key().public_bytes_raw().hex(),
        wrapped="0" * 96,
    )
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(reader.vault_key)))
    except ValueError as error:
        where = f"trusted key {reader.name!r}"
        raise InputError("its vault key is no public key", where=where, fix="ask its owner for it") from error
    sealed = AESGCM(_wrapping_key(shared, copy)).encrypt(
        bytes(_NONCE_BYTES), content_key, _bound(label, copy)
    )
    return Reader(**{**vars(copy), "wrapped": sealed.hex()})


def _wrapping_key(shared: bytes, copy: Reader) -> bytes:
    """HKDF-SHA256 over the shared secret, salted with both public keys (as RFC 9180 binds them)."""
    salt = bytes.fromhex(copy.ephemeral) + bytes.fromhex(copy.vault_key)
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=_WRAP).derive(shared)


def _bound(label: VaultLabel, copy: Reader) -> bytes:
    """What a wrapped key is bound to: the label, and whose copy it is."""
    return _WRAP + canonical_json({"label": label.to_json(), "name": copy.name, "role": copy.role})


def _are_sizes(sizes: Mapping[str, int]) -> bool:
    counts = [size for size in sizes.values() if isinstance(size, int) and not isinstance(size, bool)]
    return 0 < len(counts) == len(sizes) and min(counts) >= 0
