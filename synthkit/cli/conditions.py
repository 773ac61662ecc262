"""`synthkit evaluate-conditions`: does a model deliver what is asked of it, and is it like real rows?

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import (
    check_in_force,
    check_target,
    load_policy,
    load_schema,
    name_of,
    save_text,
)
from synthkit.cli.options import JsonOption, ReportOption, SchemaOption, SeedOption
from synthkit.cli.tables import QueryOption, given_tables
from synthkit.domain.audit import Verdict
from synthkit.domain.condition_statement import share_text
from synthkit.domain.condition_text import Condition
from synthkit.domain.conditional import FEW_REAL, ConditionalReport, Delivery

if TYPE_CHECKING:
    from synthkit.data.table import SyntheticTable

SHOWN = 40
"""Requests printed; the report and --json hold all."""


def evaluate_conditions(
    *,
    model: Annotated[Path, typer.Argument(help="The folder that `train -o` or `federate -o` wrote.")],
    real: Annotated[
        str, typer.Option("--real", metavar="TABLE", help="Real rows the generator did not see.")
    ],
    schema: SchemaOption,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="A column of categories; all with at most 30 by default."),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also each two values of each two of the columns together.")
    ] = False,
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows per request.")] = 1000,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Name the requests whose tables this policy would keep back."),
    ] = None,
    query: QueryOption = None,
    report: ReportOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    r"""Request every value of each column, and count what is delivered.

    Every row must meet its request: exit code 1 if one does not, 2 if the model refuses every request.
    Each request stands with the share of patients who meet it, by the model, and the model's reliability;
    --policy names those that its floor keeps back, which changes no exit code.
    The rest of the row is compared with the real rows that meet the same condition. The figures describe
    real patients and are covered by no privacy budget: they are for the site's own eyes.

    Example:
      synthkit evaluate-conditions model --real parts/holdout.csv --schema schema.toml \
        --column sex --column insulin --pairs --report conditions.html
    """
    from synthkit.data.connectors import read_table
    from synthkit.evaluation.conditional import check_schemas
    from synthkit.evaluation.conditional import evaluate_conditions as measure
    from synthkit.training.condition_mass import condition_mass
    from synthkit.training.paper_artefact import open_model
    from synthkit.training.synthesis import synthesize

    console = Console(as_json=as_json)
    if report is not None:
        check_target(report, force=True)
    source, known = given_tables(query, real=real).of("real"), load_schema(schema)
    rules = None if policy is None else load_policy(policy)
    if rules is not None:
        check_in_force(rules)
    with console.progress("loading the model") as progress:
        trained = open_model(model)
        check_schemas(trained.schema, known)
        progress("reading the real rows")
        table = read_table(source, known)

        def draw(count: int, seed: int, conditions: Sequence[Condition]) -> tuple["SyntheticTable", float]:
            synthesis = synthesize(trained, count, seed=seed, conditions=conditions)
            return synthesis.table, synthesis.reliability

        progress("drawing rows under each condition")
        result = measure(
            draw,
            table,
            columns=tuple(column) if column else None,
            pairs=pairs,
            rows=rows,
            seed=seed,
            mass=lambda conditions: condition_mass(trained, conditions),
            policy=rules,
            progress=progress.at,
        )
        if report is not None:
            from synthkit.report.conditional_sections import conditional_page

            progress("drawing the report")
            save_text(report, conditional_page(result), force=True)
    _show(console, result)
    if not trained.is_private:
        console.note("this model was trained WITHOUT privacy; no release of its rows may claim any")
    if report is not None:
        console.line(f"Report: {name_of(report)}")
    console.result(result.to_json())
    raise typer.Exit(result.verdict.exit_code)


def _show(console: Console, result: ConditionalReport) -> None:
    wrong = [delivery for delivery in result.deliveries if not delivery.is_exact]
    right = [delivery for delivery in result.deliveries if delivery.is_exact]
    console.heading(f"Requested and delivered, {result.rows} rows each")
    console.table(
        ("requested", "met", "share", "reliability", "real rows", "distance", "floor", "ceiling"),
        [_row(delivery) for delivery in (*wrong, *right)[:SHOWN]],
    )
    _show_barred(console, result)
    if len(result.deliveries) > SHOWN:
        console.note(f"the first {SHOWN} of {len(result.deliveries)} requests; --report and --json hold all")
    for note in result.notes:
        console.note(note)
    console.verdict(result.verdict.value, _verdict_text(result, len(wrong)))


def _show_barred(console: Console, result: ConditionalReport) -> None:
    if not result.policy:
        return
    barred = [delivery for delivery in result.deliveries if delivery.barred]
    console.line()
    console.line(
        f"The policy {result.policy} would keep back the tables of {len(barred)} of "
        f"{len(result.deliveries)} requests{':' if barred else '.'}"
    )
    console.items(f"{delivery.label}: {delivery.barred}" for delivery in barred[:SHOWN])


def _verdict_text(result: ConditionalReport, wrong: int) -> str:
    asked = len(result.deliveries)
    if result.verdict is Verdict.FAIL:
        return f"{wrong} of {asked} requests hold rows that do not meet them"
    if result.verdict is Verdict.INCONCLUSIVE:
        return "the model refused every request"
    refused = f"; {result.refused} of {asked} requests were refused" if result.refused else ""
    return f"every row that was drawn meets its request{refused}"


def _row(delivery: Delivery) -> tuple[str, ...]:
    figures = (delivery.reliability, delivery.distance, delivery.floor, delivery.ceiling)
    reliability, *distances = ("" if value is None else f"{value:.3f}" for value in figures)
    return (
        delivery.label,
        "refused" if delivery.refused else f"{delivery.satisfied} of {delivery.rows}",
        "" if delivery.mass is None else share_text(delivery.mass),
        reliability,
        f"under {FEW_REAL}" if delivery.real_rows is None else str(delivery.real_rows),
        *distances,
    )
