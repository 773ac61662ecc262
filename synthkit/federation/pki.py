"""Certificates and node keys of one federation's transport.

Knows X.509 and elliptic-curve keys. Knows nothing of studies: what a site signs it signs with its
Ed25519 key (`synthkit.release.signing`), never with a transport key. Rules kept here: a private key is
written readable by its owner only and is never overwritten; the authority signs servers, nothing else
(`path_length=0`).

Curves: P-256 for TLS, P-384 in OpenSSH form for SuperNodes, which is what Flower 1.41 accepts.
"""

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from synthkit.errors import InputError

CLOCK_SKEW = dt.timedelta(minutes=5)
"""A certificate is valid from this long before it was made, for clocks that run behind."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True, kw_only=True, repr=False)
class Authority:
    """A private certificate authority: its key stays with the coordinator."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> bytes:
        """What every site pins as its only trusted root."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, kw_only=True)
class ServerFiles:
    """Where a server's TLS material lies."""

    authority: Path
    certificate: Path
    key: Path


def create_authority(directory: Path, *, name: str = "synthkit federation", days: int = 365) -> Authority:
    """Make a certificate authority and write `ca.pem` and `ca.key` into `directory`.

    Raises:
        InputError: One of the two files is already there.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _common_name(name)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(key=key, certificate=certificate)
    _write_new(directory / "ca.key", _private_pem(key), mode=0o600)
    _write_new(directory / "ca.pem", authority.certificate_pem, mode=0o644)
    return authority


def read_authority(certificate: Path, key: Path) -> Authority:
    """The authority of these two files, as `create_authority` wrote them.

    Raises:
        InputError: One cannot be read, or they do not belong together.
    """
    try:
        own = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError("no authority's certificate and key", where=key.name, fix="give both") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != own.public_key():
        raise InputError("is not the key of this certificate", where=key.name, fix="give that one")
    return Authority(key=private, certificate=own)


def create_server_certificate(
    directory: Path, authority: Authority, *, names: tuple[str, ...] = LOOPBACK_NAMES, days: int = 90
) -> ServerFiles:
    """Make the coordinator's TLS key and certificate, `server.key` and `server.pem`.

    Args:
        directory: Where `ca.pem` lies and the two files go.
        authority: Signs the certificate.
        names: DNS names and IP addresses that sites connect to. Keep `127.0.0.1` among them: the
            SuperLink's own executor connects there and verifies it.
        days: Validity in days from now.

    Raises:
        InputError: One of the two files is already there.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_common_name(names[0]), authority.certificate.subject, key.public_key(), days)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    files = ServerFiles(
        authority=directory / "ca.pem", certificate=directory / "server.pem", key=directory / "server.key"
    )
    _write_new(files.key, _private_pem(key), mode=0o600)
    _write_new(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return files


def create_node_key(path: Path) -> bytes:
    """Make a SuperNode's key at `path` (and `path`.pub) and return its public half as PEM.

    The PEM is what the coordinator registers under the site's name.

    Raises:
        InputError: One of the two files is already there.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key()
    line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write_new(path, private, mode=0o600)
    _write_new(path.with_name(path.name + ".pub"), line + b"\n", mode=0o644)
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_node_key(path: Path) -> str:
    """The public half (PEM) of the SuperNode's key at `path`, from `path`.pub.

    Raises:
        InputError: It cannot be read, or is not one.
    """
    companion = path.with_name(path.name + ".pub")
    try:
        public = serialization.load_ssh_public_key(companion.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise InputError("not a node's public key", where=companion.name, fix="make a new pair") from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise InputError("not a key on a NIST curve", where=companion.name, fix="make a new pair")
    return _public_pem(public)


def check_node_key(pem: str) -> None:
    """Refuse what a SuperLink would not take as a node's public key.

    Raises:
        InputError: Not a P-256 or P-384 public key, or written in another way than `create_node_key` writes.
    """
    try:
        public = serialization.load_pem_public_key(pem.encode("utf-8"))
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("is not a public key", where="node key", fix="join again with a new pair") from None
    curves = (ec.SECP256R1, ec.SECP384R1)
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, curves):
        raise InputError("is not on P-256 or P-384", where="node key", fix="join again with a new pair")
    if _public_pem(public) != pem:
        raise InputError("is not in its one spelling", where="node key", fix="join again with a new pair")


def check_authority(pem: str, *, now: dt.datetime) -> dt.datetime:
    """Refuse what cannot be pinned as an authority; returns when it expires.

    Raises:
        InputError: Not exactly one certificate of an authority, or outside its time.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode("utf-8"))
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        is_authority = False
    if not is_authority:
        raise InputError("is not the certificate of one authority", where="ca.pem", fix="ask for it again")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise InputError("is outside its time", where="ca.pem", fix="check the clock, then ask for a new one")
    return certificate.not_valid_after_utc


def certificate_end(path: Path) -> dt.datetime:
    """When the certificate in this file expires.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise InputError("not a certificate", where=path.name, fix="restore it") from None


def _public_pem(public: ec.EllipticCurvePublicKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(encoding, form).decode("ascii")


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    """What every certificate here has in common."""
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    """An IP address if it reads as one, a DNS name otherwise."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Create a file that must not exist yet; its mode holds from the first byte on."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise InputError("already there", where=path.name, fix="keys are never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
