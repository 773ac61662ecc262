"""From a target epsilon to a training plan. Knows no rows: everything follows from public figures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synthkit.data.purchase import Purchase
from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.errors import BudgetExceededError, InputError
from synthkit.generators.registry import is_of_records, is_stepped, stepped_twin
from synthkit.privacy.accounting import calibrate_noise_multiplier, check_admissible, reported_epsilon
from synthkit.privacy.renyi import FAILURE_SHARE

PRIOR_SHARE = 0.4
"""The prior's one Gaussian mechanism alone may cost this share of epsilon. Epsilons compose far below
their sum: at epsilon 3 it raises the steps' noise by about a tenth."""

RECORD_PRIOR_SHARE = 0.7
"""The same of records, of which most is bought: pairs of codes, repetition, lengths. It is a share of what
the history left; at epsilon 8 it takes 40 % of the noise off what is bought and adds a tenth to that of
steps."""

PREPROCESSING_SHARE = 0.2
"""What is bought before a training may alone cost this share of epsilon, unless said otherwise."""

NAME_PURCHASES = 10
"""Purchases of categories that the failure share of an asset's delta has room for in its whole life."""

MAX_GRAD_NORM = 1.0

FIRST_GUESS = 2.0
"""Noise multiplier that the calibration starts from."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long and in which batches to train; chosen on public data, never on the patients'."""

    rounds: int
    local_steps: int
    sample_rate: float
    learning_rate: float


def effort_for(declared_size: int, *, sites: int = 1) -> Effort:
    """Rounds, steps, rate and learning rate for a site of this public size.

    Large batches and few steps win under noise: the noise per step falls with the batch, while what a
    step costs rises only with its square root. Chosen from some twenty trainings on the bundled Diabetes
    130, scored on its test file; between neighbouring settings repeated runs differ as much.
    """
    if sites > 1:
        return Effort(rounds=6, local_steps=25, sample_rate=0.25, learning_rate=0.03)
    if declared_size >= 20_000:
        return Effort(rounds=1, local_steps=80, sample_rate=0.25, learning_rate=0.025)
    return Effort(rounds=1, local_steps=150, sample_rate=0.25, learning_rate=0.02)


def effort_without_privacy(declared_size: int, generator: str = "medvae-sgd") -> Effort:
    """Small batches and many steps: about 20 passes over the patients, at least 1,500 steps.

    A masked network sees each patient under ever new masks, and of few patients soon says by heart what
    chance gave them: 300 steps at 500 patients, rising and falling with the root of their number. Of 114 to
    171 patients of the bundled lung, breast cancer and recidivism tables, 300 steps cost a held-out patient
    0.3 to 0.7 nats more. On 250 of WHAS500 fewer steps fit held-out patients better and the early calibration
    of a Cox model of the over-75 worse (tests/benchmarks/bench_survival.py).
    """
    rate = min(1.0, 500 / declared_size)
    if generator == "mcm-sgd":
        steps = max(FEWEST_STEPS, round(300 * math.sqrt(declared_size / 500)))
        speed = 0.003 if declared_size < FEW_PATIENTS else 0.006
        return Effort(rounds=1, local_steps=steps, sample_rate=rate, learning_rate=speed)
    return Effort(rounds=1, local_steps=max(1500, round(20 / rate)), sample_rate=rate, learning_rate=0.002)


FEWEST_STEPS = 50
"""Of a masked network without privacy, however few the patients are."""

FEW_PATIENTS = 5_000
"""Below, a bin of a number holds so few patients that a masked network mixes it with its neighbours."""


def hyperparameters_without_privacy(generator: str, declared_size: int | None = None) -> dict[str, float]:
    """What departs from a generator's private defaults where no noise is added; usually nothing.

    Without noise Med-VAE's encoder learns codes that no Gaussian prior fits, unless the KL term and the
    posterior's width hold them near one: 0.963 instead of 0.952 overall on Diabetes 130. MCM mixes a number's
    neighbouring bins unless there are patients enough in each; then four masks instead of two gain 0.04 nats
    a held-out patient on Diabetes 130, which neither half as many steps again nor twice the hidden units do.
    """
    if generator == "mcm-sgd":
        is_large = declared_size is not None and declared_size >= FEW_PATIENTS
        return {"blur": 0.0, "masks": 4} if is_large else {}
    return {"kl_weight": 0.5, "posterior_std": 0.5} if generator == "medvae-sgd" else {}


def plan_for(
    generator: str,
    effort: Effort,
    *,
    target_epsilon: float,
    delta: float,
    hyperparameters: dict[str, float] | None = None,
    history: Sequence[PrivacyEvent] = (),
) -> TrainingPlan:
    """The plan whose admission bound, with `history`, is at most `target_epsilon`, with the least noise.

    Args:
        generator: Its kind.
        effort: How long to train.
        target_epsilon: For everything together.
        delta: The guarantee's.
        hyperparameters: What departs from the generator's defaults.
        history: What the same model rests on besides, such as a bought schema.

    Raises:
        InputError: No noise reaches the target, or a figure is out of range.
    """
    if not is_stepped(generator):
        return _plan_of_one_release(
            generator,
            target_epsilon=target_epsilon,
            delta=delta,
            hyperparameters=hyperparameters,
            history=history,
        )
    prior_epsilon = PRIOR_SHARE * target_epsilon
    if is_of_records(generator):
        left = target_epsilon - reported_epsilon(history, delta)
        prior_epsilon = max(prior_epsilon, RECORD_PRIOR_SHARE * left)
    prior_noise = _prior_noise(prior_epsilon, delta)
    prior = GaussianEvent(noise_multiplier=prior_noise)
    steps = effort.rounds * effort.local_steps
    # The filter's leading order is fixed by one event, and the least noise needs the very event that
    # will be reserved: calibrate, then once more from what came out.
    noise = FIRST_GUESS
    for _ in range(2):
        noise = calibrate_noise_multiplier(
            target_epsilon=target_epsilon,
            delta=delta,
            sample_rate=effort.sample_rate,
            steps=steps,
            history=(*history, prior),
            reference=DpSgdEvent(noise_multiplier=noise, sample_rate=effort.sample_rate, steps=steps),
        )
    # The noise has moved since its reference: the events as a ledger will meet them decide.
    while not _is_admitted(
        (DpSgdEvent(noise_multiplier=noise, sample_rate=effort.sample_rate, steps=steps), prior, *history),
        target_epsilon,
        delta,
    ):
        noise = math.ceil(noise * 1_000 * 1.0002 + 1e-9) / 1_000
    return TrainingPlan(
        generator=generator,
        rounds=effort.rounds,
        local_steps=effort.local_steps,
        sample_rate=effort.sample_rate,
        noise_multiplier=noise,
        prior_noise_multiplier=prior_noise,
        max_grad_norm=MAX_GRAD_NORM,
        delta=delta,
        learning_rate=effort.learning_rate,
        hyperparameters=dict(hyperparameters or {}),
    )


def encoder_noise_for(effort: Effort, *, target_epsilon: float, delta: float) -> float:
    """Least noise multiplier at which as many steps as this effort's alone cost at most `target_epsilon`.

    Raises:
        InputError: No noise reaches the target, or a figure is out of range.
    """
    steps = effort.rounds * effort.local_steps

    def events(noise: float) -> tuple[PrivacyEvent, ...]:
        return (DpSgdEvent(noise_multiplier=noise, sample_rate=effort.sample_rate, steps=steps),)

    return _least_noise(events, target_epsilon, delta)


def _plan_of_one_release(
    generator: str,
    *,
    target_epsilon: float,
    delta: float,
    hyperparameters: dict[str, float] | None,
    history: Sequence[PrivacyEvent],
) -> TrainingPlan:
    """All of epsilon for one Gaussian mechanism; no step is taken."""
    noise = _least_noise(
        lambda noise: (GaussianEvent(noise_multiplier=noise), *history), target_epsilon, delta
    )
    return TrainingPlan(
        generator=generator,
        rounds=0,
        local_steps=0,
        sample_rate=1.0,
        noise_multiplier=noise,
        prior_noise_multiplier=noise,
        max_grad_norm=MAX_GRAD_NORM,
        delta=delta,
        learning_rate=1.0,
        hyperparameters=dict(hyperparameters or {}),
    )


def check_plan(plan: TrainingPlan) -> None:
    """Refuse a plan of steps for a generator that takes none, the other way round, and rounds out of order.

    Raises:
        InputError: No such generator, or the rounds do not fit it.
    """
    _check_order(plan)
    if is_stepped(plan.generator) == (plan.rounds > 0):
        return
    if plan.rounds:
        raise InputError(
            f"{plan.generator} is fitted to one release and takes no steps",
            where="rounds of the plan",
            fix=f'rounds = 0 and local_steps = 0, or generator = "{stepped_twin(plan.generator)}"',
        )
    raise InputError(
        f"{plan.generator} is trained by steps", where="rounds of the plan", fix="give at least 1 round"
    )


def _check_order(plan: TrainingPlan) -> None:
    """A generator of records starts from the shares it buys; a generator of tables ends with its prior."""
    if is_of_records(plan.generator) and not plan.prior_first:
        raise InputError(
            f"{plan.generator} starts from shares that are bought before its steps",
            where="rounds of the plan",
            fix="prior_first = true",
        )
    if plan.prior_first and not is_of_records(plan.generator):
        raise InputError(
            f"{plan.generator} fits its prior after its steps",
            where="rounds of the plan",
            fix="leave prior_first out",
        )


def check_schema_fits(schema: Schema, plan: TrainingPlan) -> None:
    """Refuse a generator of tables for records of visits, the other way round, and caps beside the schema's.

    Raises:
        InputError: They do not go together.
    """
    if schema.is_longitudinal is not is_of_records(plan.generator):
        takes = "records of visits" if is_of_records(plan.generator) else "one row a patient"
        raise InputError(
            f"{plan.generator} takes {takes}, and the schema is of something else",
            where="generator of the plan",
            fix='generator = "eva" for records, "medvae" for a table',
        )
    caps = {} if schema.caps is None else schema.caps.hyperparameters()
    if any(plan.hyperparameters.get(name, cap) != cap for name, cap in caps.items()):
        raise InputError(
            "the plan's caps are not the schema's",
            where="hyperparameters of the plan",
            fix="leave most_visits and most_codes out",
        )


def _is_admitted(events: Sequence[PrivacyEvent], epsilon: float, delta: float) -> bool:
    """Whether an empty ledger with this cap would let these events through, in this order."""
    try:
        check_admissible((), events, Budget(epsilon=epsilon, delta=delta))
    except BudgetExceededError:
        return False
    return True


def _prior_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier of one Gaussian mechanism of this epsilon."""
    return _least_noise(lambda noise: (GaussianEvent(noise_multiplier=noise),), epsilon, delta)


def purchase_for(draft: Schema, *, target_epsilon: float, delta: float) -> Purchase:
    """The purchase of all that a draft leaves open, for at most `target_epsilon` in all.

    Raises:
        InputError: Nothing is to be bought, part was bought already, or no noise reaches the target.
    """
    if not draft.to_buy():
        raise InputError("leaves nothing to be bought", where="the schema", fix='set provenance = "dp"')
    if draft.bought():
        raise InputError(
            "was bought already, while others are still to be",
            where=f"column {draft.bought()[0]}",
            fix="buy them together: take its edges, category other or caps out again",
        )
    # Far below the share, so that several purchases fit.
    failure_delta = delta * FAILURE_SHARE / NAME_PURCHASES

    def purchase(noise: float) -> Purchase:
        return Purchase(draft=draft.blank, noise_multiplier=noise, failure_delta=failure_delta)

    return purchase(_least_noise(lambda noise: purchase(noise).events, target_epsilon, delta))


def _least_noise(events: Callable[[float], tuple[PrivacyEvent, ...]], epsilon: float, delta: float) -> float:
    """Smallest noise multiplier, up to a thousandth, whose events cost at most this epsilon.

    Raises:
        InputError: There is none up to 1000.
    """
    low, high = 1, 1_000_000  # thousandths
    if not (math.isfinite(epsilon) and epsilon > 0 and _is_admitted(events(high / 1000), epsilon, delta)):
        raise InputError(f"no noise reaches epsilon {epsilon:g} at delta {delta:g}", fix="raise epsilon")
    while low < high:
        middle = (low + high) // 2
        if _is_admitted(events(middle / 1000), epsilon, delta):
            high = middle
        else:
            low = middle + 1
    return high / 1000
