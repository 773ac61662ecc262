"""Which biases of a network of records are which bought shares: set from them, and corrected toward them.

Knows `Shares` and a network's layers by name. Refuses to know records and noise. Rules: a bias is set to the
logarithm it stands for; a correction moves it by the difference of two readings of that logarithm, never by
more than `MOST_ODDS` at once, and moves nothing that the shares say nothing of.
"""

from typing import Protocol

import numpy as np
import torch
from torch import nn

from synthkit.generators.sequence_pairs import start_from_lifts
from synthkit.generators.sequence_shares import Shares

MOST_ODDS = 1.0
"""No log odds are moved by more in one correction: records drawn from far off say little of the way back."""


class Biased(Protocol):
    """What has these biases; `memory` is 0 without, 2 with a memory of single codes."""

    memory: int
    out: nn.Linear
    beside: nn.Embedding
    to_hidden: nn.Linear
    size_in: nn.Embedding
    leave: nn.Linear

    def heads(self) -> list[nn.Linear]:
        """One layer a static column."""


@torch.no_grad()
def set_biases(network: Biased, shares: Shares) -> None:
    """Start from the shares; where pairs were bought, half of the hidden layer from them."""
    for parameter, logs in _parameters(network, shares):
        parameter.copy_(torch.from_numpy(logs).reshape(parameter.shape))
    if shares.pair_lifts is not None:
        others = (network.to_hidden.weight.T, network.to_hidden.bias, network.size_in.weight)
        start_from_lifts(
            shares.pair_lifts, shares.codes, beside=network.beside, out=network.out, others=others
        )


@torch.no_grad()
def correct_biases(network: Biased, wanted: Shares, found: Shares, *, step: float) -> None:
    """Move every bias by `step` times what is wanted beyond what was found in the network's own records."""
    pairs = zip(_parameters(network, wanted), _parameters(network, found), strict=True)
    for (parameter, target), (_, own) in pairs:
        change = np.clip(step * (target - own), -MOST_ODDS, MOST_ODDS)
        parameter.add_(torch.from_numpy(change).reshape(parameter.shape))


def _parameters(network: Biased, shares: Shares) -> list[tuple[nn.Parameter, np.ndarray]]:
    """Parameters, and the logarithms that stand for them."""
    found = [(network.out.bias, shares.new_log_odds if network.memory else shares.code_log_odds)]
    if network.memory:
        found.append((_weight(network, "memory_of_type"), shares.memory_of_type))
    if network.memory == 2:
        found.append((_weight(network, "memory_of_code"), shares.memory_of_code))
    found.append((network.leave.bias, shares.leave_logs))
    found += [(head.bias, logs) for head, logs in zip(network.heads(), shares.static_logs, strict=True)]
    return found


def _weight(network: Biased, name: str) -> nn.Parameter:
    """Of a layer that not every network has."""
    weight: nn.Parameter = getattr(network, name).weight
    return weight
