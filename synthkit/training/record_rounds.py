"""A federated training of records at one site, round by round: first the shares, then some steps at a time.

Knows a generator of records, patients' record states and a plan. Refuses to know files, hospitals or the
ledger, as `sequence_loop` does; here a training stops after each round's steps and goes on from its
optimiser's moments. Rules: a step's unit is a patient's whole record; exactly the steps asked for are taken;
no loss is reported; every step is DP-SGD's.
"""

from functools import partial

import torch

from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings
from synthkit.training.loop import LoopState, StepKind, moments, restore
from synthkit.training.sequence_loop import (
    buy_shares,
    losses_of,
    physical_batch_of,
    rate_factor,
)


def check_rounds_of_records(plan: TrainingPlan) -> None:
    """Refuse what only one site's training on its own can do.

    Raises:
        InputError: The plan asks for posterior samples, or to start from pairs of codes.
    """
    if plan.hyperparameters.get("pairs"):
        raise InputError(
            "factors of pairs of codes cannot be averaged over sites",
            where="hyperparameters of the plan",
            fix="leave pairs out",
        )
    if plan.hyperparameters.get("posterior"):
        raise InputError(
            "posterior samples are kept by a training at one site alone",
            where="hyperparameters of the plan",
            fix="leave posterior out",
        )


def buy_record_shares(generator: SequenceGenerator, states: RecordStates, plan: TrainingPlan) -> None:
    """The first round: the shares that the generator starts from, by one Gaussian mechanism; in place.

    Sites' shares are averaged as the log odds that biases are: a start, which the steps correct.
    """
    generator.to("cpu")
    buy_shares(generator, states, plan, is_private=True)


def take_record_steps(
    generator: SequenceGenerator,
    states: RecordStates,
    plan: TrainingPlan,
    *,
    steps: int,
    declared_size: int,
    state: LoopState,
    privacy: StepKind | None = None,
) -> LoopState:
    """Take `steps` private steps in place and return the new loop state.

    Args:
        generator: Trained in place, from the weights it holds.
        states: The patients' records.
        plan: Learning rate, clipping norm, noise and rate; `rounds * local_steps` steps in all.
        steps: Steps to take now.
        declared_size: The site's public size; with `sample_rate` it gives the public normaliser.
        state: Where this site's training stands; a fresh `LoopState()` at the start.
        privacy: What takes the steps: DP-SGD, or an audit's watcher around it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator.to(device).train()
    optimizer = torch.optim.Adam(generator.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
    restore(optimizer, generator, state.optimizer)
    settings = StepSettings(
        sample_rate=plan.sample_rate,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        expected_batch=plan.sample_rate * declared_size,
        physical_batch=physical_batch_of(generator, states),
    )
    take_step = (privacy or DpSgdStep)(generator, settings)
    rng = torch.Generator(device=device)
    rng.seed()
    for done in range(state.step, state.step + steps):
        share = done / plan.total_steps
        optimizer.param_groups[0]["lr"] = plan.learning_rate * rate_factor(share)
        take_step(len(states), partial(losses_of, generator, states, share, rng), optimizer)
    take_step.close()
    generator.to("cpu").eval()
    return LoopState(step=state.step + steps, optimizer=moments(optimizer, generator))
