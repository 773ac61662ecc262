"""Invitation and EnrolmentRequest: how a hospital and a coordinator come to know each other's keys.

Knows two documents that are carried by hand, one each way, and how a person compares them. Refuses to sign or
to read files: the nodes do. Rules kept here:

1. The fingerprint covers the coordinator's signing key and the authority of its certificates: who compared
   it on another channel (by telephone, on paper) has compared all that a site will ever trust of it.
2. The secret in an invitation is for one enrolment. A request proves that its author held it and says
   nothing of it; it is bound to this site's keys, so an intercepted request enrols nobody else.
3. Nothing in either document is about patients but the declared size, which is public.
"""

import datetime as dt
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from synthkit.domain.canonical import JsonObject, canonical_json, sha256_hex
from synthkit.domain.study import Site
from synthkit.errors import InputError

FORMAT = 1

SECRET_BYTES = 32

FINGERPRINT_CHARACTERS = 32
"""128 bits: nobody makes a second document of the same fingerprint, and it can still be read aloud."""

_INVITATION = {
    "site": str,
    "coordinator": str,
    "address": str,
    "authority": str,
    "secret": str,
    "expires": str,
}
_REQUEST = {"site": str, "node_key": str, "declared_size": int, "coordinator": str, "proof": str}

Noun = TypeVar("Noun")


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What a coordinator gives a hospital; signed by the coordinator, for that hospital's eyes alone.

    `address` is host:port that the site connects to, `authority` the certificate (PEM) that it pins,
    `secret` 64 lower-case hexadecimal characters, `expires` a time in UTC.
    """

    site: str
    coordinator: str
    address: str
    authority: str
    secret: str
    expires: dt.datetime

    def __post_init__(self) -> None:
        check_name(self.site)
        check_name(self.coordinator)
        check_address(self.address)
        if len(self.secret) != 2 * SECRET_BYTES or not set(self.secret) <= set("0123456789abcdef"):
            raise InputError("the secret is not 64 hexadecimal characters", where="invitation")
        if not self.authority.isascii():
            raise InputError(
                "the authority is not a certificate", where="invitation", fix="ask for a new one"
            )
        if self.expires.tzinfo is None:
            raise InputError("expires has no time zone", where="invitation")

    def check_not_expired(self, now: dt.datetime) -> None:
        """Refuse an invitation whose time has passed.

        Raises:
            InputError: It has.
        """
        if now >= self.expires:
            raise InputError(
                f"expired at {self.expires:%Y-%m-%d %H:%M} UTC",
                where=f"invitation of {self.site}",
                fix="ask the coordinator for a new one",
            )

    def fingerprint(self, public_key: str) -> str:
        """What a person compares; `public_key` is that of the key which signed this invitation."""
        return fingerprint_of("coordinator", public_key, self.authority)

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"format": FORMAT, **vars(self), "expires": self.expires.isoformat()}

    @classmethod
    def from_json(cls, document: JsonObject) -> "Invitation":
        """Inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        fields = _fields(document, _INVITATION, "invitation")
        return _made(
            lambda: cls(**{**fields, "expires": dt.datetime.fromisoformat(fields["expires"])}), "invitation"
        )


@dataclass(frozen=True, kw_only=True)
class EnrolmentRequest:
    """What a hospital answers; signed with the site's own key, which is thereby enrolled.

    `node_key` is the SuperNode's public key (PEM), `coordinator` the fingerprint that the site compared,
    `proof` the HMAC-SHA256 of all else and of the signing key, under the invitation's secret.
    """

    site: str
    node_key: str
    declared_size: int
    coordinator: str
    proof: str = ""

    def __post_init__(self) -> None:
        Site(name=self.site, public_key="", declared_size=self.declared_size)

    def proven(self, secret: str, public_key: str) -> "EnrolmentRequest":
        """The same with its proof."""
        return replace(self, proof=self._proof(secret, public_key))

    def is_proven(self, secret: str, public_key: str) -> bool:
        """Whether the author held the secret, and meant exactly this request under this signing key."""
        return hmac.compare_digest(self.proof.encode(), self._proof(secret, public_key).encode())

    def fingerprint(self, public_key: str) -> str:
        """What a person compares; `public_key` is that of the key which signed this request."""
        return fingerprint_of("site", self.site, public_key, self.node_key)

    def _proof(self, secret: str, public_key: str) -> str:
        document = {**self.to_json(), "proof": "", "public_key": public_key}
        return hmac.digest(bytes.fromhex(secret), canonical_json(document), "sha256").hex()

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"format": FORMAT, **vars(self)}

    @classmethod
    def from_json(cls, document: JsonObject) -> "EnrolmentRequest":
        """Inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        fields = _fields(document, _REQUEST, "enrolment request")
        return _made(lambda: cls(**fields), "enrolment request")


def fingerprint_of(*parts: str) -> str:
    """32 hexadecimal characters in groups of four, as they are read aloud."""
    digits = sha256_hex(canonical_json({"fingerprint": list(parts)}))[:FINGERPRINT_CHARACTERS]
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


def is_fingerprint(given: str, expected: str) -> bool:
    """Whether a person typed this fingerprint; spaces, hyphens, colons and capitals do not matter."""
    plain = "".join(character for character in given.lower() if character not in " -:\t")
    return hmac.compare_digest(plain.encode(), expected.replace(" ", "").encode())


def check_name(name: str) -> None:
    """Refuse what is no site's or coordinator's name.

    Raises:
        InputError: It is not letters, digits, - and _.
    """
    Site(name=name, public_key="", declared_size=1)


def check_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
        InputError: It is something else.
    """
    host, colon, port = address.rpartition(":")
    is_host = bool(host) and host.isprintable() and not any(c in host for c in " /@")
    if not (colon and is_host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError("is not host:port", where="address", fix="for example synthkit.example.org:443")
    return host, int(port)


def _fields(document: JsonObject, expected: Mapping[str, type], what: str) -> JsonObject:
    if document.get("format") != FORMAT:
        raise InputError("unknown format", where=what, fix="both sides need the same release of synthkit")
    fields = {name: value for name, value in document.items() if name != "format"}
    if set(fields) != set(expected) or any(type(fields[name]) is not expected[name] for name in expected):
        raise InputError(
            "a field is missing, unknown or of the wrong type", where=what, fix="ask for a new one"
        )
    return fields


def _made(make: Callable[[], Noun], what: str) -> Noun:
    try:
        return make()
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError("a field is malformed", where=what, fix="ask for a new one") from error
