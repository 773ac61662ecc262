"""`synthkit evaluate` on records of visits: a longitudinal schema, one row a code.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console
from synthkit.domain.canonical import JsonObject
from synthkit.domain.schema import Schema
from synthkit.errors import InputError

if TYPE_CHECKING:
    from synthkit.evaluation.sequences import Likeness, SequenceFidelity


@dataclass(frozen=True, kw_only=True)
class RecordFiles:
    """Long tables, and beside each the table of its static columns; None: they stand in every row."""

    real: Path
    real_patients: Path | None
    synthetic: Path
    synthetic_patients: Path | None
    train: Path | None
    train_patients: Path | None
    model: Path | None


def evaluate_records(
    files: RecordFiles, schema: Schema, *, seed: int, refused: Sequence[str], console: Console
) -> None:
    """Compare records, and print every score beside its floor and its ceiling.

    Raises:
        InputError: An option that says nothing here, or a file cannot be read as a table.
        SchemaError: A record breaks the schema.
    """
    from synthkit.data.sequence_reading import LARGEST, Caps, read_sequences, read_synthetic_sequences
    from synthkit.evaluation.sequences import sequence_fidelity

    if refused:
        what = "says nothing of records of visits"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")
    caps = Caps(visits=LARGEST, codes=len(schema.vocabulary))
    with console.progress("reading the records") as progress:
        real = read_sequences(files.real, schema, patients=files.real_patients, caps=caps)
        made = read_synthetic_sequences(files.synthetic, schema, patients=files.synthetic_patients)
        others = None
        if files.train is not None:
            others = read_sequences(files.train, schema, patients=files.train_patients, caps=caps)
        progress("comparing")
        result = sequence_fidelity(real, made, seed=seed, holdout=others)
        likelihood = None
        if files.model is not None:
            from synthkit.training.sequence_artefact import load_sequence_model
            from synthkit.training.sequence_likelihood import record_likelihood

            progress("asking the model for the records' probability")
            likelihood = record_likelihood(load_sequence_model(files.model), real)
    _show(console, result)
    document: JsonObject = {"sequences": result.to_json()}
    if likelihood is not None:
        document["held_out"] = likelihood.to_json()
        console.pairs(
            {
                "log-likelihood": f"at least {likelihood.log_likelihood:.2f} nats a patient",
                "latent": f"{100 * likelihood.kl_share:.1f} % of that bound (near 0: not used)",
            }
        )
    console.result(document)


def _show(console: Console, result: "SequenceFidelity") -> None:
    console.heading("Likeness of records (correlations; log lifts decide)")
    rows = (("synthetic", result.synthetic), ("floor", result.floor), ("ceiling", result.ceiling))
    console.table(
        ("", "codes", "pairs within", "log lifts within", "pairs across", "log lifts across"),
        [(name, *_scores(likeness)) for name, likeness in rows],
    )
    console.heading("Shape of records (mean; lengths with their 5th, 50th and 95th percentile)")
    shapes = (("real", result.real_shape), ("synthetic", result.synthetic_shape))
    console.table(
        (
            "",
            "Jaccard of consecutive visits",
            "unique codes",
            "visits a patient",
            "codes a visit",
            "gap in days",
        ),
        [
            (
                name,
                f"{shape.jaccard:.3f}",
                f"{shape.unique_ratio:.3f}",
                *(_lengths(values) for values in (shape.visits, shape.codes, shape.gaps)),
            )
            for name, shape in shapes
        ],
    )
    distances = {name: f"{value:.3f}" for name, value in result.distances.items()}
    console.pairs({f"largest gap of {name}' distribution": value for name, value in distances.items()})


def _scores(likeness: "Likeness") -> tuple[str, ...]:
    values = (
        likeness.unigram,
        likeness.within.bigram,
        likeness.within.lift,
        likeness.across.bigram,
        likeness.across.lift,
    )
    return tuple("none" if value != value else f"{value:.3f}" for value in values)  # noqa: PLR0124


def _lengths(values: Sequence[float]) -> str:
    if not values:
        return "no times"
    return f"{values[0]:.2f} ({', '.join(f'{value:g}' for value in values[1:])})"
