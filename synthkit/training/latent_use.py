"""How much of a record model's evidence bound its latent carries, watched during training.

Knows a generator and, without privacy, the batches it is trained on. Refuses to take a figure off patients
in a private training: an average over patients that nobody charged would be a leak. There the generator's
own records, which cost nothing, stand in for them. Rule: a model without a latent has nothing to report.
"""

from dataclasses import dataclass

import numpy as np
import torch

from synthkit.domain.canonical import JsonObject
from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.sequence_base import SequenceGenerator, batch_of

COLLAPSED_NATS = 0.1
"""Below this divergence a patient's latent tells less than a seventh of one yes or no about the record."""

LOOKS = 8
"""How often a training is looked at."""

MOST_RECORDS, LEAST_RECORDS, RECORDS_TIMES_CODES = 256, 16, 200_000
"""Records of one look, the fewer the longer the list of codes: a look costs steps times codes."""

PATIENTS, OWN = "training patients", "records of its own"


@dataclass(frozen=True, kw_only=True)
class LatentUse:
    """Share of the bound that is the latent's divergence from its prior, and how it went.

    Attributes:
        kl_share: In [0, 1) at the end of training.
        kl_nats: The divergence itself, nats a patient.
        trail: (steps done, share) at each look, the end's last.
        measured_on: `PATIENTS` or `OWN`.
    """

    kl_share: float
    kl_nats: float
    trail: tuple[tuple[int, float], ...]
    measured_on: str

    @property
    def is_collapsed(self) -> bool:
        """Whether the latent is as good as unused."""
        return self.kl_nats < COLLAPSED_NATS

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {
            "kl_share": self.kl_share,
            "kl_nats": self.kl_nats,
            "is_collapsed": self.is_collapsed,
            "measured_on": self.measured_on,
            "trail": [[step, share] for step, share in self.trail],
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "LatentUse":
        """Inverse of `to_json`.

        Raises:
            KeyError: A figure is missing.
            ValueError: A figure is out of range.
        """
        use = cls(
            kl_share=float(document["kl_share"]),
            kl_nats=float(document["kl_nats"]),
            trail=tuple((int(step), float(share)) for step, share in document["trail"]),
            measured_on=document["measured_on"],
        )
        if not (use.kl_nats >= 0 and use.kl_share >= 0) or use.measured_on not in (PATIENTS, OWN):
            raise ValueError("no such use of a latent")
        return use


class LatentWatch:
    """Looks at a training from time to time.

    Args:
        generator: Watched, never changed.
        patients: Its records without privacy; None in a private training.
        steps: Of the whole training.
    """

    def __init__(self, generator: SequenceGenerator, patients: RecordStates | None, *, steps: int) -> None:
        self.generator, self.patients, self.steps = generator, patients, steps
        self._trail: list[tuple[int, float]] = []
        self._nats = 0.0

    def is_due(self, step: int) -> bool:
        """Whether to look after this step. A private training is looked at once, in the report."""
        if not self.generator.has_latent or self.patients is None:
            return False
        return step < self.steps and step * LOOKS % self.steps < LOOKS

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Measure once, with draws that are the same at each look."""
        rng = torch.Generator().manual_seed(step)
        some, device = self.patients, next(self.generator.parameters()).device
        wanted = RECORDS_TIMES_CODES // self.generator.layout.codes
        wanted = min(MOST_RECORDS, max(LEAST_RECORDS, wanted))
        self.generator.to("cpu")
        if some is None:
            some, _ = self.generator.sample(wanted, rng=rng)
        else:
            some = some.take(np.unique(np.linspace(0, len(some) - 1, wanted).astype(np.int64)))
        kl = bound = 0.0
        for chunk in np.array_split(np.argsort(some.steps), max(1, len(some) // 16)):
            batch = batch_of(some, self.generator.layout, chunk)
            noise = torch.randn(len(batch), self.generator.noise_size, generator=rng)
            parts = self.generator.bound(batch, noise=noise)
            kl += float(parts.kl.sum())
            bound += float((parts.misfit + parts.kl).sum())
        self.generator.to(device)
        self._nats = max(0.0, kl / len(some))
        self._trail.append((step, max(0.0, kl / bound)))

    def report(self) -> LatentUse | None:
        """One last look, and what was seen; None without a latent."""
        if not self.generator.has_latent:
            return None
        self.look(self.steps)
        return LatentUse(
            kl_share=self._trail[-1][1],
            kl_nats=self._nats,
            trail=tuple(self._trail),
            measured_on=OWN if self.patients is None else PATIENTS,
        )
