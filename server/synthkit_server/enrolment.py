"""Invitations that the coordinator gives out, and the requests that it takes back.

Knows the coordinator's folder. Refuses whoever was not invited. Rules kept here: an invitation is for one
name, one enrolment and a limited time, and is gone after it; an enrolled name keeps its keys until a person
invites it anew and says so; a request counts only with the signature of the key that it enrols and the proof
that its author held the invitation; no two sites share a key.
"""

import datetime as dt
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.enrolment import SECRET_BYTES, EnrolmentRequest, Invitation, check_name
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SignatureError
from synthkit.federation.pki import check_node_key
from synthkit.release.signing import SigningKey, check_envelope, seal_document
from synthkit_server.folder import CoordinatorFolder

ROSTER = "roster.json"

INVITE_AGAIN = "coordinator invite NAME --replace, if its keys are to change"


@dataclass(frozen=True, kw_only=True)
class Member:
    """An enrolled site: what studies' rosters and the SuperLink's list of nodes are filled from."""

    name: str
    public_key: str
    node_key: str
    declared_size: int
    enrolled: str
    """When, ISO 8601."""

    def to_json(self) -> JsonObject:
        """All fields."""
        return dict(vars(self))

    @property
    def fingerprint(self) -> str:
        """What the site printed when it joined."""
        request = EnrolmentRequest(
            site=self.name, node_key=self.node_key, declared_size=self.declared_size, coordinator=""
        )
        return request.fingerprint(self.public_key)


def read_roster(folder: CoordinatorFolder) -> tuple[Member, ...]:
    """Enrolled sites, by name.

    Raises:
        InputError: The roster is damaged.
    """
    entries = folder.read(ROSTER).get("sites", [])
    try:
        return tuple(sorted((Member(**entry) for entry in entries), key=lambda member: member.name))
    except TypeError:
        raise InputError("is damaged", where=ROSTER, fix="restore it") from None


def open_invitations(folder: CoordinatorFolder) -> tuple[Invitation, ...]:
    """Invitations that nobody has answered yet, expired ones included, by name."""
    names = sorted(path.stem for path in (folder.path / "invitations").glob("*.json"))
    return tuple(Invitation.from_json(folder.read(f"invitations/{name}.json")) for name in names)


def invite(
    folder: CoordinatorFolder,
    site: str,
    key: SigningKey,
    *,
    now: dt.datetime,
    days: int,
    is_replacement: bool = False,
) -> JsonObject:
    """A signed invitation; an older one of the same name is no longer good.

    Args:
        folder: The coordinator's.
        site: The hospital's name on rosters.
        key: The coordinator's.
        now: The time, in UTC.
        days: For how long it may be answered.
        is_replacement: The site is enrolled, and its keys are to be replaced.

    Raises:
        InputError: The name cannot be one, is enrolled already, or is to be replaced and is not; or the key
            is another one.
    """
    check_name(site)
    if key.public_key_hex != folder.public_key:
        raise InputError("is not this coordinator's key", where="--key", fix="sites trust the other one")
    is_enrolled = any(member.name == site for member in read_roster(folder))
    if is_enrolled and not is_replacement:
        raise InputError("is enrolled already", where=f"site {site}", fix="add --replace if its keys change")
    if is_replacement and not is_enrolled:
        raise InputError("is not enrolled", where=f"site {site}", fix="leave --replace out")
    invitation = Invitation(
        site=site,
        coordinator=folder.settings.name,
        address=folder.settings.address,
        authority=folder.authority,
        secret=secrets.token_hex(SECRET_BYTES),
        expires=now + dt.timedelta(days=days),
    )
    folder.write(_invitation(site), invitation.to_json())
    return seal_document(invitation.to_json(), "invitation", key, folder.settings.name)


def request_fingerprint(envelope: object) -> str:
    """What the site printed when it made this request.

    Raises:
        SignatureError: The request was altered.
        InputError: It is malformed.
    """
    checked = check_envelope(envelope, "enrolment", where="enrolment request")
    return EnrolmentRequest.from_json(checked["document"]).fingerprint(checked["public_key"])


def enrol(folder: CoordinatorFolder, envelope: object, *, now: dt.datetime) -> Member:
    """Check a site's request and put the site on the roster; its invitation is spent.

    Raises:
        SignatureError: The request was altered, is not the named site's, or was not made with the invitation.
        InputError: Nobody invited that name, it is enrolled, the invitation expired, or a key cannot be used.
    """
    checked = check_envelope(envelope, "enrolment", where="enrolment request")
    request = EnrolmentRequest.from_json(checked["document"])
    if checked["signer"] != request.site:
        raise SignatureError("signed under another name than it enrols", where="enrolment request")
    invitation = _invitation_of(folder, request.site)
    if not request.is_proven(invitation.secret, checked["public_key"]):
        raise SignatureError(
            "was not made with the invitation of that name",
            where=f"site {request.site}",
            fix="let the site join again with the newest invitation",
        )
    if request.coordinator != folder.fingerprint:
        raise SignatureError(
            "the site compared another fingerprint than this coordinator's",
            where=f"site {request.site}",
            fix="somebody stood in between: compare it by telephone and invite anew",
        )
    invitation.check_not_expired(now)
    member = Member(
        name=request.site,
        public_key=checked["public_key"],
        node_key=request.node_key,
        declared_size=request.declared_size,
        enrolled=now.isoformat(),
    )
    others = [other for other in read_roster(folder) if other.name != member.name]
    _check_keys(member, others)
    folder.write(ROSTER, {"format": 1, "sites": [entry.to_json() for entry in (*others, member)]})
    (folder.path / _invitation(member.name)).unlink()
    return member


def _invitation_of(folder: CoordinatorFolder, site: str) -> Invitation:
    """The open invitation of that name."""
    document = folder.read(_invitation(site))
    if document:
        return Invitation.from_json(document)
    if any(member.name == site for member in read_roster(folder)):
        raise InputError("is enrolled already", where=f"site {site}", fix=INVITE_AGAIN)
    raise InputError("was not invited", where=f"site {shown(site)}", fix="coordinator invite NAME")


def _check_keys(member: Member, others: Iterable[Member]) -> None:
    check_node_key(member.node_key)
    for other in others:
        if member.public_key == other.public_key or member.node_key == other.node_key:
            raise InputError(
                f"brings a key of {other.name}", where=f"site {member.name}", fix="make its folder anew"
            )


def _invitation(site: str) -> str:
    return f"invitations/{site}.json"
