"""What two-way tables with noise say: how many patients, each state's share, and which relations are real.

Knows a matrix of noisy counts, a layout and the noise's standard deviation. Refuses to know patients: the
tables are bought by `privacy.mechanisms.pair_tables`, and everything here is post-processing.
"""

import torch

from synthkit.domain.layout import Layout


def blocks_of(layout: Layout, device: torch.device) -> torch.Tensor:
    """The column that each state belongs to, int64, shape (width,)."""
    states = torch.tensor(layout.states, device=device)
    return torch.repeat_interleave(torch.arange(len(states), device=device), states)


def share_of_each_state(tables: torch.Tensor, layout: Layout, *, noise: float) -> torch.Tensor:
    """One-way shares from the diagonal: not negative, each column's summing to 1, none quite zero.

    Args:
        tables: float64, shape (width, width): shares of patients; the diagonal holds the one-way shares.
        layout: Of the states.
        noise: Standard deviation of a one-way share.
    """
    shares = [_on_simplex(block) for block in torch.split(tables.diagonal(), list(layout.states))]
    floor = max(1e-7, 0.01 * noise)
    return torch.cat([(share + floor) / (share + floor).sum() for share in shares])


def _on_simplex(block: torch.Tensor) -> torch.Tensor:
    """Nearest point with no negative entry and sum 1: noise on absent states is not kept as mass.

    Source: Duchi et al., ICML 2008, Figure 1.
    """
    ordered = block.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, block.numel() + 1, device=block.device)
    kept = int((ordered > excess).sum())
    return (block - excess[max(kept, 1) - 1]).clamp(min=0)


def shrunk_to_independence(
    tables: torch.Tensor, shares: torch.Tensor, layout: Layout, *, noise: float
) -> torch.Tensor:
    """Each pair's table moved towards independence by as much as its departure is noise.

    A table whose departure from independence is no larger than noise alone would make it says nothing:
    fitting it would write noise into the rows. The factor is James and Stein's, positive part, one for
    each pair of columns.

    Args:
        tables: As in `share_of_each_state`.
        shares: One-way shares, shape (width,).
        layout: Of the states.
        noise: Standard deviation of a cell of a pair's table, as a share of patients.

    Returns:
        Shape (width, width); within a column's own block nothing is said (zero).
    """
    independent = torch.outer(shares, shares)
    block = blocks_of(layout, tables.device)
    pairs = block[:, None] != block[None, :]
    departure = torch.where(pairs, tables - independent, 0.0)
    hot = torch.nn.functional.one_hot(block, len(layout.states)).to(departure)  # (width, columns)
    energy = hot.T @ departure.square() @ hot  # (columns, columns)
    cells = torch.tensor(layout.states).to(departure)
    expected = noise**2 * torch.outer(cells, cells)
    factor = (1 - expected / energy.clamp(min=1e-30)).clamp(min=0.0)
    return torch.where(pairs, independent + departure * (hot @ factor @ hot.T), 0.0)
