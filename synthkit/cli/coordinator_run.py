"""`synthkit coordinator run`: the server's service.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.coordinator import FolderOption
from synthkit.cli.loading import check_file
from synthkit.cli.options import JsonOption
from synthkit.cli.service_lines import speaker, stopped_on_signal
from synthkit.cli.study import submission_json

if TYPE_CHECKING:
    from synthkit_server.result import FederationResult
    from synthkit_server.submissions import Submission

INTERRUPTED = 130


def run(
    *,
    folder: FolderOption = Path(),
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds in which a study's sites have to come online.")
    ] = 300.0,
    deadline: Annotated[
        float, typer.Option("--deadline", min=1, help="Seconds that a site has for one round.")
    ] = 3600.0,
    min_sites: Annotated[
        int, typer.Option("--min-sites", min=0, help="Least sites of a round; 0: all of the roster.")
    ] = 0,
    study: Annotated[
        str, typer.Option("--study", help="Run this one alone: its name, or the beginning of its digest.")
    ] = "",
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="In place of what coordinator.toml says.")
    ] = "",
    private_network: Annotated[
        bool, typer.Option("--private-network", help="Nobody but the proxy reaches --listen beyond loopback.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option("--key", help="The signing key, if it is not in the folder.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The server's TLS key, if it is not in the folder.")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on when the queue is empty, as a service.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the SuperLink, let the enrolled sites in, and run the studies that were handed in.

    Ends when the queue is empty, or with 7 if sites are missing when the time is over or a round falls below
    its quorum; the study then stays in the queue, and the next run goes on after its last finished round.
    With --stay it tells of such a study and waits for the next. SIGTERM and Ctrl-C stop it cleanly.

    Example:
      synthkit coordinator run --folder /srv/synthkit-coordinator --wait 600
    """
    console = Console(as_json=as_json)
    say = speaker(console)

    def stopped() -> None:
        console.result({"studies": [], "stopped": True})

    # The imports take seconds, and a signal may come in them.
    with stopped_on_signal(say, code=0 if stay else INTERRUPTED, then=stopped):
        from synthkit.cli.federation import average_last
        from synthkit_server.folder import CoordinatorFolder, check_listens_safely
        from synthkit_server.service import ServiceRules, serve

        if listen:
            check_listens_safely(listen, is_private=private_network)
        for path in (key, tls_key):
            if path is not None:
                check_file(path)
        rules = ServiceRules(
            listen=listen,
            key=key.resolve() if key else None,
            tls_key=tls_key.resolve() if tls_key else None,
            wait_s=wait,
            deadline_s=deadline,
            min_sites=min_sites,
            average_last=average_last,
            is_staying=stay,
            study=study,
        )
        done = serve(CoordinatorFolder(folder), rules, tell=say, finish=_save)
    console.result({"studies": [submission_json(entry) for entry in done], "stopped": False})


def _save(submission: "Submission", result: "FederationResult") -> None:
    """The model, in its folder in one step. Its spend is the plan's, the most that a site was charged."""
    from synthkit.cli.federation import save_result
    from synthkit.privacy.accounting import spend_of

    plan = submission.study.plan
    spend = spend_of(plan.total_events(), plan.delta)
    unfinished = submission.model.with_name("model.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    save_result(submission.study, result, spend, unfinished)
    unfinished.rename(submission.model)
