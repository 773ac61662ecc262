"""`synthkit release revoke`: take a release or a key back, in a signed list that recipients are given.

Knows keys, lists and the signatures on a release; no tables. Rule kept here: who revokes a release that she
could not revoke is told so at once, where the release is at hand.
"""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_file, check_target, name_of
from synthkit.cli.options import JsonOption, KeyOption, PassphraseOption
from synthkit.domain.canonical import canonical_json
from synthkit.errors import BundleError, InputError, ReleaseRefusedError
from synthkit.release import framing
from synthkit.release.documents import read_manifest
from synthkit.release.revocation import RevocationList, Subject, extend_list, parse_list, read_file
from synthkit.release.signing import check_envelope

DIGEST_CHARACTERS = 64


def revoke(
    target: Annotated[Path, typer.Argument(metavar="LIST", help="The list to begin or to extend, .json.")],
    *,
    name: Annotated[str, typer.Option("--name", help="Who revokes, as trust files list the key.")],
    key: KeyOption,
    reason: Annotated[str, typer.Option("--reason", help="Why, one line; every recipient reads it.")],
    release: Annotated[
        str | None, typer.Option("--release", help="A .synthkit file, or its manifest's digest.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option("--public-key", help="Or a key: its public half, hexadecimal.")
    ] = None,
    passphrase_env: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Add one entry to a signed revocation list, and give the list to every recipient.

    A release is revoked by a site that states in it, or by an officer who approved it. A key is revoked by
    its owner, by the site for its officers, or by an officer bound to the site for the site. Entries are
    never taken out again. Recipients see a revocation only once they have the list: send it.

    Example:
      synthkit release revoke north-revocations.json --release heart.synthkit --name north \
        --key north.pem --reason "A patient withdrew consent before sealing"
    """
    if (release is None) == (public_key is None):
        raise InputError("name one thing", where="--release or --public-key", fix="one list entry each time")
    is_new = not target.exists()
    check_target(target, force=True)
    if target.suffix != ".json":
        raise InputError("is not a .json file", where=name_of(target), fix="recipients read .json alone")
    earlier = None if is_new else parse_list(read_file(target), where=name_of(target))[0]
    if release is not None:
        subject, digest = Subject.RELEASE, _release_digest(release, name)
    else:
        subject, digest = Subject.KEY, str(public_key)
    envelope = extend_list(
        earlier,
        subject=subject,
        digest=digest,
        reason=reason,
        key=load_key(key, passphrase_env),
        signer=name,
        now=dt.datetime.now(dt.UTC),
    )
    data = canonical_json(envelope)
    framing.write_atomic(target, data, overwrite=True)
    _show(Console(as_json=as_json), parse_list(data, where=name_of(target))[0], target)


def _release_digest(release: str, name: str) -> str:
    """The manifest's digest; of a file, only if `name` is among those who state in it or approved it."""
    if len(release) == DIGEST_CHARACTERS and not Path(release).exists():
        return release
    path = Path(release)
    check_file(path)
    head, _ = framing.cut_frame(framing.read_bytes(path))
    header = framing.parse_canonical(head, where=name_of(path))
    envelope = check_envelope(header.get("manifest"), "manifest", where=name_of(path))
    manifest = read_manifest(envelope["document"])
    approvals = header.get("approvals")
    if not isinstance(approvals, list):
        raise BundleError("holds no approvals", where=name_of(path))
    signed = [check_envelope(one, "statement", where=name_of(path)) for one in manifest.statements]
    signed += [check_envelope(one, "approval", where=name_of(path)) for one in approvals]
    if name not in {one["signer"] for one in signed}:
        raise ReleaseRefusedError(
            "neither states in this release nor approved it, and may not revoke it",
            where="--name",
            fix="ask the site whose release it is, or its officer",
        )
    return manifest.digest


def _show(console: Console, longer: RevocationList, target: Path) -> None:
    entry = longer.entries[-1]
    console.line(f"Revoked {entry.subject.value} {entry.digest} {entry.words}")
    console.line(f"{name_of(target)}: list {longer.counter} of {longer.signer}, head {longer.head}")
    console.line("Give it to every recipient: who does not have this list does not know. They run:")
    console.line(f"synthkit release verify FILE --trust KEYS --revocations {name_of(target)}")
    console.result(
        {"list": str(target), "signer": longer.signer, "counter": longer.counter, "head": longer.head}
        | {"subject": entry.subject.value, "digest": entry.digest, "reason": entry.reason}
    )
