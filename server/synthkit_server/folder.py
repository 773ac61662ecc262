"""The coordinator's folder: settings, keys, certificates, who is enrolled, what was handed in.

    coordinator.toml     name, address that sites connect to, address that the SuperLink listens on
    keys/                coordinator.key (mode 0600) and its .pub: signs studies, invitations, witnesses
    tls/                 ca.key, ca.pem, server.key, server.pem
    trust.json           the coordinator's own public key
    roster.json          enrolled sites: name, keys, declared size
    invitations/NAME.json  open invitations with their secrets
    studies/DIGEST/      study.json (signed), initial.safetensors, run/ (progress, checkpoint, result), model/
    logs/ superlink.db flower/   of the running service

Knows paths and how to read them. Refuses to hold rows: nothing here could. Rules kept here: a key is never
overwritten; the SuperLink has no accounts, so it listens on loopback unless a person states that nobody but
the proxy reaches the address.
"""

import datetime as dt
import ipaddress
import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthkit.domain.canonical import JsonObject
from synthkit.domain.enrolment import check_address, check_name, fingerprint_of
from synthkit.errors import InputError
from synthkit.federation.pki import (
    ServerFiles,
    certificate_end,
    create_authority,
    create_server_certificate,
    read_authority,
)
from synthkit.release.signing import (
    SigningKey,
    TrustedKey,
    TrustStore,
    generate_key,
    public_path,
    read_key,
    read_public_key,
    write_key,
)
from synthkit_server.storage import write_atomically

SETTINGS = "coordinator.toml"

AUTHORITY_DAYS, SERVER_DAYS = 3 * 365, 365
"""Validity of the authority and of the server's certificate."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`coordinator.toml`. Both addresses are host:port; sites connect to the first."""

    name: str
    address: str
    listen: str

    def __post_init__(self) -> None:
        check_name(self.name)
        check_address(self.address)
        check_address(self.listen)

    @property
    def server_names(self) -> tuple[str, ...]:
        """What the certificate names; loopback because the SuperLink's own executor connects there."""
        host, _ = check_address(self.address)
        return tuple(dict.fromkeys((host, "localhost", "127.0.0.1", "superlink")))


class CoordinatorFolder:
    """One coordinator's folder.

    Raises:
        InputError: The folder or its `coordinator.toml` is missing or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # other processes are told of it, from folders of their own
        self.settings = _read_settings(path / SETTINGS)

    @property
    def key_path(self) -> Path:
        """The signing key; without a passphrase, because the service countersigns with it."""
        return self.path / "keys" / "coordinator.key"

    @cached_property
    def key(self) -> SigningKey:
        """The coordinator's signing key."""
        return read_key(self.key_path)

    @property
    def public_key(self) -> str:
        """Its public half, which stays here when the key is moved."""
        return read_public_key(public_path(self.key_path))

    @property
    def trust_path(self) -> Path:
        """Whose studies this coordinator runs: its own."""
        return self.path / "trust.json"

    @property
    def certificates(self) -> ServerFiles:
        """The SuperLink's TLS material."""
        tls = self.path / "tls"
        return ServerFiles(authority=tls / "ca.pem", certificate=tls / "server.pem", key=tls / "server.key")

    @property
    def authority(self) -> str:
        """The certificate (PEM) that every site pins.

        Raises:
            InputError: It cannot be read.
        """
        try:
            return self.certificates.authority.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise InputError("cannot be read", where="tls/ca.pem", fix="restore it") from None

    @property
    def fingerprint(self) -> str:
        """What sites compare before they trust this coordinator; see `domain.enrolment`."""
        return fingerprint_of("coordinator", self.public_key, self.authority)

    @property
    def studies(self) -> Path:
        """One folder per study that was handed in."""
        return self.path / "studies"

    def read(self, name: str) -> JsonObject:
        """A JSON object of this folder; empty if there is no such file.

        Raises:
            InputError: It is something else.
        """
        path = self.path / name
        try:
            document = json.loads(path.read_bytes()) if path.exists() else {}
        except (OSError, ValueError):
            document = None
        if not isinstance(document, dict):
            raise InputError("does not hold a JSON object", where=name, fix="restore it")
        return document

    def write(self, name: str, document: JsonObject) -> None:
        """Write a JSON object of this folder, whole or not at all, for its owner alone."""
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        write_atomically(self.path / name, text.encode("utf-8"))


def init_coordinator(path: Path, settings: Settings, *, is_private: bool = False) -> CoordinatorFolder:
    """Make a coordinator's folder: signing key, authority, server certificate, settings.

    Args:
        path: A folder that is new, or empty.
        settings: Name and addresses.
        is_private: A person stated that nobody but the proxy reaches the address it listens on.

    Raises:
        InputError: The folder is in use, or the SuperLink would listen where strangers may reach it.
    """
    check_listens_safely(settings.listen, is_private=is_private)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError("is in use", where=path.name, fix="name a new folder; keys are never overwritten")
    for folder in (path, path / "keys", path / "tls", path / "invitations", path / "studies", path / "logs"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = generate_key()
    write_key(key, path / "keys" / "coordinator.key", None)
    authority = create_authority(path / "tls", name=f"synthkit {settings.name}", days=AUTHORITY_DAYS)
    create_server_certificate(path / "tls", authority, names=settings.server_names, days=SERVER_DAYS)
    own = TrustedKey(name=settings.name, role="coordinator", public_key=key.public_key_hex)
    trust = json.dumps(TrustStore(keys=(own,)).to_json(), indent=1) + "\n"
    write_atomically(path / "trust.json", trust.encode("utf-8"))
    write_atomically(path / SETTINGS, _settings_toml(settings).encode("utf-8"))  # last: the folder is whole
    return CoordinatorFolder(path)


def renew_certificate(folder: CoordinatorFolder, authority_key: Path) -> dt.datetime:
    """Make a new server certificate of the same authority; sites notice nothing. Returns when it ends.

    The old pair stays beside it, its names ending in `.old`, until the next renewal.

    Raises:
        InputError: The key is not the authority's.
    """
    files = folder.certificates
    authority = read_authority(files.authority, authority_key)
    for path in (files.key, files.certificate):
        if path.exists():
            path.replace(path.with_name(path.name + ".old"))
    names = folder.settings.server_names
    create_server_certificate(files.authority.parent, authority, names=names, days=SERVER_DAYS)
    return certificate_end(files.certificate)


def now() -> dt.datetime:
    """The time in UTC, to the second."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def check_listens_safely(listen: str, *, is_private: bool) -> None:
    """Refuse an address (host:port) beyond loopback, unless a person stated that only the proxy reaches it.

    Raises:
        InputError: It is one, or no address.
    """
    host, _ = check_address(listen)
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback and not is_private:
        raise InputError(
            "the SuperLink has no accounts and would listen beyond this machine",
            where=f"listen {host}",
            fix="listen on 127.0.0.1 behind the TLS proxy, or state --private-network",
        )


def _settings_toml(settings: Settings) -> str:
    return (
        "# The coordinator's own settings. It holds weights and signed replies, and no row of a patient.\n"
        "[coordinator]\n"
        f"name = {json.dumps(settings.name)}\n"
        "# Where sites connect to: the TLS proxy, which passes /v1/fleet/ and nothing else.\n"
        f"address = {json.dumps(settings.address)}\n"
        "# Where the SuperLink listens. It has no accounts: keep this on the machine.\n"
        f"listen = {json.dumps(settings.listen)}\n"
    )


def _read_settings(path: Path) -> Settings:
    where = f"{path.parent.name}/{SETTINGS}"
    try:
        entry = tomllib.loads(path.read_text(encoding="utf-8"))["coordinator"]
        return Settings(name=str(entry["name"]), address=str(entry["address"]), listen=str(entry["listen"]))
    except OSError:
        fix = "name a coordinator's folder, or make one: synthkit coordinator init"
        raise InputError("is not there", where=where, fix=fix) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise InputError("malformed", where=where, fix="needs [coordinator]: name, address, listen") from None
