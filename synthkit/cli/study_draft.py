"""`synthkit study draft`: from what is wanted to a plan with the least noise that keeps the epsilon.

Knows public figures alone: a schema, sizes that hospitals declared, a target. Imports that take a second or
more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import datetime as dt
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target, load_policy, load_schema, name_of, save_text
from synthkit.cli.options import ForceOption, JsonOption, SchemaOption
from synthkit.cli.study_reading import price_of
from synthkit.domain.policy_check import check_study_against_policy
from synthkit.domain.schema import Schema
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.domain.study_text import explain_study, study_to_toml
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, PolicyError
from synthkit.privacy.accounting import check_delta
from synthkit.privacy.plan_cost import admission_cost

if TYPE_CHECKING:
    from synthkit.training.planning import Effort

GOOD_FOR_DAYS = 180

SITE = re.compile(r"([^:]+):([0-9]{1,9})(?::([0-9a-f]{64}))?")


@dataclass(frozen=True, kw_only=True)
class AskedEffort:
    """What was typed of rounds, steps and rate; None: as usual."""

    rounds: int | None
    local_steps: int | None
    sample_rate: float | None

    def over(self, usual: "Effort") -> "Effort":
        """The usual effort with what was typed."""
        return replace(
            usual,
            rounds=self.rounds or usual.rounds,
            local_steps=self.local_steps or usual.local_steps,
            sample_rate=usual.sample_rate if self.sample_rate is None else self.sample_rate,
        )


CoordinatorOption = Annotated[
    Path | None,
    typer.Option("--coordinator", help="Its folder: enrolled sites' keys and sizes are filled in."),
]


def draft(
    *,
    schema: SchemaOption,
    epsilon: Annotated[float, typer.Option("--epsilon", help="What the whole study may cost a patient.")],
    site: Annotated[
        list[str],
        typer.Option(
            "--site", metavar="NAME[:SIZE[:KEY]]", help="A hospital and its declared size; once each."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The draft to write, TOML.")] = Path(
        "study.toml"
    ),
    generator: Annotated[
        str, typer.Option("--generator", help="medvae, mcm, medvae-sgd, mcm-sgd, or eva for records.")
    ] = "medvae",
    delta: Annotated[float, typer.Option("--delta", help="The guarantee's failure probability.")] = 1e-5,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Training rounds, of a generator that takes steps.")
    ] = None,
    local_steps: Annotated[
        int | None, typer.Option("--local-steps", min=1, help="Steps of a round at each site.")
    ] = None,
    sample_rate: Annotated[
        float | None, typer.Option("--sample-rate", help="How likely a patient is drawn at a step.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Default: the output's name.")] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="What it is for, in one line; every officer reads it.")
    ] = None,
    expires: Annotated[
        dt.datetime | None,
        typer.Option("--expires", formats=["%Y-%m-%d"], help="Last day. Default: in 180 days."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the initial weights; never of noise.")] = 0,
    coordinator: CoordinatorOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="A site's policy, a file or a shipped one's name: would it allow this?"
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Draft a study: the noise is computed so that the whole of it costs at most the epsilon asked for.

    Nothing is signed and nobody is asked yet. With --policy the draft is held against the rules of those
    sites; if one forbids it, the rule is named and nothing is written (exit code 1).

    Example:
      synthkit study draft --schema schema.toml --epsilon 3 --site north:3000 --site south:2000 -o study.toml
    """
    check_target(output, force=force)
    columns = load_schema(schema)
    _check_schema(columns)
    roster = tuple(_site(text, coordinator) for text in site)
    for entry in roster:
        check_delta(delta, entry.declared_size)
    plan = _plan(
        columns,
        roster,
        generator=generator,
        epsilon=epsilon,
        delta=delta,
        asked=AskedEffort(rounds=rounds, local_steps=local_steps, sample_rate=sample_rate),
    )
    study = Study(
        name=name or output.stem,
        purpose=purpose or f"a synthetic {columns.name} by {generator}",
        schema=columns,
        plan=plan,
        roster=roster,
        expires=expires.date() if expires else dt.datetime.now(dt.UTC).date() + dt.timedelta(GOOD_FOR_DAYS),
        initial_seed=seed,
    )
    console = Console(as_json=as_json)
    allowed = [_allowed(study, given) for given in policy or ()]
    price = price_of(study)
    save_text(output, study_to_toml(study, note=f"Computed for epsilon {epsilon:g}."), force=force)
    console.line(explain_study(study, price).rstrip())
    console.line()
    for words in allowed:
        console.line(words)
    console.line(f"Draft in {name_of(output)}; sign it with: synthkit study sign {name_of(output)}")
    console.result(
        {
            "draft": str(output),
            "digest": study.digest,
            "plan": plan.to_json(),
            "planned_epsilon": price.planned,
            "reported_epsilon": price.reported,
            "delta": price.delta,
        }
    )


def _check_schema(schema: Schema) -> None:
    """What no guard would admit is refused here already."""
    if schema.to_buy():
        raise InputError(
            f"column {shown(schema.to_buy()[0])} is still to be bought",
            where="the schema",
            fix="synthkit schema buy, or make it public",
        )
    if schema.not_public():
        raise InputError(
            f"column {shown(schema.not_public()[0])} was read off patients' rows",
            where="the schema",
            fix='make it provenance = "public"',
        )


def _site(text: str, coordinator: Path | None) -> Site:
    """NAME, NAME:SIZE or NAME:SIZE:KEY; what is left out is as the site enrolled."""
    if ":" not in text and coordinator is not None:
        return enrolled_site(coordinator, text)
    match = SITE.fullmatch(text)
    if match is None:
        fix = "for example --site north:3000" + ("" if coordinator else ", or NAME with --coordinator")
        raise InputError("is not NAME:SIZE or NAME:SIZE:KEY", where=f"--site {shown(text)}", fix=fix)
    site = Site(name=match[1], public_key=match[3] or "", declared_size=int(match[2]))
    if coordinator is None or site.public_key:
        return site
    return replace(site, public_key=enrolled_site(coordinator, site.name).public_key)


def enrolled_site(coordinator: Path, name: str) -> Site:
    """A site as it enrolled.

    Raises:
        InputError: It did not.
    """
    from synthkit_server.enrolment import read_roster
    from synthkit_server.folder import CoordinatorFolder

    for member in read_roster(CoordinatorFolder(coordinator)):
        if member.name == name:
            return Site(name=name, public_key=member.public_key, declared_size=member.declared_size)
    raise InputError("is not enrolled", where=f"site {shown(name)}", fix="invite it: coordinator invite")


def _plan(
    schema: Schema,
    roster: tuple[Site, ...],
    *,
    generator: str,
    epsilon: float,
    delta: float,
    asked: AskedEffort,
) -> TrainingPlan:
    """The plan of least noise; for records the round that buys comes first."""
    from synthkit.generators.registry import is_of_records, is_stepped, stepped_twin
    from synthkit.training.planning import check_plan, check_schema_fits, plan_for
    from synthkit.training.sequence_site import plan_for_records

    usual = _usual_effort(generator, roster)
    effort = asked.over(usual)
    if effort != usual and not is_stepped(generator):
        raise InputError(
            f"{generator} takes no steps",
            where="options --rounds, --local-steps, --sample-rate",
            fix=f"leave them out, or --generator {stepped_twin(generator)}",
        )
    target = epsilon
    for _ in range(8):
        if is_of_records(generator):
            of_records = plan_for_records(
                generator,
                effort,
                target_epsilon=target,
                delta=delta,
                hyperparameters={},
                sizes=[site.declared_size for site in roster],
            )
            plan = replace(of_records, prior_first=True)
        else:
            plan = plan_for(generator, effort, target_epsilon=target, delta=delta)
        check_plan(plan)
        check_schema_fits(schema, plan)
        cost = admission_cost(plan, delta)
        if cost <= epsilon:
            return plan
        target *= 0.999 * epsilon / cost  # the order of rounds moves the admission's figure a little
    raise InputError("no noise keeps this epsilon", where=f"epsilon {epsilon:g}", fix="raise it")


def _usual_effort(generator: str, roster: tuple[Site, ...]) -> "Effort":
    from synthkit.generators.registry import is_of_records
    from synthkit.training.planning import effort_for
    from synthkit.training.record_rounds import effort_for_rounds_of_records
    from synthkit.training.sequence_site import effort_for_records

    largest = max(site.declared_size for site in roster)
    if is_of_records(generator):
        return effort_for_records(largest) if len(roster) == 1 else effort_for_rounds_of_records()
    return effort_for(largest, sites=len(roster))


def _allowed(study: Study, name: str) -> str:
    """One line that says so, or the rule that forbids it."""
    policy = load_policy(name)
    planned = admission_cost(study.plan, policy.budget.delta)
    try:
        check_study_against_policy(study, policy, planned_epsilon=planned, today=dt.date.today())
    except PolicyError as error:
        what = error.what.removesuffix(f" [rule {error.rule}]")
        raise PolicyError(what, rule=error.rule, where=f"policy {shown(name)}", fix=error.fix) from None
    return f"Policy {shown(name)} would allow it."
