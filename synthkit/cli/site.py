"""`synthkit site init|join|approve|status`: the hospital's side, but for its checks and its service.

Rules kept here: an officer is shown what is asked before her decision is recorded; what a person has to
compare on another channel is printed. Imports that take a second or more stand inside the functions that
need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.keys import load_key, passphrase_from
from synthkit.cli.ledgers import TEMPLATE_ASSET
from synthkit.cli.loading import check_target, name_of, policy_path, read_json, read_text, save_text
from synthkit.cli.options import ForceOption, JsonOption, PassphraseOption
from synthkit.cli.study import show_site_studies
from synthkit.cli.study_reading import price_of
from synthkit.domain.canonical import JsonObject
from synthkit.domain.study_text import explain_study
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.domain.study import Study
    from synthkit.release.signing import TrustedKey
    from synthkit_client.approving import Room
    from synthkit_client.enrol import NewSite
    from synthkit_client.site_folder import SiteFolder

FolderOption = Annotated[Path, typer.Option("--folder", help="The site's folder.")]


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The site's folder; it may hold the table.")
    ],
    *,
    name: Annotated[str, typer.Option("--name", help="The hospital's name on rosters.")],
    declared_size: Annotated[
        int, typer.Option("--declared-size", min=1, help="A public round figure for its number of patients.")
    ],
    table: Annotated[
        str, typer.Option("--table", help="The table's file name in the folder.")
    ] = "patients.csv",
    patients: Annotated[
        str, typer.Option("--patients", help="Beside records of visits: the table of static columns.")
    ] = "",
    policy: Annotated[
        str, typer.Option("--policy", help="The site's rules: a file, or a shipped one's name.")
    ] = "standard",
    asset: Annotated[
        str | None,
        typer.Option("--asset", help="Name the patient population, where the policy has none yet."),
    ] = None,
    officer: Annotated[
        Path | None,
        typer.Option("--officer", help="Her trust file, of `release keygen`. Left out: a key is made here."),
    ] = None,
    passphrase_env: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a site's folder: its key, the node's key, the policy, trusted keys and an empty ledger.

    With --officer the policy is hers to sign (`policy sign`). Without it her key is made too, under the
    passphrase of --passphrase-env, and the policy is signed at once: move keys/officer.key to her own
    machine. Asset and cap of the ledger are the policy's, for the ledger's whole life.

    Example:
      synthkit site init /srv/north --name north --declared-size 3000 --asset north-cardiology
    """
    from synthkit.data.sources import is_address
    from synthkit_client.enrol import NewSite, found_site

    if is_address(table) or is_address(patients):
        raise InputError(
            "may hold a password, and every process of this machine can read a command's options",
            where="a database's address as --table",
            fix="write it into the folder's site.toml afterwards, with its query",
        )
    new = NewSite(
        name=name,
        table=table,
        declared_size=declared_size,
        policy_text=_policy_text(policy, asset),
        patients=patients,
    )
    secret = passphrase_from(passphrase_env) if passphrase_env is not None else None
    console = Console(as_json=as_json)
    if officer is not None:
        made = found_site(folder, new, officer=_officer_of(officer, name))
        console.line(f"Site {name} in {name_of(folder)}.")
        console.line("Next: let the officer sign the folder's policy.toml (synthkit policy sign), then")
    else:
        made = _with_officer(folder, new, secret)
        console.line(f"Site {name} in {name_of(folder)}; its policy is signed.")
        console.note("move keys/officer.key to the officer's own machine; the service never needs it")
        if secret is None:
            console.note("it is not encrypted: whoever reads it can approve anything (--passphrase-env)")
    if not (folder / table).exists():
        console.note(f"put the table into the folder: {shown(table)}")
    console.line("synthkit site join INVITATION, and synthkit site preflight.")
    console.result(
        {"folder": str(folder), "site": name, "public_key": made.key.public_key_hex}
        | {"asset": made.policy.asset, "policy_signed": (folder / "policy.signed.json").exists()}
    )


def _policy_text(policy: str, asset: str | None) -> str:
    """The policy's text, with the population's name where a shipped policy leaves it open."""
    text = read_text(policy_path(policy))
    if TEMPLATE_ASSET not in text:
        if asset is not None:
            raise InputError("the policy names its patient population", where="--asset", fix="leave it out")
        return text
    if asset is None:
        raise InputError(
            "names no patient population, and a ledger is for one",
            where=f"policy {shown(policy)}",
            fix="add --asset NAME, or copy the policy and name yours",
        )
    if not (asset.strip() and asset.isprintable()):
        raise InputError("must be one line of text", where="--asset")
    return text.replace(f'"{TEMPLATE_ASSET}"', json.dumps(asset, ensure_ascii=False))


def _officer_of(path: Path, site: str) -> "TrustedKey":
    """The one officer of a trust file, bound to no other site."""
    from synthkit.release.trust import TrustStore

    keys = [key for key in TrustStore.read(path).keys if key.role == "officer" and not key.revoked]
    if len(keys) != 1 or keys[0].site not in ("", site):
        raise InputError(
            f"does not hold one officer's key for {site}",
            where=name_of(path),
            fix="synthkit release keygen --role officer",
        )
    return keys[0]


def _with_officer(folder: Path, new: "NewSite", secret: str | None) -> "SiteFolder":
    """A site with an officer's key that is made here, and her signature on the policy."""
    from synthkit.release.policy_signature import sign_policy
    from synthkit.release.signing import generate_key, write_key
    from synthkit_client.enrol import OFFICER_KEY, SIGNED_POLICY, found_site, officer_of

    key = generate_key()
    entry = officer_of(new.name, key)
    made = found_site(folder, new, officer=entry)
    write_key(key, folder / OFFICER_KEY, secret)
    made.write_json(folder / SIGNED_POLICY, sign_policy(made.policy, key, entry.name))
    return made


def join(
    invitation: Annotated[Path, typer.Argument(metavar="INVITATION", help="The coordinator's file.")],
    *,
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="As the coordinator told it to you on another channel.")
    ],
    folder: FolderOption = Path(),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: NAME.request.json.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Trust a coordinator whose fingerprint you compared, and write the request that goes back to it.

    Ends with 6 if the invitation was altered or has another fingerprint, with 4 if it is another site's or
    its time is over. Opens no connection.

    Example:
      synthkit site join north.invitation.json --folder /srv/north --fingerprint "3f2a 11bc ..."
    """
    from synthkit_client.joining import join as join_coordinator
    from synthkit_client.site_folder import SiteFolder

    own = SiteFolder(folder)
    target = output or Path(f"{own.name}.request.json")
    check_target(target, force=force)
    joined = join_coordinator(own, read_json(invitation), fingerprint, now=_now())
    save_text(target, json.dumps(joined.request, indent=1) + "\n", force=force)
    console = Console(as_json=as_json)
    console.line(f"{own.name} trusts {joined.coordinator.name} at {joined.coordinator.address}.")
    console.line(f"Carry {name_of(target)} back; tell on another channel: {joined.fingerprint}")
    console.result(
        {
            "request": str(target),
            "coordinator": joined.coordinator.name,
            "address": joined.coordinator.address,
            "fingerprint": joined.fingerprint,
        }
    )


def approve(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="The signed study, JSON, or the digest of one brought before."),
    ],
    *,
    folder: FolderOption = Path(),
    refuse: Annotated[
        str | None,
        typer.Option("--refuse", metavar="REASON", help="Refuse it, also after an approval; say why."),
    ] = None,
    officer: Annotated[
        str | None, typer.Option("--officer", help="Her name, if the site trusts several.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Her private key. Default: keys/officer.key.")
    ] = None,
    passphrase_env: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record an officer's signed decision on a study, after showing what it asks and what is left.

    A study that the policy forbids cannot be approved (exit code 1, the rule is named), nor one that the
    budget has no room for (5). Without an approval the site answers no round, and reads no row for one.
    A refusal takes an approval back; what was spent by then stays spent.

    Example:
      synthkit site approve study.json --folder /srv/north --key ada.pem --passphrase-env ADA_PASSPHRASE
    """
    from synthkit_client.approving import approve as record_approval
    from synthkit_client.approving import room_for
    from synthkit_client.decisions import officer_by
    from synthkit_client.decisions import refuse as record_refusal
    from synthkit_client.enrol import OFFICER_KEY
    from synthkit_client.site_folder import SiteFolder

    own, console = SiteFolder(folder), Console(as_json=as_json)
    entry = officer_by(own, officer)
    signing = load_key(key or folder / OFFICER_KEY, passphrase_env)
    asked = _brought(own, study)
    console.line(explain_study(asked, price_of(asked, own.policy.budget.delta)).rstrip())
    console.line()
    document: JsonObject = {"study": asked.name, "digest": asked.digest, "officer": entry.name}
    if refuse is not None:
        record_refusal(own, asked, entry, signing, refuse)
        console.line(f"{entry.name} refused study {asked.name}: {refuse}")
        console.result({**document, "decision": "refused", "reason": refuse})
        return
    room = room_for(own, asked)
    _show_room(console, own, room)
    planned = record_approval(own, asked, entry, signing)
    console.line(f"{entry.name} approved study {asked.name}; {own.name} answers its rounds.")
    console.result(
        {
            **document,
            "decision": "approved",
            "planned_epsilon": planned,
            "spent_epsilon": room.spent_epsilon,
            "left_epsilon": room.left_epsilon,
        }
    )


def _brought(folder: "SiteFolder", study: str) -> "Study":
    """The study of a file, now brought to the site; or one that was brought before."""
    from synthkit_client.decisions import brought_studies
    from synthkit_client.enrol import bring_study

    path = Path(study)
    if path.is_file():
        return bring_study(folder, read_json(path))
    found = [one for one in brought_studies(folder) if study and one.digest.startswith(study)]
    if len(found) != 1:
        fix = "give its signed file, or the digest that site status prints"
        raise InputError("is neither a file nor one study brought here", where=shown(study), fix=fix)
    return found[0]


def _show_room(console: Console, folder: "SiteFolder", room: "Room") -> None:
    cap = folder.policy.budget
    console.pairs(
        {
            "this site's cap": f"epsilon {figure(cap.epsilon)} at delta {figure(cap.delta)}",
            "spent so far": f"epsilon {epsilon_text(room.spent_epsilon)}",
            "left before this": f"epsilon {epsilon_text(room.left_epsilon)}",
            "this study at most": f"epsilon {epsilon_text(room.planned_epsilon)}; they compose, not add",
        }
    )


def status(folder: FolderOption = Path(), as_json: JsonOption = False) -> None:
    """Show what the site joined, what its patients' budget has left, and where each study stands.

    Example:
      synthkit site status --folder /srv/north
    """
    from synthkit_client.site_folder import SiteFolder
    from synthkit_client.standing import standing_of

    console = Console(as_json=as_json)
    with console.progress("composing the spend"):
        standing = standing_of(SiteFolder(folder))
    document = standing.to_json()
    ledger = document["ledger"]
    console.heading(f"Site {standing.name}")
    coordinator = f"{standing.coordinator} at {standing.address}" if standing.coordinator else "none yet"
    witness = f"entry {ledger['witnessed']}" if ledger["witnessed"] is not None else "none yet"
    console.pairs(
        {
            "coordinator": coordinator,
            "service": "running" if standing.is_running else "not running",
            "asset": ledger["asset"],
            "cap": f"epsilon {figure(ledger['cap_epsilon'])} at delta {figure(ledger['delta'])}",
            "spent (receipt)": f"epsilon {epsilon_text(ledger['reported_epsilon'])}",
            "planned bound": f"epsilon {epsilon_text(ledger['planned_epsilon'])}",
            "open reservations": f"{ledger['open_reservations']}, counted as spent",
            "witnessed": f"{witness} of {ledger['counter']}",
        }
    )
    console.heading("Studies")
    show_site_studies(console, document["studies"])
    for digest in standing.unreadable:
        console.note(
            f"study {digest[:12]}: its file was altered, or its signer is not trusted; no round of it"
        )
    console.result(document)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
