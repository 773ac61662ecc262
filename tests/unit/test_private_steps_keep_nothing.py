"""A private step leaves nothing behind but weights: a training's memory does not grow with its steps."""

import gc

import pytest
import torch
from torch import nn

from synthkit.privacy.clipping import PerPatientGradients


class Upsampled(nn.Module):
    """Every kind of layer that records of visits are made with."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.over = nn.Conv1d(4, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.table = nn.Embedding(5, 4)

    def forward(self, rows):
        h = self.over(self.up(self.first(rows).unflatten(1, (4, 2)))).transpose(1, 2)
        return self.norm(h).sum(dim=1) + self.table(rows[:, :1].long().clamp(0, 4)).squeeze(1)


def live_numbers():
    """Numbers in all tensors that are reachable."""
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if type(o) in (torch.Tensor, nn.Parameter))


def test_memory_does_not_grow_with_steps():
    """Opacus' own way with transposed convolutions kept a copy of the whole model at each step."""
    module = Upsampled()
    gradients = PerPatientGradients(module)
    rows = torch.rand(6, 3)
    seen = []
    for _ in range(6):
        gradients.forget()
        gradients.clipped_sum(module(rows).square().sum(dim=1), 1.0)
        seen.append(live_numbers())
    assert seen[-1] == seen[1], seen


def test_grouped_transposed_convolutions_are_refused():
    with pytest.raises(RuntimeError, match="private step"):
        PerPatientGradients(nn.ConvTranspose1d(4, 4, 2, groups=2))
