"""Train and use Med-VAE as published: plain Adam epochs, and latent libraries of real patients.

Knows the training patients and keeps something of each: a model made here holds, for every one of them,
the imputed row and the latent mean and log variance, and each synthetic row descends from one of them.
That is the published system, and what the private mode exists to avoid.

Source: Med-VAE, supplementary text "Training Process and Synthetic Data Generation" (page 20), sections
1.4 and 1.5. What it leaves open, and what is done here:
  - Batches of 32 (the notebook's), a new order each epoch. The notebook also clips each gradient value
    at 1, which the text does not say; it is not done.
  - A last batch of one patient joins the one before it: BatchNorm needs two.
  - "Multiple conditions" have no published form (section 3 names them as future work): here the library
    of several conditions is the intersection of theirs.
  - The published sampler does not honour conditions exactly (section 2.3). `draw` repeats it until
    enough rows do, and reports which share did: the paper's success rate.
The 80/20 split is the caller's (`TRAIN_SHARES`; `--held-out` on the command line): this trains on all the
patients it is given.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch

from synthkit.data.paper_encoding import PaperEncoding, prepare
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.conditions import Condition
from synthkit.domain.mixed import MixedLayout, MixedRows
from synthkit.domain.schema import Schema
from synthkit.errors import ConditionError, InputError
from synthkit.generators.medvae_paper import LATENT, MixedBatch, PaperMedVae, beta_at
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
from synthkit.training.unsafe import warn_of_no_privacy

LIBRARY = "library/"
"""Prefix of the names of a library's arrays."""

CHUNK = 8192
"""Rows encoded or decoded at once: bounds memory."""

MOST_DRAWS = 200
"""Draws per wanted row before conditions are given up."""


@dataclass(frozen=True, kw_only=True)
class MedVaeSettings:
    """How to train; the defaults are the published ones.

    `kl_weight` is the largest beta, reached in the last epoch: 1 as the text says; 0 trains what the
    notebook trained (see `synthkit.generators.medvae_paper`). `rare_below` is the share of patients below
    which a column of categories is dropped, the paper's 0.1 for drugs; 0 keeps all.
    """

    epochs: int = 200
    batch_size: int = 32
    learning_rate: float = 0.001
    kl_weight: float = 1.0
    rare_below: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (1, 100_000),
            "batch_size": (2, 1_000_000),
            "learning_rate": (1e-9, 10.0),
            "kl_weight": (0.0, 1000.0),
            "rare_below": (0.0, 1.0),
        }
        check_ranges(self, ranges)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Library:
    """The training patients' rows and latents, patient by patient. Private, and never releasable.

    `mean` and `log_variance` are float32, shape (patients, 32).
    """

    rows: MixedRows
    mean: np.ndarray
    log_variance: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name."""
        arrays = {
            "numeric": self.rows.numeric,
            "binary": self.rows.binary,
            "categories": self.rows.categories,
            "mean": self.mean,
            "log_variance": self.log_variance,
        }
        # An array in column order would be written as it lies in memory, under the shape of the other order.
        return {LIBRARY + name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def read(cls, arrays: dict[str, np.ndarray], layout: MixedLayout) -> "Library":
        """Inverse of `arrays`; ValueError or KeyError when they do not fit the layout."""
        found = {name.removeprefix(LIBRARY): a for name, a in arrays.items() if name.startswith(LIBRARY)}
        patients = len(found["mean"])
        widths = {
            "numeric": (np.float64, layout.numeric),
            "binary": (np.int64, layout.binary),
            "categories": (np.int64, len(layout.levels)),
            "mean": (np.float32, LATENT),
            "log_variance": (np.float32, LATENT),
        }
        if set(found) != set(widths) or any(not name.startswith((NETWORK, LIBRARY)) for name in arrays):
            raise ValueError("an array is missing or too many")
        for name, (kind, width) in widths.items():
            array = found[name]
            if array.dtype != kind or array.shape != (patients, width) or not np.isfinite(array).all():
                raise ValueError("a library's array does not fit")
        limits = [*(2 for _ in range(layout.binary)), *layout.levels]
        codes = np.concatenate([found["binary"], found["categories"]], axis=1)
        if not patients or (codes < 0).any() or (codes >= np.array(limits, dtype=np.int64)).any():
            raise ValueError("a library's code is no level")
        rows = MixedRows(numeric=found["numeric"], binary=found["binary"], categories=found["categories"])
        return cls(rows=rows, mean=found["mean"], log_variance=found["log_variance"])


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PublishedMedVae(PaperModel):
    """The published system, trained."""

    encoding: PaperEncoding
    network: PaperMedVae
    library: Library
    settings: MedVaeSettings
    binary_weight: float

    kind: ClassVar[str] = "medvae"
    reliability_words: ClassVar[str] = (
        "{share} of what was drawn met the conditions, the rest was thrown away"
    )
    holds: ClassVar[tuple[str, ...]] = (
        "the smallest and largest value of every numeric column",
        "the categories that occur in the training patients",
        "the imputed row of every training patient",
        "the latent mean and log variance of every training patient",
        "weights fitted to the training patients without noise",
    )

    @property
    def schema(self) -> Schema:
        """Of the generated table; without the columns dropped as rare."""
        return self.encoding.schema

    @torch.no_grad()
    def draw(
        self, count: int, *, seed: int, conditions: Sequence[Condition] = ()
    ) -> tuple[SyntheticTable, float]:
        """Draw rows from the library of the conditions; the same seed gives the same rows.

        Returns:
            The table, every row of which meets the conditions; and the share of drawn rows that did.

        Raises:
            InputError: `count` is below 1.
            ConditionError: No training patient meets the conditions, or next to no drawn row does.
        """
        if count < 1:
            raise InputError("the number of rows must be at least 1", where="option -n")
        members = self._members(conditions)
        rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        kept: list[MixedRows] = []
        found = drawn = 0
        while found < count:
            size = min(CHUNK, max(2 * (count - found), 256) if conditions else count - found)
            rows = self._decoded(rng.choice(members, size=size), noise)
            if conditions:
                rows = rows.take(np.flatnonzero(self.encoding.satisfying(rows, conditions)))
            kept.append(rows)
            found, drawn = found + len(rows), drawn + size
            if drawn > MOST_DRAWS * count + CHUNK and found < count:
                raise ConditionError(
                    "the published sampler hardly ever meets these conditions",
                    where="option --where",
                    fix="widen them, or use the private mode, which honours them by construction",
                )
        return self.encoding.decode(_joined(kept).take(np.arange(count))), found / drawn

    def header(self) -> JsonObject:
        """See `PaperModel.header`."""
        return {
            "hyperparameters": {**asdict(self.settings), "binary_weight": self.binary_weight},
            "encoding": self.encoding.to_json(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """See `PaperModel.arrays`."""
        return {**network_arrays(self.network), **self.library.arrays()}

    @classmethod
    def read(cls, header: JsonObject, arrays: dict[str, np.ndarray], schema: Schema) -> "PublishedMedVae":
        """See `PaperModel.read`."""
        encoding = PaperEncoding.from_json(header["encoding"], schema)
        settings = dict(header["hyperparameters"])
        binary_weight = float(settings.pop("binary_weight"))
        with torch.random.fork_rng(devices=[]):
            network = PaperMedVae(encoding.layout)
        fill_network(network, arrays)
        return cls(
            encoding=encoding,
            network=network,
            library=Library.read(arrays, encoding.layout),
            settings=MedVaeSettings(**settings),
            binary_weight=binary_weight,
            study=header["study"],
            study_digest=header["study_digest"],
            site=header["site"],
        )

    def _members(self, conditions: Sequence[Condition]) -> np.ndarray:
        """Positions of the training patients who meet every condition."""
        if not conditions:
            return np.arange(len(self.library))
        check_conditions(conditions)
        members = np.flatnonzero(self.encoding.satisfying(self.library.rows, conditions))
        if not members.size:
            raise ConditionError(
                "no training patient meets the conditions, and a library holds real patients alone",
                where="option --where",
                fix="widen them, or use the private mode",
            )
        return members

    def _decoded(self, members: np.ndarray, noise: torch.Generator) -> MixedRows:
        """One row from each of these patients' latent distributions."""
        mean = torch.from_numpy(self.library.mean[members])
        spread = torch.exp(0.5 * torch.from_numpy(self.library.log_variance[members]))
        z = mean + spread * torch.randn(mean.shape, generator=noise)
        batch = self.network.most_probable(z)
        return MixedRows(
            numeric=batch.numeric.numpy().astype(np.float64),
            binary=batch.binary.numpy().astype(np.int64),
            categories=batch.categories.numpy(),
        )


def train_medvae(
    table: PatientTable,
    settings: MedVaeSettings,
    *,
    seed: int,
    study: str,
    site: str,
    progress: Progress | None = None,
) -> PublishedMedVae:
    """Train the published system on all rows given. WITHOUT privacy; logged at each use.

    The same seed gives the same model on the same machine and number of threads. Computed on the
    processor: at the published batch size an accelerator is slower.

    Args:
        table: The training patients: the 80 % of `TRAIN_SHARES`.
        settings: How to train.
        seed: Of the imputer, the initial weights, the order of the patients and the latent draws.
        study: Name under which the model is filed.
        site: This hospital's name.
        progress: Called after each epoch with (epochs done, epochs in all).

    Raises:
        SchemaError: A column cannot be generated as one value a patient.
        InputError: The table cannot be learnt from; see `prepare`.
    """
    warn_of_no_privacy()
    encoding, rows = prepare(table, rare_below=settings.rare_below, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PaperMedVae(encoding.layout)
    binary_weight = _fit(network, _tensors(rows), settings, seed=seed, progress=progress)
    mean, log_variance = _latents(network, rows)
    document = study_document(
        PublishedMedVae.kind, encoding.schema, asdict(settings), seed=seed, study=study, site=site
    )
    return PublishedMedVae(
        encoding=encoding,
        network=network,
        library=Library(rows=rows, mean=mean, log_variance=log_variance),
        settings=settings,
        binary_weight=binary_weight,
        study=study,
        study_digest=digest_of(document),
        site=site,
    )


def _fit(
    network: PaperMedVae, rows: MixedBatch, settings: MedVaeSettings, *, seed: int, progress: Progress | None
) -> float:
    """All epochs, in place; returns the calibrated weight of the binary term."""
    patients = len(rows.numeric)
    rng, draws = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    binary_weight = _calibrated(network, rows, draws)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    network.train()
    for epoch in range(settings.epochs):
        beta = settings.kl_weight * beta_at(epoch, settings.epochs)
        for chosen in batches(patients, settings.batch_size, rng):
            optimizer.zero_grad()
            noise = torch.randn(len(chosen), network.mean.out_features, generator=draws)
            terms = network.loss_terms(_rows_of(rows, chosen), noise=noise)
            torch.autograd.backward(terms.total(binary_weight=binary_weight, beta=beta))
            optimizer.step()
        if progress is not None:
            progress(epoch + 1, settings.epochs)
    network.eval()
    return binary_weight


@torch.no_grad()
def _calibrated(network: PaperMedVae, rows: MixedBatch, draws: torch.Generator) -> float:
    """The binary weight, from the untrained network's terms on up to `CHUNK` patients."""
    first = _rows_of(rows, torch.arange(min(CHUNK, len(rows.numeric))))
    noise = torch.randn(len(first.numeric), network.mean.out_features, generator=draws)
    # On a copy's statistics: calibration must not leave a trace in BatchNorm's running averages.
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    weight = network.train().loss_terms(first, noise=noise).comparable_binary_weight()
    network.load_state_dict(kept)
    return weight


@torch.no_grad()
def _latents(network: PaperMedVae, rows: MixedRows) -> tuple[np.ndarray, np.ndarray]:
    """Every patient's latent mean and log variance, float32, each (patients, 32)."""
    tensors = _tensors(rows)
    chunks = torch.split(torch.arange(len(rows)), CHUNK)
    parts = [network.encode(_rows_of(tensors, chunk)) for chunk in chunks]
    return torch.cat([mean for mean, _ in parts]).numpy(), torch.cat([spread for _, spread in parts]).numpy()


def _tensors(rows: MixedRows) -> MixedBatch:
    return MixedBatch(
        numeric=torch.from_numpy(rows.numeric.astype(np.float32)),
        binary=torch.from_numpy(rows.binary.astype(np.float32)),
        categories=torch.from_numpy(rows.categories),
    )


def _rows_of(rows: MixedBatch, chosen: torch.Tensor) -> MixedBatch:
    return MixedBatch(
        numeric=rows.numeric[chosen], binary=rows.binary[chosen], categories=rows.categories[chosen]
    )


def _joined(parts: Sequence[MixedRows]) -> MixedRows:
    return MixedRows(
        numeric=np.concatenate([part.numeric for part in parts]),
        binary=np.concatenate([part.binary for part in parts]),
        categories=np.concatenate([part.categories for part in parts]),
    )
