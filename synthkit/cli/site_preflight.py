"""`synthkit site preflight`: is everything in place before a site takes part?

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import load_schema
from synthkit.cli.options import JsonOption
from synthkit.cli.site import FolderOption


def preflight(
    *,
    folder: FolderOption = Path(),
    schema: Annotated[
        Path | None,
        typer.Option("--schema", help="Check the table against it. Default: those of approved studies."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a site's folder, papers, table, disk, clock and connection; one line each, with what to do.

    Changes nothing and sends nothing of the site's. Ends with 0 if all is well; otherwise with the code of
    the first line that is not: 4 something here, 1 a rule, 6 a signature or the ledger, 7 the connection.

    Example:
      synthkit site preflight --folder /srv/north --schema schema.toml
    """
    from synthkit_client.preflight import preflight as check
    from synthkit_client.site_folder import SiteFolder

    given = load_schema(schema) if schema is not None else None
    console, findings = Console(as_json=as_json), []
    for found in check(SiteFolder(folder), schema=given):
        findings.append(found)
        word = {None: "--", 0: "OK"}.get(found.code, "NOT")
        remedy = f" ({found.fix})" if found.fix else ""
        console.line(f"{word:<4}{found.check}: {found.words}{remedy}")
    codes = [found.code for found in findings if found.code]
    console.verdict("READY" if not codes else "NOT READY", f"{len(codes)} to mend" if codes else "")
    console.result(
        {
            "ready": not codes,
            "checks": [
                {"check": found.check, "ok": found.is_ok, "code": found.code}
                | {"words": found.words, "fix": found.fix}
                for found in findings
            ],
        }
    )
    if codes:
        raise typer.Exit(codes[0])
