"""States of memory worked out for every cell: the slow reference of what generators look up."""

import torch
from torch.nn import functional

from synthkit.generators.sequence_layers import memory_states


def states_before(present: torch.Tensor) -> torch.Tensor:
    """State of each visit's memory of each code, int64 (batch, visits, codes), from what visits have."""
    place = torch.arange(present.shape[1], device=present.device)[:, None]
    seen = torch.where(present > 0, place, -1)
    last = functional.pad(seen.cummax(dim=1).values, (0, 0, 1, 0), value=-1)[:, :-1]
    count = functional.pad(present.cumsum(dim=1), (0, 0, 1, 0))[:, :-1].long()
    return memory_states(place, last, count)
