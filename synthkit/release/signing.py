"""Ed25519: keys on disk, and signed JSON documents ("envelopes").

The only Ed25519 code of the project. Knows keys, and bytes to be signed; whose key may sign what is
`synthkit.release.trust`, and what a document means is its reader's business. Rules kept here: a
signature covers the kind, the signer's name and the public key beside the document, so that none can
be exchanged; a private key is never printed, never overwritten, and readable by its owner alone; a
public key or signature has one spelling (lower-case hexadecimal).
"""

import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.errors import InputError, SignatureError
from synthkit.release.trust import ROLES_BY_KIND, TrustedKey, TrustStore

__all__ = [
    "SigningKey",
    "TrustStore",
    "TrustedKey",
    "check_envelope",
    "check_signature",
    "generate_key",
    "open_document",
    "public_path",
    "read_key",
    "read_public_key",
    "seal_document",
    "write_key",
]

_DOMAIN = b"synthkit envelope 1\n"
"""Separates envelopes from everything else a key of the project signs (training replies, witnesses)."""

_DERIVED = b"synthkit derived key 1\n"

_FIELDS = {"kind": str, "signer": str, "public_key": str, "document": dict, "signature": str}


class SigningKey:
    """An Ed25519 private key that shows only its public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key_hex = private.public_key().public_bytes_raw().hex()
        """The public key: 64 lower-case hexadecimal characters."""

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key_hex[:8]}...)"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is never pickled")

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `data` (RFC 8032)."""
        return self._private.sign(data)

    def derive(self, purpose: bytes) -> bytes:
        """32 secret bytes for another purpose; they reveal nothing of the key (HKDF-SHA256, RFC 5869)."""
        seed = self._private.private_bytes_raw()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=_DERIVED + purpose).derive(seed)

    def _pem(self, passphrase: str | None) -> bytes:
        """PKCS8 PEM, encrypted when there is a passphrase."""
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            lock = serialization.BestAvailableEncryption(passphrase.encode("utf-8"))
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
        )


def generate_key() -> SigningKey:
    """A new key from the operating system's entropy."""
    return SigningKey(Ed25519PrivateKey.generate())


def public_path(path: Path) -> Path:
    """Where the public half of the key at `path` lies: the same name with `.pub` added."""
    return path.with_name(path.name + ".pub")


def write_key(key: SigningKey, path: Path, passphrase: str | None) -> None:
    """Write a private key (PEM, PKCS8, mode 0600) and its public half (`.pub`, one line).

    The PEM container stretches a passphrase little; a long one is what protects a copied file.

    Raises:
        InputError: One of the files exists, the passphrase is empty, or the folder cannot be written.
    """
    if passphrase == "":
        raise InputError("the passphrase is empty", where=path.name, fix="give one, or none at all")
    companion = public_path(path)
    if os.path.lexists(companion):
        raise InputError("the public key file exists", where=companion.name, fix="choose another name")
    _write_new(path, key._pem(passphrase), mode=0o600)
    _write_new(companion, f"{key.public_key_hex}\n".encode(), mode=0o644)


def read_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """Read a private key written by `write_key`.

    Raises:
        InputError: The file is missing or unreadable, or a passphrase is needed or superfluous.
        SignatureError: The passphrase is wrong, or this is no Ed25519 key.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise InputError("the key cannot be read", where=path.name, fix="check path and owner") from error
    if b"ENCRYPTED PRIVATE KEY" in pem and not passphrase:
        raise InputError("the key is encrypted", where=path.name, fix="give its passphrase")
    if b"ENCRYPTED" not in pem and passphrase is not None:
        raise InputError("the key is not encrypted", where=path.name, fix="leave the passphrase out")
    secret = passphrase.encode("utf-8") if passphrase else None
    try:
        private = serialization.load_pem_private_key(pem, secret)
    except Exception as error:  # the library raises ValueError, TypeError and its own, by version
        what = "the passphrase is wrong, or the file is damaged" if secret else "not a private key"
        raise SignatureError(what, where=path.name, fix="use the key that site init wrote") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SignatureError("not an Ed25519 key", where=path.name, fix="use the key that site init wrote")
    return SigningKey(private)


def read_public_key(path: Path) -> str:
    """Read a `.pub` file: one line of 64 lower-case hexadecimal characters.

    Raises:
        InputError: The file is missing or holds anything else.
    """
    try:
        line = path.read_text(encoding="ascii").removesuffix("\n")
    except (OSError, ValueError) as error:
        raise InputError("the public key cannot be read", where=path.name, fix="check the path") from error
    if not re.fullmatch("[0-9a-f]{64}", line):
        raise InputError("not a public key", where=path.name, fix="64 lower-case hexadecimal characters")
    return line


def check_signature(public_key: str, data: bytes, signature: str, *, where: str) -> None:
    """Check one detached signature; both texts are lower-case hexadecimal.

    Raises:
        SignatureError: Wrong length or spelling, a key that is no curve point, or a wrong signature.
    """
    if not re.fullmatch("[0-9a-f]{64}", public_key) or not re.fullmatch("[0-9a-f]{128}", signature):
        raise SignatureError("key or signature is not lower-case hexadecimal", where=where)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            "the signature is wrong", where=where, fix="it was altered after signing; ask for it again"
        ) from error


def seal_document(document: JsonObject, kind: str, key: SigningKey, signer: str) -> JsonObject:
    """Sign a document.

    Args:
        document: What is signed; must have a canonical form.
        kind: What it is, one of `trust.ROLES_BY_KIND`.
        key: The signer's private key.
        signer: The name under which trust stores list that key.

    Returns:
        `{"kind", "signer", "public_key", "document", "signature"}`.

    Raises:
        RuntimeError: The kind is unknown (a caller's bug).
    """
    if kind not in ROLES_BY_KIND:
        raise RuntimeError(f"unknown kind of document: {kind}")
    unsigned = {"kind": kind, "signer": signer, "public_key": key.public_key_hex, "document": document}
    return {**unsigned, "signature": key.sign(_DOMAIN + canonical_json(unsigned)).hex()}


def check_envelope(envelope: object, kind: str, *, where: str = "") -> JsonObject:
    """Check an envelope's form and signature against the key inside it, and return it.

    This proves only that the document is unaltered since *somebody* signed it. Who that was counts
    for nothing before `open_document` has found the key in a trust store.

    Raises:
        SignatureError: The fields are not exactly the five, the kind is another, or the signature
            is wrong.
    """
    where = where or kind
    if not isinstance(envelope, dict) or set(envelope) != set(_FIELDS):
        raise SignatureError("not a signed document: its fields are not exactly the five", where=where)
    if any(not isinstance(envelope[name], expected) for name, expected in _FIELDS.items()):
        raise SignatureError("not a signed document: a field has the wrong type", where=where)
    if envelope["kind"] != kind:
        raise SignatureError(f"signed as another kind of document than {kind}", where=where)
    unsigned = {name: value for name, value in envelope.items() if name != "signature"}
    try:
        data = _DOMAIN + canonical_json(unsigned)
    except (ValueError, TypeError, RecursionError) as error:
        raise SignatureError("the document has no canonical form", where=where) from error
    check_signature(envelope["public_key"], data, envelope["signature"], where=where)
    return envelope


def open_document(
    envelope: object, kind: str, trust: TrustStore, *, where: str = ""
) -> tuple[JsonObject, str]:
    """Check an envelope against the reader's trusted keys.

    Returns:
        The document, and the signer's name as the trust store knows it.

    Raises:
        SignatureError: As `check_envelope`; or the key is unknown, revoked, listed under another
            name, or not allowed to sign this kind.
    """
    checked = check_envelope(envelope, kind, where=where)
    trust.check_signer(checked["public_key"], kind, checked["signer"], where=where or kind)
    document: JsonObject = checked["document"]
    return document, checked["signer"]


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create a file that must not exist, with its final mode from the first byte on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError as error:
        raise InputError("the file exists", where=path.name, fix="a key is never overwritten") from error
    except OSError as error:
        raise InputError("cannot be written", where=path.name, fix="check the folder") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
