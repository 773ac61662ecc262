"""What of a patient is left out while a network of records is trained: the same channels at all visits.

Knows standard normal noise. Refuses to know layers. Rules: a patient's mask is made of the
patient's own noise, so no patient's loss depends on another's; what is kept is scaled up, so that means stay.

Source: Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
NeurIPS 2016: a sequence has one mask.
"""

import math

import torch

Kept = tuple[torch.Tensor | float, torch.Tensor | float]
"""Factors of visits' vectors and of contexts, each (batch, 1, channels)."""

ALL: Kept = (1.0, 1.0)


def kept_of(noise: torch.Tensor, chance: float) -> Kept:
    """Which channels each patient keeps.

    Args:
        noise: Standard normal, (batch, 2 * channels).
        chance: Of leaving a channel out, in (0, 1).
    """
    least = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(2.0 * chance - 1.0)))
    visits, contexts = torch.chunk((noise[:, None] > least) / (1.0 - chance), 2, dim=2)
    return visits, contexts
