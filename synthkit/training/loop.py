"""The one training loop. Reads top to bottom; no trainer, no callbacks.

Knows a generator, patients' states and a plan. Refuses to know files, hospitals or the ledger: the
caller has reserved the budget before and commits it after. The loop takes exactly the steps it is
told, never fewer (stopping early on private data is a release) and reports no loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import PatientStates
from synthkit.domain.study import TrainingPlan
from synthkit.generators.base import Generator, SteppedGenerator, TableGenerator
from synthkit.privacy.dpsgd import DpSgdStep, Step, StepSettings
from synthkit.privacy.mechanisms import gaussian_sum, pair_tables, table_noise, tables_statistic
from synthkit.training.unsafe import UNSAFE_SEED, UnsafeNoPrivacy

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

StepKind = Callable[[nn.Module, StepSettings], Step]
"""Makes what takes the steps: `DpSgdStep`, `UnsafeNoPrivacy`, or an audit's watcher around the former."""

VIEWS_AT_ONCE = 4096
"""Rows times draws in one forward pass: bounds memory."""

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
    generator: SteppedGenerator,
    states: PatientStates,
    plan: TrainingPlan,
    *,
    steps: int,
    declared_size: int,
    state: LoopState,
    privacy: StepKind | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> LoopState:
    """Take `steps` steps in place and return the new loop state.

    Args:
        generator: Trained in place.
        states: The patients, each with one or several rows.
        plan: Learning rate, clipping norm, noise and rate; `rounds * local_steps` steps in all.
        steps: Steps to take now.
        declared_size: The site's public size; with `sample_rate` it gives the public normaliser.
        state: Where the training stands; a fresh `LoopState()` at the start.
        privacy: None for DP-SGD; `UnsafeNoPrivacy` to train without any.
        progress: Called after each step.
        device: Where to compute; CUDA when present, else the processor.
    """
    device = device or _usual_device()
    generator.to(device).train()
    trained = [p for p in generator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=plan.learning_rate, betas=(0.9, 0.99))
    restore(optimizer, generator, state.optimizer)
    settings = StepSettings(
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch=plan.sample_rate * declared_size,
        physical_batch=max(1, VIEWS_AT_ONCE // (states.most_rows * generator.draws)),
    )
    take_step = (privacy or DpSgdStep)(generator, settings)
    rng = _model_draws(privacy, device)
    for done in range(1, steps + 1):
        share = (state.step + done - 1) / plan.total_steps
        optimizer.param_groups[0]["lr"] = plan.learning_rate * _schedule(share)
        take_step(len(states), partial(_losses, generator, states, share, rng), optimizer)
        if progress is not None:
            progress(done, steps)
    take_step.close()
    generator.to("cpu").eval()
    return LoopState(step=state.step + steps, optimizer=moments(optimizer, generator))


def _losses(
    generator: SteppedGenerator,
    states: PatientStates,
    share: float,
    rng: torch.Generator,
    patients: np.ndarray,
) -> torch.Tensor:
    """Losses of the given patients, shape (batch,)."""
    views, weights = states.views(patients, draws=generator.draws)
    noise = torch.randn(*weights.shape, generator.noise_size, generator=rng, device=rng.device)
    return generator.loss_per_patient(
        torch.from_numpy(views).to(rng.device),
        torch.from_numpy(weights).to(rng.device),
        progress=share,
        noise=noise,
    )


def close(
    generator: Generator, states: PatientStates, plan: TrainingPlan, *, privacy: StepKind | None = None
) -> None:
    """The closing release: what the prior, or the whole generator, is fitted to. One Gaussian mechanism.

    Args:
        generator: Takes over what is bought. A `TableGenerator` still has to be fitted: see `finish`.
        states: The patients; one counts with the mean of its rows.
        plan: Gives `prior_noise_multiplier`.
        privacy: None for the private release; `UnsafeNoPrivacy` to leave the noise out.
    """
    generator.to("cpu").eval()
    is_private = privacy is not UnsafeNoPrivacy
    if isinstance(generator, TableGenerator):
        counted = generator.to_buy(states)
        if is_private:
            noise = plan.prior_noise_multiplier
            generator.set_tables(pair_tables(counted, generator.bought, noise_multiplier=noise))
        else:
            generator.set_tables(tables_statistic(counted, generator.bought))
    elif isinstance(generator, SteppedGenerator):
        vectors = _statistics(generator, states, _model_draws(privacy, torch.device("cpu")))
        if is_private:
            generator.fit_prior(gaussian_sum(vectors, noise_multiplier=plan.prior_noise_multiplier))
        else:
            generator.fit_prior(vectors.sum(dim=0).numpy())


def finish(
    generator: Generator,
    plan: TrainingPlan,
    declared_sizes: Sequence[int],
    *,
    privacy: StepKind | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> None:
    """Post-processing once all sites' releases are averaged: touches no patient, costs no budget.

    Args:
        generator: Holds the (averaged) release; a `TableGenerator` is fitted to it.
        plan: Gives the noise of each site's release.
        declared_sizes: The public sizes of the sites that were averaged; they were the factors.
        privacy: As in `close`.
        progress: Called after each step of the fit.
        device: As in `train`.
    """
    if not isinstance(generator, TableGenerator):
        return
    multiplier = 0.0 if privacy is UnsafeNoPrivacy else plan.prior_noise_multiplier
    pair, single = table_noise(generator.bought, noise_multiplier=multiplier)
    # Tables weighted by size add up to the tables of all patients, and so does their noise.
    spread = math.sqrt(len(declared_sizes))
    sites = sum(declared_sizes) ** 2 / sum(size**2 for size in declared_sizes)
    generator.to(device or _usual_device())
    generator.fit(sites=sites, pair_noise=pair * spread, single_noise=single * spread, progress=progress)
    generator.to("cpu").eval()


def _statistics(generator: SteppedGenerator, states: PatientStates, draws: torch.Generator) -> torch.Tensor:
    """Each patient's vector, the mean over their rows, float64, shape (patients, statistics)."""
    rows = torch.cat(
        [
            generator.statistics(chunk, noise=torch.randn(len(chunk), generator.noise_size, generator=draws))
            for chunk in torch.split(torch.from_numpy(states.states), 8192)
        ]
    )
    counts = torch.from_numpy(np.diff(states.starts))
    return torch.segment_reduce(rows, "mean", lengths=counts) if len(rows) > len(states) else rows


def _usual_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _model_draws(privacy: StepKind | None, device: torch.device) -> torch.Generator:
    """Source of the model's own draws (never of privacy noise): fresh, or repeatable without privacy."""
    generator = torch.Generator(device=device)
    if privacy is UnsafeNoPrivacy:
        generator.manual_seed(UNSAFE_SEED)
    else:
        generator.seed()
    return generator


def _schedule(share: float) -> float:
    """Learning-rate factor at a share of the training: linear rise, then cosine fall to 0.1."""
    if share < WARM_UP_SHARE:
        return (share + 0.01) / (WARM_UP_SHARE + 0.01)
    rest = (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return 0.1 + 0.9 * 0.5 * (1.0 + float(np.cos(np.pi * min(rest, 1.0))))


def moments(optimizer: torch.optim.Optimizer, generator: nn.Module) -> dict[str, np.ndarray]:
    """Adam's moments and step counters by parameter name."""
    arrays = {}
    for name, parameter in generator.named_parameters():
        for key, value in optimizer.state[parameter].items():
            arrays[f"{name}/{key}"] = value.detach().cpu().numpy().copy()
    return arrays


def restore(optimizer: torch.optim.Optimizer, generator: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Inverse of `moments`; nothing to do for a fresh training."""
    for name, parameter in generator.named_parameters():
        keys = [key for key in arrays if key.startswith(f"{name}/")]
        for key in keys:
            value = torch.from_numpy(arrays[key])
            moved = value if key.endswith("/step") else value.to(parameter.device)
            optimizer.state[parameter][key.removeprefix(f"{name}/")] = moved
