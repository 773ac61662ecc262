"""Which biases of a network of records are which bought shares: set from them, and corrected toward them.

Knows `Shares`, counts of pairs, and a network's layers by name. Refuses to know records and noise. Rules: a
bias is set to the logarithm it stands for; a correction moves it by the difference of two readings of that
logarithm, never by more than `MOST_ODDS` at once, and moves nothing that the shares say nothing of. Odds of
pairs start at 0 and are moved alone.
"""

from typing import Protocol

import numpy as np
import torch
from torch import nn

from synthkit.generators.sequence_counts import Counts
from synthkit.generators.sequence_pairs import above_diagonal, odds_missing
from synthkit.generators.sequence_shares import Shares

MOST_ODDS = 1.0
"""No log odds are moved by more in one correction: records drawn from far off say little of the way back."""

PAIR_STEP = 0.3
"""Share of the odds missing that a correction gives to a pair: more overshoots, as pairs add up in a visit,
and what overshot costs likelihood that later corrections do not give back."""

MOST_PAIR_ODDS = 4.0
"""No pair is made likelier, or less likely, by more than this log odds."""


class Biased(Protocol):
    """What has these biases; `memory` is 0 without, 2 with a memory of single codes."""

    memory: int
    out: nn.Linear
    leave: nn.Linear

    def heads(self) -> list[nn.Linear]:
        """One layer a static column."""


class Paired(Protocol):
    """What has log odds of pairs, both (codes, codes)."""

    together: nn.Parameter
    follow: nn.Parameter


@torch.no_grad()
def set_biases(network: Biased, shares: Shares) -> None:
    """Start from the shares."""
    for parameter, logs in _parameters(network, shares):
        parameter.copy_(torch.from_numpy(logs).reshape(parameter.shape))


@torch.no_grad()
def correct_biases(network: Biased, wanted: Shares, found: Shares, *, step: float) -> None:
    """Move every bias by `step` times what is wanted beyond what was found in the network's own records."""
    pairs = zip(_parameters(network, wanted), _parameters(network, found), strict=True)
    for (parameter, target), (_, own) in pairs:
        change = np.clip(step * (target - own), -MOST_ODDS, MOST_ODDS)
        parameter.add_(torch.from_numpy(change).reshape(parameter.shape))


@torch.no_grad()
def correct_pairs(network: Paired, bought: Counts, drawn: Counts) -> None:
    """Move the odds of pairs by a part of what the model's own records have too few of them, or too many."""
    codes = len(network.together)
    for odds, name, visits in (
        (network.together, "pairs", "pair visits"),
        (network.follow, "follows", "follow visits"),
    ):
        (wanted, std), (own, own_std) = _shares(bought, name, visits), _shares(drawn, name, visits)
        missing = odds_missing(wanted, own, std=float(np.hypot(std, own_std)))
        change = np.clip(PAIR_STEP * missing, -MOST_ODDS, MOST_ODDS)
        if name == "pairs":  # a visit's codes are decided in order: the later one of a pair is moved
            change = above_diagonal(change, codes)
        odds.add_(torch.from_numpy(change.reshape(odds.shape)).float())
        odds.clamp_(-MOST_PAIR_ODDS, MOST_PAIR_ODDS)


def _shares(counts: Counts, name: str, visits: str) -> tuple[np.ndarray, float]:
    """Shares of visits with each pair, and their standard deviation: by noise and, on average, by chance."""
    number = counts.visits(visits)
    shares = counts.sums[name] / number
    if counts.stds[name]:
        return shares, counts.stds[name] / number
    return shares, float(np.sqrt(shares.mean() / number))


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
