"""Train and use EVA and EVA_c as published: records written in whole visits of training patients.

Knows the training patients and keeps their visits: the vocabulary is the combinations of codes that they
had, and every visit that is made is one of them. That is the published system, and what the private mode
exists to avoid. How many visits and records are a training patient's is measured when a model is trained,
written into its folder, and is the reason for which a release is refused.

Source: Biswal et al., EVA, 2020; see `generators.eva_paper` for the network and `data.visit_vocabulary` for
Algorithm 2. What it leaves open, and what is done here:
  - Training: Adam at 0.001, one of the three rates searched, in batches of 32 (section 7.2); 20 epochs, of
    which nothing is said. theta and H have their standard normal prior. By default they are the point
    estimate that the paper compares with; Algorithm 1 samples them.
  - Time between visits is not modelled (section 6), nor are columns of a patient other than the conditions:
    they are dropped, and the generated table's schema says so.
  - The conditions of EVA_c are the columns of two categories, of which the second means that the patient
    has it; who has none has the background condition. Where nothing is asked for they are drawn as the
    training patients have them together.
  - A record over the cap keeps its first visits.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch

from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences, starts_of
from synthkit.data.visit_vocabulary import (
    VisitVocabulary,
    VisitWords,
    fit_visit_vocabulary,
)
from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.conditions import Condition, allowed
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.verbatim import Verbatim
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.generators.eva_paper import PaperEva
from synthkit.training.loop import Progress
from synthkit.training.paper import (
    NETWORK,
    PublishedSystem,
    fill_network,
    network_arrays,
    study_document,
)
from synthkit.training.paper_copies import verbatim
from synthkit.training.paper_eva_loop import (
    EvaSettings,
    WordRecords,
    bound_parts,
    fit,
    new_network,
    with_background,
)
from synthkit.training.paper_eva_samples import SAMPLES, read_samples, sample_arrays, with_samples
from synthkit.training.sequence_artefact import RecordSynthesis
from synthkit.training.sequence_likelihood import RecordLikelihood
from synthkit.training.unsafe import warn_of_no_privacy

CODES, STARTS = "visits/codes", "visits/starts"
"""Names of the arrays of the training patients' visits."""

ROWS, COUNTS = "conditions/rows", "conditions/counts"
"""Names of the arrays of the conditions that training patients have together, and of how many have them."""

CHUNK = 512
"""Patients drawn at once."""

MEASURED_RECORDS = 5000
"""At most so many records are made to count copies in."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PublishedEva(PublishedSystem):
    """EVA as published, trained.

    Attributes:
        generated: The schema of what it makes: the codes, and of EVA_c the conditions.
        vocabulary: The training patients' visits: private, and never releasable.
        networks: Of these words, one for each sample of theta and H, or one; they infer alike.
        rows: What conditions training patients have together, int64 (kinds, conditions without background).
        counts: How many training patients have each, int64 (kinds,).
        settings: How it was trained.
        replaced_share: Of the training patients' visits, those that Algorithm 2 replaced.
        copies: What it makes, compared with patients; None until measured.
    """

    generated: Schema
    vocabulary: VisitVocabulary
    networks: tuple[PaperEva, ...]
    rows: np.ndarray
    counts: np.ndarray
    settings: EvaSettings
    replaced_share: float
    copies: Verbatim | None = None

    kind: ClassVar[str] = "eva"
    reliability_words: ClassVar[str] = "{share} of the records were kept; conditions come before the record"
    holds: ClassVar[tuple[str, ...]] = (
        "the visits of the training patients, code for code",
        "weights fitted to the training patients without noise",
    )

    @property
    def schema(self) -> Schema:
        """Of the generated records."""
        return self.generated

    @property
    def network(self) -> PaperEva:
        """The first of the networks, whose sizes are those of all."""
        return self.networks[0]

    @property
    def conditions(self) -> tuple[Column, ...]:
        """The condition columns, in the order of `rows`."""
        return conditions_of(self.generated) if self.network.sizes.conditions else ()

    def draw_records(
        self, count: int, *, seed: int, conditions: Sequence[Condition] = (), visits: int | None = None
    ) -> RecordSynthesis:
        """Generate records; the same seed gives the same ones.

        Args:
            count: How many patients.
            seed: Of every draw.
            conditions: On the condition columns, all honoured exactly.
            visits: Every record's number of visits; None: as the network ends them.

        Raises:
            InputError: `count` is below 1, or `visits` is not within the cap.
            ConditionError: No training patient has conditions like these.
            SchemaError: A condition names the code column.
        """
        if count < 1:
            raise InputError("the number of patients must be at least 1", where="option -n")
        most = self.network.sizes.most_visits
        if visits is not None and not 1 <= visits <= most:
            raise InputError("is not a length this model knows", where="option --visits", fix=f"1 to {most}")
        rng = torch.Generator().manual_seed(seed)
        shares = self._shares(conditions)
        rows = self.rows[torch.multinomial(shares, count, replacement=True, generator=rng).numpy()]
        parts = np.array_split(rows, max(-(-count // CHUNK), min(len(self.networks), count)))
        words = [
            self._words(self.networks[number % len(self.networks)], part, rng, visits)
            for number, part in enumerate(parts)
        ]
        return RecordSynthesis(records=self._spelt(words, rows), reliability=1.0)

    def share_of(self, conditions: Sequence[Condition]) -> float:
        """Share of training patients with conditions like these, exactly.

        Raises:
            ConditionError: There are none.
            SchemaError: A condition names the code column.
        """
        return float(self._shares(conditions).sum() / self.counts.sum())

    def _shares(self, conditions: Sequence[Condition]) -> torch.Tensor:
        """How often each row of conditions is drawn, float64 (kinds,); 0 where it does not meet them."""
        if any(one.column == self.generated.code.name for one in conditions) or (
            conditions and not self.conditions
        ):
            raise SchemaError(
                "conditions are on the columns of a patient, not on codes", fix="name a static column"
            )
        shares = self.counts.astype(np.float64)
        for place, column in enumerate(self.conditions):
            shares[~np.isin(self.rows[:, place], allowed(column, conditions).categories)] = 0.0
        if not shares.sum():
            named = ", ".join(dict.fromkeys(one.column for one in conditions))
            raise ConditionError(
                "no training patient has these conditions together", where=f"condition on {named}"
            )
        return torch.from_numpy(shares)

    def _words(
        self, network: PaperEva, rows: np.ndarray, rng: torch.Generator, visits: int | None
    ) -> np.ndarray:
        """Words of records with these conditions, int64 (records, visits), -1 after the last."""
        has = with_background(rows) if network.sizes.conditions else np.zeros((len(rows), 0))
        latent = network.prior(torch.from_numpy(has.astype(np.float32)), rng)
        wanted = None if visits is None else torch.full((len(rows),), visits)
        return torch.stack(network.draw(latent, rng, lengths=wanted), dim=1).numpy()

    def _spelt(self, words: list[np.ndarray], rows: np.ndarray) -> SyntheticSequences:
        """Words as records."""
        lengths = np.concatenate([(part >= 0).sum(axis=1) for part in words])
        codes, starts = self.vocabulary.spelt(np.concatenate([part[part >= 0] for part in words]))
        columns = {
            column.name: np.array(column.categories, dtype=object)[rows[:, place]]
            for place, column in enumerate(self.conditions)
        }
        return SyntheticSequences(
            schema=self.generated,
            codes=codes,
            visit_starts=starts,
            patient_starts=starts_of(lengths),
            statics=pd.DataFrame(columns, index=range(len(rows))),
        )

    def likelihood(self, records: PatientSequences) -> RecordLikelihood:
        """The bound on records after Algorithm 2, given their conditions; nothing of static columns.

        Of several samples the mean, which bounds that of their mixture. The words' part says nothing of
        the codes that a replacement lost: see `words`.

        Raises:
            SchemaError: The records have another code list, or lack a condition.
        """
        if records.schema.code.categories != self.generated.code.categories:
            raise SchemaError("the records have another code list", fix="read them by the model's schema")
        kept = records.first_visits(self.network.sizes.most_visits)
        rows = _condition_rows(records, self.conditions)
        people = WordRecords(self.vocabulary.words(kept).words, kept.patient_starts, rows)
        parts = np.mean([bound_parts(network, people) for network in self.networks], axis=0)
        visits, ends, kl = (float(part) for part in parts)
        return RecordLikelihood(codes=visits, leaves=ends, statics=0.0, kl=kl)

    def words(self, records: Sequences) -> VisitWords:
        """Records by Algorithm 2: how much of them the vocabulary does not hold."""
        return self.vocabulary.words(records.first_visits(self.network.sizes.most_visits))

    def header(self) -> JsonObject:
        """See `PublishedSystem.header`."""
        sizes = self.network.sizes
        return {
            "hyperparameters": asdict(self.settings),
            "encoding": {"provenance": "data", "most_visits": sizes.most_visits, "words": sizes.words},
            "replaced_share": round(self.replaced_share, 6),
            "verbatim": None if self.copies is None else self.copies.to_json(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """See `PublishedSystem.arrays`."""
        return {
            **network_arrays(self.network),
            **sample_arrays(self.networks[1:]),
            CODES: self.vocabulary.codes,
            STARTS: self.vocabulary.starts,
            ROWS: np.ascontiguousarray(self.rows),
            COUNTS: self.counts,
        }

    @classmethod
    def read(cls, header: JsonObject, arrays: dict[str, np.ndarray], schema: Schema) -> Self:
        """See `PublishedSystem.read`."""
        kept = {name: arrays[name] for name in (CODES, STARTS, ROWS, COUNTS)}
        if any(name not in kept and not name.startswith((NETWORK, SAMPLES)) for name in arrays):
            raise ValueError("an array is too many")
        if kept[CODES].dtype != np.int32 or any(kept[n].dtype != np.int64 for n in (STARTS, ROWS, COUNTS)):
            raise ValueError("an array is of another type")
        vocabulary = VisitVocabulary(codes=kept[CODES], starts=kept[STARTS], size=len(schema.vocabulary))
        settings = EvaSettings(**header["hyperparameters"])
        columns = conditions_of(schema) if cls.kind == PublishedEvaC.kind else ()
        _check_conditions(kept[ROWS], kept[COUNTS], len(columns))
        encoding, copies = header["encoding"], header["verbatim"]
        if encoding["words"] != len(vocabulary):
            raise ValueError("the vocabulary is not the header's")
        most, sizes = int(encoding["most_visits"]), (len(vocabulary), len(columns))
        network = new_network(settings, sizes[0], most, sizes[1], seed=0)
        fill_network(network, arrays)
        samples = read_samples(network, arrays, count=max(0, settings.samples - 1))
        return cls(
            generated=schema,
            vocabulary=vocabulary,
            networks=with_samples(network, samples),
            rows=kept[ROWS],
            counts=kept[COUNTS],
            settings=settings,
            replaced_share=float(header["replaced_share"]),
            copies=None if copies is None else Verbatim.from_json(copies),
            study=header["study"],
            study_digest=header["study_digest"],
            site=header["site"],
        )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PublishedEvaC(PublishedEva):
    """EVA_c as published, trained."""

    kind: ClassVar[str] = "eva-c"
    holds: ClassVar[tuple[str, ...]] = (
        *PublishedEva.holds,
        "how many training patients have which conditions together",
    )


def conditions_of(schema: Schema) -> tuple[Column, ...]:
    """The static columns of two categories."""
    return tuple(c for c in schema if c.kind is not Kind.CODE and len(c.categories) == 2)


def train_eva(
    records: PatientSequences,
    settings: EvaSettings,
    *,
    unseen: PatientSequences,
    is_conditional: bool = False,
    seed: int,
    study: str,
    site: str,
    progress: Progress | None = None,
) -> PublishedEva:
    """Train the published system on all records given. WITHOUT privacy; logged at each use.

    The same seed gives the same model on the same machine and number of threads.

    Args:
        records: The training patients.
        settings: How to train.
        unseen: Patients that are not trained on: the control of the count of copies, and nothing else.
        is_conditional: EVA_c rather than EVA.
        seed: Of the initial weights, the order of the patients and the latent draws.
        study: Name under which the model is filed.
        site: This hospital's name.
        progress: Called after each epoch with (epochs done, epochs in all).

    Raises:
        InputError: Fewer than two patients, none who is not trained on, or no condition column.
    """
    warn_of_no_privacy()
    if len(records) < 2 or not len(unseen):
        raise InputError("needs two patients to train on and one to compare with", where="the records")
    schema = _generated_schema(records.schema, is_conditional=is_conditional)
    kept = records.first_visits(settings.most_visits)
    vocabulary = fit_visit_vocabulary(kept, size=settings.words)
    words = vocabulary.words(kept)
    columns = conditions_of(schema)
    has = _condition_rows(records, columns)
    rows, counts = np.unique(has, axis=0, return_counts=True) if columns else _no_conditions(len(records))
    most = int(kept.visits_per_patient.max())
    network = new_network(settings, len(vocabulary), most, len(columns), seed=seed)
    people = WordRecords(words.words, kept.patient_starts, has)
    samples = fit(network, people, settings, seed=seed, progress=progress)
    kind = PublishedEvaC if is_conditional else PublishedEva
    document = study_document(kind.kind, schema, asdict(settings), seed=seed, study=study, site=site)
    model = kind(
        generated=schema,
        vocabulary=vocabulary,
        networks=with_samples(network, samples)[1 if samples else 0 :],
        rows=rows.astype(np.int64),
        counts=counts.astype(np.int64),
        settings=settings,
        replaced_share=words.replaced_share,
        study=study,
        study_digest=digest_of(document),
        site=site,
    )
    made = model.draw_records(min(len(records), MEASURED_RECORDS), seed=seed).records
    return replace(model, copies=verbatim(made, kept, unseen.first_visits(most), seed=seed))


def _generated_schema(schema: Schema, *, is_conditional: bool) -> Schema:
    """Without times, and without columns of a patient that the published system does not know."""
    known = conditions_of(schema) if is_conditional else ()
    if is_conditional and not known:
        raise InputError(
            "needs at least one static column of two categories: a condition",
            where=f"generator {PublishedEvaC.kind}",
            fix="add the conditions to the patients' table, or --generator eva",
        )
    columns = tuple(column for column in schema if column.kind is Kind.CODE or column in known)
    dropped = [column.name for column in schema if column not in columns]
    dropped += [schema.time] if schema.time is not None else []
    return replace(schema, columns=columns, time=None, ignored=(*schema.ignored, *dropped))


def _condition_rows(records: Sequences, columns: Sequence[Column]) -> np.ndarray:
    """Which conditions patients have, int64 (patients, conditions); an empty cell is not had."""
    missing = [column.name for column in columns if column.name not in records.statics.columns]
    if missing:
        raise SchemaError("the records lack a condition", where=f"column {missing[0]}", fix="add it")
    found = [(records.statics[column.name] == column.categories[1]).to_numpy() for column in columns]
    return np.column_stack(found).astype(np.int64) if found else np.zeros((len(records.statics), 0), np.int64)


def _no_conditions(patients: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((1, 0), dtype=np.int64), np.array([patients])


def _check_conditions(rows: np.ndarray, counts: np.ndarray, columns: int) -> None:
    """ValueError when these are no conditions of a model with so many condition columns."""
    if rows.ndim != 2 or rows.shape != (counts.size, columns) or not counts.size:
        raise ValueError("the conditions do not fit")
    if (counts < 1).any() or not np.isin(rows, (0, 1)).all():
        raise ValueError("the conditions do not fit")
