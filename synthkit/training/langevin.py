"""Draws of a network's weights from their posterior: preconditioned stochastic gradient Langevin dynamics.

Knows parameters, their gradients and a number of patients. Refuses to know what the loss means, and
privacy: the noise drawn here is a sampler's, repeatable, and never counts towards a claim. Rules: a step's
gradient is of the mean loss over patients; the prior is a standard normal around each parameter's centre;
no step is taken on a gradient of another network.

With g the gradient of a mini-batch's mean loss, N patients and eps = 2 * rate / N (Li et al., 2016,
Algorithm 1; powers and roots by element):

    V     <- smoothing * V + (1 - smoothing) * g^2
    G     <- 1 / (floor + sqrt(V))
    theta <- theta - rate * G * (g + (theta - centre) / N) + N(0, eps * G)

The term Gamma, the derivative of G, is left out, as there (their section 4): it vanishes as V settles.

Source: Li, Chen, Carlson and Carin, "Preconditioned stochastic gradient Langevin dynamics for deep neural
networks", AAAI 2016, equations 4 to 8 and Algorithm 1; Biswal et al., EVA, 2020, section 2.1 (prior),
section 3 and Algorithm 1, lines 3 to 7 (alternation).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from synthkit.privacy.dpsgd import LossPerPatient
from synthkit.training.unsafe import UNSAFE_SEED, warn_of_no_privacy

SMOOTHING, FLOOR = 0.99, 1e-4
"""Memory of squared gradients, and what keeps a parameter that has none from drifting without bound."""


class PreconditionedLangevin:
    """One chain over some parameters.

    Args:
        parameters: Sampled in place.
        patients: N: how many patients the whole likelihood has.
        rate: Half of eps times N: the length of a step as an optimiser's learning rate.
        rng: Of the injected noise.
        squares: What V starts from, one tensor a parameter; None: the first gradient's squares.
        centres: Means of the prior, one tensor a parameter; None: 0 for all.
        temperature: Factor of the noise's variance; 1 samples the posterior, 0 descends to its mode.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        patients: int,
        rate: float,
        rng: torch.Generator,
        squares: Sequence[torch.Tensor] | None = None,
        centres: Sequence[torch.Tensor] | None = None,
        temperature: float = 1.0,
    ) -> None:
        if patients < 1 or not rate > 0 or temperature < 0:
            raise ValueError("a chain needs a patient, a positive rate and no negative temperature")
        self.parameters = list(parameters)
        self.patients, self.rate, self.rng, self.temperature = patients, rate, rng, temperature
        self._squares = None if squares is None else [square.clone() for square in squares]
        self._centres = [torch.zeros_like(p) for p in self.parameters] if centres is None else list(centres)

    @torch.no_grad()
    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        """One step on the gradients of a mini-batch's mean loss, in the parameters' order."""
        self._squares = self._remembered(gradients)
        spread = math.sqrt(2.0 * self.rate * self.temperature / self.patients)
        rows = zip(self.parameters, gradients, self._squares, self._centres, strict=True)
        for parameter, gradient, square, centre in rows:
            scale = 1.0 / (FLOOR + square.sqrt())  # G
            pull = gradient + (parameter - centre) / self.patients
            noise = torch.randn(parameter.shape, generator=self.rng, device=parameter.device)
            parameter.add_(-self.rate * scale * pull + spread * scale.sqrt() * noise)

    def _remembered(self, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """V."""
        if self._squares is None:
            return [g.square() for g in gradients]
        pairs = zip(self._squares, gradients, strict=True)
        return [SMOOTHING * square + (1.0 - SMOOTHING) * g.square() for square, g in pairs]


class UnsafeAlternation:
    """Algorithm 1, lines 3 to 7, without privacy: a Langevin step of one half, an Adam step of the other.

    Both are taken on the same mini-batch, the second given what the first has drawn. No clipping, no
    accounting: nothing made with it may be called private, whatever noise its chain draws.

    Args:
        chain: Of the global variables, theta and H.
        inference: Adam over the inference networks; None where there are none.
        sample_rate: Share of the patients in a mini-batch.
    """

    def __init__(
        self, chain: PreconditionedLangevin, inference: torch.optim.Optimizer | None, *, sample_rate: float
    ) -> None:
        warn_of_no_privacy()
        self.chain, self.inference, self.sample_rate = chain, inference, sample_rate
        self._rng = np.random.default_rng(UNSAFE_SEED + 1)

    def __call__(self, patients: int, loss_per_patient: LossPerPatient) -> None:
        """One round of the alternation."""
        size = max(1, min(patients, round(self.sample_rate * patients)))
        sample = np.sort(self._rng.choice(patients, size=size, replace=False))  # line 3
        loss = loss_per_patient(sample).mean()  # lines 4 and 5
        self.chain.step(_gradients(loss, self.chain.parameters))  # line 6
        if self.inference is not None:
            local = [p for group in self.inference.param_groups for p in group["params"]]
            loss = loss_per_patient(sample).mean()
            for parameter, gradient in zip(local, _gradients(loss, local), strict=True):
                parameter.grad = gradient
            self.inference.step()  # line 7


def _gradients(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """Gradients of the loss; 0 for what it does not depend on."""
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
