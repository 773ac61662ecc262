"""The one training loop. Reads top to bottom; no trainer, no callbacks.

Knows a generator, an array of states and a plan. Refuses to know files, hospitals or the ledger: the
caller has reserved the budget before and commits it after. The loop takes exactly the steps it is
told, never fewer (stopping early on private data is a release) and reports no loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from synthkit.domain.study import TrainingPlan
from synthkit.generators.base import Generator
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.unsafe import UNSAFE_SEED, UnsafeNoPrivacy

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

WARM_UP_SHARE = 0.1
"""Share of the plan's steps over which the learning rate rises linearly; it then falls to a tenth."""


@dataclass(kw_only=True)
class LoopState:
    """Where a training stands: steps done, and the optimiser's moments (functions of private
    gradients only, so they are as private as the weights, but they stay at the site).
    """

    step: int = 0
    optimizer: dict[str, np.ndarray] = field(default_factory=dict)


def train(
    generator: Generator,
    states: np.ndarray,
    plan: TrainingPlan,
    *,
    steps: int,
    declared_size: int,
    state: LoopState,
    privacy: type[UnsafeNoPrivacy] | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> LoopState:
    """Take `steps` steps in place and return the new loop state.

    Args:
        generator: Trained in place.
        states: Encoded patients, int64, shape (patients, columns).
        plan: Learning rate, clipping norm, noise and rate; `rounds * local_steps` steps in all.
        steps: Steps to take now.
        declared_size: The site's public size; with `sample_rate` it gives the public normaliser.
        state: Where the training stands; a fresh `LoopState()` at the start.
        privacy: None for DP-SGD; `UnsafeNoPrivacy` to train without any.
        progress: Called after each step.
        device: Where to compute; CUDA when present, else the processor.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator.to(device).train()
    rows = torch.from_numpy(states)
    trained = [p for p in generator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=plan.learning_rate, betas=(0.9, 0.99))
    _restore(optimizer, generator, state.optimizer)
    settings = StepSettings(
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch=plan.sample_rate * declared_size,
    )
    take_step = (privacy or DpSgdStep)(generator, settings)
    total = plan.total_steps
    rng = _model_draws(privacy, device)
    for done in range(1, steps + 1):
        share = (state.step + done - 1) / total
        optimizer.param_groups[0]["lr"] = plan.learning_rate * _schedule(share)

        # Drawn for every patient, once a step: a patient whose gradient overflowed can then be left out
        # without anybody else's loss changing, which is what bounds the sensitivity.
        noise = torch.randn(len(states), generator.noise_size, generator=rng, device=device)

        def loss_per_patient(
            sample: np.ndarray, share: float = share, noise: torch.Tensor = noise
        ) -> torch.Tensor:
            batch = rows[sample].to(device)
            return generator.loss_per_patient(batch, progress=share, noise=noise[sample])

        take_step(len(states), loss_per_patient, optimizer)
        if progress is not None:
            progress(done, steps)
    take_step.close()
    generator.to("cpu").eval()
    return LoopState(step=state.step + steps, optimizer=_moments(optimizer, generator))


def fit_prior(
    generator: Generator,
    states: np.ndarray,
    plan: TrainingPlan,
    *,
    privacy: type[UnsafeNoPrivacy] | None = None,
) -> None:
    """Fit the generator's prior to the patients, by one Gaussian mechanism.

    Args:
        generator: Trained; its prior is set in place.
        states: Encoded patients, int64, shape (patients, columns).
        plan: Gives `prior_noise_multiplier`.
        privacy: None for the private fit; `UnsafeNoPrivacy` to leave the noise out.
    """
    generator.to("cpu").eval()
    chunks = torch.split(torch.from_numpy(states), 8192)
    draws = _model_draws(privacy, torch.device("cpu"))
    vectors = torch.cat(
        [
            generator.statistics(chunk, noise=torch.randn(len(chunk), generator.noise_size, generator=draws))
            for chunk in chunks
        ]
    )
    if privacy is None:
        generator.fit_prior(gaussian_sum(vectors, noise_multiplier=plan.prior_noise_multiplier))
    else:
        generator.fit_prior(vectors.sum(dim=0).numpy())


def _model_draws(privacy: type[UnsafeNoPrivacy] | None, device: torch.device) -> torch.Generator:
    """Source of the model's own draws (never of privacy noise): fresh, or repeatable without privacy."""
    generator = torch.Generator(device=device)
    if privacy is None:
        generator.seed()
    else:
        generator.manual_seed(UNSAFE_SEED)
    return generator


def _schedule(share: float) -> float:
    """Learning-rate factor at a share of the training: linear rise, then cosine fall to 0.1."""
    if share < WARM_UP_SHARE:
        return (share + 0.01) / (WARM_UP_SHARE + 0.01)
    rest = (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return 0.1 + 0.9 * 0.5 * (1.0 + float(np.cos(np.pi * min(rest, 1.0))))


def _moments(optimizer: torch.optim.Optimizer, generator: Generator) -> dict[str, np.ndarray]:
    """Adam's moments and step counters by parameter name."""
    arrays = {}
    for name, parameter in generator.named_parameters():
        for key, value in optimizer.state[parameter].items():
            arrays[f"{name}/{key}"] = value.detach().cpu().numpy().copy()
    return arrays


def _restore(optimizer: torch.optim.Optimizer, generator: Generator, arrays: dict[str, np.ndarray]) -> None:
    """Inverse of `_moments`; nothing to do for a fresh training."""
    for name, parameter in generator.named_parameters():
        keys = [key for key in arrays if key.startswith(f"{name}/")]
        for key in keys:
            value = torch.from_numpy(arrays[key])
            moved = value if key.endswith("/step") else value.to(parameter.device)
            optimizer.state[parameter][key.removeprefix(f"{name}/")] = moved
