"""What two-way tables with noise say: how many patients, each state's share, and which relations are real.

Knows a matrix of noisy counts, a layout and the noise's standard deviation. Refuses to know patients: the
tables are bought by `privacy.mechanisms.pair_tables`, and everything here is post-processing.
"""

import math
from itertools import combinations

import torch

from synthkit.domain.layout import Layout

SEEN, SEEN_NEARBY = 4.0, 2.0
"""Standard deviations of noise that a state's share has to exceed to be told from absence: standing
alone, and beside one that was told. Of hundreds of empty bins some always exceed 2."""


def blocks_of(layout: Layout, device: torch.device) -> torch.Tensor:
    """The column that each state belongs to, int64, shape (width,)."""
    states = torch.tensor(layout.states, device=device)
    return torch.repeat_interleave(torch.arange(len(states), device=device), states)


def share_of_each_state(
    tables: torch.Tensor, layout: Layout, *, noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One-way shares from the diagonal, and which states are told from absent ones.

    What mass the told states leave goes to the others, half as much with each step away from a told one:
    kept as they are, dozens of noisy bins would make a long tail of every skewed column.

    Args:
        tables: float64, shape (width, width): shares of patients; the diagonal holds the one-way shares.
        layout: Of the states.
        noise: Standard deviation of a one-way share.

    Returns:
        Shares, shape (width,), none quite zero, each column's summing to 1; and bool, shape (width,).
    """
    blocks = torch.split(tables.diagonal(), list(layout.states))
    columns = [_column(block, noise, missing) for block, missing in zip(blocks, layout.missing, strict=True)]
    return torch.cat([share for share, _ in columns]), torch.cat([told for _, told in columns])


def _column(block: torch.Tensor, noise: float, missing: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """One column's shares and told states, each (states,). A missing state stands beside no value."""
    share = _on_simplex(block)
    values = share[:-1] if missing else share
    told = values > SEEN * noise
    while True:
        beside = torch.zeros_like(told)
        beside[1:] |= told[:-1]
        beside[:-1] |= told[1:]
        grown = told | (beside & (values > SEEN_NEARBY * noise))
        if bool((grown == told).all()):
            break
        told = grown
    if told.any() and not told.all():
        place = torch.arange(len(values), device=block.device)
        steps = (place[:, None] - place[told]).abs().amin(dim=1)
        decay = torch.where(told, 0.0, 0.5 ** steps.to(share))
        rest = (values.sum() - values[told].sum()).clamp(min=0.0)
        values = torch.where(told, values, rest * decay / decay.sum())
    if missing:
        values = torch.cat([values, share[-1:]])
        told = torch.cat([told, share[-1:] > SEEN_NEARBY * noise])
    return (values + LEAST_SHARE) / (values + LEAST_SHARE).sum(), told


LEAST_SHARE = 1e-7
"""Of a state never seen: its logarithm has to exist."""


def _on_simplex(block: torch.Tensor) -> torch.Tensor:
    """Nearest point with no negative entry and sum 1: noise on absent states is not kept as mass.

    Source: Duchi et al., ICML 2008, Figure 1.
    """
    ordered = block.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, block.numel() + 1, device=block.device)
    kept = int((ordered > excess).sum())
    return (block - excess[max(kept, 1) - 1]).clamp(min=0)


def shrunk_to_independence(
    tables: torch.Tensor, shares: torch.Tensor, told: torch.Tensor, layout: Layout, *, noise: float
) -> torch.Tensor:
    """Each pair's table moved towards independence by as much as its departure is noise.

    A departure no larger than noise alone would make says nothing: fitting it would write noise into the
    rows. What relates two columns is a matrix of low rank, while noise has all ranks equally: each
    singular value is shrunk to its best estimate, and to zero where noise alone would reach it.

    Args:
        tables: As in `share_of_each_state`.
        shares: One-way shares, shape (width,).
        told: States told from absent ones, bool, shape (width,); the others are left independent of all.
        layout: Of the states.
        noise: Standard deviation of a cell of a pair's table, as a share of patients.

    Returns:
        Shape (width, width); within a column's own block nothing is said (zero).

    Source: Gavish and Donoho, IEEE Trans. Inf. Theory 2017, arXiv 1405.7511, equation 7 (Frobenius loss).
    """
    independent = torch.outer(shares, shares)
    departure = torch.where(told & told[:, None], tables - independent, 0.0)
    result = torch.zeros_like(independent)
    places = [slice(start, start + size) for start, size in zip(layout.offsets, layout.states, strict=True)]
    for one, two in combinations(places, 2):
        kept = _low_rank(departure[one, two], int(told[one].sum()), int(told[two].sum()), noise)
        result[one, two] = independent[one, two] + kept
        result[two, one] = result[one, two].T
    return result


def _low_rank(departure: torch.Tensor, rows: int, columns: int, noise: float) -> torch.Tensor:
    """The departure without its noise, of which only `rows` times `columns` cells have any."""
    if noise <= 0 or not rows or not columns:
        return departure
    left, values, right = torch.linalg.svd(departure, full_matrices=False)
    square = (values / noise) ** 2
    signal = (square - rows - columns) ** 2 - 4 * rows * columns
    is_seen = (square > (math.sqrt(rows) + math.sqrt(columns)) ** 2) & (signal > 0)
    kept = torch.where(is_seen, noise * signal.clamp(min=0).sqrt() / square.clamp(min=1e-30).sqrt(), 0.0)
    cleaned: torch.Tensor = (left * kept) @ right
    return cleaned
