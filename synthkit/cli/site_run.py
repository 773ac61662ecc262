"""`synthkit site run`: the hospital's service.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.options import JsonOption
from synthkit.cli.service_lines import speaker, stopped_on_signal
from synthkit.cli.site import FolderOption


def run(
    *,
    folder: FolderOption = Path(),
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds in which the coordinator has to answer at first.")
    ] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Call the coordinator and answer the rounds of approved studies, until SIGTERM or Ctrl-C.

    Starts the node that calls out and the process that reads rows; nothing listens beyond loopback. A round
    of a study that the officer did not approve is refused before a row is read. Ends with 7 if the
    coordinator does not answer at first; later it is waited for.

    Example:
      synthkit site run --folder /srv/north
    """
    console = Console(as_json=as_json)
    say = speaker(console)

    def stopped() -> None:
        console.result({"site": folder.resolve().name, "stopped": True})

    with stopped_on_signal(say, code=0, then=stopped):  # from the first moment: the imports take seconds
        from synthkit_client.service import serve
        from synthkit_client.site_folder import SiteFolder
        from synthkit_server.bundle import bundle_digest

        serve(SiteFolder(folder.resolve()), bundle=bundle_digest(), wait_s=wait, tell=say)
