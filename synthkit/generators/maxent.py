"""The distribution of most entropy that has given two-way tables: one coupling for each pair of states.

Knows tables as shares, their noise, and a layout. Refuses to know patients: everything here is
post-processing of bought tables. Of all distributions with these tables it is the one that adds nothing to
them: each column, given all the others, is log-linear in them. A mixture fitted to the same tables is not:
on Diabetes 130 it loses about two nats a patient more.

Sums over all rows are out of reach, so chains of Gibbs sampling stand for them, and move on with the
couplings while those are learnt.

A crossed column (see `domain.crossing`) has couplings of its own with all columns but the two it is made of.
They start at 0 and are learnt last, towards what its tables say beyond those of single columns: where noise
leaves nothing of that, the model is the one without them.

Source: Jaynes, Phys. Rev. 106 (1957), section 2 (the principle); Dudík, Phillips and Schapire, JMLR 8 (2007),
section 4 (noisy tables: a quadratic penalty on the couplings); Tieleman, ICML 2008 (persistent chains).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from synthkit.domain.crossing import Crossing, crossed_layout
from synthkit.domain.layout import Layout
from synthkit.generators.tables import beyond_pairs, blocks_of

RATE, FASTEST, OTHERS = 0.03, 0.1, 29
"""Share of a cell's relative misfit that one sweep takes back. Every coupling moves at once, and a column
is in as many tables as there are others: near 0.15 thirty columns overshoot together. The share is for so
many others, and larger for fewer, up to a largest."""

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

    `couplings` is float32, shape (width, width), symmetric, 0 within a column and between a crossed column
    and the two it is made of; `fields` (width,). Both are of the layout and, behind it, the crossed columns.
    """

    layout: Layout
    couplings: torch.Tensor
    fields: torch.Tensor


@dataclass(kw_only=True, eq=False)
class Chains:
    """Rows under Gibbs sampling: `places`, each cell's place in the width, is int64, (chains, columns).

    Places of crossed columns stand behind the others and follow from them.
    """

    layout: Layout
    places: torch.Tensor
    rng: torch.Generator
    crossed: Sequence[Crossing] = ()
    _groups: list[torch.Tensor] = field(init=False, repr=False)
    _offsets: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._groups = [torch.tensor(c.groups, device=self.places.device) for c in self.crossed]
        self._offsets = crossed_layout(self.layout, self.crossed).offsets

    @classmethod
    def of_shares(
        cls,
        layout: Layout,
        shares: torch.Tensor,
        *,
        chains: int,
        seed: int,
        crossed: Sequence[Crossing] = (),
    ) -> "Chains":
        """Independent columns with these one-way shares."""
        rng = torch.Generator(device=shares.device).manual_seed(seed)
        drawn = [
            torch.multinomial(share, chains, replacement=True, generator=rng)
            for share in torch.split(shares, list(layout.states))
        ]
        offsets = torch.tensor(layout.offsets, device=shares.device)
        places = torch.stack(drawn, dim=1) + offsets
        blank = places.new_zeros(chains, len(crossed))
        rows = cls(layout=layout, places=torch.cat([places, blank], dim=1), rng=rng, crossed=crossed)
        for number in range(len(crossed)):
            rows._cross(number)
        return rows

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
            made = [n for n, one in enumerate(self.crossed) if column in (one.first, one.second)]
            for number in made:
                logits += self._through(number, model, column)
            # States first: sums over a long last dimension are many times as fast as over a short one.
            sums = torch.softmax(logits.T.contiguous(), dim=0).cumsum(dim=0)
            uniform = torch.rand(len(places), generator=self.rng, device=device)
            places[:, column] = start + (sums[:-1] <= uniform).sum(dim=0)
            for number in made:
                self._cross(number)

    def _state(self, column: int) -> torch.Tensor:
        return self.places[:, column] - self.layout.offsets[column]

    def _cross(self, number: int) -> None:
        """Set a crossed column's places by the two columns it is made of."""
        one = self.crossed[number]
        state = self._groups[number][self._state(one.first)] * one.others + self._state(one.second)
        place = len(self.layout.states) + number
        self.places[:, place] = self._offsets[place] + state

    def _through(self, number: int, model: Pairwise, column: int) -> torch.Tensor:
        """What a crossed column's couplings add to the logits of one of its two columns, (chains, states)."""
        one, start = self.crossed[number], self._offsets[len(self.layout.states) + number]
        couplings = model.couplings[:, start : start + one.states].contiguous()
        logits = functional.embedding_bag(self.places, couplings, mode="sum")
        logits = logits.view(len(logits), one.group_count, one.others)
        rows = torch.arange(len(logits), device=logits.device)
        if column == one.first:
            return logits[rows, :, self._state(one.second)][:, self._groups[number]]
        return logits[rows, self._groups[number][self._state(one.first)]]

    def states(self) -> torch.Tensor:
        """The rows' states, int64, shape (chains, columns); crossed columns are left out."""
        places = self.places[:, : len(self.layout.states)]
        return places - torch.tensor(self.layout.offsets, device=places.device)

    def tables(self) -> torch.Tensor:
        """Shares of rows by pair of states, float32, shape (width, width); one-way shares on the diagonal."""
        width = self.layout.width + sum(one.states for one in self.crossed)
        hot = torch.zeros(len(self.places), width, device=self.places.device)
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
    crossed: Sequence[Crossing] = (),
    bought: torch.Tensor | None = None,
    patients: float = 1.0,
) -> tuple[Pairwise, Chains]:
    """Learn couplings and fields; the same tables give the same ones.

    Args:
        tables: Shares of patients, cleaned, float32, shape (width, width); one-way shares on the diagonal.
        layout: Of the states.
        variance: What is left of a pair's cell of noise variance, times the number of patients: in shares.
        chains: Rows that stand for the model's distribution.
        sweeps: Steps of learning, each with one sweep. With crossed columns half of them follow once more.
        progress: Called with the sweeps done.
        crossed: The crossed columns.
        bought: Shares with their noise, float64, of the layout and the crossed columns behind it.
        patients: How many `bought` is of.

    Returns:
        The model, averaged over the last sweeps, and the chains where they stand.
    """
    wide = crossed_layout(layout, crossed)
    rows = Chains.of_shares(layout, tables.diagonal().clone(), chains=chains, seed=0, crossed=crossed)
    more = (0, wide.width - layout.width)
    fit = _Fit(
        # Fewer than nobody is nobody: a cell that noise pushed below 0 would drive its coupling without end,
        # and where it weighs less than 0, the wrong way.
        tables=functional.pad(tables.clamp(min=0), more + more),
        is_pair=_pairs_of(wide, layout, tables),
        fields=functional.pad(tables.diagonal().log(), more),
        penalty=RESERVE * variance,
    )
    mean, seen = fit.learn(rows, layout, sweeps, progress)
    if bought is None or not crossed:
        return mean, rows
    told = beyond_pairs(
        bought, seen.double(), layout, crossed, variance=variance / patients, patients=patients
    )
    fit.add(told.float(), seen)
    return fit.learn(rows, layout, sweeps // 2, lambda done: progress(sweeps + done))[0], rows


def _pairs_of(wide: Layout, layout: Layout, like: torch.Tensor) -> torch.Tensor:
    """1 where two states are of two columns that were each drawn, else 0; shape (width, width)."""
    block = blocks_of(wide, like.device)
    is_drawn = block < len(layout.states)
    return ((block[:, None] != block) & is_drawn & is_drawn[:, None]).to(like)


@dataclass(kw_only=True, eq=False)
class _Fit:
    """Couplings and fields on their way towards tables, each float32 of the layout with crossed columns."""

    tables: torch.Tensor
    is_pair: torch.Tensor
    """1 where a coupling is learnt, 0 where it stays 0."""
    fields: torch.Tensor
    penalty: float

    def __post_init__(self) -> None:
        self.couplings = torch.zeros_like(self.tables)

    def add(self, told: torch.Tensor, seen: torch.Tensor) -> None:
        """Learn the crossed columns' couplings, too, where anything was told of them beyond what is seen."""
        is_told = told != 0
        self.tables = torch.where(is_told, (seen + told).clamp(min=0), self.tables)
        self.is_pair = torch.where(is_told, 1.0, self.is_pair)

    def learn(
        self, rows: Chains, layout: Layout, sweeps: int, progress: Callable[[int], None]
    ) -> tuple[Pairwise, torch.Tensor]:
        """Sweep and correct; the averaged model, and the chains' averaged tables."""
        shares, chains, width = self.tables.diagonal(), len(rows.places), layout.width
        averaged = max(1, round(AVERAGED_SHARE * sweeps))
        mean = Pairwise(
            layout=layout, couplings=torch.zeros_like(self.tables), fields=torch.zeros_like(shares)
        )
        seen, fastest = torch.zeros_like(self.tables), _rate(len(layout.states))
        for sweep in range(sweeps):
            rows.sweep(Pairwise(layout=layout, couplings=self.couplings, fields=self.fields))
            now = rows.tables()
            rate = fastest * min(1.0, (1.0 - sweep / sweeps) / STEADY_SHARE)
            misfit = (self.tables - now - self.penalty * self.couplings) * self.is_pair
            weight = (self.tables + now) / 2 + CHANCE / chains
            self.couplings += rate * misfit / (weight + self.penalty)
            own = (shares - now.diagonal()) / weight.diagonal()
            self.fields[:width] += rate * own[:width]
            if sweep >= sweeps - averaged:
                mean.couplings.add_(self.couplings, alpha=1.0 / averaged)
                mean.fields.add_(self.fields, alpha=1.0 / averaged)
                seen.add_(now, alpha=1.0 / averaged)
            progress(sweep + 1)
        return mean, seen


def _rate(columns: int) -> float:
    """Share of a misfit that one sweep takes back where there are so many columns."""
    return min(FASTEST, RATE * max(1.0, OTHERS / max(1, columns - 1)))
