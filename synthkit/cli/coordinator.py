"""`synthkit coordinator init|invite|enrol|status`: the server's side, but for its service.

Rule kept here: what a person has to compare on another channel is printed, with the words to do so. Imports
that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import json
from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_target, name_of, read_json, save_text
from synthkit.cli.options import ForceOption, JsonOption, PassphraseOption
from synthkit.cli.study import show_submissions, submission_json
from synthkit.domain.enrolment import is_fingerprint
from synthkit.errors import SignatureError

FolderOption = Annotated[Path, typer.Option("--folder", help="The coordinator's folder.")]


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    *,
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="Where sites connect to: the TLS proxy.")
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the SuperLink listens.")
    ] = "127.0.0.1:8000",
    name: Annotated[str, typer.Option("--name", help="As sites list its key.")] = "coordinator",
    private_network: Annotated[
        bool,
        typer.Option(
            "--private-network", help="You state that nobody but the proxy reaches --listen beyond loopback."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a coordinator: signing key, certificate authority, server certificate, settings.

    The SuperLink has no accounts, so it listens on loopback; sites reach it through a TLS proxy that passes
    /v1/fleet/ alone. For a trial on one machine give both the same loopback address.

    Example:
      synthkit coordinator init /srv/synthkit-coordinator --address synthkit.example.org:443
    """
    from synthkit_server.folder import Settings, init_coordinator

    settings = Settings(name=name, address=address, listen=listen)
    made = init_coordinator(folder, settings, is_private=private_network)
    console = Console(as_json=as_json)
    console.line(f"Coordinator {name} in {name_of(folder)}.")
    console.line(f"Fingerprint, for every site to compare: {made.fingerprint}")
    console.note("move tls/ca.key to a machine without network; it signs the next server certificate")
    console.line("Next: synthkit coordinator invite SITE -o SITE.invitation.json")
    console.result(
        {"folder": str(folder), "name": name, "fingerprint": made.fingerprint}
        | {"public_key": made.public_key, "address": address, "listen": listen}
    )


def invite(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The hospital's name on rosters.")],
    *,
    folder: FolderOption = Path(),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: NAME.invitation.json.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="For how long it may be answered.")] = 7,
    replace: Annotated[
        bool, typer.Option("--replace", help="The site is enrolled, and its keys are to be replaced.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option("--key", help="The signing key, if it is not in the folder.")
    ] = None,
    passphrase_env: PassphraseOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write an invitation for one hospital: address, pinned authority, and a secret for one enrolment.

    Give the file to that hospital alone, and tell the fingerprint on another channel, by telephone or on
    paper. A new invitation makes an older one of the same name worthless.

    Example:
      synthkit coordinator invite north --folder /srv/synthkit-coordinator
    """
    from synthkit_server.enrolment import invite as make_invitation
    from synthkit_server.folder import CoordinatorFolder, now

    target = output or Path(f"{name}.invitation.json")
    check_target(target, force=force)
    own = CoordinatorFolder(folder)
    signing = load_key(key or own.key_path, passphrase_env)
    envelope = make_invitation(own, name, signing, now=now(), days=days, is_replacement=replace)
    save_text(target, json.dumps(envelope, indent=1) + "\n", force=force)
    target.chmod(0o600)
    console = Console(as_json=as_json)
    expires = envelope["document"]["expires"]
    console.line(f"Invitation of {name} in {name_of(target)}, good to {expires}. It holds a secret.")
    console.line(f"Tell them on another channel: {own.fingerprint}")
    console.result(
        {"invitation": str(target), "site": name, "expires": expires, "fingerprint": own.fingerprint}
    )


def enrol(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="What `site join` wrote.")],
    *,
    folder: FolderOption = Path(),
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="The site's, as it told you on another channel; checked."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a site on the roster: its signing key, its node's key and its declared size.

    The request has to be made with the invitation of that name, which is spent by it. Ends with 6 if it was
    altered or is somebody else's, with 4 if nobody invited that name, it is enrolled, or the time is over.

    Example:
      synthkit coordinator enrol north.request.json --folder /srv/synthkit-coordinator
    """
    from synthkit_server.enrolment import enrol as put_on_roster
    from synthkit_server.enrolment import request_fingerprint
    from synthkit_server.folder import CoordinatorFolder, now

    own, envelope = CoordinatorFolder(folder), read_json(request)
    found = request_fingerprint(envelope)
    if fingerprint is not None and not is_fingerprint(fingerprint, found):
        raise SignatureError(
            "has another fingerprint than the one you gave",
            where=name_of(request),
            fix="ask the site by telephone; if it differs there too, somebody altered the file",
        )
    member = put_on_roster(own, envelope, now=now())
    console = Console(as_json=as_json)
    console.line(f"{member.name} is enrolled, declared size {member.declared_size}.")
    if fingerprint is None:
        console.note(f"compare with {member.name} on another channel: {found}")
    console.result(
        {
            "site": member.name,
            "public_key": member.public_key,
            "declared_size": member.declared_size,
            "fingerprint": found,
            "compared": fingerprint is not None,
        }
    )


def renew(
    *,
    folder: FolderOption = Path(),
    ca_key: Annotated[
        Path | None, typer.Option("--ca-key", help="The authority's key, if it is not in the folder's tls/.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new server certificate of the same authority, before the old one ends. Sites notice nothing.

    Restart the proxy and `coordinator run` afterwards.

    Example:
      synthkit coordinator renew --folder /srv/synthkit-coordinator --ca-key /media/offline/ca.key
    """
    from synthkit_server.folder import CoordinatorFolder, renew_certificate

    own = CoordinatorFolder(folder)
    end = renew_certificate(own, ca_key or own.path / "tls" / "ca.key")
    console = Console(as_json=as_json)
    console.line(f"New certificate, good to {end.date()}. Restart the proxy and coordinator run.")
    console.result({"certificate_expires": end.isoformat()})


def status(folder: FolderOption = Path(), as_json: JsonOption = False) -> None:
    """Show who is enrolled and invited, and where each study stands.

    Example:
      synthkit coordinator status --folder /srv/synthkit-coordinator
    """
    from synthkit.federation.pki import certificate_end
    from synthkit_server.enrolment import open_invitations, read_roster
    from synthkit_server.folder import CoordinatorFolder, now
    from synthkit_server.service import is_running
    from synthkit_server.submissions import read_submissions

    own, console = CoordinatorFolder(folder), Console(as_json=as_json)
    members, invitations = read_roster(own), open_invitations(own)
    studies = [submission_json(entry) for entry in read_submissions(own)]
    end, running = certificate_end(own.certificates.certificate), is_running(own)
    console.heading(f"Coordinator {own.settings.name} at {own.settings.address}")
    console.pairs(
        {
            "fingerprint": own.fingerprint,
            "service": f"running, SuperLink on {own.settings.listen}" if running else "not running",
            "certificate": f"good to {end.date()}",
        }
    )
    console.heading("Sites")
    console.table(
        ("site", "declared size", "enrolled", "fingerprint"),
        [(one.name, str(one.declared_size), one.enrolled[:10], one.fingerprint) for one in members],
    )
    for one in invitations:
        over = " (over)" if now() >= one.expires else ""
        console.line(f"  {one.site}: invited, to be answered by {one.expires:%Y-%m-%d %H:%M} UTC{over}")
    console.heading("Studies")
    show_submissions(console, studies)
    console.result(
        {
            "name": own.settings.name,
            "address": own.settings.address,
            "fingerprint": own.fingerprint,
            "running": running,
            "certificate_expires": end.isoformat(),
            "sites": [{**one.to_json(), "fingerprint": one.fingerprint} for one in members],
            "invited": [{"site": one.site, "expires": one.expires.isoformat()} for one in invitations],
            "studies": studies,
        }
    )
