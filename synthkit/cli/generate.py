"""`synthkit generate`: draw synthetic rows from a trained model. Costs no budget, however often.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.generate_conditions import show_stated, stated_of
from synthkit.cli.generate_sequences import generate_records, is_record_model
from synthkit.cli.generate_target import target_of
from synthkit.cli.loading import check_target
from synthkit.cli.options import ForceOption, JsonOption, PolicyTrustOption, SeedOption
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import InputError


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
    ([vault] in it), and for nobody else; where it requires a vault, nothing else is written. A vault of
    records holds both tables: the visits, and the static columns.

    Example:
      synthkit generate model -n 10000 -o synthetic.csv \
        --where "age >= 70 and sex = Female" --where "insulin != No"
      synthkit generate model -n 10000 -o candidate.vault --policy policy.toml --trust keys
    """
    check_target(output, force=force)
    if is_record_model(model):
        if mask_share is not None:
            what = "says nothing of a model of records"
            raise InputError(what, where="option --mask-share", fix="leave it out")
        generate_records(
            rows,
            target_of(output, model, policy, trust, force=force),
            patients=patients,
            visits=visits,
            where=where or (),
            seed=seed,
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
        stated_of(conditions, target.conditions, mass=mass)
        progress("drawing rows")
        synthesis = synthesize(trained, rows, seed=seed, conditions=conditions)
        stated = stated_of(conditions, target.conditions, mass=mass, reliability=synthesis.reliability)
        progress("writing")
        target.write(synthesis.table)
    if not trained.is_private:
        console.note("this model was trained WITHOUT privacy; no release of these rows may claim any")
    show_stated(console, stated, reliability_text(trained, synthesis.reliability))
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
