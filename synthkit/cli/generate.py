"""`synthkit generate`: draw synthetic rows from a trained model. Costs no budget, however often.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.generate_sequences import generate_records, is_record_model
from synthkit.cli.generate_target import target_of
from synthkit.cli.loading import check_target
from synthkit.cli.options import ForceOption, JsonOption, PolicyTrustOption, SeedOption
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.conditions import Condition, parse_conditions
from synthkit.domain.policy import ConditionRules
from synthkit.domain.policy_check import check_conditions_against_policy
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.training.synthesis import Synthesis

FEW_LATENT_DRAWS = 0.2
"""Below this reliability the person is told."""

RARE = 0.001
"""Below this share of patients the person is told."""


def generate(
    *,
    model: Annotated[Path, typer.Argument(help="The folder that `train -o` or `federate -o` wrote.")],
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="CSV, CSV.GZ, Parquet or VAULT, by its ending.")
    ],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help='Conditions, all honoured exactly: "age >= 70 and sex = Female".'),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Refuse conditions that this policy would refuse at sealing."),
    ] = None,
    trust: PolicyTrustOption = None,
    mask_share: Annotated[
        float | None,
        typer.Option("--mask-share", help="Published MCM alone: share of each real row that is masked."),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option("--patients", help="Records: static columns go here; else into every row."),
    ] = None,
    visits: Annotated[
        int | None, typer.Option("--visits", min=1, help="Records: every patient's number of visits.")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Draw synthetic rows, under conditions if given.

    Same columns, formats and missing values as the schema says; the same seed gives the same rows.
    Conditions cost no privacy and are public: write nothing into them that was learnt about a patient. The
    model says how many patients meet them and how reliable its rows are; with --policy the command ends
    with 1, and writes nothing, where that is less than the policy asks for. Nothing may leave the site
    before it was audited, sealed and approved.

    A name ending in .vault has the table written encrypted for those whose trusted keys the policy lets read
    ([vault] in it), and for nobody else; where it requires a vault, nothing else is written.

    Example:
      synthkit generate model -n 10000 -o synthetic.csv \
        --where "age >= 70 and sex = Female" --where "insulin != No"
      synthkit generate model -n 10000 -o candidate.vault --policy policy.toml --trust keys
    """
    check_target(output, force=force)
    if is_record_model(model):
        others = {"--policy": policy, "--trust": trust, "--mask-share": mask_share}
        generate_records(
            model,
            rows,
            output,
            patients=patients,
            visits=visits,
            where=where or (),
            seed=seed,
            force=force,
            refused=[name for name, value in others.items() if value is not None],
            console=Console(as_json=as_json),
        )
        return
    if patients is not None or visits is not None:
        option = "--visits" if patients is None else "--patients"
        raise InputError("belongs to a model of records", where=f"option {option}", fix="leave it out")
    target = target_of(output, model, policy, trust, force=force)
    from synthkit.training.condition_mass import condition_mass, reliability_text
    from synthkit.training.paper_artefact import masking, open_model
    from synthkit.training.synthesis import synthesize

    console = Console(as_json=as_json)
    with console.progress("loading the model") as progress:
        trained = open_model(model) if mask_share is None else masking(open_model(model), mask_share)
        conditions = parse_conditions(where or (), trained.schema)
        progress("asking the model how many patients meet the conditions")
        mass = condition_mass(trained, conditions)
        _check(conditions, target.conditions, mass=mass)
        progress("drawing rows")
        synthesis = synthesize(trained, rows, seed=seed, conditions=conditions)
        stated = _check(conditions, target.conditions, mass=mass, reliability=synthesis.reliability)
        progress("writing")
        target.write(synthesis.table)
    if not trained.is_private:
        console.note("this model was trained WITHOUT privacy; no release of these rows may claim any")
    if stated is not None:
        _show(console, stated, synthesis, reliability_text(trained, synthesis.reliability))
    target.show(console)
    console.line(f"{rows} rows into {output}")
    console.result(
        {
            "rows": rows,
            "output": str(output),
            "table_digest": synthesis.table.digest,
            "conditions": list(stated.conditions) if stated is not None else [],
            "condition_mass": mass if stated is None else stated.mass,
            "reliability": synthesis.reliability,
            "private": trained.is_private,
            "readers": [reader.name for reader in target.readers],
        }
    )


def _check(
    conditions: Sequence[Condition], rules: ConditionRules | None, *, mass: float, reliability: float = 1.0
) -> ConditionStatement | None:
    """What the model states of the conditions, if there are any and the policy allows them."""
    if not conditions:
        return None
    stated = ConditionStatement.of(conditions, mass=mass, reliability=reliability)
    if rules is not None:
        check_conditions_against_policy(stated, rules)
    return stated


def _show(console: Console, stated: ConditionStatement, synthesis: "Synthesis", reliability: str) -> None:
    if synthesis.reliability < FEW_LATENT_DRAWS:
        console.note(
            f"the model hardly knows these conditions: reliability {synthesis.reliability:.2f}, where 1 is "
            "as good as an unconditional row; expect repeated patterns"
        )
    if stated.mass < RARE:
        console.note("so few patients meet these conditions that a policy's floor may keep the rows back")
    console.line(f"By the model {stated.share_words} of patients meet the conditions; {reliability}.")
