"""Retrain small private models with and without one patient, and let an attacker tell the two apart.

The attacker of every audit here knows the code, the plan, all other patients and the public start, and
sees what is released. It learns a linear score on a quarter of the retrainings, chooses a threshold on
the next quarter, and is judged on the other half, which it never saw.
"""

import copy
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from small_ward import make_plan, ward_model, ward_states

from synthkit.audit.empirical_epsilon import choose_threshold, epsilon_from_errors
from synthkit.domain.layout import PatientStates
from synthkit.domain.study import TrainingPlan
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy import rng
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.clipping import PerPatientGradients
from synthkit.training.loop import LoopState, StepKind, close, train
from synthkit.training.unsafe import UnsafeNoPrivacy

DELTA = 1e-5

TINY = {"hidden_1": 4, "hidden_2": 4, "hidden_3": 4, "latent": 2}
"""The smallest Med-VAE that still has all its parts."""

WARD_SIZE = 40

Look = Callable[[], np.ndarray]
"""Retrains once and returns what the attacker looks at, float64, shape (features,)."""


def audit_plan(**changes) -> TrainingPlan:
    """A plan that claims epsilon 1 and leaves the attacker every advantage: no sampling, one step."""
    fields = {
        "local_steps": 1,
        "sample_rate": 1.0,
        "noise_multiplier": 4.0,
        "prior_noise_multiplier": 12.0,
        "learning_rate": 0.05,
        "delta": DELTA,
        "hyperparameters": TINY,
    }
    return make_plan(**{**fields, **changes})


def claimed_epsilon(plan: TrainingPlan) -> float:
    """What the product prints for this plan."""
    return spend_of(plan.total_events(), plan.delta).epsilon


def with_patient(others: np.ndarray, rows: np.ndarray) -> PatientStates:
    """Others with one row each, shape (patients, columns), and one more patient of these rows."""
    starts = np.append(np.arange(len(others) + 1), len(others) + len(rows))
    return PatientStates(states=np.concatenate([others, rows]), starts=starts)


def unheard_of(model: MedVaeSgd, *, rows: int = 1) -> np.ndarray:
    """A patient in the last state of every column, shape (rows, columns): unlike anybody in the ward."""
    return np.tile(np.array(model.layout.states, dtype=np.int64) - 1, (rows, 1))


def retrain(
    start: MedVaeSgd,
    states: PatientStates,
    plan: TrainingPlan,
    *,
    privacy: StepKind | None = None,
    prior_privacy: StepKind | None = None,
) -> MedVaeSgd:
    """A copy of `start` after the product's own loop and prior fit."""
    model, size = copy.deepcopy(start), WARD_SIZE
    train(model, states, plan, steps=plan.total_steps, declared_size=size, state=LoopState(), privacy=privacy)
    close(model, states, plan, privacy=prior_privacy)
    return model


def clipped_gradient(model: MedVaeSgd, states: PatientStates, max_grad_norm: float = 1.0) -> np.ndarray:
    """What a step would add up over all patients, without noise and latent draws; shape (weights,)."""
    model.train()
    gradients = PerPatientGradients(model)
    views, weights = states.views(np.arange(len(states)), draws=1)
    losses = model.loss_per_patient(
        torch.from_numpy(views),
        torch.from_numpy(weights),
        progress=0.0,
        noise=torch.zeros(*weights.shape, model.noise_size),
    )
    sums = gradients.clipped_sum(losses, max_grad_norm)
    gradients.close()
    model.eval()
    return torch.cat([one.flatten() for one in sums]).double().numpy()


def trained_weights(model: MedVaeSgd) -> np.ndarray:
    """All weights that the loop trains, in the module's order, shape (weights,)."""
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]).double().numpy()


def look(model: MedVaeSgd, start: MedVaeSgd, direction: np.ndarray) -> np.ndarray:
    """How far the weights went against a gradient, and the prior: what a patient shows up in."""
    moved = -float((trained_weights(model) - trained_weights(start)) @ direction)
    prior = [p.detach().double().numpy().ravel() for p in (model.prior_mean, model.prior_moment)]
    return np.concatenate([[moved], *prior])


@cache
def settled_start() -> MedVaeSgd:
    """A public start that happens to fit the ward already."""
    ward = PatientStates.one_row_each(ward_states(WARD_SIZE))
    return retrain(ward_model(TINY), ward, audit_plan(local_steps=1500), privacy=UnsafeNoPrivacy)


class CanaryAudit:
    """One worst-case patient against the ward of forty: what a retraining shows of that patient.

    With `settled` the public start is one at which the others' gradients cancel: the worst case for
    whoever clips their mean.
    """

    def __init__(self, plan: TrainingPlan, *, rows: int = 1, settled: bool = False) -> None:
        self.plan, self.start = plan, ward_model(dict(plan.hyperparameters))
        ward, canary = ward_states(WARD_SIZE), unheard_of(self.start, rows=rows)
        self.together, self.alone = with_patient(ward, canary), PatientStates.one_row_each(ward)
        if settled:
            self.start = settled_start()
        self.direction = clipped_gradient(self.start, PatientStates.one_row_each(canary[:1]))

    def audited(self, runs: int, *, confidence: float, together: PatientStates | None = None, **steps):
        """The attacker's bound after `runs` retrainings of each kind; `steps` as in `retrain`."""
        sides = (together or self.together, self.alone)
        looks = [
            lambda states=states: look(
                retrain(self.start, states, self.plan, **steps), self.start, self.direction
            )
            for states in sides
        ]
        return audited_epsilon(*collect(looks, runs), confidence=confidence)


def collect(looks: Sequence[Look], runs: int) -> list[np.ndarray]:
    """What `runs` retrainings of each kind show, each of shape (runs, features)."""
    seen = [[one() for one in looks] for _ in range(runs)]
    return [np.stack(rows) for rows in zip(*seen, strict=True)]


def audited_epsilon(seen_with: np.ndarray, seen_without: np.ndarray, *, confidence: float) -> float:
    """The attacker's lower bound on epsilon at DELTA from looks, each of shape (runs, features)."""
    learnt, chosen = len(seen_with) // 4, len(seen_with) // 2
    weights = _separating(seen_with[:learnt], seen_without[:learnt])
    ins, outs = seen_with @ weights, seen_without @ weights
    test = choose_threshold(ins[learnt:chosen], outs[learnt:chosen], delta=DELTA, confidence=confidence)
    errors = test.errors(ins[chosen:], outs[chosen:])
    return epsilon_from_errors(errors, delta=DELTA, confidence=confidence)


def _separating(seen_with: np.ndarray, seen_without: np.ndarray) -> np.ndarray:
    """Difference of means over variance, feature by feature, shape (features,).

    The best linear score for independent noise; a feature that never moves carries nothing.
    """
    variance = (seen_with.var(axis=0) + seen_without.var(axis=0)) / 2.0
    difference = seen_with.mean(axis=0) - seen_without.mean(axis=0)
    return difference / (variance + 1e-9 * difference**2 + 1e-30)


def scale_noise(monkeypatch, factor: float) -> None:
    """Plant a fault: all privacy noise is `factor` of what is accounted."""
    true = rng.normal
    monkeypatch.setattr(rng, "normal", lambda count, *, std: true(count, std=factor * std))


def seed_noise(monkeypatch) -> None:
    """Plant a fault: the noise of every training comes from one seed, which the attacker knows."""

    def seeded(count: int, *, std: float) -> np.ndarray:
        return np.random.default_rng(0).normal(0.0, std, count)

    monkeypatch.setattr(rng, "normal", seeded)
