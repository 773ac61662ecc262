"""Pairs of codes of one visit: bought once with the shares, so that a network starts from what goes together.

Knows record states, and a noised sum of what `pair_counts` gives. Refuses to draw noise. Rules: for lists of
at most `MOST_CODES` codes alone, as the number of pairs grows with their square; everything after the noise
is post-processing; where a pair does not stand out from its noise, it starts as if independent.

A network's log odds of a code are linear in half of its hidden layer, and each earlier code of the visit adds
a vector to that. Factors of the matrix of log lifts, put in their places, make it start from these lifts.

Source: singular values of a noisy matrix: Gavish and Donoho, IEEE Trans. Inf. Theory 2017, equation 7.
"""

import numpy as np
import torch
from torch import nn

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout

MOST_CODES = 400
"""Beyond it no pairs are bought: 80,000 cells, each with as much noise as now."""

LIFT_SHARE = 0.25
"""Share of a pair's log lift that it starts with: those of codes that go together anyway would add up, until
visits of ever more codes make one another likelier (at 0.6, without noise, 27 codes a visit for 4.3)."""

MOST_LIFT = 3.0
"""No pair starts with a greater log lift, of either sign."""


def cells_of(layout: SequenceLayout) -> int:
    """Number of pairs; 0 where none are bought."""
    return layout.codes * (layout.codes - 1) // 2 if layout.codes <= MOST_CODES else 0


def pair_counts(states: RecordStates, layout: SequenceLayout) -> np.ndarray:
    """Each patient's visits with each pair of codes u < v, float64 (patients, cells)."""
    lengths, sizes = np.diff(states.patient_starts), np.diff(states.visit_starts)
    visit = np.repeat(np.arange(sizes.size), sizes)
    later = states.visit_starts[1:][visit] - 1 - np.arange(visit.size)
    first = np.repeat(np.arange(visit.size), later)
    second = first + 1 + np.arange(first.size) - np.repeat(np.cumsum(later) - later, later)
    low, high = states.codes[first], states.codes[second]
    cell = low * layout.codes - low * (low + 1) // 2 + high - low - 1
    owner = np.repeat(np.arange(len(states)), lengths)[visit[first]]
    shape = (len(states), cells_of(layout))
    flat = np.bincount(owner * shape[1] + cell, minlength=shape[0] * shape[1])
    return np.asarray(flat.reshape(shape), dtype=np.float64)


def log_lifts(pairs: np.ndarray, codes: np.ndarray, *, std: float) -> np.ndarray:
    """How much likelier codes are together, as logarithms, float64 (codes, codes), 0 on the diagonal.

    Args:
        pairs: Mean shares of visits with each pair, float64 (cells,).
        codes: And with each code.
        std: Of the noise of `pairs`.
    """
    size = codes.size
    rows, columns = np.triu_indices(size, k=1)
    independent = np.outer(codes, codes)
    excess = np.zeros((size, size))
    excess[rows, columns] = pairs - independent[rows, columns]
    excess += excess.T
    found = _denoised(excess, std)
    together = np.maximum(independent + found, 0.05 * independent)
    weak = std + 1e-6
    lifts = np.log((together + weak) / (independent + weak)).clip(-MOST_LIFT, MOST_LIFT)
    np.fill_diagonal(lifts, 0.0)
    return np.asarray(lifts, dtype=np.float64)


def _denoised(excess: np.ndarray, std: float, *, rounds: int = 5) -> np.ndarray:
    """The matrix without what noise alone would be; its unknown diagonal is filled from the rest."""
    edge = 2.0 * std * np.sqrt(len(excess))
    filled = excess.copy()
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(filled)
        kept = np.sign(values) * np.sqrt(np.maximum(values**2 - edge**2, 0.0))
        found = (vectors * kept) @ vectors.T
        np.fill_diagonal(filled, np.diag(found))
    return np.asarray(found, dtype=np.float64)


@torch.no_grad()
def start_from_lifts(
    lifts: np.ndarray,
    codes: np.ndarray,
    *,
    beside: nn.Embedding,
    out: nn.Linear,
    others: tuple[torch.Tensor, ...],
) -> None:
    """Give half of the hidden layer to pairs of codes.

    Args:
        lifts: As `log_lifts` gives them.
        codes: Mean shares of visits with each code.
        beside: From a code to what it adds to the hidden layer, (codes + 1, hidden).
        out: From the bent and the straight hidden layer to log odds, (codes, 2 * hidden).
        others: What else adds to the hidden layer, along the last dimension: starts at 0 in that half.
    """
    hidden = beside.embedding_dim
    rank = min(hidden // 2, len(lifts))
    values, vectors = np.linalg.eigh(LIFT_SHARE * lifts)
    chosen = np.argsort(-np.abs(values))[:rank]
    # A vector's sign is the solver's whim, and sites that train on from it average what they learnt.
    found = vectors[:, chosen]
    found = found * np.where(found[np.abs(found).argmax(axis=0), np.arange(rank)] < 0, -1.0, 1.0)
    left = found * np.sqrt(np.abs(values[chosen]))
    right = left * np.sign(values[chosen])
    for other in others:
        other[..., :rank] = 0.0
    beside.weight[:, :rank] = 0.0
    beside.weight[:-1, :rank] = torch.from_numpy(left).float()
    out.weight[:, :rank] = 0.0
    out.weight[:, hidden : hidden + rank] = torch.from_numpy(right).float()
    # A code that earlier ones make likelier has to start lower, to be as frequent as before.
    started = np.triu(left @ right.T, k=1)
    raised = np.log1p(codes[:, None] * np.expm1(started)).sum(axis=0)
    out.bias.sub_(torch.from_numpy(raised).float())
