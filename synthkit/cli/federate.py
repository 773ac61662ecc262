"""`synthkit federate`: a whole federation on this machine, over one folder per site.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, Progress, epsilon_text, figure
from synthkit.cli.encoder_option import parse_encoder
from synthkit.cli.loading import load_schema, name_of, policy_path, read_text
from synthkit.cli.options import JsonOption
from synthkit.errors import InputError, PolicyError

if TYPE_CHECKING:
    from synthkit.cli.federation import Coordinator
    from synthkit.domain.study import Study
    from synthkit_client.site_folder import SiteFolder
    from synthkit_server.result import RoundSummary


def federate(
    *,
    sites: Annotated[Path, typer.Option("--sites", help="A folder with one folder per site.")],
    study: Annotated[
        Path, typer.Option("--study", help="The study's draft, TOML; its roster names the sites.")
    ],
    schema: Annotated[
        Path | None,
        typer.Option("--schema", help="The tables' schema. Default: schema.toml beside the study."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the coordinator and the model.")
    ] = Path("federation"),
    policy: Annotated[
        str, typer.Option("--policy", help="For sites that have none yet: a file, or a shipped one's name.")
    ] = "standard",
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Freeze medvae-sgd's at all sites: public:MODEL, random."),
    ] = None,
    processes: Annotated[
        bool, typer.Option("--processes", help="Real SuperLink and SuperNodes on loopback, TLS, node keys.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Run a study over the sites' folders: enrol, sign, approve, train in rounds, aggregate.

    Each site's folder holds its table (patients.csv, or the only table in it) and, if it has one,
    its policy.toml. Keys and ledger are made the first time. A site whose policy does not allow the
    study refuses with the rule's name, and nothing is trained. Under a longitudinal schema the table
    is one of visits, one row a code; patients.csv beside it holds the static columns.

    Example:
      synthkit federate --sites sites --study study.toml -o federation
    """
    from synthkit.cli.federation import (
        ask_sites,
        open_coordinator,
        run_study,
        save_result,
        spends_of,
        with_roster,
    )
    from synthkit.domain.documents import study_from_toml

    console = Console(as_json=as_json)
    if (output / "model").exists():
        raise InputError("holds a model already", where=name_of(output), fix="name a new folder")
    draft = study_from_toml(
        read_text(study), name_of(study), schema=load_schema(schema or study.with_name("schema.toml"))
    )
    frozen = parse_encoder(encoder, generator=draft.plan.generator, epsilon=math.inf)
    if frozen.vow:
        console.note(frozen.vow)
    coordinator = open_coordinator(output)
    folders = _open_sites(sites, draft, coordinator, policy)
    ledgers = {name: folder.open_ledger() for name, folder in folders.items()}
    draft, weights = frozen.of_federation(draft, ledgers)
    signed = with_roster(draft, list(folders.values()))
    refusals = ask_sites(signed, list(folders.values()), coordinator)
    if refusals:
        first = refusals[0]
        raise PolicyError(
            f"{first.site} refuses: {first.reason.replace(f' [rule {first.rule}]', '')}", rule=first.rule
        )
    with console.progress("round 1") as progress:
        result = run_study(
            signed,
            folders,
            coordinator,
            processes=processes,
            encoder=weights,
            on_round=_narrate(progress, signed),
        )
    spends = spends_of(signed, folders)
    largest = max(spends.values(), key=lambda spend: spend.epsilon)
    with console.progress("fitting the generator") as progress:
        save_result(signed, result, largest, output / "model", progress=progress.at)
    console.heading(f"Study {signed.name}: {signed.plan.server_rounds} rounds over {len(folders)} sites")
    console.table(
        ("site", "epsilon", "delta"),
        [(name, epsilon_text(spend.epsilon), figure(spend.delta)) for name, spend in spends.items()],
    )
    console.line(f"model in {output / 'model'}")
    console.result(
        {
            "model": str(output / "model"),
            "study_digest": signed.digest,
            "sites": {name: spend.to_json() for name, spend in spends.items()},
            "rounds": [summary.to_json() for summary in result.rounds],
        }
    )


def _narrate(progress: Progress, study: "Study") -> "Callable[[RoundSummary], None]":
    def on_round(summary: "RoundSummary") -> None:
        progress.at(summary.server_round, study.plan.server_rounds)

    return on_round


def _open_sites(
    root: Path, study: "Study", coordinator: "Coordinator", policy: str
) -> "dict[str, SiteFolder]":
    """Every roster site's folder, enrolled now if it was not."""
    from synthkit.cli.federation_records import site_tables
    from synthkit_client.enrol import NewSite, init_site
    from synthkit_client.site_folder import SiteFolder

    if not root.is_dir():
        raise InputError("is not a folder", where=name_of(root), fix="give one folder per site in it")
    folders = {}
    for site in study.roster:
        path = root / site.name
        if not path.is_dir():
            raise InputError("the roster's site has no folder", where=f"site {site.name}", fix="make it")
        if (path / "site.toml").exists():
            folders[site.name] = SiteFolder(path)
            continue
        own = path / "policy.toml"
        table, patients = site_tables(path, study.schema)
        new = NewSite(
            name=site.name,
            table=table,
            patients=patients,
            declared_size=site.declared_size,
            policy_text=read_text(own if own.exists() else policy_path(policy)),
        )
        folders[site.name] = init_site(path, new, coordinator=coordinator.trusted)
    return folders
