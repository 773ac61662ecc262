"""`synthkit counterfactual`, and what `complete` does with records: one patient in several ways.

Rule kept here: the person is told that neither can be released. Imports that take a second or more stand
inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkit.cli.console import Console
from synthkit.cli.generate_sequences import is_record_model
from synthkit.cli.loading import check_target, name_of
from synthkit.cli.options import ForceOption, JsonOption, SeedOption
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.data.sources import TableSource
    from synthkit.training.sequence_artefact import SequenceModel

CONTINUED = (
    "the given visits stand in these records as they were, covered by no epsilon: they are not synthetic, "
    "and `release seal` refuses them"
)
PAIRED = "pairs are for study at the site: `release seal` takes only what `generate` draws"
KINDS = ("factual", "counterfactual")


def refuse_options(refused: Sequence[str]) -> None:
    """Options that say nothing of records.

    Raises:
        InputError: There is one.
    """
    if refused:
        what = "says nothing of a model of records"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")


def continue_a_table(
    model: Path,
    histories: "TableSource",
    output: Path,
    *,
    patients: "TableSource | None",
    seed: int,
    console: Console,
) -> None:
    """Go on with records, and write them with their static columns in every row.

    Raises:
        InputError: The model or a file cannot be used.
        SchemaError: The records break the model's schema, or are longer than the model knows.
    """
    from synthkit.data.reading import format_of
    from synthkit.data.sequence_reading import Caps, read_sequences
    from synthkit.data.sequence_writing import write_sequences
    from synthkit.training.record_variants import continue_records
    from synthkit.training.sequence_artefact import load_sequence_model

    format_of(output)
    with console.progress("loading the model") as progress:
        trained = load_sequence_model(model)
        layout = trained.encoding.layout
        progress("reading the records")
        caps = Caps(visits=layout.most_visits, codes=layout.most_codes)
        records = read_sequences(histories, trained.schema, patients=patients, caps=caps)
        progress("drawing visits")
        made = continue_records(trained, records, seed=seed)
        progress("writing")
        write_sequences(made, output)
    _warn(console, trained, CONTINUED)
    console.line(f"continued records into {name_of(output)}")
    console.result({"output": str(output), "private": trained.is_private, "synthetic": False})


def counterfactual(
    *,
    model: Annotated[Path, typer.Argument(help="The folder that `train --generator eva` or eva-c wrote.")],
    count: Annotated[int, typer.Option("-n", "--number", min=1, help="How many pairs.")],
    instead: Annotated[
        list[str], typer.Option("--instead", help='What the second of each pair meets: "sex = Male".')
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder for the four files.")],
    where: Annotated[
        list[str] | None, typer.Option("--where", help="What the first of each pair meets.")
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    r"""Draw pairs of records: one patient as is, and the same one under other conditions.

    Both have the same latent noise and the same static columns but for those that --instead names.
    factual.csv and counterfactual.csv hold the visits, factual-patients.csv and counterfactual-patients.csv
    the static columns; patient 1 of one is patient 1 of the other. What differs is what the model has
    learnt to go with the condition, not an effect: nothing here adjusts for confounding.

    Example:
      synthkit counterfactual model -n 500 --where "diabetes = no" --instead "diabetes = yes" -o pairs
    """
    if not is_record_model(model):
        raise InputError("is no model of records", where=name_of(model), fix="train --generator eva-c")
    targets = [output / name for kind in KINDS for name in (f"{kind}.csv", f"{kind}-patients.csv")]
    for target in targets if output.exists() else [output]:
        check_target(target, force=force)
    from synthkit.data.sequence_writing import write_sequences
    from synthkit.training.record_variants import pairs_of_records
    from synthkit.training.sequence_artefact import load_sequence_model

    console = Console(as_json=as_json)
    with console.progress("loading the model") as progress:
        trained = load_sequence_model(model)
        first, second = (parse_conditions(text, trained.schema) for text in (where or (), instead))
        progress("drawing pairs")
        pairs = pairs_of_records(trained, count, seed=seed, conditions=first, instead=second)
        progress("writing")
        output.mkdir(exist_ok=True)
        for kind, records in zip(KINDS, (pairs.factual, pairs.counterfactual), strict=True):
            write_sequences(records, output / f"{kind}.csv", patients=output / f"{kind}-patients.csv")
    _warn(console, trained, PAIRED)
    console.line(f"{count:,} pairs into {name_of(output)}")
    console.result(
        {
            "pairs": count,
            "output": str(output),
            "where": [str(text) for text in where or ()],
            "instead": [str(text) for text in instead],
            "reliability": pairs.reliability,
            "private": trained.is_private,
        }
    )


def _warn(console: Console, model: "SequenceModel", rule: str) -> None:
    if not model.is_private:
        console.note("this model was trained WITHOUT privacy; its draws may repeat real patients")
    console.note(rule)
