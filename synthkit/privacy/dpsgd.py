"""One step of DP-SGD. The only place where a gradient is clipped and noised.

Knows a torch module whose loss is given per patient. Refuses to know the data set: it is handed one
Poisson sample, and divides by a public constant, so its result reveals no exact number of patients.
Opacus measures every patient's gradient norm without holding the gradient (ghost clipping).

Algorithm (Abadi et al., 2016, algorithm 1, with Poisson sampling; norms as in Li et al., 2022):
  1. draw each patient with probability `sample_rate`                     (the caller, by `privacy.rng`)
  2. per-patient loss, first backward pass: per-patient gradient norms n_i
  3. coefficients c_i = min(1, C / n_i), held constant
  4. second backward pass of sum_i c_i * loss_i: the clipped sum, of L2 sensitivity C
  5. add noise of standard deviation sigma * C to every coordinate, fresh from the operating system
  6. divide by the public expected batch size
  7. the optimiser steps on the result (post-processing)
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import nn

from synthkit.privacy import rng

# Said of every first layer, whose input needs no gradient; its own parameters are measured all the same.
warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")

LossPerPatient = Callable[[np.ndarray], torch.Tensor]
"""Maps indices of patients, shape (batch,), to their losses, shape (batch,).

Within one step a patient's loss must not depend on which others are asked for, nor on how often.
"""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The numbers that decide a step's cost, all public and fixed in the study."""

    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    expected_batch: float
    """sample_rate times the site's declared (public) size."""


class DpSgdStep:
    """Applies private steps to one module. The module's layers must not mix patients."""

    max_physical_batch = 4096
    """Patients per forward pass; a larger sample is summed over several, with noise added once."""

    def __init__(self, module: nn.Module, settings: StepSettings) -> None:
        if not module.training:
            # Opacus measures nothing in evaluation mode: old norms would clip new gradients.
            raise RuntimeError("a private step needs a module in training mode")
        self.settings = settings
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._ghost = GradSampleModuleFastGradientClipping(
            module,
            loss_reduction="sum",
            max_grad_norm=settings.max_grad_norm,
            use_ghost_clipping=True,
            strict=True,
        )

    def __call__(
        self, patients: int, loss_per_patient: LossPerPatient, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take one step; `patients` is the number of patients at this site, never released."""
        sample = rng.poisson_sample(patients, sample_rate=self.settings.sample_rate)  # 1
        self.release_gradient(sample, loss_per_patient)
        optimizer.step()  # 7

    def release_gradient(self, sample: np.ndarray, loss_per_patient: LossPerPatient) -> None:
        """Put the private mean gradient of a sample into every parameter's `grad`."""
        chunks = [
            sample[start : start + self.max_physical_batch]
            for start in range(0, sample.size, self.max_physical_batch)
        ]
        sums = [torch.zeros_like(p) for p in self.parameters]
        for chunk in chunks:
            sums = [s + g for s, g in zip(sums, self._clipped_sum(chunk, loss_per_patient), strict=True)]
        std = self.settings.noise_multiplier * self.settings.max_grad_norm
        for parameter, clipped in zip(self.parameters, sums, strict=True):
            noise = torch.from_numpy(rng.normal(clipped.numel(), std=std)).to(clipped)  # 5
            parameter.grad = (clipped + noise.view_as(clipped)) / self.settings.expected_batch  # 6

    def _clipped_sum(self, chunk: np.ndarray, loss_per_patient: LossPerPatient) -> list[torch.Tensor]:
        """Sum of the chunk's clipped gradients, one tensor per parameter.

        A patient whose gradient is not finite is left out. No clipping bounds a NaN: weights crafted so
        that one patient overflows would turn the whole sum into a noiseless answer about that patient.
        The others are measured again without it, and their losses are the same as before.
        """
        while chunk.size:
            losses, norms = self._measure(chunk, loss_per_patient)  # 2: each (chunk,)
            finite = torch.isfinite(norms) & torch.isfinite(losses.detach())
            if bool(finite.all()):
                coefficients = (self.settings.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)  # 3
                gradients = torch.autograd.grad((coefficients * losses).sum(), self.parameters)  # 4
                return [gradient.detach() for gradient in gradients]
            chunk = chunk[finite.cpu().numpy()]
        return [torch.zeros_like(p) for p in self.parameters]

    def _measure(
        self, chunk: np.ndarray, loss_per_patient: LossPerPatient
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses, with their graph, and gradient norms of a chunk, each of shape (chunk,)."""
        self._ghost.enable_hooks()
        losses = loss_per_patient(chunk)
        torch.autograd.backward(losses.sum(), retain_graph=True)
        norms = self._ghost.get_norm_sample().detach()
        self._ghost.disable_hooks()
        for parameter in self.parameters:
            parameter.grad = None
        return losses, norms

    def close(self) -> None:
        """Take Opacus' hooks off the module again."""
        self._ghost.remove_hooks()
