"""`synthkit study sign|explain|submit|status`: what is asked of whom, at what epsilon, and where it stands.

Rule kept here: whoever signs or approves is shown what is asked before anything is written. Imports that take
a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.encoder_option import parse_encoder
from synthkit.cli.keys import load_key
from synthkit.cli.loading import check_file, check_target, load_policy, name_of, save_text
from synthkit.cli.options import ForceOption, JsonOption, PassphraseOption
from synthkit.cli.study_draft import enrolled_site
from synthkit.cli.study_reading import load_draft, load_study, price_of
from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy_check import check_study_against_policy
from synthkit.domain.privacy import Budget
from synthkit.domain.study import Study
from synthkit.domain.study_text import explain_study
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SynthkitError
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.plan_cost import admission_cost
from synthkit.release.signing import SigningKey, seal_document

if TYPE_CHECKING:
    from synthkit_server.folder import CoordinatorFolder
    from synthkit_server.submissions import Submission

StudyArgument = Annotated[
    Path, typer.Argument(metavar="STUDY", help="The draft (TOML), or the signed study (JSON).")
]
BesideOption = Annotated[
    Path | None, typer.Option("--schema", help="A draft's schema. Default: schema.toml beside it.")
]


def sign(
    study: Annotated[Path, typer.Argument(metavar="DRAFT", help="The draft, TOML.")],
    *,
    coordinator: Annotated[
        Path, typer.Option("--coordinator", help="The coordinator's folder: its key, and who is enrolled.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: the draft's name with .json.")
    ] = None,
    schema: BesideOption = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The coordinator's key, if it is not in its folder.")
    ] = None,
    passphrase_env: PassphraseOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a study as its coordinator. Every site of its roster has to be enrolled.

    Keys that the draft leaves empty are filled in from the roster; keys and declared sizes that it states
    have to be those with which the sites enrolled. Whatever is changed afterwards is another study.

    Example:
      synthkit study sign study.toml --coordinator /srv/synthkit-coordinator
    """
    from synthkit.training.planning import check_plan, check_schema_fits
    from synthkit_server.enrolment import read_roster
    from synthkit_server.folder import CoordinatorFolder
    from synthkit_server.submissions import check_roster

    target = output or study.with_suffix(".json")
    check_target(target, force=force)
    folder = CoordinatorFolder(coordinator)
    asked = _with_keys(load_draft(study, schema), coordinator)
    check_roster(asked.roster, read_roster(folder), where=name_of(study))
    check_plan(asked.plan)
    check_schema_fits(asked.schema, asked.plan)
    if asked.expires < dt.datetime.now(dt.UTC).date():
        raise InputError("has expired", where=name_of(study), fix="move its last day")
    signing = _signing_key(folder, key, passphrase_env)
    console, price = Console(as_json=as_json), price_of(asked)
    console.line(explain_study(asked, price).rstrip())
    console.line()
    envelope = seal_document(asked.to_json(), "study", signing, folder.settings.name)
    save_text(target, json.dumps(envelope, indent=1, ensure_ascii=False) + "\n", force=force)
    console.line(
        f"Signed by {folder.settings.name}: {name_of(target)}. Give it to every site, and submit it."
    )
    console.result(
        {"study": str(target), "digest": asked.digest, "signed_by": folder.settings.name}
        | {"planned_epsilon": price.planned, "delta": price.delta}
    )


def _with_keys(study: Study, coordinator: Path) -> Study:
    """The study with the keys of its enrolled sites where the draft leaves them empty."""
    roster = tuple(
        site
        if site.public_key
        else replace(site, public_key=enrolled_site(coordinator, site.name).public_key)
        for site in study.roster
    )
    return replace(study, roster=roster)


def _signing_key(folder: "CoordinatorFolder", key: Path | None, variable: str | None) -> SigningKey:
    signing = load_key(key or folder.key_path, variable)
    if signing.public_key_hex != folder.public_key:
        raise InputError("is not this coordinator's key", where="--key", fix="sites trust the other one")
    return signing


def explain(
    study: StudyArgument,
    *,
    schema: BesideOption = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="A site's policy: would it allow this study?")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help="A site's ledger: what is left, and is there room?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say in plain words what a study asks, of whom, and at what price; then, what your own papers say of it.

    Reads no row and decides nothing. Ends with 1 if the policy forbids the study, and with 5 if the ledger
    has no room for it.

    Example:
      synthkit study explain study.json --policy policy.toml --ledger ledger.jsonl
    """
    check_file(study)
    asked, signer = load_study(study, schema)
    rules = load_policy(policy) if policy is not None else None
    book = _open(ledger) if ledger is not None else None
    delta = rules.budget.delta if rules else book.budget.delta if book else None
    console, price = Console(as_json=as_json), price_of(asked, delta)
    console.line(explain_study(asked, price).rstrip())
    console.line()
    console.line("This is a draft." if signer is None else f"Signed under the name {shown(signer)}.")
    document: JsonObject = {
        "study": asked.to_json(),
        "digest": asked.digest,
        "signed_by": signer,
        "price": {"delta": price.delta, "planned_epsilon": price.planned, "reported_epsilon": price.reported},
    }
    errors: list[SynthkitError] = []
    if rules is not None:
        planned = admission_cost(asked.plan, rules.budget.delta)
        try:
            check_study_against_policy(asked, rules, planned_epsilon=planned, today=dt.date.today())
        except SynthkitError as error:
            errors.append(error)
        document["policy"] = _verdict(console, f"Policy {shown(rules.name)}", errors, "allows this study")
    if book is not None:
        quota = None
        if rules is not None:
            quota = Budget(epsilon=rules.study.max_epsilon, delta=rules.budget.delta)
        found = _room(console, asked, book, quota)
        document["ledger"] = found[0]
        errors += found[1]
    console.result(document)
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _open(path: Path) -> Ledger:
    check_file(path)
    return Ledger.open(path)


def _verdict(console: Console, who: str, errors: list[SynthkitError], yes: str) -> JsonObject:
    if not errors:
        console.line(f"{who} {yes}.")
        return {"allowed": True, "rule": None, "reason": None}
    error = errors[-1]
    console.line(f"{who} forbids it: {error}")
    return {"allowed": False, "rule": getattr(error, "rule", None), "reason": error.what}


def _room(
    console: Console, study: Study, book: Ledger, quota: Budget | None
) -> tuple[JsonObject, list[SynthkitError]]:
    """What the ledger's patients have spent, and whether the whole study still fits."""
    from synthkit.privacy.accounting import spend_of

    spent, history = book.planned_epsilon(), book.history()
    plan = study.plan
    events = [event for one in range(1, plan.server_rounds + 1) for event in plan.round_events(one)]
    has_begun = bool(book.history(study.digest))
    after = spend_of((*history, *(() if has_begun else events)), book.budget.delta).epsilon
    errors: list[SynthkitError] = []
    if not has_begun:
        try:
            book.check_room(events, quota=quota)
        except SynthkitError as error:
            errors.append(error)
    console.pairs(
        {
            "asset": f"{book.asset} at {book.site}, cap epsilon {figure(book.budget.epsilon)} at delta "
            f"{figure(book.budget.delta)}",
            "spent so far": f"epsilon {epsilon_text(spent)}, as the admission counts it",
            "left": f"epsilon {epsilon_text(max(0.0, book.budget.epsilon - spent))}",
            "receipt after it": f"epsilon {epsilon_text(after)}" + (", begun already" if has_begun else ""),
            "room": "no: " + str(errors[0]) if errors else "yes",
        }
    )
    figures = {"cap": book.budget.epsilon, "delta": book.budget.delta, "spent": spent}
    return {
        **figures,
        "left": max(0.0, book.budget.epsilon - spent),
        "after": after,
        "begun": has_begun,
        "has_room": not errors,
    }, errors


def submit(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The signed study, JSON.")],
    *,
    to: Annotated[Path, typer.Option("--to", help="The coordinator's folder.")],
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="public:MODEL, if the study freezes a public encoder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a signed study in: it waits in the coordinator's folder until `coordinator run` takes it.

    There is no network service that takes studies: whoever may write that folder may hand one in, and only
    one that this coordinator signed, of sites that are enrolled, is taken. The sites get their copies from
    you: each officer decides with `site approve` before her site answers any round.

    Example:
      synthkit study submit study.json --to /srv/synthkit-coordinator
    """
    from synthkit.cli.federation import initial_weights
    from synthkit.training.encoder_source import read_public_encoder
    from synthkit_server.folder import CoordinatorFolder
    from synthkit_server.submissions import submit as hand_in

    check_file(study)
    folder = CoordinatorFolder(to)
    asked, _ = load_study(study, None)
    if asked.schema.bought():
        raise InputError(
            "its schema was bought with one site's budget, which the coordinator's model could not state",
            where=f"study {asked.name}",
            fix="use a public schema, or federate where the ledgers are",
        )
    frozen = parse_encoder(encoder, generator=asked.plan.generator, epsilon=float("inf"))
    weights = None
    if frozen.folder is not None:
        weights = read_public_encoder(
            frozen.folder, asked.schema, site=folder.settings.name, study=asked.name, ledger=None
        ).weights
    console = Console(as_json=as_json)
    done = hand_in(folder, study, initial_weights(asked, weights))
    console.line(f"Study {asked.name} ({asked.digest[:16]}) waits for coordinator run.")
    console.line("Give the signed file to every site of its roster, if they do not have it yet.")
    console.result({"study": asked.name, "digest": asked.digest, "folder": str(done.folder)})


def status(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A coordinator's or a site's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Where each study stands: at the coordinator its rounds, at a site its decision and what it cost.

    Example:
      synthkit study status /srv/synthkit-coordinator
    """
    console = Console(as_json=as_json)
    if (folder / "coordinator.toml").exists():
        from synthkit_server.folder import CoordinatorFolder
        from synthkit_server.submissions import read_submissions

        entries = [submission_json(entry) for entry in read_submissions(CoordinatorFolder(folder))]
        show_submissions(console, entries)
    elif (folder / "site.toml").exists():
        from synthkit_client.site_folder import SiteFolder
        from synthkit_client.standing import studies_of

        site = SiteFolder(folder)
        entries = [entry.to_json() for entry in studies_of(site, site.open_ledger())]
        show_site_studies(console, entries)
    else:
        raise InputError(
            "is neither a coordinator's nor a site's folder", where=name_of(folder), fix="name one of them"
        )
    console.result({"studies": entries})


def submission_json(entry: "Submission") -> JsonObject:
    """A handed-in study for machines."""
    rounds = entry.rounds
    return {
        "name": entry.study.name,
        "digest": entry.study.digest,
        "state": entry.state.value,
        "finished_rounds": len(rounds),
        "rounds": entry.study.plan.server_rounds,
        "sites": [site.name for site in entry.study.roster],
        "last_round": rounds[-1].to_json() if rounds else None,
        "failure": entry.failure,
        "model": str(entry.model) if entry.model.is_dir() else None,
    }


def show_submissions(console: Console, entries: list[JsonObject]) -> None:
    """Handed-in studies, one a line, and why the last run of each ended if it failed."""
    if not entries:
        console.line("No study was handed in.")
        return
    rows = [
        (
            entry["name"],
            entry["digest"][:12],
            entry["state"],
            f"{entry['finished_rounds']} of {entry['rounds']}",
            ", ".join(entry["last_round"]["sites"]) if entry["last_round"] else "",
        )
        for entry in entries
    ]
    console.table(("study", "digest", "state", "rounds", "sites of the last round"), rows)
    for entry in entries:
        if entry["state"] == "failed":
            console.note(f"{entry['name']}: {entry['failure']}")
        if entry["model"]:
            console.line(f"  model of {entry['name']}: {entry['model']}")


def show_site_studies(console: Console, entries: list[JsonObject]) -> None:
    """A site's studies, one a line."""
    if not entries:
        console.line("No study was brought to this site.")
        return
    rows = [
        (
            entry["name"],
            entry["digest"][:12],
            entry["decision"],
            epsilon_text(entry["spent_epsilon"]),
            f"{entry['last_round']} of {entry['rounds']}",
            str(entry["open_reservations"]),
        )
        for entry in entries
    ]
    console.table(("study", "digest", "decision", "spent epsilon", "last round", "open"), rows)
    for entry in entries:
        if entry["reason"]:
            console.note(f"{entry['name']}: {entry['reason']}")
