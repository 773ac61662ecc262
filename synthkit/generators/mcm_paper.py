"""MCM as published: the network and its loss. For reproduction; generation with it starts from real rows.

Knows features within [0, 1] and which of them are seen. Refuses to be a `Generator`: it draws nothing, it
completes rows, and its completion is one value, not a distribution.

Source: Kuo, Gallego and Jorm, Masked Clinical Modelling, section 2.2. What it leaves open, and what is done
here; "notebook" is the authors' WHAS500 notebook:
  - The attention filter is linear without a bias, the perceptron's two layers have one (notebook).
  - "After masking, the data is passed to the model": a masked feature enters as 0 everywhere. The notebook
    multiplies the unmasked row by W, so that there the masked values still steer the attention of the seen
    ones, in training as in generation; it is not done.
  - The loss is the mean over all N features, as the text says; the notebook has the masked ones alone. A
    cell that was empty has no part in it.
  - A row of which nothing is seen has no attention to give: the perceptron completes a row of zeros.
"""

import torch
from torch import nn

HIDDEN = 64
"""Hidden units of the perceptron."""


class PaperMcm(nn.Module):
    """See the module docstring."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.attention = nn.Linear(features, features, bias=False)
        self.first = nn.Linear(features, HIDDEN)
        self.second = nn.Linear(HIDDEN, features)

    def filter(self, features: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """The attention vector a = softmax(W v), 0 where masked: float32, shape (batch, features).

        Args:
            features: v, float32, shape (batch, features); what stands where `seen` is False is ignored.
            seen: bool, the same shape.
        """
        scores = self.attention(features * seen)
        # The lowest number and not minus infinity: a row of which nothing is seen would become NaN.
        scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=1) * seen

    def forward(self, features: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """The completed row, within (0, 1): sigmoid(U2 ReLU(U1 (a * v))), shape (batch, features)."""
        filtered = self.filter(features, seen) * (features * seen)
        completed: torch.Tensor = self.second(torch.relu(self.first(filtered)))
        return torch.sigmoid(completed)

    def loss(self, features: torch.Tensor, seen: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the present features, a scalar.

        Args:
            features: v, float32, shape (batch, features).
            seen: What the network is shown: bool, the same shape, and nowhere more than `present`.
            present: Which cells the patient's row has: bool, the same shape.
        """
        errors: torch.Tensor = (self(features, seen) - features).square() * present
        return errors.sum() / present.sum().clamp(min=1)
