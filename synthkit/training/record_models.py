"""A model of records of either mode, opened and asked by the same words."""

from collections.abc import Sequence
from pathlib import Path

from synthkit.data.sequences import PatientSequences
from synthkit.domain.conditions import Condition
from synthkit.training.artefact import read_folder
from synthkit.training.paper import MODE
from synthkit.training.paper_artefact import open_published_records
from synthkit.training.paper_eva import PublishedEva
from synthkit.training.record_mass import record_condition_mass
from synthkit.training.sequence_artefact import (
    RecordSynthesis,
    SequenceModel,
    load_sequence_model,
    synthesize_records,
)
from synthkit.training.sequence_likelihood import RecordLikelihood, record_likelihood


def open_record_model(folder: Path) -> SequenceModel | PublishedEva:
    """Read a model of records, as its header says.

    Raises:
        InputError: Missing, of another format or mode, malformed, or its weights are not the header's.
    """
    header, _ = read_folder(folder)
    return open_published_records(folder) if header.get("mode") == MODE else load_sequence_model(folder)


def draw_from(
    model: SequenceModel | PublishedEva,
    count: int,
    *,
    seed: int,
    conditions: Sequence[Condition] = (),
    visits: int | None = None,
) -> RecordSynthesis:
    """Generate records; see `synthesize_records` and `PublishedEva.draw_records`."""
    if isinstance(model, PublishedEva):
        return model.draw_records(count, seed=seed, conditions=conditions, visits=visits)
    return synthesize_records(model, count, seed=seed, conditions=conditions, visits=visits)


def share_of(model: SequenceModel | PublishedEva, conditions: Sequence[Condition]) -> float:
    """Share of patients who meet conditions, by the model: 0 to 1; see `record_condition_mass`.

    Raises:
        ConditionError: Nobody can meet them.
        SchemaError: A condition names the code column.
    """
    if isinstance(model, PublishedEva):
        return model.share_of(conditions)
    return record_condition_mass(model, conditions)


def attackable(folder: Path) -> SequenceModel | None:
    """The model whose weights an audit attacks; none of a published system, whose folder holds visits.

    Raises:
        InputError: See `open_record_model`.
    """
    found = open_record_model(folder)
    return found if isinstance(found, SequenceModel) else None


def likelihood_of(model: SequenceModel | PublishedEva, records: PatientSequences) -> RecordLikelihood:
    """The bound on records; see `record_likelihood` and `PublishedEva.likelihood`."""
    return model.likelihood(records) if isinstance(model, PublishedEva) else record_likelihood(model, records)
