"""TrustStore: whose key may sign what, as the reader decided.

Knows names, roles and public keys; no cryptography. Rules kept here: an empty store trusts nothing; a
key is listed once, so that it has one name and one role; a revoked key signs nothing, whenever it
signed; a kind of document that no role may sign is refused.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import JsonObject
from synthkit.errors import InputError, SignatureError

ROLES = ("site", "officer", "auditor", "coordinator")

ROLES_BY_KIND: dict[str, tuple[str, ...]] = {
    "manifest": ("site",),
    "statement": ("site",),
    "enrolment": ("site",),
    "approval": ("officer",),
    "revocation": ("site", "officer"),
    "policy": ("officer",),
    "study-approval": ("officer",),
    "study-refusal": ("officer",),
    "study": ("coordinator",),
    "invitation": ("coordinator",),
    "witness": ("coordinator",),
}
"""Every kind of signed document, with the roles whose keys may sign it."""

_MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """One Ed25519 public key (64 lower-case hexadecimal characters), its owner and role.

    `site` binds an officer to one hospital: her approvals count for its statements alone. Empty: she
    may approve for any. An auditor signs nothing. `vault_key` is the X25519 public key (64 lower-case
    hexadecimal characters) for which vaults are locked that the owner may open; empty: none.
    """

    name: str
    role: str
    public_key: str
    revoked: bool = False
    site: str = ""
    vault_key: str = ""

    def __post_init__(self) -> None:
        texts = (self.name, self.role, self.public_key, self.site)
        if any(not isinstance(text, str) for text in texts) or not self.name.isprintable():
            raise InputError("name, role, public_key and site are plain text", where="trusted key")
        if not self.name or self.role not in ROLES:
            raise InputError(f"needs a name and one of the roles {', '.join(ROLES)}", where="trusted key")
        if not re.fullmatch("[0-9a-f]{64}", self.public_key):
            raise InputError(
                "public_key is not 64 lower-case hexadecimal characters", where=f"trusted key {self.name!r}"
            )
        if not isinstance(self.vault_key, str) or not re.fullmatch("(?:[0-9a-f]{64})?", self.vault_key):
            raise InputError(
                "vault_key is not 64 lower-case hexadecimal characters", where=f"trusted key {self.name!r}"
            )
        if not isinstance(self.revoked, bool):
            raise InputError("revoked is true or false", where=f"trusted key {self.name!r}")

    def to_json(self) -> JsonObject:
        """All fields, but no empty vault key."""
        return {name: value for name, value in vars(self).items() if name != "vault_key" or value}


@dataclass(frozen=True, kw_only=True)
class TrustStore:
    """The keys a reader trusts.

    Raises:
        InputError: A public key is listed twice with different entries.
    """

    keys: tuple[TrustedKey, ...] = ()

    def __post_init__(self) -> None:
        entries: dict[str, TrustedKey] = {}
        for key in self.keys:
            if entries.setdefault(key.public_key, key) != key:
                raise InputError(
                    "one public key is listed with two different entries",
                    where=f"trusted key {key.name!r}",
                    fix="one key has one owner and one role; remove the wrong entry",
                )

    def find(self, public_key: str) -> TrustedKey | None:
        """The entry of that public key, revoked or not."""
        return next((key for key in self.keys if key.public_key == public_key), None)

    def check_signer(self, public_key: str, kind: str, signer: str, *, where: str) -> TrustedKey:
        """The entry of a key that may sign this kind of document under this name.

        Raises:
            SignatureError: The key is unknown, revoked, of a role that may not sign this, or listed
                under another name.
        """
        key = self.find(public_key)
        if key is None:
            raise SignatureError(
                "signed by an unknown key", where=where, fix="add its public key to the trusted keys first"
            )
        if key.revoked:
            raise SignatureError(f"signed by the revoked key of {key.name!r}", where=where)
        allowed = ROLES_BY_KIND.get(kind, ())
        if key.role not in allowed:
            raise SignatureError(
                f"signed by a key of role {key.role}; only {' or '.join(allowed) or 'nobody'} may sign this",
                where=where,
            )
        if key.name != signer:
            raise SignatureError(f"the key belongs to {key.name!r}, not to the name it signs as", where=where)
        return key

    def to_json(self) -> JsonObject:
        """What `read` reads."""
        return {"keys": [key.to_json() for key in self.keys]}

    @classmethod
    def from_json(cls, document: object, *, where: str = "trusted keys") -> "TrustStore":
        """Inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        if not isinstance(document, dict) or set(document) != {"keys"}:
            raise InputError("must hold one list named keys and nothing else", where=where)
        try:
            return cls(keys=tuple(TrustedKey(**entry) for entry in document["keys"]))
        except (TypeError, ValueError) as error:
            raise InputError(
                "an entry is malformed",
                where=where,
                fix="name, role, public_key; optional revoked, site, vault_key",
            ) from error

    @classmethod
    def read(cls, path: Path) -> "TrustStore":
        """Read a JSON or TOML file, or every `.json` and `.toml` file of a folder.

        Raises:
            InputError: The path is missing, or a file is malformed; one bad file spoils the store,
                because it may be the one that revokes.
        """
        if not path.is_dir():
            return cls.from_json(_read_document(path), where=path.name)
        files = sorted(file for file in path.iterdir() if file.suffix in {".json", ".toml"})
        stores = [cls.from_json(_read_document(file), where=file.name) for file in files]
        return cls(keys=tuple(key for store in stores for key in store.keys))


def _read_document(path: Path) -> object:
    """Parse one file by its extension."""
    if path.suffix not in {".json", ".toml"}:
        raise InputError("trusted keys are a .json or .toml file, or a folder of them", where=path.name)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError("too large for a list of keys", where=path.name)
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise InputError("cannot be read", where=path.name, fix="check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError("is not valid JSON or TOML", where=path.name) from error
