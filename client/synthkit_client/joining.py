"""Join a coordinator: check its invitation, pin its authority, trust its key, and ask to be enrolled.

Knows the site's folder. Refuses an invitation that a person has not compared on another channel: without the
fingerprint nothing is written. Rules kept here: what is trusted afterwards is exactly what the fingerprint
covers; one coordinator per folder, for its witness statements follow one ledger; the invitation's secret is
used once and kept nowhere.
"""

import datetime as dt
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.enrolment import EnrolmentRequest, Invitation, check_address, is_fingerprint
from synthkit.errors import InputError, SignatureError
from synthkit.federation.pki import check_authority, read_node_key
from synthkit.release.signing import TrustedKey, TrustStore, check_envelope, seal_document
from synthkit_client.site_folder import SiteFolder
from synthkit_client.storage import write_durably

COORDINATOR, AUTHORITY = "coordinator.json", "ca.pem"


@dataclass(frozen=True, kw_only=True)
class KnownCoordinator:
    """Whom this site joined. `address` is host:port."""

    name: str
    address: str
    public_key: str
    fingerprint: str

    def __post_init__(self) -> None:
        check_address(self.address)

    def to_json(self) -> JsonObject:
        """All fields."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What a site that joined carries back: the signed request, and its own fingerprint to be compared."""

    coordinator: KnownCoordinator
    request: JsonObject
    fingerprint: str


def known_coordinator(folder: SiteFolder) -> KnownCoordinator | None:
    """The coordinator that this site joined, if any.

    Raises:
        InputError: The file is damaged.
    """
    path = folder.node / COORDINATOR
    if not path.exists():
        return None
    try:
        return KnownCoordinator(**folder.read_json(path))
    except TypeError:
        raise InputError("is malformed", where=COORDINATOR, fix="join again") from None


def join(folder: SiteFolder, envelope: object, fingerprint: str, *, now: dt.datetime) -> Joined:
    """Trust the coordinator of an invitation, and make the request that is carried back.

    Joining the same coordinator again renews its certificate and address, and makes a new request.

    Args:
        folder: The site's.
        envelope: The invitation.
        fingerprint: As the coordinator told it on another channel.
        now: The time, in UTC.

    Raises:
        SignatureError: The invitation was altered, or has another fingerprint.
        InputError: It is another site's, expired, or the site joined another coordinator already.
    """
    checked = check_envelope(envelope, "invitation", where="invitation")
    invitation = Invitation.from_json(checked["document"])
    public_key = checked["public_key"]
    _check_invitation(folder, invitation, checked["signer"])
    expected = invitation.fingerprint(public_key)
    if not is_fingerprint(fingerprint, expected):
        raise SignatureError(
            "has another fingerprint than the one you gave",
            where="invitation",
            fix="ask the coordinator by telephone; if it differs there too, somebody altered the file",
        )
    invitation.check_not_expired(now)
    check_authority(invitation.authority, now=now)
    coordinator = KnownCoordinator(
        name=invitation.coordinator,
        address=invitation.address,
        public_key=public_key,
        fingerprint=expected,
    )
    known = known_coordinator(folder)
    if known is not None and known.public_key != public_key:
        raise InputError(
            f"joined {known.name} already",
            where=f"site {folder.name}",
            fix="one coordinator per folder: its witness statements follow this one ledger",
        )
    request = _request(folder, invitation, expected)
    _write(folder, coordinator, invitation)
    return Joined(
        coordinator=coordinator,
        request=seal_document(request.to_json(), "enrolment", folder.key, folder.name),
        fingerprint=request.fingerprint(folder.key.public_key_hex),
    )


def _check_invitation(folder: SiteFolder, invitation: Invitation, signer: str) -> None:
    if signer != invitation.coordinator:
        raise SignatureError("signed under another name than its coordinator's", where="invitation")
    if invitation.site != folder.name:
        raise InputError(
            f"is for site {invitation.site}, this is {folder.name}",
            where="invitation",
            fix="ask the coordinator for your own, under your name",
        )


def _request(folder: SiteFolder, invitation: Invitation, fingerprint: str) -> EnrolmentRequest:
    request = EnrolmentRequest(
        site=folder.name,
        node_key=read_node_key(folder.node / "node.key"),
        declared_size=folder.config.declared_size,
        coordinator=fingerprint,
    )
    return request.proven(invitation.secret, folder.key.public_key_hex)


def _write(folder: SiteFolder, coordinator: KnownCoordinator, invitation: Invitation) -> None:
    trust = folder.trust
    entry = TrustedKey(name=coordinator.name, role="coordinator", public_key=coordinator.public_key)
    found = trust.find(entry.public_key)
    if found is not None and (found.revoked or found.role != "coordinator"):
        raise SignatureError(
            "its key is revoked here, or another one's", where="invitation", fix="look at trust.json"
        )
    if found is None:
        folder.write_json(folder.path / "trust.json", TrustStore(keys=(*trust.keys, entry)).to_json())
    write_durably(folder.node / AUTHORITY, invitation.authority.encode("ascii"))
    folder.write_json(folder.node / COORDINATOR, coordinator.to_json())
