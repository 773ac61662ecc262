"""`synthkit selfcheck`: do this machine's training steps do what a study would say of them?

Needs no patient: rows are simulated. Imports that take a second or more stand inside the functions that
need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console, epsilon_text, figure
from synthkit.cli.loading import load_schema
from synthkit.cli.options import JsonOption
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan

if TYPE_CHECKING:
    from synthkit.audit.component import ComponentReport
    from synthkit.audit.component_checks import Check

LEARNING_RATE = 0.02
"""Enters no claim."""


def selfcheck(
    *,
    schema: Annotated[
        Path | None, typer.Option("--schema", help="The table's schema, TOML; a bundled one by default.")
    ] = None,
    generator: Annotated[str, typer.Option("--generator", help="Whose training to watch.")] = "medvae-sgd",
    steps: Annotated[int, typer.Option("--steps", help="Claimed steps, for epsilon.")] = 2000,
    watch: Annotated[int, typer.Option("--watch", help="Steps to watch; at least 100.")] = 800,
    noise_multiplier: Annotated[float, typer.Option("--noise-multiplier", help="Claimed sigma / C.")] = 1.0,
    sample_rate: Annotated[float, typer.Option("--sample-rate", help="Claimed rate.")] = 0.05,
    max_grad_norm: Annotated[float, typer.Option("--max-grad-norm", help="Claimed C.")] = 1.0,
    delta: Annotated[float, typer.Option("--delta", help="Where epsilon is read.")] = 1e-5,
    as_json: JsonOption = False,
) -> None:
    """Watch real private steps on simulated rows and compare them with what is claimed.

    Ends with 0 where every claim stands and with 1 where one is contradicted. No patient's row is read and
    no budget is spent: run it at each site before the first training, and after every update.

    Example:
      synthkit selfcheck --schema schema.toml --steps 2000
    """
    from synthkit.audit.component import audit_steps
    from synthkit.audit.component_runs import NARROW, Effort

    console = Console(as_json=as_json)
    plan = TrainingPlan(
        generator=generator,
        rounds=1,
        local_steps=steps,
        sample_rate=sample_rate,
        noise_multiplier=noise_multiplier,
        prior_noise_multiplier=1.0,
        max_grad_norm=max_grad_norm,
        delta=delta,
        learning_rate=LEARNING_RATE,
        hyperparameters=NARROW.get(generator, {}),
    )
    with console.progress("watching") as progress:
        report = audit_steps(_schema(schema), plan, effort=Effort(quiet_steps=watch), progress=progress)
    _show(console, report)
    console.result(report.to_json())
    raise typer.Exit(0 if report.agrees else 1)


def _schema(path: Path | None) -> Schema:
    if path is not None:
        return load_schema(path)
    from synthkit.data.bundled import example

    return example("heart").schema


def _show(console: Console, report: "ComponentReport") -> None:
    claim = report.claim
    console.heading(
        f"{claim.steps} steps of {report.generator}: noise_multiplier {figure(claim.noise_multiplier)}, "
        f"sample_rate {figure(claim.sample_rate)}, max_grad_norm {figure(report.max_grad_norm)}; "
        f"{report.watched} watched"
    )
    header = ("check", "claimed", "measured", "interval", "")
    console.table(header, [_row(check) for check in (*report.checks, report.epsilon)])
    console.line()
    console.line(f"epsilon claimed: {epsilon_text(report.epsilon.claimed)} at delta {figure(report.delta)}")
    console.note(
        f"a sound step is contradicted with probability at most {figure(report.false_alarm)}; "
        "what is not a step (preparation, ledger, prior) is not watched here"
    )
    names = ", ".join(check.name for check in report.contradicted)
    console.verdict(
        "PASS" if report.agrees else "FAIL",
        "every claim stands" if report.agrees else f"contradicted: {names}",
    )


def _row(check: "Check") -> tuple[str, ...]:
    interval = check.interval
    return (
        check.name,
        f"{check.claimed:.5g}",
        f"{check.measured:.5g}",
        "exact" if interval is None else f"[{interval.lower:.5g}, {interval.upper:.5g}]",
        "agrees" if check.agrees else "CONTRADICTED",
    )
