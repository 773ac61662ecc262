"""The white-box audit: do real training steps do what the study says they do?

Knows a study's schema and plan, and needs no patient: it lets the real loop train a real generator on
simulated patients, watches every step, and compares what it sees with what is accounted. Refuses to
trust the step's own word for anything. Recipe:

1. quiet: every loss times zero, so that a release is noise alone: its width in each layer, its shape,
   its freshness; and who was drawn at each step
2. loud: patients with one and the same huge gradient, in several physical batches: how far one patient
   moves the sum, and whether the noise comes once
3. other: the same study at another site: whether the two share any noise
4. sparse: a site so small that half of the batches are empty
5. plain: the loop's own losses at the plan's own learning rate: what moves the weights, and whether a
   patient's loss depends on the others
6. the checks; then epsilon, from the intervals of noise, sensitivity and rate, by the project's own
   accounting

What it cannot see: a step that behaves otherwise when nobody watches, and all that is not a step
(preprocessing, the ledger, the prior's mechanism): those have tests of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from synthkit.audit.component_checks import (
    FALSE_ALARM,
    LEVEL,
    SENSITIVITY,
    Check,
    bookkeeping_checks,
    clipping_checks,
    company_check,
    empty_check,
    noise_checks,
    sampling_checks,
    site_check,
)
from synthkit.audit.component_runs import FULL, Effort, Stage
from synthkit.domain.audit import Interval
from synthkit.domain.canonical import JsonObject
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.privacy.accounting import reported_epsilon
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.training.loop import StepKind

FEWEST_STEPS = 100
"""Below, the chi-square intervals of counts are too rough."""

NOISE_MAKERS = (
    "noise is normal",
    "noise fresh at each step",
    "noise fresh in each coordinate",
    "noise of its own at each site",
)
"""Without these an observer can subtract noise, and no epsilon holds."""

SAMPLERS = (
    "drawn at most once a step",
    "patients drawn alike",
    "batch sizes vary",
    "drawn afresh at each step",
    "empty batches kept",
    "a unit is a patient",
)
"""Without these the sampling amplifies nothing."""


@dataclass(frozen=True, kw_only=True)
class ComponentReport:
    """What was claimed, what was measured, and the epsilon that the measurements bear out."""

    generator: str
    claim: DpSgdEvent
    max_grad_norm: float
    delta: float
    checks: tuple[Check, ...]
    watched: int
    """Steps accounted for the quiet run, from which the checks of noise and sampling come."""
    releases: int
    """Releases that it took."""
    most_drawn: int
    """How often the patient who was drawn most was, in that run."""

    @property
    def contradicted(self) -> tuple[Check, ...]:
        """Every check whose claim does not stand. Epsilon follows from three of them."""
        return tuple(check for check in self.checks if not check.agrees)

    @property
    def agrees(self) -> bool:
        """Whether every claim stands."""
        return not self.contradicted

    @property
    def false_alarm(self) -> float:
        """Largest probability that a sound step is contradicted."""
        return FALSE_ALARM

    def __getitem__(self, name: str) -> Check:
        """The check of that name."""
        return next(check for check in self.checks if check.name == name)

    @cached_property
    def epsilon(self) -> Check:
        """Epsilon of what was measured, against that of what was claimed.

        The interval takes noise, sensitivity and rate to the ends of theirs, so it holds with the
        probability that all do. Sampling that is not Poisson is given no amplification; noise that an
        observer can predict is no noise.
        """
        return _epsilon(self)

    def to_json(self) -> JsonObject:
        """Canonical form. Simulated patients only: nothing in it is private."""
        return {
            "generator": self.generator,
            "claim": self.claim.to_json(),
            "max_grad_norm": self.max_grad_norm,
            "delta": self.delta,
            "watched_steps": self.watched,
            "agrees": self.agrees,
            "contradicted": [check.name for check in self.contradicted],
            "false_alarm": self.false_alarm,
            "checks": [check.to_json() for check in (*self.checks, self.epsilon)],
        }


def audit_steps(
    schema: Schema,
    plan: TrainingPlan,
    *,
    effort: Effort = FULL,
    step: StepKind = DpSgdStep,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> ComponentReport:
    """Watch real steps and compare them with the plan.

    Args:
        schema: Gives the columns; rows are simulated.
        plan: The claim: noise, rate, clipping norm, steps, delta, generator and hyperparameters. Other
            numbers of steps than the plan's are watched; epsilon is composed over the plan's.
        effort: How long to watch.
        step: Makes the step under audit.
        seed: Simulates patients and initial weights; noise and sampling never depend on it.
        progress: Told the name of each run as it starts.

    Raises:
        InputError: Too few steps for the intervals to hold, or a generator that the step refuses.
    """
    if effort.quiet_steps < FEWEST_STEPS:
        raise InputError("too few steps to tell anything", where="--watch", fix=f"at least {FEWEST_STEPS}")
    stage = Stage(
        schema=schema,
        plan=replace(plan, rounds=1, local_steps=effort.quiet_steps),
        step=step,
        seed=seed,
        progress=progress or (lambda _: None),
    )
    claim = _steps_of(stage.plan)
    every = quiet, loud, other, sparse, _ = stage.runs(effort)
    checks = (
        *noise_checks(quiet, claim),
        site_check(quiet, other),
        *clipping_checks(loud, quiet, claim),
        *sampling_checks(quiet, claim),
        empty_check(sparse, claim),
        *bookkeeping_checks(every, quiet, claim, plan.max_grad_norm),
        company_check(max(stage.reach, stage.largest_change())),
    )
    return ComponentReport(
        generator=plan.generator,
        claim=_steps_of(plan),
        max_grad_norm=plan.max_grad_norm,
        delta=plan.delta,
        checks=checks,
        watched=claim.steps,
        releases=int(quiet.releases.sum()),
        most_drawn=int(quiet.drawn.sum(axis=0, dtype=np.int64).max(initial=0)),
    )


def _steps_of(plan: TrainingPlan) -> DpSgdEvent:
    """What the plan accounts for its steps.

    Raises:
        InputError: It accounts none, or several kinds.
    """
    found = [event for event in plan.total_events() if isinstance(event, DpSgdEvent)]
    if len(found) != 1:
        raise InputError("only one kind of Poisson-sampled steps can be watched", where=plan.generator)
    return found[0]


def _epsilon(report: ComponentReport) -> Check:
    """See `ComponentReport.epsilon`."""
    noise, rate = report["noise"], report["sampling rate"]
    moved = [check for check in report.checks if check.name.startswith(SENSITIVITY)]
    least, most = min(_ends(c).lower for c in moved), max(_ends(c).upper for c in moved)
    failed = {check.name for check in report.contradicted}

    # Whoever releases more often than accounted while watched does so in the plan's steps too.
    steps = math.ceil(report.claim.steps * report.releases / report.watched)

    def cost(multiplier: float, sample_rate: float) -> float:
        return _cost(_steps(multiplier, sample_rate, steps), report.delta)

    strongest = _ends(noise).upper / least if least > 0 else math.inf
    weakest = _ends(noise).lower / most if most > 0 else 0.0
    point = noise.measured / max(1e-12, *(check.measured for check in moved))
    lower, upper = cost(strongest, _ends(rate).lower), cost(weakest, _ends(rate).upper)
    if failed & set(SAMPLERS):
        times = math.ceil(steps * report.most_drawn / max(1, report.releases))
        upper = max(upper, _cost(_full(weakest, max(1, times)), report.delta))
    if failed & set(NOISE_MAKERS):
        upper = math.inf
    return Check(
        name="epsilon",
        claimed=reported_epsilon([report.claim], report.delta),
        measured=cost(point, rate.measured),
        interval=Interval(lower=min(lower, upper), upper=upper, confidence=1 - (2 + len(moved)) * LEVEL),
    )


def _ends(check: Check) -> Interval:
    if check.interval is None:
        raise RuntimeError(f"check {check.name} has no interval")
    return check.interval


def _steps(multiplier: float, rate: float, steps: int) -> PrivacyEvent | None:
    """The event of sampled steps; None where there is no noise, so that no epsilon holds."""
    if multiplier <= 0:
        return None
    rate = min(1.0, max(rate, 1e-9))
    return DpSgdEvent(noise_multiplier=min(multiplier, 1e6), sample_rate=rate, steps=max(1, steps))


def _full(multiplier: float, count: int) -> PrivacyEvent | None:
    return None if multiplier <= 0 else GaussianEvent(noise_multiplier=min(multiplier, 1e6), count=count)


def _cost(event: PrivacyEvent | None, delta: float) -> float:
    return math.inf if event is None else reported_epsilon([event], delta)
