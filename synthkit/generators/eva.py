"""EVA, whole: the network of `eva_network`, and records drawn from it visit by visit (`eva_drawing`)."""

import numpy as np
import torch

from synthkit.domain.layout import StateWeights
from synthkit.domain.sequence_layout import RecordStates
from synthkit.errors import InputError
from synthkit.generators.eva_drawing import draw_records
from synthkit.generators.eva_network import EvaNetwork


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
