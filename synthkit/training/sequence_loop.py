"""Training a generator of records: first the one-way shares, then steps. No trainer, no callbacks.

Knows a generator, patients' record states and a plan. Refuses to know files, hospitals or the ledger: the
caller has reserved the budget before and commits it after. Rules: a step's unit is a patient's whole
record; exactly the steps of the plan are taken, and no loss is reported; the plan's prior event pays for
the shares, which are bought before the steps so that these start near the truth; after the last step the
same sum settles the biases once more (`record_settling`), at no further charge.

Where the plan asks for posterior samples, a training without privacy is EVA's Algorithm 1: Adam on all
weights is the chain's burn-in (it may start anywhere; its squared gradients start the preconditioner), then
Langevin steps over theta and H alternate with Adam steps over the inference networks. A private training
takes DP-SGD steps from first to last, and each sample is the mean of a window of its iterates: the noise of
the private gradient stands in for the Langevin noise, and nothing but noised gradients moves a weight,
feeds a preconditioner or is averaged.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from synthkit.domain.sequence_layout import RecordStates
from synthkit.domain.study import TrainingPlan
from synthkit.generators.sequence_base import SequenceGenerator, batch_of
from synthkit.privacy.dpsgd import DpSgdStep, StepSettings
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.langevin import SMOOTHING, PreconditionedLangevin, UnsafeAlternation
from synthkit.training.latent_use import LatentUse, LatentWatch
from synthkit.training.loop import Progress, StepKind
from synthkit.training.record_settling import settle, visits_for
from synthkit.training.unsafe import UNSAFE_SEED, UnsafeNoPrivacy
from synthkit.training.weight_trail import PosteriorSample, WeightTrail

CELLS_AT_ONCE = 1_000_000
"""Steps times codes in one private forward pass: bounds memory, and how unlike in size its patients are."""

APART = 800
"""As many steps of padding cost what a forward and backward pass of their own costs."""

SHARES_AT_ONCE, NUMBERS_AT_ONCE = 4096, 16_000_000
"""Patients, and their numbers in all, whose shares are held at a time."""

WARM_UP_SHARE = 0.05
"""Share of the steps over which the learning rate rises; it then falls to a twentieth."""

WEIGHT_DECAY = 0.01
"""Without privacy alone: noise is all the regularisation a private training needs."""

BURN_IN_SHARE = 0.6
"""Share of a training of which no posterior sample is kept."""

AVERAGED_SHARE = 0.3
"""Share of a private training's end whose mean is the point estimate: what the noise adds averages out."""

SETTLING_SEED = 20_261
"""Public: the records that a settling draws depend on nothing but weights and this."""

CHAIN_RATE = 0.1
"""A Langevin step's length as a share of the plan's learning rate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedRecords:
    """What came of a training besides the generator's own weights.

    Attributes:
        samples: Draws of theta and H, the inference networks left out; empty for a point estimate.
        latent: How much the latent is used; None without one.
    """

    samples: tuple[PosteriorSample, ...]
    latent: LatentUse | None


def train_records(
    generator: SequenceGenerator,
    states: RecordStates,
    plan: TrainingPlan,
    *,
    declared_size: int,
    privacy: StepKind | None = None,
    progress: Progress | None = None,
) -> TrainedRecords:
    """Buy the shares and take all steps of a plan, in place.

    Args:
        generator: Fresh; trained in place. With posterior samples it ends as their mean.
        states: The patients' records, in order of size for the sake of speed.
        plan: Learning rate, clipping norm, noises and rate; `total_steps` steps. Its hyperparameter
            `posterior` says how many posterior samples to keep; 0: a point estimate.
        declared_size: The site's public size; with `sample_rate` it gives the public normaliser.
        privacy: None for DP-SGD; `UnsafeNoPrivacy` to train without any.
        progress: Called after each step.
    """
    is_private = privacy is not UnsafeNoPrivacy
    bought = buy_shares(generator, states, plan, is_private=is_private)
    generator.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).train()
    trail = _trail_of(plan, is_private=is_private)
    steps = _Steps(generator, states, plan, trail, declared_size=declared_size, privacy=privacy)
    watch = LatentWatch(generator, None if is_private else states, steps=plan.total_steps)
    for done in range(1, plan.total_steps + 1):
        steps.take(done)
        if trail is not None and trail.wants(done):
            trail.note(done, generator.get_weights())
        if watch.is_due(done):
            watch.look(done)
        if progress is not None:
            progress(done, plan.total_steps)
    steps.close()
    generator.to("cpu").eval()
    samples = _point_and_samples(generator, trail, is_private=is_private)
    if is_private or not samples:  # samples of a posterior without noise are what the chain drew
        noise = plan.prior_noise_multiplier if is_private else 0.0
        visits = visits_for(generator, declared_size)
        samples = _settled(generator, bought, samples, noise=noise, visits=visits)
    return TrainedRecords(samples=samples, latent=watch.report())


class _Steps:
    """Takes one step after the other, each of the kind that is its turn."""

    def __init__(
        self,
        generator: SequenceGenerator,
        states: RecordStates,
        plan: TrainingPlan,
        trail: WeightTrail | None,
        *,
        declared_size: int,
        privacy: StepKind | None,
    ) -> None:
        self.generator, self.states, self.plan = generator, states, plan
        self.is_private = privacy is not UnsafeNoPrivacy
        self.device = next(generator.parameters()).device
        self.optimizer = torch.optim.AdamW(
            generator.parameters(),
            lr=plan.learning_rate,
            betas=(0.9, SMOOTHING),
            weight_decay=0.0 if self.is_private else WEIGHT_DECAY,
            fused=True,
        )
        settings = StepSettings(
            sample_rate=plan.sample_rate,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch=plan.sample_rate * declared_size,
            physical_batch=physical_batch_of(generator, states),
        )
        self._step = (privacy or DpSgdStep)(generator, settings)
        self._rng = torch.Generator(device=self.device)
        self._rng.seed() if self.is_private else self._rng.manual_seed(UNSAFE_SEED)
        is_chain = trail is not None and trail.samples > 0 and not self.is_private
        self._descent = trail.burn_in if trail is not None and is_chain else plan.total_steps
        self._centres = {name: _centre(p) for name, p in generator.named_parameters()}
        self._alternation: UnsafeAlternation | None = None

    def take(self, number: int) -> None:
        """The step of this number, counted from 1."""
        share = (number - 1) / self.plan.total_steps
        losses = losses_of if self.is_private else _losses_in_groups
        loss = partial(losses, self.generator, self.states, share, self._rng)
        self.generator.drops = not self.is_private and number <= self._descent
        if number > self._descent:
            self._alternation = self._alternation or self._chain()
            self._alternation(len(self.states), loss)
            return
        factor = rate_factor((number - 1) / self._descent)
        self.optimizer.param_groups[0]["lr"] = self.plan.learning_rate * factor
        self._step(len(self.states), loss, self.optimizer)

    def _chain(self) -> UnsafeAlternation:
        """Algorithm 1, from where the descent has come to."""
        named = dict(self.generator.named_parameters())
        chained = [name for name in named if not self.generator.is_local(name)]
        rate = CHAIN_RATE * self.plan.learning_rate
        chain = PreconditionedLangevin(
            [named[name] for name in chained],
            patients=len(self.states),
            rate=rate,
            rng=torch.Generator(device=self.device).manual_seed(UNSAFE_SEED),
            squares=[self._squares(named[name]) for name in chained],
            centres=[self._centres[name] for name in chained],
        )
        local = [p for name, p in named.items() if self.generator.is_local(name)]
        adam = torch.optim.Adam(local, lr=rate, betas=(0.9, SMOOTHING)) if local else None
        return UnsafeAlternation(chain, adam, sample_rate=self.plan.sample_rate)

    def _squares(self, parameter: torch.Tensor) -> torch.Tensor:
        """Adam's mean of squared gradients; 0 for what never had one."""
        moments = self.optimizer.state.get(parameter, {})
        if "exp_avg_sq" not in moments:
            return torch.zeros_like(parameter)
        square: torch.Tensor = moments["exp_avg_sq"] / (1.0 - SMOOTHING ** float(moments["step"]))
        return square

    def close(self) -> None:
        """Leave the generator as it was, but for its weights."""
        self.generator.drops = False
        self._step.close()


def _centre(parameter: torch.Tensor) -> torch.Tensor:
    """Mean of a parameter's prior: 0 for weights; where it starts for biases, gains and odds.

    The paper's prior is standard normal for all. Around 0 a rare code's bias, a log odds of -8, would be
    pulled up by as many visits as it has.
    """
    is_start = parameter.dim() == 1 or parameter.shape[-1] == 1
    return parameter.detach().clone() if is_start else torch.zeros_like(parameter)


def _trail_of(plan: TrainingPlan, *, is_private: bool) -> WeightTrail | None:
    """What to keep of the training's way; None for the plain last weights."""
    samples, steps = int(plan.hyperparameters.get("posterior", 0)), plan.total_steps
    if not samples and not is_private:
        return None
    burnt = BURN_IN_SHARE if samples else 1.0 - AVERAGED_SHARE
    burn_in = min(steps - 1, round(burnt * steps))
    return WeightTrail(steps=steps, burn_in=burn_in, samples=samples, is_averaged=is_private)


def _point_and_samples(
    generator: SequenceGenerator, trail: WeightTrail | None, *, is_private: bool
) -> tuple[PosteriorSample, ...]:
    """Give the generator the mean of the trail, and return the samples, both of theta and H.

    Inference networks keep their last weights, which were learnt beside the chain; noised ones their mean.
    """
    if trail is None:
        return ()
    mean = trail.mean()
    kept = {name for name in mean if is_private or not generator.is_local(name)}
    own = generator.get_weights()
    generator.set_weights({name: mean[name] if name in kept else own[name] for name in own})
    return tuple(
        PosteriorSample(
            step=sample.step,
            weights={name: w for name, w in sample.weights.items() if not generator.is_local(name)},
        )
        for sample in trail.kept
    )


def _settled(
    generator: SequenceGenerator,
    bought: np.ndarray,
    samples: tuple[PosteriorSample, ...],
    *,
    noise: float,
    visits: int,
) -> tuple[PosteriorSample, ...]:
    """Settle the point estimate in place, and give the samples what settling changed in it."""
    before = generator.get_weights()
    rng = torch.Generator().manual_seed(SETTLING_SEED)
    settle(generator, bought, noise=noise, rng=rng, visits=visits)
    after = generator.get_weights()
    return tuple(
        replace(sample, weights={name: w + after[name] - before[name] for name, w in sample.weights.items()})
        for sample in samples
    )


def buy_shares(
    generator: SequenceGenerator, states: RecordStates, plan: TrainingPlan, *, is_private: bool
) -> np.ndarray:
    """One Gaussian mechanism over all patients' shares; without privacy their plain sum.

    Returns:
        The sum that the generator now starts from, float64 (k,).
    """
    chunks, noise = shares_of(generator, states), 0.0
    if is_private:
        noise = plan.prior_noise_multiplier
        total = gaussian_sum(chunks, noise_multiplier=noise)
    else:
        plain = sum((vectors.sum(dim=0) for vectors in chunks), start=torch.zeros(1, dtype=torch.float64))
        total = plain.numpy()
    generator.set_shares(total, noise=noise)
    return total


def shares_of(generator: SequenceGenerator, states: RecordStates) -> Iterator[torch.Tensor]:
    """Every patient's vector once, some patients at a time."""
    width = generator.statistics(states.take(np.arange(min(1, len(states))))).shape[1]
    some = max(1, min(SHARES_AT_ONCE, NUMBERS_AT_ONCE // width))
    for start in range(0, len(states), some):
        yield generator.statistics(states.take(np.arange(start, min(start + some, len(states)))))


def physical_batch_of(generator: SequenceGenerator, states: RecordStates) -> int:
    """Patients in a forward pass, by the usual size of theirs."""
    usual = float(np.quantile(states.steps, 0.9))
    return int(np.clip(CELLS_AT_ONCE / (usual * generator.layout.codes), 1, 64))


def losses_of(
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
    groups = np.split(patients, like_sized(states.steps[patients]))
    return torch.cat([losses_of(generator, states, share, rng, group) for group in groups])


def like_sized(steps: np.ndarray) -> np.ndarray:
    """Where to cut a batch, so that steps, padding and passes cost least; int64, ascending.

    Args:
        steps: int64 (patients,): each one's steps; ascending, or there is more padding than need be.
    """
    longest = np.maximum.accumulate(steps)
    cost, cuts = np.zeros(steps.size + 1), np.zeros(steps.size + 1, dtype=np.int64)
    for end in range(1, steps.size + 1):
        costs = cost[:end] + APART + (end - np.arange(end)) * longest[end - 1]
        cuts[end], cost[end] = costs.argmin(), costs.min()
    found = [int(cuts[-1])]
    while found[-1]:
        found.append(int(cuts[found[-1]]))
    return np.array(found[-2::-1], dtype=np.int64)


def rate_factor(share: float) -> float:
    """Learning-rate factor at a share of the training: linear rise, then cosine fall to 0.05."""
    if share < WARM_UP_SHARE:
        return (share + 0.005) / (WARM_UP_SHARE + 0.005)
    rest = (share - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return 0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * min(rest, 1.0))))
