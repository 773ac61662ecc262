"""The masked network: each column's distribution given any of the others, and rows drawn column by column.

Knows states, of which some are hidden, and weights. Refuses to know how the weights are learnt: `mcm` says.
Rules: what goes in is the known cells and which cells are hidden, never a hidden cell; what is drawn starts
from what is asked for, at first from nothing, so no row of a patient is ever an input of a draw.

Source: Hoogeboom et al., "Autoregressive diffusion models", ICLR 2022, equation 3 (one network for all
orders, trained on one random place in one random order). The linear path beside the perceptron is a
log-linear model of all pairs of columns; the perceptron adds what pairs do not say.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import Layout, StateWeights
from synthkit.generators.base import UNKNOWN, Generator
from synthkit.generators.settings import checked_settings
from synthkit.generators.tables import blocks_of

CHUNK = 512
"""Rows drawn at once, in one random order: their activations fit into a processor core's own cache."""

LIKELIHOOD_VIEWS, LIKELIHOOD_ROWS = 8, 1024
"""Masks of each row, and rows at once, when rows are judged."""

CANDIDATES = 20
"""Starts per kept start under conditions on several columns."""

MASS_STARTS = 8192
"""Starts from which the mass of conditions is told."""


class MaskedGenerator(Generator):
    """A masked network and all that is drawn with it.

    `linear` and `first` both take the known cells as one-hot blocks, zero where hidden, and behind them one
    number a column that is 1 where it is hidden. `shares` is the distribution of the column drawn first.
    """

    defaults: ClassVar[Mapping[str, float]]
    ranges: ClassVar[Mapping[str, tuple[float, float]]]

    reliability_words = (
        "about {share} of what these conditions rest on is told apart, the rest is chance or privacy noise"
    )

    def __init__(self, layout: Layout, hyperparameters: dict[str, float] | None = None) -> None:
        super().__init__(layout)
        self._settings = checked_settings(self.kind, hyperparameters, self.defaults, self.ranges)
        hidden, columns = int(self._settings["hidden"]), len(layout.states)
        self.first = nn.Linear(layout.width + columns, hidden)
        self.out = nn.Linear(hidden, layout.width)
        self.linear = nn.Linear(layout.width + columns, layout.width, bias=False)
        with torch.no_grad():
            # As many inputs are 1 as there are columns. Near independence at first.
            self.first.weight.normal_(std=1.0 / math.sqrt(columns))
            self.out.weight.mul_(0.3)
            self.linear.weight.mul_(0.1)
        equal = torch.cat([torch.full((size,), 1.0 / size) for size in layout.states])
        self.shares = nn.Parameter(equal, requires_grad=False)
        # Neither parameter nor buffer: a constant of the layout, that no file has to hold.
        self._blur = neighbours(layout, self.blur_share)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """See `Generator`."""
        return dict(self._settings)

    @property
    def blur_share(self) -> float:
        """How far a number's bins are mixed with their neighbours, as a share of its bins; 0: not at all."""
        return float(self._settings.get("blur", 0.0))

    @property
    def draws(self) -> int:
        """Masks a row gets in one step."""
        return int(self._settings["masks"])

    @property
    def noise_size(self) -> int:
        """How many standard normal variates one mask takes: how many cells are known, and in which order."""
        return 1 + len(self.layout.states)

    def any_order_loss(self, states: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Minus a lower bound of each view's log probability, unbiased over the noise.

        The mean over the hidden columns of their negative log likelihood, times the number of columns. How
        many are known is uniform; the views take their share of that range in turn, which leaves a mean over
        `draws` views unbiased and moves it less.

        Args:
            states: int64, shape (batch, views, columns).
            noise: Standard normal, shape (batch, views, noise_size).

        Returns:
            float32, shape (batch, views).
        """
        columns, views = states.shape[-1], states.shape[1]
        turn = torch.arange(views, device=states.device) % self.draws  # (views,)
        uniform = (turn + torch.special.ndtr(noise[..., 0])) / self.draws
        count = (uniform * columns).floor().clamp(max=columns - 1)  # (batch, views)
        places = noise[..., 1:].argsort(dim=-1).argsort(dim=-1)
        known = (places < count[..., None]).float()  # (batch, views, columns)
        chosen = states + torch.tensor(self.layout.offsets, device=states.device)
        hot = torch.zeros(*states.shape[:2], self.layout.width, device=states.device, dtype=noise.dtype)
        logits = self._logits(hot.scatter_(-1, chosen, known.to(noise.dtype)), known.to(noise.dtype))
        blocks = torch.split(logits, list(self.layout.states), dim=-1)
        normalizers = torch.stack([torch.logsumexp(block, dim=-1) for block in blocks], dim=-1)
        misses = (normalizers - logits.gather(-1, chosen)) * (1.0 - known)
        loss: torch.Tensor = misses.sum(dim=-1) * columns / (columns - count)
        return loss

    def _logits(self, hot: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Logits of every column, (..., width), from known cells (..., width) and which they are."""
        inputs = torch.cat([self._blurred(hot), 1.0 - known], dim=-1)
        logits: torch.Tensor = self.out(torch.relu(self.first(inputs))) + self.linear(inputs)
        return self._blurred(logits)

    def _blurred(self, blocks: torch.Tensor) -> torch.Tensor:
        """Each number's bins mixed with their neighbours, (..., width)."""
        return blocks if self._blur is None else blocks @ self._blur.to(blocks)

    @torch.no_grad()
    def log_likelihood(self, states: np.ndarray) -> np.ndarray:
        """See `Generator`. A lower bound's estimate, from the same masks for every row."""
        columns = len(self.layout.states)
        rng = torch.Generator().manual_seed(0)
        views = self.draws * math.ceil(LIKELIHOOD_VIEWS / self.draws)
        noise = torch.randn(1, views, 1 + columns, generator=rng).to(self.shares)
        found = np.empty(len(states))
        for start in range(0, len(states), LIKELIHOOD_ROWS):
            rows = torch.from_numpy(states[start : start + LIKELIHOOD_ROWS]).to(self.shares.device)
            seen = rows[:, None].expand(-1, views, -1)
            loss = self.any_order_loss(seen, noise.expand(len(rows), -1, -1)).mean(dim=1)
            found[start : start + len(rows)] = -loss.double().cpu().numpy()
        return found

    @torch.no_grad()
    def sample(
        self, count: int, *, rng: torch.Generator, where: StateWeights | None = None
    ) -> tuple[np.ndarray, float]:
        """See `Generator`. The conditions' columns first, then the others in random order.

        One such column is drawn exactly. Several are drawn one after the other, each from its allowed
        states, and kept by importance: a start counts with the allowed mass that each met on its way. The
        share returned is the effective number of starts a row, times that of signal in the conditions' mass
        (see `signal_share`).
        """
        drawn = np.full((count, len(self.layout.states)), UNKNOWN, dtype=np.int64)
        reliability = 1.0
        if where and count:
            drawn, reliability = self._starts(count, rng, where)
        return self._filled(drawn, rng), reliability

    @torch.no_grad()
    def mass(self, where: StateWeights, *, rng: torch.Generator) -> float:
        """See `Generator`. The mean over starts of the allowed mass; of one column without any chance."""
        return float(self._restricted(1 if len(where) <= 1 else MASS_STARTS, rng, where)[1].exp().mean())

    @torch.no_grad()
    def complete(self, states: np.ndarray, *, rng: torch.Generator) -> np.ndarray:
        """See `Generator`. Any pattern of known cells is one the network was trained on."""
        return self._filled(states.copy(), rng)

    def _starts(self, count: int, rng: torch.Generator, where: StateWeights) -> tuple[np.ndarray, float]:
        """Rows of which only the conditions' columns are known, and how reliable they are."""
        size = count if len(where) == 1 else max(CANDIDATES * min(count, MASS_STARTS), MASS_STARTS)
        states, log_mass = self._restricted(size, rng, where)
        signal = self.signal_share(float(log_mass.exp().mean()))
        if len(where) == 1:
            return states, signal
        weights = torch.softmax(log_mass, dim=0)
        effective = float(1.0 / weights.square().sum())
        kept = torch.multinomial(weights.cpu(), count, replacement=True, generator=_on_cpu(rng))
        return states[kept.numpy()], max(1e-12, min(1.0, effective / min(count, MASS_STARTS)) * signal)

    def _restricted(
        self, count: int, rng: torch.Generator, where: StateWeights
    ) -> tuple[np.ndarray, torch.Tensor]:
        """Draws of the conditions' columns alone, and the log of the allowed mass met on the way."""
        states = np.full((count, len(self.layout.states)), UNKNOWN, dtype=np.int64)
        log_mass, table = torch.zeros(count, dtype=torch.float64), self._table()
        for start in range(0, count, CHUNK):
            rows = torch.from_numpy(states[start : start + CHUNK]).to(self.shares.device)
            met = self._draw(rows, list(where), rng, where, table)
            states[start : start + CHUNK] = rows.cpu().numpy()
            log_mass[start : start + CHUNK] = met.cpu()
        return states, log_mass

    def _filled(self, states: np.ndarray, rng: torch.Generator) -> np.ndarray:
        """Fill what is unknown in place, chunk by chunk, each in a random order of its own."""
        device, table = self.shares.device, self._table()
        for start in range(0, len(states), CHUNK):
            rows = torch.from_numpy(states[start : start + CHUNK]).to(device)
            order = torch.randperm(len(self.layout.states), generator=rng, device=device).tolist()
            self._draw(rows, order, rng, {}, table)
            states[start : start + CHUNK] = rows.cpu().numpy()
        return states

    def _draw(
        self,
        rows: torch.Tensor,
        order: list[int],
        rng: torch.Generator,
        where: StateWeights,
        table: torch.Tensor,
    ) -> torch.Tensor:
        """Fill the unknown cells of the columns in `order`, in that order, in place.

        Inputs are 0 or 1, so a newly known cell adds one row of the first layers' weights to what is there,
        and only the next column's logits are worked out.

        Args:
            rows: int64, shape (rows, columns), `UNKNOWN` where to be drawn.
            order: Columns to fill.
            rng: Of every random draw.
            where: Conditions, on columns in `order`.
            table: See `_table`.

        Returns:
            Log of the allowed mass met on the way, float64, shape (rows,).
        """
        hidden, out = self.first.out_features, self._blurred(self.out.weight.T).T
        sums = self._sums(rows, table)
        blank = (rows == UNKNOWN).all(dim=1)
        met = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for column in order:
            todo = (rows[:, column] == UNKNOWN).nonzero().squeeze(1)
            low, size = self.layout.offsets[column], self.layout.states[column]
            part = sums if len(todo) == len(rows) else sums[todo]  # (todo, hidden + width)
            logits = torch.addmm(
                part[:, hidden + low : hidden + low + size],
                part[:, :hidden].relu(),
                out[low : low + size].T,
            )
            mass = torch.softmax(logits, dim=1)
            mass = torch.where(blank[todo, None], self.shares[low : low + size], mass)
            if column in where:
                mass = mass * torch.from_numpy(where[column]).to(mass)
                met[todo] += mass.double().sum(dim=1).clamp(min=1e-300).log()
            state = _drawn(mass, rng, where.get(column))
            rows[todo, column], blank[todo] = state, False
            added = table.index_select(0, low + state)
            if len(todo) == len(rows):
                sums += added
            else:
                sums.index_add_(0, todo, added)
        return met

    def _table(self) -> torch.Tensor:
        """What a state that becomes known adds to the hidden units and to the logits.

        Shape (width, hidden + width): the state's own row of weights less that of its hidden column.
        """
        inputs, width = self._folded().T, self.layout.width
        hidden_column = inputs[width:][blocks_of(self.layout, inputs.device)]
        return self._blurred(inputs[:width].T).T - hidden_column

    def _folded(self) -> torch.Tensor:
        """Weights from the inputs to hidden units and logits, (hidden + width, width + columns).

        The mixing of the logits is folded in, that of the inputs is not.
        """
        return torch.cat([self.first.weight, self._blurred(self.linear.weight.T).T])

    def _sums(self, rows: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Hidden units before their rectifier, and the linear path's logits, (rows, hidden + width)."""
        bias = torch.cat([self.first.bias, self._blurred(self.out.bias)])
        blank = bias + self._folded()[:, self.layout.width :].sum(dim=1)
        sums = blank.repeat(len(rows), 1)
        if not bool((rows == UNKNOWN).all()):
            offsets = torch.tensor(self.layout.offsets, device=rows.device)
            known = (rows != UNKNOWN).to(table)
            hot = torch.zeros(len(rows), self.layout.width, device=table.device)
            sums.addmm_(hot.scatter_(1, rows.clamp(min=0) + offsets, known), table)
        return sums


OWN_SHARE = 0.2
"""What of a bin stays its own where bins are mixed: shape that only many rows can tell is still learnt."""


def neighbours(layout: Layout, share: float) -> torch.Tensor | None:
    """The mixing of each number's bins, float32, shape (width, width), symmetric; None where there is none.

    A Gaussian over `share` of the column's bins. What is learnt through it in few steps is smooth.
    """
    if share <= 0 or not any(layout.bins):
        return None
    blur = torch.eye(layout.width)
    for start, spikes, bins in zip(layout.offsets, layout.spikes, layout.bins, strict=True):
        if bins > 1:
            place = torch.arange(bins) / (share * bins)
            kernel = torch.exp(-0.5 * (place[:, None] - place).square())
            # One eigenvalue is largest: at 1 the smoothest direction is learnt as fast as without mixing.
            kernel = (1 - OWN_SHARE) * kernel / torch.linalg.matrix_norm(kernel, 2) + OWN_SHARE * torch.eye(
                bins
            )
            block = slice(start + spikes, start + spikes + bins)
            blur[block, block] = kernel
    return blur


def _drawn(mass: torch.Tensor, rng: torch.Generator, allowed: np.ndarray | None) -> torch.Tensor:
    """One state a row by its mass, shape (rows,); an allowed one also where no mass is left to any."""
    if allowed is not None:
        # A mass below the smallest float must not let a state through that is not allowed.
        mass = mass.double()
        mass = torch.where(mass.sum(dim=1, keepdim=True) > 0, mass, torch.from_numpy(allowed).to(mass))
    sums = mass.cumsum(dim=1)
    uniform = torch.rand(len(mass), 1, generator=rng, device=mass.device, dtype=mass.dtype)
    state = (sums <= uniform * sums[:, -1:]).sum(dim=1)
    last = mass.shape[1] - 1 if allowed is None else int(np.flatnonzero(allowed)[-1])
    return state.clamp(max=last)


def _on_cpu(rng: torch.Generator) -> torch.Generator:
    """The same source of chance where it lives on the processor, else one seeded from it."""
    if rng.device.type == "cpu":
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    return torch.Generator().manual_seed(seed)
