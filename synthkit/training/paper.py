"""What the published systems have in common: a model that keeps patients, and says so.

Knows that such a model has a schema, draws rows under conditions and is written as a header and arrays;
which network it has is its own affair (`paper_medvae`, `paper_mcm`, and of records `paper_eva`). Refuses to
claim anything: the type has no spend, and its provenance is NON_DP. It stands beside `Model` and is no
subtype of it: nothing that is private takes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from synthkit.data.table import SyntheticTable
from synthkit.domain.canonical import JsonObject
from synthkit.domain.conditions import Condition, Operator
from synthkit.domain.linkage import Linkage
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.schema import Schema
from synthkit.errors import ConditionError, InputError

MODE = "paper"

TRAIN_SHARES = (0.8, 0.2)
"""Shares of the patients to train and to test on, as published (Med-VAE)."""

NETWORK = "network/"
"""Prefix of the names of a network's arrays."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PublishedSystem(ABC):
    """A published system, trained, of tables or of records."""

    study: str
    study_digest: str
    site: str

    kind: ClassVar[str]
    holds: ClassVar[tuple[str, ...]]
    """What a folder of it was derived from the patients without any protection."""

    reliability_words: ClassVar[str]
    """What the figure that `draw` returns means, with `{share}` in its place."""

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """Of what it generates."""

    @property
    def is_private(self) -> bool:
        """Never."""
        return False

    @property
    def encoder_provenance(self) -> EncoderProvenance:
        """Learnt from these patients without DP: every claim is refused."""
        return EncoderProvenance.NON_DP

    @abstractmethod
    def header(self) -> JsonObject:
        """Its part of a folder's header: `hyperparameters`, `encoding` and what else it knows."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """All its arrays by name, each in C order: the network's under `NETWORK`."""

    @classmethod
    @abstractmethod
    def read(cls, header: JsonObject, arrays: dict[str, np.ndarray], schema: Schema) -> Self:
        """Inverse of `header` and `arrays`; KeyError, TypeError or ValueError when it is no such folder."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PaperModel(PublishedSystem):
    """One that draws rows of a table."""

    linkage: tuple[Linkage, ...] = ()
    """How many rows lead back to a patient, where rows are made from a patient's cells; else nothing."""

    @abstractmethod
    def draw(
        self, count: int, *, seed: int, conditions: Sequence[Condition] = ()
    ) -> tuple[SyntheticTable, float]:
        """Draw rows, all of which meet the conditions; the same seed gives the same rows.

        Returns:
            The table; and the share of drawn rows that met the conditions before any was set aside.

        Raises:
            InputError: `count` is below 1.
            ConditionError: The published system cannot meet the conditions.
        """


def check_ranges(settings: object, ranges: dict[str, tuple[float, float]]) -> None:
    """Refuse a setting out of its range, NaN included.

    Raises:
        InputError: One is.
    """
    for name, (low, high) in ranges.items():
        if not low <= getattr(settings, name) <= high:
            raise InputError("is out of range", where=f"setting {name}", fix=f"{low:g} to {high:g}")


def check_conditions(conditions: Sequence[Condition]) -> None:
    """Refuse what no row of a published system could be.

    Raises:
        ConditionError: A cell is to be empty.
    """
    empty = [one.column for one in conditions if one.operator is Operator.MISSING]
    if empty:
        raise ConditionError(
            "the paper's mode fills every cell: no cell is ever empty",
            where=f"condition on {empty[0]}",
            fix="use the private mode, which generates empty cells",
        )


def batches(patients: int, size: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """Every patient once, in a new order, int64; a last batch of one joins the one before it."""
    order = torch.from_numpy(rng.permutation(patients))
    starts = list(range(0, patients, size))
    if len(starts) > 1 and patients - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], patients], strict=True):
        yield order[start:stop]


def network_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Weights and BatchNorm's averages, float32; not its batch counter, which nothing reads."""
    return {
        NETWORK + name: np.ascontiguousarray(value.numpy())
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def fill_network(network: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Put stored arrays into a network of the same shape; ValueError when they do not fit."""
    expected = network.state_dict()
    found = {name.removeprefix(NETWORK): a for name, a in arrays.items() if name.startswith(NETWORK)}
    if set(found) != {name for name, value in expected.items() if value.is_floating_point()}:
        raise ValueError("an array is missing or too many")
    if any(found[name].shape != tuple(expected[name].shape) for name in found):
        raise ValueError("an array has another shape")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in found.values()):
        raise ValueError("an array is not of finite float32")
    network.load_state_dict({**expected, **{name: torch.from_numpy(a) for name, a in found.items()}})
    network.eval()


def study_document(
    kind: str, schema: Schema, settings: JsonObject, *, seed: int, study: str, site: str
) -> JsonObject:
    """What ledger, audit and release file the model under."""
    return {
        "mode": MODE,
        "generator": kind,
        "name": study,
        "site": site,
        "seed": seed,
        "schema_digest": schema.digest,
        "settings": settings,
    }
