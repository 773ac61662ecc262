"""What two-way tables with noise say: how many patients, each state's share, and which relations are real.

Knows a matrix of noisy counts, a layout and the noise's standard deviation. Refuses to know patients: the
tables are bought by `privacy.mechanisms.pair_tables`, and everything here is post-processing.
"""

import math
from collections.abc import Sequence
from itertools import combinations, groupby

import numpy as np
import torch

from synthkit.domain.crossing import Crossing
from synthkit.domain.layout import Layout
from synthkit.generators.tails import tail_shares

SEEN, SEEN_NEARBY = 5.0, 2.0
"""Standard deviations of noise that a state's share has to exceed to be told from absence: standing
alone, and beside one that was told. Of hundreds of empty bins some always exceed 2."""


def blocks_of(layout: Layout, device: torch.device) -> torch.Tensor:
    """The column that each state belongs to, int64, shape (width,)."""
    states = torch.tensor(layout.states, device=device)
    return torch.repeat_interleave(torch.arange(len(states), device=device), states)


def patients_in(counts: np.ndarray, layout: Layout) -> float:
    """How many patients noisy counts say there are, at least 1.

    Each column's states add up to the patients, with as much noise as there are states.

    Args:
        counts: float64, shape (width, width); the diagonal holds each state's own.
        layout: Of the states.
    """
    columns = np.split(np.diag(counts), np.cumsum(layout.states)[:-1])
    trust = 1.0 / np.array(layout.states)
    return max(float(np.average([column.sum() for column in columns], weights=trust)), 1.0)


def cleaned_tables(
    tables: torch.Tensor, layout: Layout, *, pair_noise: float, single_noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables without what noise made of them: the three steps below, one after the other.

    Args:
        tables: As in `one_way_shares`.
        layout: Of the states.
        pair_noise: As in `one_way_shares`.
        single_noise: As in `one_way_shares`.

    Returns:
        Shares of pairs with the one-way shares on the diagonal, float64, shape (width, width); and the
        standard deviation of a state's noisy share, by column, shape (columns,).
    """
    noisy, noise = one_way_shares(tables, layout, pair_noise=pair_noise, single_noise=single_noise)
    shares, told = share_of_each_state(noisy, layout, noise=noise)
    pairs = shrunk_to_independence(tables, shares, told, layout, noise=pair_noise)
    pairs.diagonal().copy_(shares)
    return pairs, noise


def one_way_shares(
    tables: torch.Tensor, layout: Layout, *, pair_noise: float, single_noise: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each state's share as its own count and all pairs' margins tell it together.

    A column's own counts are bought once, and every pair's table says them again: the row sums of a table
    with k columns have a variance k times a cell's. They are weighted by the inverse of their variance.

    Args:
        tables: float64, shape (width, width): shares of patients; the diagonal holds the states' own.
        layout: Of the states.
        pair_noise: Standard deviation of a cell of a pair's table, as a share of patients.
        single_noise: That of a state's own count.

    Returns:
        Shares, shape (width,), still noisy; and the standard deviation of a state's, shape (columns,).

    Source: Hay, Rastogi, Miklau and Suciu, VLDB 2010, arXiv 0904.0942 (least squares over counts that
        must agree); here the margins alone, column by column.
    """
    own, states = tables.diagonal(), torch.tensor(layout.states, dtype=tables.dtype, device=tables.device)
    if single_noise <= 0:
        return own.clone(), torch.zeros_like(states)
    block = blocks_of(layout, tables.device)
    others_cells = torch.where(block[:, None] == block, 0.0, tables)
    said_again = others_cells @ (1 / states[block])  # (width,): every row sum over its table's k
    trust, others = (pair_noise / single_noise) ** 2, (1 / states).sum() - 1 / states
    return (trust * own + said_again) / (trust + others)[block], pair_noise / (trust + others).sqrt()


def share_of_each_state(
    noisy: torch.Tensor, layout: Layout, *, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every state's share without its noise, and which states are told from absent ones.

    The others, run by run between those told, get what `tail_shares` finds in the run as a whole.

    Args:
        noisy: One-way shares, float64, shape (width,).
        layout: Of the states.
        noise: Standard deviation of a share, by column, shape (columns,).

    Returns:
        Shares, shape (width,), none quite zero, each column's summing to 1; and bool, shape (width,).
    """
    columns = [
        _column(block, spread, spikes, missing)
        for block, spread, spikes, missing in zip(
            torch.split(noisy, list(layout.states)),
            noise.tolist(),
            layout.spikes,
            layout.missing,
            strict=True,
        )
    ]
    return torch.cat([share for share, _ in columns]), torch.cat([told for _, told in columns])


def _column(
    block: torch.Tensor, noise: float, spikes: int, missing: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """One column's shares and told states, each (states,). Spikes and "missing" stand beside no bin."""
    told, bins = block > SEEN_NEARBY * noise, slice(spikes, len(block) - int(missing))
    told[bins] = _told_bins(block[bins], noise)
    if noise <= 0:
        share = block.clamp(min=0)
    elif told[bins].any():
        share = block.clamp(min=0)
        share[bins] = _with_tails(block[bins], told[bins], noise)
        # A column's shares sum to 1: what that corrects is the noise of the states that were told.
        share = torch.where(told, share + (1 - share.sum()) / told.sum(), share).clamp(min=0)
    else:
        share = _on_simplex(block)
    return (share + LEAST_SHARE) / (share + LEAST_SHARE).sum(), told


def _told_bins(values: torch.Tensor, noise: float) -> torch.Tensor:
    """Bins that stand out alone, and from those on, step by step, bins that stand out beside one."""
    told = values > SEEN * noise
    while True:
        beside = torch.zeros_like(told)
        beside[1:] |= told[:-1]
        beside[:-1] |= told[1:]
        grown = told | (beside & (values > SEEN_NEARBY * noise))
        if bool((grown == told).all()):
            return told
        told = grown


def _with_tails(values: torch.Tensor, told: torch.Tensor, noise: float) -> torch.Tensor:
    """The bins' shares: those told as they are, of each run between them what its tail holds."""
    place = torch.arange(len(values), device=values.device)
    steps = (place[:, None] - place[told]).abs().amin(dim=1)
    result, start = values.clone(), 0
    for is_told, run in groupby(told.tolist()):
        stop = start + len(list(run))
        if not is_told:
            edge = max(float(values[i]) for i in (start - 1, stop) if 0 <= i < len(values))
            result[start:stop] = tail_shares(values[start:stop], steps[start:stop], edge=edge, noise=noise)
        start = stop
    return result


LEAST_SHARE = 1e-9
"""Of a state never seen: its logarithm has to exist. A bin far out must not count for a patient with it."""


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
        kept = _low_rank(departure[one, two], told[one], told[two], noise)
        result[one, two] = independent[one, two] + kept
        result[two, one] = result[one, two].T
    return result


def _low_rank(departure: torch.Tensor, told: torch.Tensor, other: torch.Tensor, noise: float) -> torch.Tensor:
    """The departure without its noise: of the told cells alone, whose sums by row and column are 0."""
    rows, columns = int(told.sum()) - 1, int(other.sum()) - 1
    if noise <= 0:
        return departure
    if rows < 1 or columns < 1:
        return torch.zeros_like(departure)
    # Margins are the columns' own shares: a departure has none, and what it shows of them is noise.
    cells = departure[told][:, other]
    cells = cells - cells.mean(dim=0) - cells.mean(dim=1, keepdim=True) + cells.mean()
    result = torch.zeros_like(departure)
    result[told.nonzero(), other.nonzero().T] = _without_noise(cells, rows, columns, noise)
    return result


def _without_noise(cells: torch.Tensor, rows: int, columns: int, noise: float) -> torch.Tensor:
    """Cells with noise in so many independent rows and columns, each singular value at its best estimate."""
    if noise <= 0:
        return cells
    left, values, right = torch.linalg.svd(cells, full_matrices=False)
    square = (values / noise) ** 2
    signal = (square - rows - columns) ** 2 - 4 * rows * columns
    is_seen = (square > (math.sqrt(rows) + math.sqrt(columns)) ** 2) & (signal > 0)
    kept = torch.where(is_seen, noise * signal.clamp(min=0).sqrt() / square.clamp(min=1e-30).sqrt(), 0.0)
    result: torch.Tensor = (left * kept) @ right
    return result


def beyond_pairs(
    bought: torch.Tensor,
    model: torch.Tensor,
    layout: Layout,
    crossed: Sequence[Crossing],
    *,
    variance: float,
    patients: float,
) -> torch.Tensor:
    """What the tables of crossed columns say beyond a model that has the tables of single columns.

    Of a crossed column's table with a covariate only that part is new which has no sums over the times, over
    the events or over the covariate: the rest is in tables that were bought with less noise. It is shrunk as
    in `shrunk_to_independence`, and by what chance alone makes of so many patients: a cell holds few of them.

    Args:
        bought: Shares of patients with their noise, float64, of the layout and the crossed columns behind it.
        model: The same table by a model.
        layout: Of the single columns.
        crossed: The crossed columns.
        variance: Of the noise in a pair's cell of `bought`.
        patients: How many `bought` is of.

    Returns:
        Shares to be added to the model's, shape of `bought`, symmetric; 0 where nothing is told.
    """
    result, start = torch.zeros_like(bought), layout.width
    for one in crossed:
        rows = slice(start, start + one.states)
        start += one.states
        for column, (low, size) in enumerate(zip(layout.offsets, layout.states, strict=True)):
            if column in (one.first, one.second):
                continue
            block = slice(low, low + size)
            chance = 1 / (patients * one.states * size)  # of a cell on average, were all equally full
            departure = bought[rows, block] - model[rows, block]
            kept = _interaction(departure, one, math.sqrt(variance + chance))
            result[rows, block], result[block, rows] = kept, kept.T
    return result


def _interaction(departure: torch.Tensor, one: Crossing, noise: float) -> torch.Tensor:
    """The part of a crossed column's departure, (its states, a covariate's), that is in no pair's table."""
    cells = departure.reshape(one.group_count, one.others, -1)
    for side in range(3):
        cells = cells - cells.mean(dim=side, keepdim=True)
    rows, columns = (one.group_count - 1) * (one.others - 1), cells.shape[2] - 1
    if min(rows, columns) < 1:
        return torch.zeros_like(departure)
    return _without_noise(cells.reshape(one.states, -1), rows, columns, noise)
