"""Med-VAE as published: the network and its loss. For reproduction; nothing here can be made private.

Knows tensors and a `MixedLayout`. Refuses to be a `Generator`: BatchNorm mixes the patients of a batch,
so there is no loss of one patient that could be clipped, and the type says so.

Source: Hogg and Sainsbury, Med-VAE: Improving Medical Research Access Through Privacy-Preserving
Synthetic Patient Data; supplementary text, "Model Implementation Details" (pages 19 and 20, figures 6
and 7) and "Training Process and Synthetic Data Generation" (page 20). What it leaves open, and what is
done here; "notebook" is Med-VAE.ipynb of the repository that section 1.1 names:
  - The third encoder layer of 32 neurons is a hidden layer like the others (text and figure 6), and the
    mean and log variance are linear in it. The notebook has none: its heads follow the layer of 60.
  - Within a layer: linear, BatchNorm, leaky ReLU (the notebook's order, and its slope of 0.3).
  - One embedding a category of each column, the columns' tables side by side in one.
  - Numeric head linear, as the text says; the notebook has a sigmoid.
  - "Seven distinct reconstruction losses": one mean squared error over all numeric columns, one binary
    cross entropy over all binary ones, and one cross entropy for each of the paper's five categorical
    columns. Each is a mean over the batch (and over its columns), as in the notebook.
  - The KL term is a sum over the latent dimensions and a mean over the batch (notebook).
  - "Optimized binary weight ... to ensure comparable initial loss magnitudes": the weight at which the
    binary term of the untrained network equals the mean of the other weighted terms. The notebook has 1.
  - "KL scaling" (abstract): the text gives no factor. 1 by default. The notebook has 10, in a term that
    reaches the loss as a variable and so has no gradient (its log: the total rises to 4.8 million while
    the reconstruction terms fall to next to nothing): what it trains is a factor of 0.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from synthkit.domain.mixed import MixedLayout

WIDTHS = (88, 60, 32)
"""Hidden layers of the encoder; the decoder's are the same in reverse."""

LATENT = 32
EMBEDDING = 3
"""Dimensions of a category's embedding."""

SLOPE = 0.3
"""Of the leaky ReLU below zero."""

NUMERIC_WEIGHT, CATEGORICAL_WEIGHT = 100.0, 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedBatch:
    """`MixedRows` as tensors: numeric and binary float32, categories int64, each (batch, columns)."""

    numeric: torch.Tensor
    binary: torch.Tensor
    categories: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LossTerms:
    """The terms of the loss, unweighted, each a scalar but `categorical`, shape (categorical columns,).

    A group without columns has the term 0.
    """

    numeric: torch.Tensor
    binary: torch.Tensor
    categorical: torch.Tensor
    kl: torch.Tensor

    def total(self, *, binary_weight: float, beta: float) -> torch.Tensor:
        """The weighted sum that is minimised."""
        return (
            NUMERIC_WEIGHT * self.numeric
            + binary_weight * self.binary
            + CATEGORICAL_WEIGHT * self.categorical.sum()
            + beta * self.kl
        )

    def comparable_binary_weight(self) -> float:
        """The weight at which the binary term equals the mean of the other reconstruction terms."""
        others = [NUMERIC_WEIGHT * self.numeric.item(), *(CATEGORICAL_WEIGHT * self.categorical).tolist()]
        present = [term for term in others if term > 0]
        own = self.binary.item()
        return sum(present) / len(present) / own if present and own > 0 else 1.0


class PaperMedVae(nn.Module):
    """See the module docstring."""

    def __init__(self, layout: MixedLayout) -> None:
        super().__init__()
        self.layout = layout
        levels = sum(layout.levels)
        inputs = layout.numeric + layout.binary + EMBEDDING * len(layout.levels)
        self.embedding = nn.Embedding(max(levels, 1), EMBEDDING)
        self.encoder = _layers((inputs, *WIDTHS))
        self.mean = nn.Linear(WIDTHS[-1], LATENT)
        self.log_variance = nn.Linear(WIDTHS[-1], LATENT)
        self.decoder = _layers((LATENT, *WIDTHS[::-1]))
        # All heads side by side: the same functions as one layer a feature, in one product.
        self.heads = nn.Linear(WIDTHS[0], layout.numeric + layout.binary + levels)
        blocks = torch.repeat_interleave(torch.arange(len(layout.levels)), torch.tensor(layout.levels).long())
        self.register_buffer("_blocks", blocks, persistent=False)  # (levels,): the column of each level
        starts = torch.tensor([0, *layout.levels]).cumsum(0)[:-1]
        self.register_buffer("_starts", starts, persistent=False)  # (categorical columns,)

    def encode(self, batch: MixedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean and log variance, each float32, shape (batch, 32)."""
        starts = self.get_buffer("_starts")
        embedded = self.embedding(batch.categories + starts).flatten(1)  # (batch, 3 * categorical)
        hidden = self.encoder(torch.cat([batch.binary, batch.numeric, embedded], dim=1))
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Numeric values, and logits of the binary and of all categorical levels, each (batch, ...)."""
        layout = self.layout
        parts = torch.split(
            self.heads(self.decoder(z)), [layout.numeric, layout.binary, sum(layout.levels)], dim=1
        )
        return parts[0], parts[1], parts[2]

    def loss_terms(self, batch: MixedBatch, *, noise: torch.Tensor) -> LossTerms:
        """The loss of a batch.

        Args:
            batch: The rows; in training mode at least two, because of BatchNorm.
            noise: Standard normal variates, float32, shape (batch, 32), for the latent draw.
        """
        mean, log_variance = self.encode(batch)
        numeric, binary, levels = self.decode(mean + torch.exp(0.5 * log_variance) * noise)
        zero = mean.new_zeros(())
        return LossTerms(
            numeric=functional.mse_loss(numeric, batch.numeric) if numeric.shape[1] else zero,
            binary=functional.binary_cross_entropy_with_logits(binary, batch.binary)
            if binary.shape[1]
            else zero,
            categorical=self._cross_entropies(levels, batch.categories),
            kl=0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean(),
        )

    def _cross_entropies(self, logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy of each categorical column, shape (categorical columns,)."""
        blocks = self.get_buffer("_blocks").expand(len(logits), -1)  # (batch, levels)
        low = logits.new_full((len(logits), len(self.layout.levels)), -torch.inf)
        highest = low.scatter_reduce(1, blocks, logits.detach(), "amax")  # (batch, columns)
        masses = torch.zeros_like(highest).scatter_add(
            1, blocks, torch.exp(logits - highest.gather(1, blocks))
        )
        picked = logits.gather(1, chosen + self.get_buffer("_starts"))
        return (masses.log() + highest - picked).mean(dim=0)

    def most_probable(self, z: torch.Tensor) -> MixedBatch:
        """What a code is decoded to: the notebook's threshold of 0.5, and the most probable level."""
        numeric, binary, levels = self.decode(z)
        columns = torch.split(levels, list(self.layout.levels), dim=1)
        best = [column.argmax(dim=1) for column in columns]
        categories = torch.stack(best, dim=1) if best else torch.zeros(len(z), 0, dtype=torch.int64)
        return MixedBatch(numeric=numeric, binary=(binary >= 0).to(numeric), categories=categories)


def beta_at(epoch: int, epochs: int) -> float:
    """KL weight in an epoch, counted from 0: linear from 0 in the first to 1 in the last.

    Source: "scaled linearly from 0 to 1 across training epochs" (page 20). A single epoch has 0.
    """
    return epoch / max(1, epochs - 1)


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)
