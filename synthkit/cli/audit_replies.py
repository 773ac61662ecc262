"""`synthkit audit-replies`: what could a coordinator read out of a site's replies in a study?

Needs no patient: the site is simulated by the schema. Imports that take a second or more stand inside the
functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.loading import load_schema, name_of, read_text
from synthkit.cli.options import JsonOption, SchemaOption, SeedOption
from synthkit.domain.documents import study_from_toml

if TYPE_CHECKING:
    from synthkit.audit.coordinator import ReplyAudit


def audit_replies(
    *,
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's TOML, as for its signing.")],
    schema: SchemaOption,
    patients: Annotated[int, typer.Option("--patients", help="Simulated people it knows.")] = 100,
    canaries: Annotated[int, typer.Option("--canaries", help="Simulated people with a coin each.")] = 400,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Play the curious coordinator of a study against a simulated site, round by round.

    The site is simulated by the schema and answers every round by the very code that real sites run. The
    coordinator knows everybody but for a coin each, and reads each update against each canary's gradient (or
    the bought tables against each canary's own). Ends with 0 where the study's epsilon stands and with 1
    where the replies contradict it. No patient's row is read, no budget is spent.

    Example:
      synthkit audit-replies study.toml --schema schema.toml
    """
    from synthkit.audit.coordinator import Crowd
    from synthkit.audit.coordinator import audit_replies as audit

    console = Console(as_json=as_json)
    crowd = Crowd(patients=patients, canaries=canaries)
    known = load_schema(schema)
    plan = study_from_toml(read_text(study), name_of(study), schema=known).plan
    with console.progress("simulating the site") as progress:
        found = audit(known, plan, crowd=crowd, seed=seed, progress=progress)
    _show(console, found)
    console.result(found.to_json())
    raise typer.Exit(0 if found.agrees else 1)


def _show(console: Console, found: "ReplyAudit") -> None:
    rounds = f"{found.rounds} round{'s' if found.rounds > 1 else ''}"
    console.heading(f"Replies of one simulated site, {found.generator}, {rounds}")
    console.pairs(
        {
            "epsilon claimed": f"{epsilon_text(found.claimed)} at delta {figure(found.delta)}",
            "shown at least": figure(found.shown),
            "a coordinator who is never wrong would show": figure(found.ceiling),
            "guesses right": f"{found.guesses.correct} of {found.guesses.made}",
        }
    )
    if found.ceiling <= found.claimed:
        console.note("so few canaries cannot contradict a claim as large as this: raise --canaries")
    console.note("a sound study is contradicted with probability at most 0.001")
    words = "the claim stands" if found.agrees else "the replies give more away than is claimed"
    console.verdict("PASS" if found.agrees else "FAIL", words)
