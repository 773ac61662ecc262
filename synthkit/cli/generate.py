"""`synthkit generate`: draw synthetic rows from a trained model. Costs no budget, however often.

Imports that take a second or more stand inside the functions that need them; see the package's
docstring.
"""

# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.loading import check_target
from synthkit.cli.options import ForceOption, JsonOption, SeedOption
from synthkit.domain.conditions import parse_conditions

FEW_LATENT_DRAWS = 0.2
"""Below this reliability the person is told."""


def generate(
    *,
    model: Annotated[Path, typer.Argument(help="The folder that `train -o` or `federate -o` wrote.")],
    rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV, CSV.GZ or Parquet, by its ending.")],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help='Conditions, all honoured exactly: "age >= 70 and sex = Female".'),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Draw synthetic rows, under conditions if given.

    Same columns, formats and missing values as the schema says; the same seed gives the same rows.
    Nothing may leave the site before it was audited, sealed and approved.

    Example:
      synthkit generate model -n 10000 -o synthetic.csv \
        --where "age >= 70 and sex = Female" --where "insulin != No"
    """
    check_target(output, force=force)
    from synthkit.data.connectors import write_table
    from synthkit.training.paper_artefact import open_model
    from synthkit.training.synthesis import synthesize

    console = Console(as_json=as_json)
    with console.progress("loading the model") as progress:
        trained = open_model(model)
        conditions = parse_conditions(where or (), trained.schema)
        progress("drawing rows")
        synthesis = synthesize(trained, rows, seed=seed, conditions=conditions)
        progress("writing")
        write_table(synthesis.table, output)
    if not trained.is_private:
        console.note("this model was trained WITHOUT privacy; no release of these rows may claim any")
    if synthesis.reliability < FEW_LATENT_DRAWS:
        console.note(
            f"the model hardly knows these conditions: reliability {synthesis.reliability:.2f}, where 1 is "
            "as good as an unconditional row; expect repeated patterns"
        )
    console.line(f"{rows} rows into {output}")
    console.result(
        {
            "rows": rows,
            "output": str(output),
            "table_digest": synthesis.table.digest,
            "reliability": synthesis.reliability,
            "private": trained.is_private,
        }
    )
