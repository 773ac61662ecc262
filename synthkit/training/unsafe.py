"""Training without privacy, for reproduction and comparison only.

The name is the warning. Whoever uses it says so in each artefact made with it.
"""

import logging

import numpy as np
import torch
from torch import nn

from synthkit.privacy.dpsgd import LossPerPatient, StepSettings

UNSAFE_SEED = 0
"""Training without privacy is repeatable: a comparison that changes by itself compares nothing."""

logger = logging.getLogger("synthkit.unsafe")


def warn_of_no_privacy() -> None:
    """Say in the log, at each use, what is being done."""
    logger.warning("training WITHOUT differential privacy: nothing made from this may be called private")


class UnsafeNoPrivacy:
    """Plain stochastic gradient steps: no clipping, no noise, no accounting."""

    def __init__(self, module: nn.Module, settings: StepSettings) -> None:
        warn_of_no_privacy()
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.settings = settings
        self._rng = np.random.default_rng(UNSAFE_SEED)

    def __call__(
        self, patients: int, loss_per_patient: LossPerPatient, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take one step on a plain random batch."""
        size = max(1, min(patients, round(self.settings.sample_rate * patients)))
        sample = np.sort(self._rng.choice(patients, size=size, replace=False))
        optimizer.zero_grad()
        torch.autograd.backward(loss_per_patient(sample).mean())
        optimizer.step()

    def close(self) -> None:
        """Nothing to undo."""
