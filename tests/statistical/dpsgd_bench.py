"""A DP-SGD step over the small ward's Med-VAE, with the noise as it is or switched off."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from small_ward import ward_model, ward_states

from synthkit.domain.layout import PatientStates
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy import rng
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings


class Bench:
    """A model, its patients with their fixed noise, and one private step."""

    def __init__(
        self,
        patients: int = 40,
        *,
        model: MedVaeSgd | None = None,
        clip: float = 1.0,
        rows: Sequence[int] | None = None,
        **settings,
    ):
        self.model = (model or ward_model()).train()
        starts = np.concatenate([[0], np.cumsum(rows or [1] * patients)])
        self.states = PatientStates(states=ward_states(int(starts[-1])), starts=starts)
        drawn = torch.Generator().manual_seed(5)
        self.noise = torch.randn(patients, self.states.most_rows, self.model.noise_size, generator=drawn)
        fields = {"sample_rate": 0.3, "noise_multiplier": 1.0, "expected_batch": 1.0, **settings}
        self.step = DpSgdStep(self.model, StepSettings(max_grad_norm=clip, **fields))
        self.everyone = np.arange(patients)

    def loss(self, sample: np.ndarray) -> torch.Tensor:
        views, weights = (torch.from_numpy(array) for array in self.states.views(sample, draws=1))
        noise = self.noise[sample][:, : weights.shape[1]]
        return self.model.loss_per_patient(views, weights, progress=0.5, noise=noise)

    def released(self, sample: np.ndarray, loss: Callable | None = None) -> np.ndarray:
        """The released gradient times the normaliser, all parameters in one float64 vector."""
        self.step.release_gradient(sample, loss or self.loss)
        flat = [p.grad.flatten().double() for p in self.step.parameters]
        return torch.cat(flat).numpy() * self.step.settings.expected_batch

    def blocks(self) -> list[int]:
        return [p.numel() for p in self.step.parameters]


def silence(monkeypatch) -> None:
    """Switch the privacy noise off, to look at the sum behind it."""

    def nothing(count: int, *, std: float) -> np.ndarray:
        return np.zeros(count)

    monkeypatch.setattr(rng, "normal", nothing)
