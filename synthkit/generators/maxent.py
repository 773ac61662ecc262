"""The distribution of most entropy that has given two-way tables: one coupling for each pair of states.

Knows tables as shares, their noise, and a layout. Refuses to know patients: everything here is
post-processing of bought tables. Of all distributions with these tables it is the one that adds nothing to
them: each column, given all the others, is log-linear in them. A mixture fitted to the same tables is not:
on Diabetes 130 it loses about two nats a patient more.

Sums over all rows are out of reach, so chains of Gibbs sampling stand for them, and move on with the
couplings while those are learnt.

Source: Jaynes, Phys. Rev. 106 (1957), section 2 (the principle); Dudík, Phillips and Schapire, JMLR 8 (2007),
section 4 (noisy tables: a quadratic penalty on the couplings); Tieleman, ICML 2008 (persistent chains).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from synthkit.domain.layout import Layout
from synthkit.generators.tables import blocks_of

RATE = 0.03
"""Share of a cell's relative misfit that one sweep takes back. Every coupling moves at once, and a column
is in as many tables as there are others: near 0.15 thirty columns overshoot together."""

RESERVE = 0.03
"""How much of a cell's noise variance, in patients, holds its coupling back; the tables were cleaned of
most of their noise before. Chosen on the bundled Diabetes 130: 1 loses half of what epsilon 3 could tell."""

STEADY_SHARE, AVERAGED_SHARE = 0.5, 0.3
"""Share of the sweeps at the full rate, which then falls to zero; share at the end that is averaged."""

CHANCE = 2.0
"""Chains below which a cell's own count says little of its share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairwise:
    """p(row) proportional to exp(sum of its states' fields + sum of its pairs' couplings).

    `couplings` is float32, shape (width, width), symmetric, 0 within a column; `fields` (width,).
    """

    layout: Layout
    couplings: torch.Tensor
    fields: torch.Tensor


@dataclass(kw_only=True, eq=False)
class Chains:
    """Rows under Gibbs sampling: `places`, each cell's place in the width, is int64, (chains, columns)."""

    layout: Layout
    places: torch.Tensor
    rng: torch.Generator

    @classmethod
    def of_shares(cls, layout: Layout, shares: torch.Tensor, *, chains: int, seed: int) -> "Chains":
        """Independent columns with these one-way shares."""
        rng = torch.Generator(device=shares.device).manual_seed(seed)
        drawn = [
            torch.multinomial(share, chains, replacement=True, generator=rng)
            for share in torch.split(shares, list(layout.states))
        ]
        offsets = torch.tensor(layout.offsets, device=shares.device)
        return cls(layout=layout, places=torch.stack(drawn, dim=1) + offsets, rng=rng)

    def sweep(self, model: Pairwise) -> None:
        """Draw every column of every chain once, given the others, in random order.

        A cell's logits are a sum of as many rows of couplings as there are columns, its own column's being
        0: picked and added, not multiplied with a matrix that is nearly all zeros.
        """
        places, device = self.places, self.places.device
        for column in torch.randperm(len(self.layout.states), generator=self.rng, device=device).tolist():
            start, size = self.layout.offsets[column], self.layout.states[column]
            block = slice(start, start + size)
            couplings = model.couplings[:, block].contiguous()
            logits = functional.embedding_bag(places, couplings, mode="sum") + model.fields[block]
            # States first: sums over a long last dimension are many times as fast as over a short one.
            sums = torch.softmax(logits.T.contiguous(), dim=0).cumsum(dim=0)
            uniform = torch.rand(len(places), generator=self.rng, device=device)
            places[:, column] = start + (sums[:-1] <= uniform).sum(dim=0)

    def states(self) -> torch.Tensor:
        """The rows' states, int64, shape (chains, columns)."""
        return self.places - torch.tensor(self.layout.offsets, device=self.places.device)

    def tables(self) -> torch.Tensor:
        """Shares of rows by pair of states, float32, shape (width, width); one-way shares on the diagonal."""
        hot = torch.zeros(len(self.places), self.layout.width, device=self.places.device)
        hot.scatter_(1, self.places, 1.0)
        return hot.T @ hot / len(hot)


@torch.no_grad()
def fit_pairwise(
    tables: torch.Tensor,
    layout: Layout,
    *,
    variance: float,
    chains: int,
    sweeps: int,
    progress: Callable[[int], None],
) -> tuple[Pairwise, Chains]:
    """Learn couplings and fields; the same tables give the same ones.

    Args:
        tables: Shares of patients, cleaned, float32, shape (width, width); one-way shares on the diagonal.
        layout: Of the states.
        variance: What is left of a pair's cell of noise variance, times the number of patients: in shares.
        chains: Rows that stand for the model's distribution.
        sweeps: Steps of learning, each with one sweep.
        progress: Called with the sweeps done.

    Returns:
        The model, averaged over the last sweeps, and the chains where they stand.
    """
    shares, block = tables.diagonal().clone(), blocks_of(layout, tables.device)
    is_pair = (block[:, None] != block).to(tables)
    rows = Chains.of_shares(layout, shares, chains=chains, seed=0)
    couplings, fields = torch.zeros_like(tables), shares.log()
    mean = Pairwise(layout=layout, couplings=torch.zeros_like(tables), fields=torch.zeros_like(shares))
    penalty, averaged = RESERVE * variance, max(1, round(AVERAGED_SHARE * sweeps))
    for sweep in range(sweeps):
        rows.sweep(Pairwise(layout=layout, couplings=couplings, fields=fields))
        now = rows.tables()
        rate = RATE * min(1.0, (1.0 - sweep / sweeps) / STEADY_SHARE)
        misfit = (tables - now - penalty * couplings) * is_pair
        couplings += rate * misfit / ((tables + now) / 2 + CHANCE / chains + penalty)
        own = now.diagonal()
        fields += rate * (shares - own) / ((shares + own) / 2 + CHANCE / chains)
        if sweep >= sweeps - averaged:
            mean.couplings.add_(couplings, alpha=1.0 / averaged)
            mean.fields.add_(fields, alpha=1.0 / averaged)
        progress(sweep + 1)
    return mean, rows
