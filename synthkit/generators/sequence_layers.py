"""Layers over a patient's visits: none looks ahead, none mixes patients.

Knows tensors (batch, channels, visits). Rules: what comes out at a visit depends on that visit and earlier
ones alone; drawing visit by visit, with `step`, gives what `forward` gives on the whole record. LayerNorm
over the channels of one visit stands where a GroupNorm over time would look ahead.
"""

import math
import re

import torch
from torch import nn
from torch.nn import functional

KERNEL = 3
STRIDE = 4


class Upsampler(nn.Module):
    """From a latent per patient to one vector per visit, by transposed convolutions.

    Kernel and stride are equal, so a visit's vector does not depend on how long the record is.
    """

    def __init__(self, latent: int, channels: int, most_visits: int) -> None:
        super().__init__()
        self.channels = channels
        levels = 1 if most_visits <= STRIDE else 2 if most_visits <= 64 else 3
        self.span = STRIDE**levels
        self.width = -(-most_visits // self.span)
        self.first = nn.Linear(latent, channels * self.width)
        self.ups = nn.ModuleList(
            [nn.ConvTranspose1d(channels, channels, STRIDE, stride=STRIDE) for _ in range(levels)]
        )

    def forward(self, latent: torch.Tensor, visits: int) -> torch.Tensor:
        """(batch, latent) to (batch, channels, visits)."""
        h: torch.Tensor = self.first(latent).view(-1, self.channels, self.width)
        for level, up in enumerate(self.ups):
            needed = -(-visits // STRIDE ** (len(self.ups) - level))
            h = up(functional.gelu(h[:, :, :needed]))
        return h[:, :, :visits]

    def block(self, latent: torch.Tensor, number: int) -> torch.Tensor:
        """Visits `number * span` up to the next block's, (batch, channels, span), as `forward` has them."""
        h: torch.Tensor = self.first(latent).view(-1, self.channels, self.width)[:, :, number : number + 1]
        for up in self.ups:
            h = up(functional.gelu(h))
        return h


class CausalStack(nn.Module):
    """Masked dilated convolutions, each added to what it was given. Dilations double."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(layers)])
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(channels, channels, KERNEL, dilation=2**i) for i in range(layers)]
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(batch, visits, channels) to the same shape."""
        for i, (norm, convolve) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            padded = functional.pad(norm(h).transpose(1, 2), ((KERNEL - 1) * 2**i, 0))
            h = h + functional.gelu(convolve(padded)).transpose(1, 2)
        return h

    def start(self, count: int) -> list[torch.Tensor]:
        """What the layers remember before the first visit, each (batch, visits, channels)."""
        return [
            torch.zeros(count, (KERNEL - 1) * 2**i, c.in_channels) for i, c in enumerate(self._convolutions())
        ]

    def step(self, h: torch.Tensor, past: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One visit, (batch, channels), and what the layers remember of those before."""
        kept = []
        for i, (norm, convolve) in enumerate(zip(self.norms, self._convolutions(), strict=True)):
            window = torch.cat([past[i], norm(h)[:, None]], dim=1)
            taps = window[:, :: 2**i].flatten(1)  # (batch, KERNEL * channels)
            weight = convolve.weight.permute(0, 2, 1).flatten(1)
            h = h + functional.gelu(functional.linear(taps, weight, convolve.bias))
            kept.append(window[:, 1:])
        return h, kept

    def _convolutions(self) -> list[nn.Conv1d]:
        return [c for c in self.convolutions if isinstance(c, nn.Conv1d)]


class Recurrence(nn.Module):
    """An LSTM written as linear layers, so that gradients are measured patient by patient as theirs are.

    The same function of the same numbers as `torch.nn.LSTM`: gates in the order input, forget, cell, output.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.inputs = nn.Linear(width, 4 * size)
        self.hidden = nn.Linear(size, 4 * size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1.0 / math.sqrt(size), 1.0 / math.sqrt(size))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(batch, visits, width) to (batch, visits, size)."""
        out = cell = h.new_zeros(len(h), self.size)
        found = []
        for gates in self.inputs(h).unbind(dim=1):
            out, cell = self._turn(gates, out, cell)
            found.append(out)
        return torch.stack(found, dim=1)

    def step(
        self, h: torch.Tensor, out: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One visit, (batch, width): what comes out, and the cell."""
        return self._turn(self.inputs(h), out, cell)

    def _turn(
        self, gates: torch.Tensor, out: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        enter, forget, new, leave = (gates + self.hidden(out)).chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class BothWays(nn.Module):
    """A bidirectional LSTM's two last states, each of a whole record: padding is never read."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.forwards = Recurrence(width, size)
        self.backwards = Recurrence(width, size)

    def forward(self, h: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(batch, visits, width) and int64 (batch,) to (batch, 2 * size)."""
        place = torch.arange(h.shape[1], device=h.device)
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        reverse = h.gather(1, turned[:, :, None].expand_as(h))
        rows = torch.arange(len(h), device=h.device)
        ends = [one(side)[rows, lengths - 1] for one, side in ((self.forwards, h), (self.backwards, reverse))]
        return torch.cat(ends, dim=1)


class RecurrentStack(nn.Module):
    """An LSTM in the convolutions' place: the paper's rivals."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = Recurrence(channels, hidden)
        self.out = nn.Linear(hidden, channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(batch, visits, channels) to the same shape."""
        found: torch.Tensor = h + self.out(self.lstm(h))
        return found

    def start(self, count: int) -> list[torch.Tensor]:
        """What the LSTM remembers before the first visit."""
        return [torch.zeros(count, self.lstm.size) for _ in range(2)]

    def step(self, h: torch.Tensor, past: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One visit, (batch, channels), and what the LSTM remembers of those before."""
        out, cell = self.lstm.step(h, past[0], past[1])
        return h + self.out(out), [out, cell]


FORMER_NAMES = {"ih": "inputs", "hh": "hidden"}


def present_name(name: str) -> str:
    """What a parameter is called now that models of the first version called `name`."""
    found = re.fullmatch(r"(.*)\.(weight|bias)_(ih|hh)_l0(_reverse)?", name)
    if found is None:
        return name
    owner, what, gates, reverse = found.groups()
    side = "" if owner != "reader" else ".backwards" if reverse else ".forwards"
    return f"{owner}{side}.{FORMER_NAMES[gates]}.{what}"


class Lookup(nn.Embedding):
    """One number for each state: an embedding of width 1, whose gradient is a weighted count of states."""

    def __init__(self, states: int) -> None:
        super().__init__(states, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """int64 (...) to float32 (..., 1)."""
        found: torch.Tensor = _Count.apply(self.weight, states)  # type: ignore[no-untyped-call]
        return found


class _Count(torch.autograd.Function):
    """Looks numbers up. An embedding's own backward pass sorts the states, too slowly for millions."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, weight: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(states)
        ctx.size = len(weight)  # type: ignore[attr-defined]
        return weight[:, 0].index_select(0, states.flatten()).view(*states.shape, 1)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        (states,) = ctx.saved_tensors  # type: ignore[attr-defined]
        size: int = ctx.size  # type: ignore[attr-defined]
        sums = torch.bincount(states.flatten(), gradient.flatten(), minlength=size)
        return sums.to(gradient.dtype)[:, None], None


NEVER, RECENCY, SHARES = 6, 6, 5
MEMORY = NEVER + RECENCY * SHARES
"""How many states a patient's memory of one code has."""


def memory_states(place: torch.Tensor, last: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """State of the memory of codes, in [0, MEMORY).

    Args:
        place: int64, broadcast to the others' shape: how many visits came before.
        last: int64 (..., codes): the last of them that had the code; -1 if none had.
        count: int64 (..., codes): how many of them had it.
    """
    never = never_states(place)
    recency = _octave((place - last).clamp(min=1).float(), RECENCY)
    share = count.float() / place.clamp(min=1).float()
    level = (share > 0.15).long() + (share > 0.35).long() + (share > 0.6).long() + (share > 0.85).long()
    return torch.where(last < 0, never, NEVER + recency * SHARES + level)


def never_states(place: torch.Tensor) -> torch.Tensor:
    """State of the memory of a code that none of the `place` visits before had."""
    return _octave(place.float() + 1.0, NEVER)


def by_step(values: torch.Tensor, visit: torch.Tensor) -> torch.Tensor:
    """The vector of each step's visit: (batch, visits, k) at int64 (batch, steps) is (batch, steps, k)."""
    rows = torch.arange(len(values), device=values.device)[:, None] * values.shape[1] + visit
    return values.flatten(0, 1).index_select(0, rows.flatten()).view(*visit.shape, values.shape[2])


def _octave(values: torch.Tensor, states: int) -> torch.Tensor:
    """0 for 1, 1 for 2, 2 for 3 and 4, 3 for 5 to 8 and so on, below `states`."""
    return torch.log2(values).sub(1e-4).ceil().long().clamp(min=0, max=states - 1)
