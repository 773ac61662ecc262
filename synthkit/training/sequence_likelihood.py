"""How well a model of records explains records it never saw, part by part.

Knows a model and records. Refuses to train. The figures describe real patients and are covered by no
privacy budget: they are for the site's own eyes. Whoever holds the weights can compute them of any record,
which is what a membership attack starts from.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from synthkit.data.sequence_encoding import SequenceEncoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.canonical import JsonObject
from synthkit.errors import SchemaError
from synthkit.generators.sequence_base import SequenceGenerator, batch_of
from synthkit.training.sequence_artefact import SequenceModel

VIEWS, CHUNK = 4, 32
"""Latent draws over which a patient's bound is averaged, and patients at once."""


@dataclass(frozen=True, kw_only=True)
class RecordLikelihood:
    """Means over patients, in nats. `log_likelihood` is a lower bound: minus the sum of the four.

    `codes`, `leaves` (gaps and ends of records) and `statics` are minus log probabilities given the latent;
    `kl` is the latent's divergence from its prior and `kl_share` its share of the bound: near 0 the latent
    is not used.
    """

    codes: float
    leaves: float
    statics: float
    kl: float

    @property
    def log_likelihood(self) -> float:
        """A lower bound of a patient's mean log probability."""
        return -(self.codes + self.leaves + self.statics + self.kl)

    @property
    def kl_share(self) -> float:
        """The divergence's share of the bound."""
        return self.kl / -self.log_likelihood

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {"log_likelihood": self.log_likelihood, "kl_share": self.kl_share, **vars(self)}


def record_likelihood(model: SequenceModel, records: PatientSequences) -> RecordLikelihood:
    """The bound on records, from the same latent draws at each call.

    Raises:
        SchemaError: The records have another code list or other static columns than the model.
    """
    if records.schema.digest != model.schema.digest:
        raise SchemaError("the records are of another schema than the model", fix="read them by the model's")
    parts = bound_parts(model, records).mean(axis=0)
    names = ("codes", "leaves", "statics", "kl")
    return RecordLikelihood(**{name: float(value) for name, value in zip(names, parts, strict=True)})


class Holder(Protocol):
    """A trained model, as `sequence_artefact` reads it."""

    @property
    def encoding(self) -> SequenceEncoding:
        """How it sees records."""

    @property
    def generator(self) -> SequenceGenerator:
        """The weights."""


@torch.no_grad()
def bound_parts(model: Holder, records: PatientSequences) -> np.ndarray:
    """Codes, leaves, statics and divergence of each patient, in the order given, float64 (patients, 4)."""
    generator, states = model.generator, model.encoding.in_order(records)
    rng = torch.Generator().manual_seed(0)
    found = np.empty((len(states), 4))
    # Records of about a length together: a batch is as long as its longest.
    order = np.argsort(states.steps, kind="stable")
    for start in range(0, len(states), CHUNK):
        some = order[start : start + CHUNK]
        batch = batch_of(states, generator.layout, some)
        bounds = [
            generator.bound(batch, noise=torch.randn(some.size, generator.noise_size, generator=rng))
            for _ in range(VIEWS)
        ]
        stacks = [torch.stack([b.codes, b.leaves, b.statics, b.kl], dim=1) for b in bounds]
        found[some] = torch.stack(stacks).mean(dim=0).double().numpy()
    return found
