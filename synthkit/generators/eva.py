"""EVA, whole: the network of `eva_network`, and records drawn from it visit by visit (`eva_sampling`)."""

import numpy as np
import torch

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates
from synthkit.errors import InputError
from synthkit.generators.eva_network import EvaNetwork
from synthkit.generators.eva_sampling import draw_pairs, draw_records


class Eva(EvaNetwork):
    """See `eva_network`."""

    kind = "eva"

    def sample(
        self,
        count: int,
        *,
        rng: torch.Generator,
        where: StateWeights | None = None,
        lengths: np.ndarray | None = None,
        history: RecordStates | None = None,
    ) -> tuple[RecordStates, float]:
        """See `SequenceGenerator`.

        Raises:
            InputError: Conditions beside a history.
        """
        if where and history is not None:
            raise InputError("a continued record has its static columns already", fix="leave one out")
        return draw_records(self, count, rng=rng, where=where, lengths=lengths, history=history)

    def sample_pairs(
        self, count: int, *, rng: torch.Generator, where: StateWeights, instead: StateWeights
    ) -> tuple[RecordStates, RecordStates, float]:
        """Records, and what the same patients' would be under other conditions; see `draw_pairs`.

        Source: the paper, section 2.2: one latent patient under several sets of conditions.
        """
        return draw_pairs(self, count, rng=rng, where=where, instead=instead)
