"""Generator: what every model answers to, and nothing else.

A generator knows a `Layout` and tensors of states. It refuses to know privacy, files, hospitals or
what a column means. Rules: every random draw takes a generator. Of one that is trained by steps the loss
is one number per patient, no layer mixes patients (no BatchNorm), because that is what per-patient
clipping rests on, and all trained parameters sit in layers that Opacus can measure. One that is fitted to
bought tables meets no patient, and is free in both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import Layout, StateWeights


class Generator(nn.Module, ABC):
    """A trainable model of one patient's states."""

    kind: ClassVar[str]
    """Its name in studies, policies and artefacts."""

    encoder_parts: ClassVar[tuple[str, ...]] = ()
    """First parts (before the dot) of the names of the parameters that turn a patient into a code."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    @property
    @abstractmethod
    def hyperparameters(self) -> dict[str, float]:
        """All hyperparameters, defaults filled in; enough to build the same architecture again."""

    @abstractmethod
    def sample(
        self, count: int, *, rng: torch.Generator, where: StateWeights | None = None
    ) -> tuple[np.ndarray, float]:
        """Draw patients, under conditions if given.

        Returns:
            States, int64, shape (count, columns); and how reliable the conditional draw is, in (0, 1]:
            1.0 without conditions, near 0 where the model has next to no mass for them, so that the rows
            lean on few latent draws or on privacy noise. The model says by which measure.
        """

    def get_weights(self) -> dict[str, np.ndarray]:
        """All parameters by name, float32 copies."""
        return {
            name: p.detach().cpu().numpy().astype(np.float32).copy() for name, p in self.named_parameters()
        }

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace all parameters.

        Raises:
            ValueError: Names or shapes differ from this architecture's (a caller's bug: check what
                came over a wire or from a file before).
        """
        own = dict(self.named_parameters())
        if set(own) != set(weights) or any(own[n].shape != weights[n].shape for n in own):
            raise ValueError("weights do not fit this generator's architecture")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))


class SteppedGenerator(Generator):
    """Trained by steps on patients' losses; its prior is fitted at the end, to a sum of vectors."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """How many standard normal variates one view takes."""

    @property
    def draws(self) -> int:
        """Views a row gets in one step (masks, latent draws); they are averaged before clipping."""
        return 1

    @abstractmethod
    def loss_per_view(self, states: torch.Tensor, *, progress: float, noise: torch.Tensor) -> torch.Tensor:
        """Loss of each view of each patient, to be minimised; a function of that view alone.

        Args:
            states: int64, shape (batch, views, columns): a patient's rows, each `draws` times. The first
                dimension of whatever meets a trained layer has to stay the patients'.
            progress: Share of the training done, in [0, 1], for annealing.
            noise: Standard normal variates, float32, shape (batch, views, noise_size): the model's own
                randomness, which has nothing to do with the privacy noise.

        Returns:
            float32, shape (batch, views).
        """

    def loss_per_patient(
        self, states: torch.Tensor, weights: torch.Tensor, *, progress: float, noise: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum of each patient's views: one loss, and one gradient to clip, a patient.

        Args:
            states: As in `loss_per_view`.
            weights: float32, shape (batch, views); each patient's sum to 1, padding has 0.
            progress: As in `loss_per_view`.
            noise: As in `loss_per_view`.

        Returns:
            float32, shape (batch,).
        """
        return (self.loss_per_view(states, progress=progress, noise=noise) * weights).sum(dim=1)

    @abstractmethod
    def statistics(self, states: torch.Tensor, *, noise: torch.Tensor) -> torch.Tensor:
        """What the prior is fitted from: one vector a row, of Euclidean norm at most 1.

        Args:
            states: int64, shape (batch, columns).
            noise: Standard normal variates, float32, shape (batch, noise_size).

        Returns:
            float64, shape (batch, statistics). A patient counts with the mean of its rows' vectors; the
            bound is the sensitivity of their sum, so it has to hold for any states and any weights.
        """

    @abstractmethod
    def fit_prior(self, total: np.ndarray) -> None:
        """Set the prior from the (noised) sum of `statistics`, float64, shape (statistics,)."""


class TableGenerator(Generator):
    """Fitted to the patients' two-way tables, bought once; no step of its fit meets a patient."""

    @abstractmethod
    def set_tables(self, counts: np.ndarray) -> None:
        """Take over the bought tables.

        Args:
            counts: float64, shape (width, width), symmetric: noisy patients per pair of states, and per
                state on the diagonal.
        """

    @abstractmethod
    def fit(
        self,
        *,
        sites: float,
        pair_noise: float,
        single_noise: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Fit everything else to the tables; the same tables and initial weights give the same fit.

        Args:
            sites: How many sites of equal size the averaged tables are worth; 1 for one site's.
            pair_noise: Standard deviation of the noise in a pair's cell of the sites' sum, in patients.
            single_noise: The same of the diagonal.
            progress: Called with (steps done, steps in all).
        """
