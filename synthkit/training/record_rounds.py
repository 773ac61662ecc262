"""A federated training of records at one site, round by round: first a sum of shares, then some steps each.

Knows a generator of records, patients' record states and a plan. Refuses to know files, hospitals or the
ledger, as `sequence_loop` does; here a training stops after each round's steps and goes on from its
optimiser's moments. Rules: a step's unit is a patient's whole record; exactly the steps asked for are taken;
no loss is reported; every step is DP-SGD's. What a site buys is the sum alone, by one Gaussian mechanism; the
sums of all sites are added, and every site's first step starts from what all patients' sum says.
"""

from functools import partial

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.federation.bought_sum import BoughtSum
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.loop import LoopState, StepKind, moments, restore
from synthkit.training.planning import Effort
from synthkit.training.record_settling import MOST_VISITS, settle, visits_for
from synthkit.training.sequence_loop import (
    AVERAGED_SHARE,
    SETTLING_SEED,
    losses_of,
    physical_batch_of,
    rate_factor,
    shares_of,
)


def check_rounds_of_records(plan: TrainingPlan) -> None:
    """Refuse what only one site's training on its own can do.

    Raises:
        InputError: The plan asks for posterior samples.
    """
    if plan.hyperparameters.get("posterior"):
        raise InputError(
            "posterior samples are kept by a training at one site alone",
            where="hyperparameters of the plan",
            fix="leave posterior out",
        )


def effort_for_rounds_of_records() -> Effort:
    """Rounds, steps, rate and learning rate of a federation, whatever its sites' sizes.

    Each site adds its own noise: an average over K has root K times the noise of one site with all the
    patients, at the same rate. So few steps over many patients at a high learning rate: 0.015 kept more than
    0.006 on eight sites of 20,000 simulated patients (`tests/benchmarks/bench_federation_records.py`).
    """
    return Effort(rounds=6, local_steps=4, sample_rate=0.2, learning_rate=0.015)


def averaged_rounds(plan: TrainingPlan) -> int:
    """Training rounds whose averages are averaged again at the end: the share that one site averages too."""
    return max(1, round(AVERAGED_SHARE * plan.rounds))


def sum_width(generator: SequenceGenerator) -> int:
    """How many numbers a patient's shares are: a public figure of the architecture."""
    none = RecordStates(
        codes=np.zeros(0, dtype=np.int64),
        visit_starts=np.zeros(1, dtype=np.int64),
        patient_starts=np.zeros(1, dtype=np.int64),
        statics=np.zeros((0, len(generator.layout.statics.states)), dtype=np.int64),
        gap_days=np.zeros(0, dtype=np.int64),
        first_days=np.zeros(0, dtype=np.int64),
    )
    return int(generator.statistics(none).shape[1])


def buy_record_sum(generator: SequenceGenerator, states: RecordStates, plan: TrainingPlan) -> BoughtSum:
    """The first round: the noised sum of this site's patients' shares, by one Gaussian mechanism."""
    generator.to("cpu")
    noise = plan.prior_noise_multiplier
    total = gaussian_sum(shares_of(generator, states), noise_multiplier=noise)
    return BoughtSum.of_noise(total, noise_multiplier=noise)


def start_from_sum(generator: SequenceGenerator, bought: BoughtSum) -> None:
    """Set the weights that all sites' patients' sum decides, in place: the same at every site.

    Raises:
        InputError: The sum is not of this architecture, or makes a weight that is not finite.
    """
    if bought.total.size != sum_width(generator):
        raise InputError("the bought sum does not fit the study's generator", where="train request")
    generator.set_shares(bought.total.astype(np.float64), noise=bought.std)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in generator.parameters()):
        raise InputError("the bought sum makes weights that are not finite", where="train request")


def settle_rounds(generator: SequenceGenerator, bought: BoughtSum) -> None:
    """After the last round: biases and pairs by the sum of all sites, in place; see `record_settling`.

    Post-processing of weights and sum, and the same at whoever does it.
    """
    rng = torch.Generator().manual_seed(SETTLING_SEED)
    total, visits = bought.total.astype(np.float64), visits_for(generator, MOST_VISITS)
    settle(generator, total, noise=bought.std, rng=rng, visits=visits)


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
