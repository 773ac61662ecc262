"""`synthkit evaluate` on records of visits: a longitudinal schema, one row a code.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console, Progress
from synthkit.cli.loading import name_of, save_text
from synthkit.cli.vaults import VaultKey, check_inside, is_vault, open_vault, read_made_records
from synthkit.domain.canonical import JsonObject
from synthkit.domain.schema import Schema
from synthkit.domain.sequence_utility import Likeness, SequenceFidelity, SequenceReport
from synthkit.domain.utility import Estimate
from synthkit.errors import InputError
from synthkit.release.vault import Expected

if TYPE_CHECKING:
    from synthkit.data.sequences import PatientSequences, SyntheticSequences
    from synthkit.data.sources import TableSource
    from synthkit.evaluation.record_conditions import RecordCondition
    from synthkit.training.paper_eva import PublishedEva
    from synthkit.training.sequence_artefact import SequenceModel


@dataclass(frozen=True, kw_only=True)
class RecordFiles:
    """Long tables, and beside each the table of its static columns; None: they stand in every row.

    `synthetic` may be a vault, which holds both; `key` opens it.
    """

    real: "TableSource"
    real_patients: "TableSource | None"
    synthetic: Path
    synthetic_patients: Path | None
    train: "TableSource | None"
    train_patients: "TableSource | None"
    model: Path | None
    key: VaultKey


@dataclass(frozen=True, kw_only=True)
class RecordQuestions:
    """What to ask of records. None: the usual conditions, no cohort to augment, no page."""

    conditions: Sequence[str] | None
    cohort: int | None
    repeats: int | None
    seed: int
    report: Path | None
    is_quick: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    real: "PatientSequences"
    train: "PatientSequences | None"
    synthetic: "SyntheticSequences"
    model: "SequenceModel | PublishedEva | None"


def evaluate_records(
    files: RecordFiles,
    schema: Schema,
    questions: RecordQuestions,
    *,
    refused: Sequence[str],
    console: Console,
) -> None:
    """Compare records, ask what can be learnt of them, and print every score beside its floor and ceiling.

    Raises:
        InputError: An option that says nothing here, or a file cannot be read as a table.
        ConditionError: A condition asks about nothing in the schema.
        SchemaError: A record breaks the schema.
        BundleError: No vault, altered, or of something else.
        SignatureError: The vault was not written for the key.
    """
    from synthkit.evaluation.record_conditions import default_conditions, parse_record_condition
    from synthkit.evaluation.sequence_run import REPEATS, evaluate_sequences

    if refused:
        what = "says nothing of records of visits"
        raise InputError(what, where=f"option {refused[0]}", fix="leave it out")
    if questions.is_quick and (questions.cohort is not None or questions.conditions):
        asked = "--augment" if questions.cohort is not None else "--target"
        raise InputError("asks for what --quick leaves out", where=f"option {asked}", fix="leave one out")
    wanted = None
    if questions.conditions:
        parsed = (parse_record_condition(text, schema) for text in questions.conditions)
        wanted = tuple({one.label: one for one in parsed}.values())
    with console.progress("reading the records") as progress:
        read = _read(files, schema)
        result = evaluate_sequences(
            read.real,
            read.synthetic,
            train=read.train,
            conditions=wanted,
            cohort=questions.cohort,
            seed=questions.seed,
            repeats=questions.repeats or REPEATS,
            is_quick=questions.is_quick,
            progress=progress,
        )
        document: JsonObject = {"sequences": result.to_json()}
        likelihood = _likelihood(read, progress)
        if likelihood is not None:
            document["held_out"] = likelihood
        if questions.report is not None:
            shown = [one for one in wanted or default_conditions(schema) if one.label in _labels(result)]
            save_text(questions.report, _page(read, result, shown, questions.seed, progress), force=True)
    _show(console, result.fidelity)
    _show_tasks(console, result)
    _show_conditions(console, result)
    _show_likelihood(console, likelihood)
    for note in result.notes:
        console.note(note)
    if questions.report is not None:
        console.line(f"Report: {name_of(questions.report)}. It stays inside the site.")
    console.result(document)


def _read(files: RecordFiles, schema: Schema) -> _Read:
    from synthkit.data.sequence_reading import LARGEST, Caps, read_sequences

    opened = None
    if is_vault(files.synthetic):
        check_inside(files.synthetic_patients, "--synthetic-patients")
        opened = open_vault(files.synthetic, files.key, Expected(schema_digest=schema.digest))
    model = None
    if files.model is not None:
        from synthkit.training.record_models import open_record_model

        model = open_record_model(files.model)
    caps = Caps(visits=LARGEST)
    train = None
    if files.train is not None:
        train = read_sequences(files.train, schema, patients=files.train_patients, caps=caps)
    return _Read(
        real=read_sequences(files.real, schema, patients=files.real_patients, caps=caps),
        train=train,
        synthetic=read_made_records(files.synthetic, schema, files.synthetic_patients, opened),
        model=model,
    )


def _labels(result: SequenceReport) -> set[str]:
    return {one.label for one in result.conditions}


def _likelihood(read: _Read, progress: Progress) -> JsonObject | None:
    if read.model is None:
        return None
    from synthkit.training.record_models import likelihood_of

    progress("asking the model for the records' probability")
    return likelihood_of(read.model, read.real).to_json()


def _page(
    read: _Read,
    result: SequenceReport,
    conditions: "Sequence[RecordCondition]",
    seed: int,
    progress: Progress,
) -> str:
    from synthkit.evaluation.latent_map import with_latents
    from synthkit.evaluation.sequence_pictures import condition_scatters, length_distributions, scatters
    from synthkit.report.sequence_figures import SequencePictures
    from synthkit.report.sequence_sections import sequence_page
    from synthkit.training.sequence_artefact import SequenceModel

    progress("drawing the report")
    pictures = SequencePictures(
        scatters=scatters(read.real, read.synthetic),
        distributions=length_distributions(read.real, read.synthetic),
        conditions=condition_scatters(read.real, read.synthetic, conditions),
    )
    if isinstance(read.model, SequenceModel):
        pictures = with_latents(pictures, read.model, read.real, read.synthetic, conditions, seed=seed)
    return sequence_page(result, pictures)


def _show(console: Console, result: SequenceFidelity) -> None:
    console.heading("Likeness of records (correlations; log lifts decide)")
    rows = (("synthetic", result.synthetic), ("floor", result.floor), ("ceiling", result.ceiling))
    console.table(
        (
            *("", "codes", "pairs within", "log lifts within", "of either's pairs"),
            *("pairs across", "log lifts across", "of either's pairs"),
        ),
        [(name, *_scores(likeness)) for name, likeness in rows],
    )
    console.heading("Shape of records (mean; lengths with their 5th, 50th and 95th percentile)")
    shapes = (
        ("real", result.real_shape),
        ("synthetic", result.synthetic_shape),
        ("floor", result.floor_shape),
        ("ceiling", result.ceiling_shape),
    )
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
    distances = {
        name: f"{value:.3f}; of two real sets {_plain(result.ceiling_distances.get(name, math.nan))}"
        for name, value in result.distances.items()
    }
    console.pairs({f"largest gap of {name}' distribution": value for name, value in distances.items()})


def _show_tasks(console: Console, result: SequenceReport) -> None:
    if result.next_visit is not None:
        console.heading("Codes of the next visit: recall on real patients, 95 % intervals")
        console.table(
            ("named", "trained on real", "trained on synthetic", "floor: shuffled", "synthetic / real"),
            [
                (str(top), *(_interval(one) for one in (task.real, task.synthetic, task.floor, task.ratio)))
                for top, task in result.next_visit.top.items()
            ],
        )
    if result.augmentation is not None:
        steps = result.augmentation.steps
        console.heading(
            f"A cohort of {result.augmentation.cohort} real patients with generated ones beside it"
        )
        console.table(
            ("trained on", *(f"{name}top {top}" for top in steps[0].recall for name in ("", "gain, "))),
            [
                (
                    f"real + {step.factor} x generated" if step.factor else "real alone",
                    *(
                        cell
                        for top, recall in step.recall.items()
                        for cell in (_interval(recall), _interval(step.gain[top]) if step.factor else "")
                    ),
                )
                for step in steps
            ],
        )


def _show_conditions(console: Console, result: SequenceReport) -> None:
    if not result.conditions:
        return
    console.heading("Conditions: codes carried (synthetic, floor, ceiling), and AUC of telling them apart")
    console.table(
        ("condition", "shares", "log lifts", "contrary", "AUC: real", "AUC: synthetic", "synthetic / real"),
        [
            (
                one.label,
                *(
                    ", ".join(_plain(getattr(side, name)) for side in (one.synthetic, one.floor, one.ceiling))
                    for name in ("shares", "lifts", "contrary")
                ),
                *(
                    _interval(None if one.auc is None else getattr(one.auc, name))
                    for name in ("real", "synthetic", "ratio")
                ),
            )
            for one in result.conditions
        ],
    )


def _show_likelihood(console: Console, likelihood: JsonObject | None) -> None:
    if likelihood is None:
        return
    lines = {"log-likelihood": f"at least {likelihood['log_likelihood']:.2f} nats a patient"}
    if likelihood["weighted"] is not None:
        given = f"{likelihood['given_statics']:.2f} given their static columns"
        lines["by importance"] = f"at least {likelihood['weighted']:.2f}; {given}"
    share = f"{100 * likelihood['kl_share']:.1f} % of the first bound (near 0: not used)"
    console.pairs({**lines, "latent": share})


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "nothing to say"
    return f"{estimate.mean:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"


def _plain(value: float) -> str:
    return "none" if value != value else f"{value:.3f}"  # noqa: PLR0124


def _scores(likeness: Likeness) -> tuple[str, ...]:
    values = (
        likeness.unigram,
        likeness.within.bigram,
        likeness.within.lift,
        likeness.within.lift_either,
        likeness.across.bigram,
        likeness.across.lift,
        likeness.across.lift_either,
    )
    return tuple(_plain(value) for value in values)


def _lengths(values: Sequence[float]) -> str:
    if not values:
        return "no times"
    return f"{values[0]:.2f} ({', '.join(f'{value:g}' for value in values[1:])})"
