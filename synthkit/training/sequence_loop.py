"""Training a generator of records: first the one-way shares, then steps. No trainer, no callbacks.

Knows a generator, patients' record states and a plan. Refuses to know files, hospitals or the ledger: the
caller has reserved the budget before and commits it after. Rules: a step's unit is a patient's whole
record; exactly the steps of the plan are taken, and no loss is reported; the plan's prior event pays for
the shares, which are bought before the steps so that these start near the truth.
"""

from functools import partial

import numpy as np
import torch
from torch import nn

from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.sequence_base import SequenceGenerator, batch_of
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.loop import Progress, StepKind
from synthkit.training.unsafe import UNSAFE_SEED, UnsafeNoPrivacy

CELLS_AT_ONCE = 2_000_000
"""Steps times codes in one private forward pass: bounds memory."""

GROUP = 16
"""Patients of like sizes that are padded together where no privacy needs one batch."""

SHARES_AT_ONCE = 4096

WARM_UP_SHARE = 0.05
"""Share of the steps over which the learning rate rises; it then falls to a twentieth."""

WEIGHT_DECAY = 0.01
"""Without privacy alone: noise is all the regularisation a private training needs."""


def check_measurable(generator: SequenceGenerator) -> None:
    """Refuse to train privately what cannot be clipped patient by patient.

    Raises:
        InputError: The generator has an LSTM.
    """
    if any(isinstance(layer, nn.LSTM) for layer in generator.modules()):
        raise InputError(
            "an LSTM's gradients are not measured patient by patient here, so it cannot be trained privately",
            where=f"generator {generator.kind}",
            fix="--generator eva, or --unsafe-no-dp",
        )


def train_records(
    generator: SequenceGenerator,
    states: RecordStates,
    plan: TrainingPlan,
    *,
    declared_size: int,
    privacy: StepKind | None = None,
    progress: Progress | None = None,
) -> None:
    """Buy the shares and take all steps of a plan, in place.

    Args:
        generator: Fresh; trained in place.
        states: The patients' records, in order of size for the sake of speed.
        plan: Learning rate, clipping norm, noises and rate; `total_steps` steps.
        declared_size: The site's public size; with `sample_rate` it gives the public normaliser.
        privacy: None for DP-SGD; `UnsafeNoPrivacy` to train without any.
        progress: Called after each step.

    Raises:
        InputError: A private training of what cannot be clipped.
    """
    is_private = privacy is not UnsafeNoPrivacy
    if is_private:
        check_measurable(generator)
    _buy_shares(generator, states, plan, is_private=is_private)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator.to(device).train()
    optimizer = torch.optim.AdamW(
        generator.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=0.0 if is_private else WEIGHT_DECAY,
    )
    settings = StepSettings(
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch=plan.sample_rate * declared_size,
        physical_batch=_physical_batch(generator, states),
    )
    take_step = (privacy or DpSgdStep)(generator, settings)
    rng = torch.Generator(device=device)
    rng.seed() if is_private else rng.manual_seed(UNSAFE_SEED)
    losses = _losses if is_private else _losses_in_groups
    for done in range(1, plan.total_steps + 1):
        share = (done - 1) / plan.total_steps
        optimizer.param_groups[0]["lr"] = plan.learning_rate * _rate_factor(share)
        take_step(len(states), partial(losses, generator, states, share, rng), optimizer)
        if progress is not None:
            progress(done, plan.total_steps)
    take_step.close()
    generator.to("cpu").eval()


def _buy_shares(
    generator: SequenceGenerator, states: RecordStates, plan: TrainingPlan, *, is_private: bool
) -> None:
    """One Gaussian mechanism over all patients' shares; without privacy their plain sum."""
    chunks = [
        generator.statistics(states.take(np.arange(start, min(start + SHARES_AT_ONCE, len(states)))))
        for start in range(0, len(states), SHARES_AT_ONCE)
    ]
    vectors, noise = torch.cat(chunks), plan.prior_noise_multiplier
    if is_private:
        generator.set_shares(gaussian_sum(vectors, noise_multiplier=noise), noise=noise)
    else:
        generator.set_shares(vectors.sum(dim=0).numpy(), noise=0.0)


def _physical_batch(generator: SequenceGenerator, states: RecordStates) -> int:
    """Patients in a forward pass, by the usual size of theirs."""
    usual = float(np.quantile(states.steps, 0.9))
    return int(np.clip(CELLS_AT_ONCE / (usual * generator.layout.codes), 1, 64))


def _losses(
    generator: SequenceGenerator,
    states: RecordStates,
    share: float,
    rng: torch.Generator,
    patients: np.ndarray,
) -> torch.Tensor:
    """Losses of the given patients, shape (batch,)."""
    batch = batch_of(states, generator.layout, patients).to(rng.device)
    noise = torch.randn(len(batch), generator.noise_size, generator=rng, device=rng.device)
    return generator.loss_per_patient(batch, progress=share, noise=noise)


def _losses_in_groups(
    generator: SequenceGenerator,
    states: RecordStates,
    share: float,
    rng: torch.Generator,
    patients: np.ndarray,
) -> torch.Tensor:
    """The same, padded group by group: each layer then sees some of the patients at a time."""
    groups = np.array_split(patients, -(-patients.size // GROUP))
    return torch.cat([_losses(generator, states, share, rng, group) for group in groups])


def _rate_factor(share: float) -> float:
    """Learning-rate factor at a share of the training: linear rise, then cosine fall to 0.05."""
    if share < WARM_UP_SHARE:
        return (share + 0.005) / (WARM_UP_SHARE + 0.005)
    rest = (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return 0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * min(rest, 1.0))))
