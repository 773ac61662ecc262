"""The coordinator's view: what do a site's replies, round by round, tell about single patients?

Attacker: the coordinator, honest but curious. Holds the signed study, the weights it sent out in each round
and the reply that came back, and knows every patient of the site but for one coin each: whether a canary
was among them. Success: says of canaries whether they were in, more often than the claimed epsilon allows.

Of a generator trained by steps, a round's update is read against the gradient that each canary would have
had at the weights sent out: the update is resolved, by ridge regression, into the gradients of all patients
and canaries, and a canary's share, summed over the rounds, is its score. Of a generator fitted to bought
tables, the one reply is read against each canary's own table. The prior's fit is not read: a bound without
it is lower, never wrong.

Everything is simulated by the study's schema: no patient's row is read, no budget is spent, and the replies
are made by the very loop that a site runs. False alarms: at most 1 - confidence, whatever the generator.

Source: Nasr et al., arXiv 2302.07956, for the update against a canary's gradient; Steinke, Nasr and
Jagielski, arXiv 2305.08846, for one run with many coins. Knows a schema and a plan; refuses to know a site.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from synthkit.audit.component_watch import simulated_patients
from synthkit.audit.empirical_epsilon import Guesses, guess, one_run_epsilon
from synthkit.domain.canonical import JsonObject
from synthkit.domain.layout import PatientStates
from synthkit.domain.schema import Schema
from synthkit.domain.study import TrainingPlan
from synthkit.errors import InputError
from synthkit.generators.base import Generator, SteppedGenerator, TableGenerator
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.clipping import PerPatientGradients
from synthkit.training.artefact import new_generator
from synthkit.training.loop import LoopState, StepKind, close, train

LEAST_CANARIES = 40
CALLED_SHARE = 0.25
"""Share of the canaries called in, and as many called out; fixed before any score is seen."""
RIDGE = 0.1
"""Of the mean squared gradient, added to the diagonal."""
CONFIDENCE = 0.999
VIEWS = 16
"""Draws of a generator's own randomness (masks, latents) over which a person's gradient is averaged."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """How many are simulated: ordinary `patients` the coordinator knows, and `canaries` with a coin each."""

    patients: int = 100
    canaries: int = 400

    def __post_init__(self) -> None:
        if self.canaries < LEAST_CANARIES or self.patients < 1:
            raise InputError(
                "are too few to show anything",
                where="options --patients and --canaries",
                fix=f"1 patient and {LEAST_CANARIES} canaries at least",
            )


@dataclass(frozen=True, kw_only=True)
class ReplyAudit:
    """What the replies of one site gave away.

    `shown` is a lower bound on epsilon at `delta`, `ceiling` the bound of a coordinator who is never wrong: a
    claim above it was not tested.
    """

    generator: str
    rounds: int
    claimed: float
    delta: float
    guesses: Guesses
    shown: float
    ceiling: float

    @property
    def agrees(self) -> bool:
        """Whether the claim stands."""
        return self.shown <= self.claimed

    def to_json(self) -> JsonObject:
        """All figures, by name."""
        return {
            "agrees": self.agrees,
            "generator": self.generator,
            "rounds": self.rounds,
            "epsilon_claimed": self.claimed,
            "epsilon_shown_at_least": self.shown,
            "epsilon_ceiling": self.ceiling,
            "delta": self.delta,
            "confidence": CONFIDENCE,
            "guesses": self.guesses.made,
            "guesses_right": self.guesses.correct,
        }


def audit_replies(
    schema: Schema,
    plan: TrainingPlan,
    *,
    crowd: Crowd | None = None,
    seed: int = 0,
    privacy: StepKind | None = None,
    progress: Callable[[str], None] | None = None,
) -> ReplyAudit:
    """Let one simulated site answer every round of a plan, and read its replies.

    Args:
        schema: Of the study.
        plan: Of the study; its events are the claim.
        crowd: Who is simulated.
        seed: Of the patients, the coins and the first weights; never of the noise.
        privacy: None for the private steps and tables; `UnsafeNoPrivacy` to see what the attack can do.
        progress: Told each round.

    Raises:
        InputError: No such generator, or one that neither takes steps nor buys tables; or the study is of
            records of visits.
        SchemaError: The schema leaves something to be bought.
    """
    if schema.is_longitudinal:
        raise InputError(
            "the simulated site has one row a patient, and this study is of records of visits",
            where="the study's schema",
            fix="such an audit is not built; give a study of a table",
        )
    crowd, told = crowd or Crowd(), progress or (lambda _: None)
    generator = new_generator(plan.generator, schema, plan.hyperparameters, seed=seed)
    everyone = simulated_patients(generator.layout, crowd.patients + crowd.canaries, seed)
    coins = np.random.default_rng((seed, 1)).random(crowd.canaries) < 0.5
    inside = np.concatenate((np.ones(crowd.patients, dtype=bool), coins))
    site = _Site(plan=plan, everyone=everyone, inside=inside, privacy=privacy, progress=told)
    scores = site.scores(generator)[crowd.patients :]
    called = round(CALLED_SHARE * crowd.canaries)
    guesses = guess(scores, coins, called_in=called, called_out=called)
    perfect = Guesses(canaries=crowd.canaries, made=2 * called, correct=2 * called)
    return ReplyAudit(
        generator=plan.generator,
        rounds=max(1, plan.rounds),
        claimed=spend_of(plan.total_events(), plan.delta).epsilon,
        delta=plan.delta,
        guesses=guesses,
        shown=one_run_epsilon(guesses, delta=plan.delta, confidence=CONFIDENCE),
        ceiling=one_run_epsilon(perfect, delta=plan.delta, confidence=CONFIDENCE),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Site:
    """A simulated site: `everyone` the coordinator thinks of, and who of them is `inside`, bool (people,)."""

    plan: TrainingPlan
    everyone: PatientStates
    inside: np.ndarray
    privacy: StepKind | None
    progress: Callable[[str], None]

    def scores(self, generator: Generator) -> np.ndarray:
        """(people,) float64: the larger, the likelier to have been in."""
        present = PatientStates.one_row_each(self.everyone.states[self.inside])
        if isinstance(generator, SteppedGenerator):
            return self._by_updates(generator, present)
        if isinstance(generator, TableGenerator):
            self.progress("round 1 of 1")
            close(generator, present, self.plan, privacy=self.privacy)
            return _by_tables(generator, self.everyone)
        raise InputError(f"{self.plan.generator} answers no rounds", where="the plan's generator")

    def _by_updates(self, generator: SteppedGenerator, present: PatientStates) -> np.ndarray:
        """Each round's update resolved into everybody's gradients, summed over the rounds."""
        plan, total, state = self.plan, np.zeros(len(self.everyone)), LoopState()
        for place in range(plan.rounds):
            self.progress(f"round {place + 1} of {plan.rounds}")
            gradients = _gradients(generator, self.everyone, plan.max_grad_norm)
            before = _trained(generator)
            state = train(
                generator,
                present,
                plan,
                steps=plan.local_steps,
                declared_size=len(present),
                state=state,
                privacy=self.privacy,
            )
            total += _resolved(gradients @ gradients.T, gradients @ (before - _trained(generator)))
        return total


def _gradients(generator: SteppedGenerator, everyone: PatientStates, max_grad_norm: float) -> np.ndarray:
    """(people, weights) float64: everybody's clipped mean gradient at these weights over VIEWS draws."""
    generator.train()
    measure, rng = PerPatientGradients(generator), torch.Generator().manual_seed(0)
    found = []
    for person in range(len(everyone)):
        measure.forget()
        views, weights = everyone.views(np.array([person]), draws=VIEWS)
        losses = generator.loss_per_patient(
            torch.from_numpy(views),
            torch.from_numpy(weights),
            progress=0.0,
            noise=torch.randn(*weights.shape, generator.noise_size, generator=rng),
        )
        parts = measure.clipped_sum(losses, max_grad_norm)
        found.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    measure.close()
    generator.eval()
    return np.stack(found)


def _trained(generator: SteppedGenerator) -> np.ndarray:
    """All weights that steps move, in the module's order, float64 (weights,)."""
    parts = [p.detach().flatten() for p in generator.parameters() if p.requires_grad]
    return np.asarray(torch.cat(parts).double().numpy())


def _resolved(products: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Everybody's share in what was seen, by ridge regression.

    Args:
        products: (people, people) of everybody's contribution with everybody's.
        found: (people,) of what was seen with everybody's contribution.
    """
    ridge = RIDGE * float(np.mean(np.diag(products))) + 1e-30
    return np.asarray(np.linalg.solve(products + ridge * np.eye(len(products)), found))


def _by_tables(generator: TableGenerator, everyone: PatientStates) -> np.ndarray:
    """(people,) the bought tables resolved into everybody's own.

    A person's table is the product of their one-hot row with itself, so two tables' product is the square of
    the number of columns in which two people agree.
    """
    states = generator.to_buy(everyone).states
    places = states + np.array(generator.bought.offsets)
    bought = generator.tables.detach().double().numpy()
    found = np.array([bought[np.ix_(own, own)].sum() for own in places])
    agree = np.zeros((len(states), len(states)))
    for column in states.T:
        agree += column[:, None] == column[None, :]
    return _resolved(agree**2, found)
