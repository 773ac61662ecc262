"""How well a model of records explains records it never saw, part by part.

Knows a model and records. Refuses to train. Two bounds stand side by side. The evidence bound has parts, and
is loose where a posterior fits badly. The weighted one is the log of a mean of importance weights over
draws of the latent: never below the evidence bound but by chance, never above the truth but by chance, and
nearer to it the more draws. Where a model has posterior samples of its weights the mean is over these, too:
it is then the probability of a record under what records are drawn from, each patient from one sample. The
figures describe real patients and are covered by no privacy budget: they are for the site's own eyes.
Whoever holds the weights can compute them of any record, which is what a membership attack starts from.

Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, equation 8 and
theorem 1.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from synthkit.data.sequence_encoding import SequenceEncoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.canonical import JsonObject
from synthkit.errors import SchemaError
from synthkit.generators.sequence_base import RecordBatch, SequenceGenerator, batch_of
from synthkit.training.sequence_artefact import SequenceModel

VIEWS, CHUNK = 4, 32
"""Latent draws over which a patient's bound is averaged, and patients at once."""

DRAWS = 20
"""Latent draws of the weighted bound: in all, or of each posterior sample its share, rounded up."""


@dataclass(frozen=True, kw_only=True)
class RecordLikelihood:
    """Means over patients, in nats. `log_likelihood` is a lower bound: minus the sum of the first four.

    `codes`, `leaves` (gaps and ends of records) and `statics` are minus log probabilities given the latent;
    `kl` is the latent's divergence from its prior and `kl_share` its share of the bound: near 0 the latent
    is not used. `weighted` is the tighter bound, and `given_statics` what of it is the records' given their
    static columns, the conditions of EVA_c among them: a bound where these come before the latent, else an
    estimate. None where they were not computed.
    """

    codes: float
    leaves: float
    statics: float
    kl: float
    weighted: float | None = None
    given_statics: float | None = None

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
    weighted, statics = weighted_bounds(model, records).mean(axis=0)
    return RecordLikelihood(
        codes=float(parts[0]),
        leaves=float(parts[1]),
        statics=float(parts[2]),
        kl=float(parts[3]),
        weighted=float(weighted),
        given_statics=float(weighted - statics),
    )


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


@torch.no_grad()
def weighted_bounds(model: SequenceModel, records: PatientSequences, *, draws: int = DRAWS) -> np.ndarray:
    """The weighted bound on each patient's record and on its static columns, float64 (patients, 2).

    Args:
        model: With posterior samples, or without: then of its weights as they are.
        records: In any order.
        draws: Of the latent; 1 for a model without one.
    """
    generator, states = model.generator, model.encoding.in_order(records)
    samples = model.samples or (None,)
    each = -(-draws // len(samples)) if generator.has_latent else 1
    own, rng = generator.get_weights(), torch.Generator().manual_seed(0)
    found = torch.empty(len(states), 2, each * len(samples), dtype=torch.float64)
    order = np.argsort(states.steps, kind="stable")
    try:
        for number, sample in enumerate(samples):
            if sample is not None:
                generator.set_weights({**own, **sample.weights})
            for start in range(0, len(states), CHUNK):
                some = order[start : start + CHUNK]
                batch = batch_of(states, generator.layout, some)
                found[some, :, number * each : (number + 1) * each] = _log_weights(
                    generator, batch, each, rng
                )
    finally:
        generator.set_weights(own)
    return (found.logsumexp(dim=2) - math.log(found.shape[2])).numpy()


def _log_weights(
    generator: SequenceGenerator, batch: RecordBatch, draws: int, rng: torch.Generator
) -> torch.Tensor:
    """Of records and of static columns, whose draws are the prior's: float64 (batch, 2, draws)."""
    rows = []
    for _ in range(draws):
        noise = torch.randn(2, len(batch), generator.noise_size, generator=rng)
        bound = generator.bound(batch, noise=noise[0])
        statics = generator.statics_misfit(batch, noise=noise[1])
        rows.append(-torch.stack([bound.misfit + bound.drawn, statics], dim=1).double())
    return torch.stack(rows, dim=2)
