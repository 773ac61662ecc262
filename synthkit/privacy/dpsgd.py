"""One step of DP-SGD. The only place where a gradient is clipped and noised.

Knows a torch module whose loss is given per patient. Refuses to know the data set: it is handed one
Poisson sample, and divides by a public constant, so its result reveals no exact number of patients.

Algorithm (Abadi et al., 2016, algorithm 1, with Poisson sampling):
  1. draw each patient with probability `sample_rate`
  2. per-patient loss, one backward pass: per-patient gradient norms n_i     (`privacy.clipping`)
  3. coefficients c_i = min(1, C / n_i)
  4. the clipped sum of c_i * gradient_i, of L2 sensitivity C
  5. add noise of standard deviation sigma * C to every coordinate, fresh from the operating system
  6. divide by the public expected batch size
  7. the optimiser steps on the result (post-processing)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from synthkit.privacy import rng
from synthkit.privacy.clipping import PerPatientGradients

LossPerPatient = Callable[[np.ndarray], torch.Tensor]
"""Maps indices of patients, shape (batch,), to their losses, shape (batch,): a patient's loss is a
function of that patient's rows and of randomness of its own. Each is asked for once a step."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The numbers that decide a step's cost, all public and fixed in the study."""

    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    expected_batch: float
    """sample_rate times the site's declared (public) size."""
    physical_batch: int = 4096
    """Patients per forward pass; a larger sample is summed over several, with noise added once."""


class Step(Protocol):
    """What the training loop takes a step with."""

    def __call__(
        self, patients: int, loss_per_patient: LossPerPatient, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take one step; `patients` is the number of patients at this site, never released."""

    def close(self) -> None:
        """Leave the module as it was."""


class DpSgdStep:
    """Applies private steps to one module. The module's layers must not mix patients."""

    def __init__(self, module: nn.Module, settings: StepSettings) -> None:
        if not module.training:
            raise RuntimeError("a private step needs a module in training mode")
        self.settings = settings
        self._gradients = PerPatientGradients(module)
        self.parameters = self._gradients.parameters

    def __call__(
        self, patients: int, loss_per_patient: LossPerPatient, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take one step; `patients` is the number of patients at this site, never released."""
        sample = rng.poisson_sample(patients, sample_rate=self.settings.sample_rate)  # 1
        self.release_gradient(sample, loss_per_patient)
        optimizer.step()  # 7

    def release_gradient(self, sample: np.ndarray, loss_per_patient: LossPerPatient) -> None:
        """Put the private mean gradient of a sample into every parameter's `grad`."""
        sums = [torch.zeros_like(p) for p in self.parameters]
        for start in range(0, sample.size, self.settings.physical_batch):
            chunk = sample[start : start + self.settings.physical_batch]
            sums = [s + g for s, g in zip(sums, self._clipped_sum(chunk, loss_per_patient), strict=True)]
        std = self.settings.noise_multiplier * self.settings.max_grad_norm
        for parameter, clipped in zip(self.parameters, sums, strict=True):
            noise = torch.from_numpy(rng.normal(clipped.numel(), std=std)).to(clipped)  # 5
            parameter.grad = (clipped + noise.view_as(clipped)) / self.settings.expected_batch  # 6

    def _clipped_sum(self, chunk: np.ndarray, loss_per_patient: LossPerPatient) -> list[torch.Tensor]:
        """Sum of the chunk's clipped gradients, one tensor per parameter."""
        self._gradients.forget()
        losses = loss_per_patient(chunk)  # (chunk,)
        return self._gradients.clipped_sum(losses, self.settings.max_grad_norm)  # 2, 3, 4

    def close(self) -> None:
        """Take the hooks off the module again."""
        self._gradients.close()
