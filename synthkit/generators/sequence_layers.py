"""Layers over a patient's visits: none looks ahead, none mixes patients.

Knows tensors (batch, channels, visits). Rules: what comes out at a visit depends on that visit and earlier
ones alone; drawing visit by visit, with `step`, gives what `forward` gives on the whole record. LayerNorm
over the channels of one visit stands where a GroupNorm over time would look ahead.
"""

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
        self.width = -(-most_visits // STRIDE**levels)
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
        """What the layers remember before the first visit."""
        return [
            torch.zeros(count, c.in_channels, (KERNEL - 1) * 2**i) for i, c in enumerate(self._convolutions())
        ]

    def step(self, h: torch.Tensor, past: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One visit, (batch, channels), and what the layers remember of those before."""
        kept = []
        for i, (norm, convolve) in enumerate(zip(self.norms, self._convolutions(), strict=True)):
            window = torch.cat([past[i], norm(h)[:, :, None]], dim=2)
            taps = window[:, :, :: 2**i]  # (batch, channels, KERNEL)
            out = torch.einsum("bck,ock->bo", taps, convolve.weight)
            h = h + functional.gelu(out if convolve.bias is None else out + convolve.bias)
            kept.append(window[:, :, 1:])
        return h, kept

    def _convolutions(self) -> list[nn.Conv1d]:
        return [c for c in self.convolutions if isinstance(c, nn.Conv1d)]


class RecurrentStack(nn.Module):
    """An LSTM in the convolutions' place: the paper's rivals."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.out = nn.Linear(hidden, channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """(batch, visits, channels) to the same shape."""
        found: torch.Tensor = h + self.out(self.lstm(h)[0])
        return found

    def start(self, count: int) -> list[torch.Tensor]:
        """What the LSTM remembers before the first visit."""
        return [torch.zeros(count, self.lstm.hidden_size) for _ in range(2)]

    def step(self, h: torch.Tensor, past: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One visit, (batch, channels), and what the LSTM remembers of those before."""
        out, (hidden, cell) = self.lstm(h[:, None], (past[0][None], past[1][None]))
        return h + self.out(out[:, 0]), [hidden[0], cell[0]]


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
    never = _octave(place.float() + 1.0, NEVER)
    recency = _octave((place - last).clamp(min=1).float(), RECENCY)
    share = count.float() / place.clamp(min=1).float()
    level = (share > 0.15).long() + (share > 0.35).long() + (share > 0.6).long() + (share > 0.85).long()
    return torch.where(last < 0, never, NEVER + recency * SHARES + level)


def _octave(values: torch.Tensor, states: int) -> torch.Tensor:
    """0 for 1, 1 for 2, 2 for 3 and 4, 3 for 5 to 8 and so on, below `states`."""
    return torch.log2(values).sub(1e-4).ceil().long().clamp(min=0, max=states - 1)
