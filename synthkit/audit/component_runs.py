"""The five runs of a component audit, each with a new generator from the same seed.

Knows how many patients to simulate and what the step is to see in each run; the recipe stands in
`synthkit.audit.component`. Refuses to judge what was seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from synthkit.audit.component_watch import (
    Canaries,
    Company,
    Lens,
    Observation,
    observe,
    silent,
    simulated_patients,
)
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.base import SteppedGenerator
from synthkit.training.artefact import new_generator
from synthkit.training.loop import StepKind

PHYSICAL_BATCHES = 2.5
"""Forward passes that a batch of the loud run takes, about: noise has to come once for all of them."""

MOST_PATIENTS = 20_000
"""Most simulated patients: bounds memory. At rates so low that it binds, epsilon's interval is wider."""

MOST_ROWS = 3
"""Rows of a simulated patient in the plain run, at most."""

STILL = 1e-9
"""Learning rate where the weights have to stand still: the canaries' gradient has to be one and the same.
A learning rate enters no privacy cost."""

NARROW: dict[str, dict[str, float]] = {
    "medvae-sgd": {"hidden_1": 16, "hidden_2": 12, "hidden_3": 8, "latent": 8},
    "mcm-sgd": {"hidden": 16},
}
"""Narrow layers by generator: a step treats a coordinate alike in a layer of any width."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Steps of each run, and patients expected in a batch.

    Epsilon's interval narrows with the square root of `quiet_steps` times `quiet_batch`.
    """

    quiet_steps: int = 800
    loud_steps: int = 72
    other_steps: int = 24
    sparse_steps: int = 100
    plain_steps: int = 8
    quiet_batch: int = 400
    loud_batch: int = 512


FULL = Effort()
"""Half-width of epsilon's interval about 1.7 % for 2,000 steps at rate 0.05 and noise 1."""

FiveRuns = tuple[Observation, Observation, Observation, Observation, Observation]


@dataclass(kw_only=True)
class Stage:
    """Where the runs take place: a new generator from the same seed for each."""

    schema: Schema
    plan: TrainingPlan
    step: StepKind
    seed: int
    progress: Callable[[str], None]
    reach: float = 0.0
    """How far one patient's loss reached into others' layers, known after `runs`."""

    def runs(self, effort: Effort) -> FiveRuns:
        """The five runs, in the recipe's order."""
        rate = self.plan.sample_rate
        few = 1 if rate == 1 else max(1, round(math.log(0.5) / math.log1p(-rate)))
        return (
            self._silent("noise and sampling", _crowd(effort.quiet_batch, rate), effort.quiet_steps),
            self._loud("clipping", effort.loud_batch, effort.loud_steps),
            self._silent("another site", _crowd(effort.quiet_batch, rate), effort.other_steps),
            self._silent("empty batches", few, effort.sparse_steps),
            self._plain("plain training", _crowd(effort.quiet_batch, rate), effort.plain_steps),
        )

    def _silent(self, name: str, patients: int, steps: int) -> Observation:
        self.progress(name)
        return self._observe(self._generator(), patients, steps, silent, self._still)

    def _loud(self, name: str, batch: int, steps: int) -> Observation:
        self.progress(name)
        patients = _crowd(batch, self.plan.sample_rate)
        generator = self._generator()
        canaries = Canaries(generator, self.plan.max_grad_norm, self.seed)
        chunk = math.ceil(batch / PHYSICAL_BATCHES)
        return self._observe(generator, patients, steps, canaries, self._still, physical_batch=chunk)

    def _plain(self, name: str, patients: int, steps: int) -> Observation:
        self.progress(name)
        generator = self._generator()
        company = Company(generator)
        seen = self._observe(generator, patients, steps, company, self.plan, most_rows=MOST_ROWS)
        self.reach = company.reach
        return seen

    @property
    def _still(self) -> TrainingPlan:
        return replace(self.plan, learning_rate=STILL)

    def _observe(
        self,
        generator: SteppedGenerator,
        patients: int,
        steps: int,
        lens: Lens,
        plan: TrainingPlan,
        *,
        physical_batch: int | None = None,
        most_rows: int = 1,
    ) -> Observation:
        return observe(
            generator,
            simulated_patients(generator.layout, patients, self.seed, most_rows=most_rows),
            plan,
            # Not the number of patients: a divisor taken from them instead would show.
            declared_size=math.ceil(patients * 1.1) + 1,
            steps=steps,
            step=self.step,
            lens=lens,
            physical_batch=physical_batch,
        )

    def _generator(self) -> SteppedGenerator:
        plan = self.plan
        made = new_generator(plan.generator, self.schema, plan.hyperparameters, seed=self.seed)
        if not isinstance(made, SteppedGenerator):
            raise InputError(
                "it is not trained by steps: there is nothing to watch",
                where=f"generator {plan.generator}",
                fix="check one that is",
            )
        return made.train()

    def largest_change(self) -> float:
        """Largest relative change of a patient's loss when the others leave, double or change."""
        generator = self._generator()
        rng = np.random.default_rng(self.seed)
        patients = simulated_patients(generator.layout, 16, self.seed, most_rows=MOST_ROWS)
        views, weights = (torch.from_numpy(a) for a in patients.views(np.arange(16), draws=generator.draws))
        shape = (*weights.shape, generator.noise_size)
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

        def losses(order: list[int]) -> torch.Tensor:
            with torch.no_grad():
                return generator.loss_per_patient(
                    views[order], weights[order], progress=0.5, noise=noise[order]
                )

        together = losses(list(range(16)))
        companies = ([0], [0, 1], [0, *range(8, 16)], [0] * 3 + [5])
        changes = [abs(float(losses(company)[0] / together[0]) - 1) for company in companies]
        return max(changes) if all(map(math.isfinite, changes)) else math.inf


def _crowd(batch: int, rate: float) -> int:
    """Patients that make batches of about this size."""
    return min(MOST_PATIENTS, math.ceil(batch / rate))
