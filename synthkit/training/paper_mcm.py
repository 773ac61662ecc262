"""Train and use MCM as published: random masks, and rows of real patients masked and completed.

Knows the training patients and keeps their rows: a row is made by masking a share of a patient's and
completing it, so what is not masked is that patient's. That is the published system, and what the private
mode exists to avoid. How many rows lead back to their patient is measured when a model is trained, written
into its folder, and is the reason for which a release is refused.

Source: Kuo, Gallego and Jorm, Masked Clinical Modelling, sections 2.2 and 3. What it leaves open, and what
is done here; "notebook" is the authors' WHAS500 notebook:
  - Training: Adam at 0.001, 500 epochs, batches of 16; in each row a share drawn evenly from 10 to 95 % of
    the columns is masked, rounded down, anew in each epoch (notebook).
  - Synthesis: each patient once, in random order, and again from the start when more rows are asked for;
    75 % of the columns masked, rounded down (Figure 2; Table 1 has 50 %, the notebook 25 %).
  - Augmentation: cells of the stratum are drawn evenly from what the conditions leave of the patients'
    range or vocabulary, and all others completed; no real row is used. A completion is a conditional mean,
    so rows with the same drawn cells are the same in all others.
  - A level or a range without a training patient is refused: the network was never shown one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from synthkit.data.paper_boxcox import BoxCoxEncoding, fit_boxcox, masks
from synthkit.data.partial import CompletedTable, PartialTable, stack
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.conditions import Condition, Operator
from synthkit.domain.linkage import PUBLISHED_MASK, Linkage
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.generators.mcm_paper import PaperMcm
from synthkit.training.loop import Progress
from synthkit.training.paper import (
    NETWORK,
    PaperModel,
    batches,
    check_conditions,
    check_ranges,
    fill_network,
    network_arrays,
    study_document,
)
from synthkit.training.paper_linkage import linked_rows
from synthkit.training.paper_stratum import stratum
from synthkit.training.unsafe import warn_of_no_privacy

ROWS = "patients/values"
"""Name of the array of the training patients' rows."""

TRAINING_SHARES = (0.10, 0.95)
"""Least and greatest share that is masked in training."""

MEASURED_SHARES = (0.25, 0.5, PUBLISHED_MASK, 0.9)
"""Shares at which linkage is measured."""

MEASURED_ROWS = 1000
"""At most so many rows are made for that, compared with all patients."""


@dataclass(frozen=True, kw_only=True)
class McmSettings:
    """How to train; the defaults are the published ones."""

    epochs: int = 500
    batch_size: int = 16
    learning_rate: float = 0.001

    def __post_init__(self) -> None:
        check_ranges(
            self, {"epochs": (1, 100_000), "batch_size": (2, 1_000_000), "learning_rate": (1e-9, 10.0)}
        )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PublishedMcm(PaperModel):
    """The published system, trained.

    `rows` are the training patients' values (`synthkit.data.paper_boxcox`), float64, shape (patients,
    columns): private, and never releasable. `mask_share` is what synthesis masks.
    """

    encoding: BoxCoxEncoding
    network: PaperMcm
    rows: np.ndarray
    settings: McmSettings
    mask_share: float = PUBLISHED_MASK

    kind: ClassVar[str] = "mcm"
    reliability_words: ClassVar[str] = (
        "{share} of the rows were kept; they are completed from the conditions' cells alone, so rows that "
        "begin with the same cells are the same"
    )
    holds: ClassVar[tuple[str, ...]] = (
        "the smallest and largest value and the Box-Cox power of every numeric column",
        "the categories that occur in the training patients",
        "the row of every training patient",
        "weights fitted to the training patients without noise",
    )

    @property
    def schema(self) -> Schema:
        """Of the generated table."""
        return self.encoding.schema

    def draw(
        self, count: int, *, seed: int, conditions: Sequence[Condition] = ()
    ) -> tuple[SyntheticTable, float]:
        """Mask and complete real rows or, under conditions, complete rows of the stratum alone.

        Returns:
            The table, every row of which meets the conditions; and 1: none was set aside.

        Raises:
            InputError: `count` is below 1.
            ConditionError: No training patient has a level, or lies in a range, that the conditions allow.
        """
        if count < 1:
            raise InputError("the number of rows must be at least 1", where="option -n")
        check_conditions(conditions)
        rng = np.random.default_rng(seed)
        # No cell stays empty, so that "is not missing" alone asks for nothing.
        asked = tuple(one for one in conditions if one.operator is not Operator.NOT_MISSING)
        given = stratum(self.encoding, count, asked, rng) if asked else self._masked(count, rng)[0]
        return self.encoding.table(self._completed(given)), 1.0

    def complete(self, partial: PartialTable, *, seed: int, copies: int) -> CompletedTable:  # noqa: ARG002
        """Fill the unknown cells of partial rows; see `synthkit.training.synthesis.complete`.

        The completion is the network's one answer: there is nothing to draw, and every copy is the same.
        A level that no training patient has is kept, and the network is not told it.

        Raises:
            InputError: The rows are of another schema.
        """
        if partial.schema.digest != self.schema.digest:
            raise InputError("the partial rows are of another schema", fix="read them by the model's own")
        given = np.where(partial.known, self.encoding.code(partial.values), np.nan)
        completed = partial.fill(self.encoding.table(self._completed(given)).frame)
        return stack([completed] * copies)

    def with_mask_share(self, share: float) -> "PublishedMcm":
        """The same model, masking another share of each real row.

        Raises:
            InputError: It is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise InputError("is out of range", where="option --mask-share", fix="above 0, at most 1")
        return replace(self, mask_share=share)

    def measure(self, mask_share: float, *, seed: int) -> Linkage:
        """How many rows lead back to their patient at this share; of at most `MEASURED_ROWS` rows."""
        count = min(len(self.rows), MEASURED_ROWS)
        given, sources = self.with_mask_share(mask_share)._masked(count, np.random.default_rng(seed))
        varied = self.encoding.varied
        made = self._completed(given)
        return Linkage(
            mask_share=mask_share,
            kept_cells=1 - float(np.isnan(given[:, varied]).mean()),
            linked_rows=linked_rows(self.rows[:, varied], made[:, varied], sources),
        )

    def _masked(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Real rows with NaN where masked, shape (count, columns), and whose they are, shape (count,)."""
        rounds = -(-count // len(self.rows))
        sources = np.concatenate([rng.permutation(len(self.rows)) for _ in range(rounds)])[:count]
        given, varied = self.rows[sources], self.encoding.varied
        hidden = np.zeros(given.shape, dtype=bool)
        hidden[:, varied] = masks(np.full(count, int(varied.size * self.mask_share)), varied.size, rng)
        given[hidden] = np.nan
        return given, sources

    @torch.no_grad()
    def _completed(self, given: np.ndarray) -> np.ndarray:
        """Values with every NaN filled by the network."""
        empty = np.isnan(given)
        features = torch.from_numpy(self.encoding.features(given).astype(np.float32))
        output = self.network(features, torch.from_numpy(~empty[:, self.encoding.owners]))
        made = self.encoding.values(output.numpy().astype(np.float64))
        return np.where(empty, made, given)

    def header(self) -> JsonObject:
        """See `PaperModel.header`."""
        return {
            "hyperparameters": asdict(self.settings),
            "encoding": self.encoding.to_json(),
            "linkage": [one.to_json() for one in self.linkage],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """See `PaperModel.arrays`."""
        return {**network_arrays(self.network), ROWS: np.ascontiguousarray(self.rows)}

    @classmethod
    def read(cls, header: JsonObject, arrays: dict[str, np.ndarray], schema: Schema) -> "PublishedMcm":
        """See `PaperModel.read`."""
        encoding = BoxCoxEncoding.from_json(header["encoding"], schema)
        if any(name != ROWS and not name.startswith(NETWORK) for name in arrays):
            raise ValueError("an array is too many")
        network = _network(encoding, seed=0)
        fill_network(network, arrays)
        rows = arrays[ROWS]
        _check_rows(rows, encoding)
        return cls(
            encoding=encoding,
            network=network,
            rows=rows,
            settings=McmSettings(**header["hyperparameters"]),
            linkage=tuple(Linkage.from_json(one) for one in header["linkage"]),
            study=header["study"],
            study_digest=header["study_digest"],
            site=header["site"],
        )


def train_mcm(
    table: PatientTable,
    settings: McmSettings,
    *,
    seed: int,
    study: str,
    site: str,
    progress: Progress | None = None,
) -> PublishedMcm:
    """Train the published system on all rows given. WITHOUT privacy; logged at each use.

    The same seed gives the same model on the same machine and number of threads. Computed on the
    processor: at the published batch size an accelerator is slower.

    Args:
        table: The training patients; every row counts as one.
        settings: How to train.
        seed: Of the initial weights, the order of the patients and the masks.
        study: Name under which the model is filed.
        site: This hospital's name.
        progress: Called after each epoch with (epochs done, epochs in all).

    Raises:
        SchemaError: A column cannot be generated as one value a patient.
        InputError: The table cannot be learnt from; see `fit_boxcox`.
    """
    warn_of_no_privacy()
    encoding = fit_boxcox(table)
    rows = encoding.code(table.frame)
    network = _network(encoding, seed=seed)
    _fit(network, encoding, rows, settings, seed=seed, progress=progress)
    document = study_document(
        PublishedMcm.kind, encoding.schema, asdict(settings), seed=seed, study=study, site=site
    )
    model = PublishedMcm(
        encoding=encoding,
        network=network,
        rows=rows,
        settings=settings,
        study=study,
        study_digest=digest_of(document),
        site=site,
    )
    return replace(model, linkage=tuple(model.measure(share, seed=seed) for share in MEASURED_SHARES))


def _network(encoding: BoxCoxEncoding, *, seed: int) -> PaperMcm:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperMcm(len(encoding.owners)).eval()


def _fit(
    network: PaperMcm,
    encoding: BoxCoxEncoding,
    rows: np.ndarray,
    settings: McmSettings,
    *,
    seed: int,
    progress: Progress | None,
) -> None:
    """All epochs, in place."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(encoding.features(rows).astype(np.float32))
    present = torch.from_numpy(~np.isnan(rows)[:, encoding.owners])
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    for epoch in range(settings.epochs):
        seen = present & ~torch.from_numpy(_training_masks(encoding, len(rows), rng))
        for chosen in batches(len(rows), settings.batch_size, rng):
            optimizer.zero_grad()
            torch.autograd.backward(network.loss(features[chosen], seen[chosen], present[chosen]))
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, settings.epochs)


def _training_masks(encoding: BoxCoxEncoding, rows: int, rng: np.random.Generator) -> np.ndarray:
    """What an epoch masks, bool, shape (rows, features): all features of a column, or none."""
    varied = encoding.varied
    counts = (varied.size * rng.uniform(*TRAINING_SHARES, size=rows)).astype(np.int64)
    of_columns = masks(counts, varied.size, rng)
    features: np.ndarray = of_columns[:, np.searchsorted(varied, encoding.owners)]
    return features


def _check_rows(rows: np.ndarray, encoding: BoxCoxEncoding) -> None:
    """ValueError when these are no rows of the encoding."""
    if rows.dtype != np.float64 or rows.shape != (len(rows), len(encoding.columns)) or not len(rows):
        raise ValueError("the rows do not fit")
    for place, column in enumerate(encoding.columns):
        values = rows[:, place][~np.isnan(rows[:, place])]
        if column.fitted.column.is_numeric:
            is_value = (values >= column.fitted.minimum) & (values <= column.fitted.maximum)
        else:
            is_value = np.isin(values, np.arange(len(column.fitted.levels)))
        if not is_value.all():
            raise ValueError("a row has a value that the encoding has not")
