"""Filling rows from a mixture of codes: each row's code by its posterior, then its unknown cells.

Knows codes of equal prior weight, within each of which the columns are independent. Refuses to know where
they come from: a model's own codes make the draw exact, codes drawn from its prior make it importance
sampling. Rules: a known cell is never touched; unknown cells of one row come from one code, hence jointly.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from synthkit.generators.base import UNKNOWN

CHUNK_CELLS = 2**22
"""Rows times codes weighed at once: bounds memory, at 8 bytes each."""


def complete_from_codes(
    states: np.ndarray, blocks: Sequence[torch.Tensor], rng: torch.Generator
) -> np.ndarray:
    """Fill the unknown cells.

    Args:
        states: int64, shape (rows, columns), `UNKNOWN` where a cell is to be drawn. Not changed.
        blocks: Each column's logits, shape (codes, states).
        rng: Of every random draw.

    Returns:
        A filled copy, int64, shape (rows, columns).
    """
    logs = [torch.log_softmax(block.double(), dim=1) for block in blocks]
    cumulative = [log.exp().cumsum(dim=1) for log in logs]
    fits = _by_state(logs)
    filled = states.copy()
    for rows in _chunks(filled, max(1, CHUNK_CELLS // fits.shape[1])):
        code = _draw_codes(rows, blocks, fits, rng)
        uniform = torch.rand(rows.shape[::-1], generator=rng, dtype=torch.float64, device=fits.device)
        for column, table in enumerate(cumulative):
            unknown = np.flatnonzero(rows[:, column] == UNKNOWN)
            place = torch.from_numpy(unknown).to(fits.device)
            sums = table[code[place]]  # (unknown, states)
            state = (sums <= uniform[column, place][:, None] * sums[:, -1:]).sum(dim=1)
            rows[unknown, column] = state.clamp(max=sums.shape[1] - 1).cpu().numpy()
    return filled


def _by_state(logs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log mass of each state in each code, (width + 1, codes); the last row is that of an unknown cell."""
    codes = logs[0].shape[0]
    return torch.cat([*(log.T for log in logs), torch.zeros(1, codes).to(logs[0])]).contiguous()


def _chunks(states: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (states[start : start + size] for start in range(0, len(states), size))


def _draw_codes(
    rows: np.ndarray, blocks: Sequence[torch.Tensor], fits: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    """One code a row with the probability that its known cells give it, int64, shape (rows,)."""
    offsets = np.cumsum([0, *(block.shape[1] for block in blocks[:-1])])
    places = torch.from_numpy(np.where(rows == UNKNOWN, len(fits) - 1, rows + offsets)).to(fits.device)
    log_fit = torch.nn.functional.embedding_bag(places, fits, mode="sum")  # (rows, codes)
    # Only ratios count, and the best code's is 1: nothing underflows to no mass at all.
    relative = (log_fit - log_fit.amax(dim=1, keepdim=True)).float()
    weights = torch.exp(relative).cumsum(dim=1, dtype=torch.float64)
    uniform = torch.rand(len(rows), 1, generator=rng, dtype=torch.float64, device=fits.device)
    code = torch.searchsorted(weights, uniform * weights[:, -1:], right=True).squeeze(1)
    return code.clamp(max=fits.shape[1] - 1)
