"""A plan never costs more than its target, and more epsilon buys less noise."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest

from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent, GaussianThresholdEvent
from synthkit.errors import BudgetExceededError, InputError
from synthkit.privacy.accounting import admission_epsilon, reported_epsilon
from synthkit.privacy.ledger import Ledger
from synthkit.training.planning import Effort, check_plan, effort_for, effort_without_privacy, plan_for
from synthkit.training.sequence_site import PATIENTS_A_NOISE, effort_for_records, plan_for_records

EPSILONS = (0.5, 1.0, 3.0, 8.0)
"""Below 1 a plan leaves up to 30 % of its target unused: the filter's leading order is fixed beforehand."""
EFFORTS = {
    "federation": effort_for(3000, sites=4),
    "one site": effort_for(2000),
    "large site": effort_for(40_000),
    "few steps": Effort(rounds=2, local_steps=2, sample_rate=0.5, learning_rate=0.01),
    "all patients each step": Effort(rounds=1, local_steps=10, sample_rate=1.0, learning_rate=0.01),
}


@pytest.mark.parametrize("effort", EFFORTS.values(), ids=EFFORTS)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_no_plan_costs_more_than_its_target_and_more_epsilon_means_less_noise(effort, delta):
    plans = [plan_for("medvae-sgd", effort, target_epsilon=epsilon, delta=delta) for epsilon in EPSILONS]
    for epsilon, plan in zip(EPSILONS, plans, strict=True):
        planned = admission_epsilon(plan.total_events(), delta)
        assert reported_epsilon(plan.total_events(), delta) <= planned + 1e-9
        assert 0.65 * epsilon < planned <= epsilon
        assert plan.total_steps == effort.rounds * effort.local_steps
    for less, more in itertools.pairwise(plans):
        assert more.noise_multiplier < less.noise_multiplier
        assert more.prior_noise_multiplier < less.prior_noise_multiplier


@pytest.mark.parametrize("effort", EFFORTS.values(), ids=EFFORTS)
def test_the_rounds_of_a_plan_are_the_whole_plan(effort):
    plan = plan_for("medvae-sgd", effort, target_epsilon=3.0, delta=1e-5)
    rounds = [plan.round_events(number) for number in range(1, plan.server_rounds + 1)]
    events = [event for events in rounds for event in events]
    steps = sum(event.steps for event in events if isinstance(event, DpSgdEvent))
    assert steps == plan.total_steps
    whole = admission_epsilon(plan.total_events(), plan.delta)
    assert admission_epsilon(events, plan.delta) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("effort", EFFORTS.values(), ids=EFFORTS)
def test_a_ledger_capped_at_the_target_admits_every_round_and_none_more(effort, tmp_path):
    """The filter meets rounds one by one; its leading order must not cost the last of them."""
    plan = plan_for("medvae-sgd", effort, target_epsilon=3.0, delta=1e-5)
    budget = Budget(epsilon=3.0, delta=1e-5)
    ledger = Ledger.create(tmp_path / "ledger", asset="a", site="s", budget=budget)

    def reserve(number, base):
        return ledger.reserve(
            study="s" * 64,
            server_round=number,
            base_digest=base,
            events=plan.round_events(number),
            study_budget=budget,
        )

    for number in range(1, plan.server_rounds + 1):
        ledger.commit(reserve(number, "b"), reply_digest="r")
    with pytest.raises(BudgetExceededError):
        reserve(1, "other")


def test_without_privacy_batches_are_small_and_passes_many():
    for size in (50, 5000, 100_000):
        effort = effort_without_privacy(size)
        assert 0 < effort.sample_rate <= 1
        assert effort.local_steps >= 1500
        assert effort.local_steps * effort.sample_rate >= 19


def test_a_target_out_of_reach_is_refused_in_one_line():
    effort = Effort(rounds=1, local_steps=1000, sample_rate=1.0, learning_rate=0.01)
    with pytest.raises(InputError) as caught:
        plan_for("medvae-sgd", effort, target_epsilon=1e-4, delta=1e-5)
    assert "\n" not in str(caught.value)


HISTORIES = {
    "nothing bought": lambda _: (),
    "a schema bought": lambda epsilon: (
        GaussianThresholdEvent(noise_multiplier=24 / epsilon, failure_delta=1e-10),
    ),
    "an earlier training": lambda epsilon: (
        DpSgdEvent(noise_multiplier=0.6 + 6 / epsilon, sample_rate=0.1, steps=50),
        GaussianEvent(noise_multiplier=30 / epsilon),
    ),
}
"""What a model rests on besides, for a target of `epsilon`: a part of it, never the most."""


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_one_release_uses_the_whole_target_and_no_more(epsilon, delta, history):
    spent = history(epsilon)
    plan = plan_for("medvae", EFFORTS["one site"], target_epsilon=epsilon, delta=delta, history=spent)
    assert (plan.rounds, plan.local_steps, plan.total_steps, plan.server_rounds) == (0, 0, 0, 1)
    assert plan.round_events(1) == plan.total_events() == (GaussianEvent(noise_multiplier=noise_of(plan)),)
    # What is reserved comes first when a training is planned together with its purchase: see `train`.
    events = (*plan.total_events(), *spent)
    assert 0.99 * epsilon <= admission_epsilon(events, delta) <= epsilon
    assert reported_epsilon(events, delta) <= admission_epsilon(events, delta) + 1e-9


def noise_of(plan):
    assert plan.noise_multiplier == plan.prior_noise_multiplier
    return plan.prior_noise_multiplier


def test_more_epsilon_or_less_history_means_less_noise():
    def noise(epsilon, history=()):
        plan = plan_for("medvae", EFFORTS["one site"], target_epsilon=epsilon, delta=1e-5, history=history)
        return plan.prior_noise_multiplier

    assert all(noise(less) > noise(more) for less, more in itertools.pairwise(EPSILONS))
    assert noise(3.0, HISTORIES["an earlier training"](3.0)) > noise(3.0)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_effort_has_no_say_in_one_release(epsilon):
    plans = [plan_for("medvae", e, target_epsilon=epsilon, delta=1e-5) for e in EFFORTS.values()]
    assert len({replace(plan, hyperparameters={}).prior_noise_multiplier for plan in plans}) == 1


def reserve(ledger, number, plan, budget, *, base="b"):
    return ledger.reserve(
        study="s" * 64,
        server_round=number,
        base_digest=base,
        events=plan.round_events(number),
        study_budget=budget,
    )


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_a_ledger_capped_at_the_target_admits_one_release_exactly_once(epsilon, tmp_path):
    plan = plan_for("medvae", EFFORTS["one site"], target_epsilon=epsilon, delta=1e-5)
    budget = Budget(epsilon=epsilon, delta=1e-5)
    ledger = Ledger.create(tmp_path / "ledger", asset="a", site="s", budget=budget)
    ledger.commit(reserve(ledger, 1, plan, budget), reply_digest="r")
    with pytest.raises(BudgetExceededError):
        reserve(ledger, 1, plan, budget, base="other")
    with pytest.raises(InputError, match="not in the plan"):
        reserve(ledger, 2, plan, budget)
    assert ledger.spend().epsilon <= epsilon


@pytest.mark.parametrize(("steps", "rate", "epsilon"), [(12, 0.1, 3.0), (50, 0.05, 3.0), (2, 0.1, 3.0)])
def test_small_batches_are_planned_within_what_a_fresh_ledger_admits(steps, rate, epsilon, tmp_path):
    """The noise moves away from what the filter's order was chosen for: these once cost more than epsilon."""
    effort = Effort(rounds=1, local_steps=steps, sample_rate=rate, learning_rate=0.01)
    plan = plan_for("medvae-sgd", effort, target_epsilon=epsilon, delta=1e-5)
    budget = Budget(epsilon=epsilon, delta=1e-5)
    whole = Ledger.create(tmp_path / "whole", asset="a", site="s", budget=budget)
    events = plan.total_events()
    whole.reserve(study="s" * 64, server_round=1, base_digest="b", events=events, study_budget=budget)
    by_round = Ledger.create(tmp_path / "rounds", asset="a", site="s", budget=budget)
    for number in range(1, plan.server_rounds + 1):
        by_round.commit(reserve(by_round, number, plan, budget), reply_digest="r")
    assert 0.65 * epsilon < admission_epsilon(events, 1e-5) <= epsilon
    less = replace(plan, noise_multiplier=0.9 * plan.noise_multiplier)
    assert admission_epsilon(less.total_events(), 1e-5) > admission_epsilon(events, 1e-5)


@pytest.mark.parametrize("generator", ["medvae", "medvae-sgd", "mcm", "mcm-sgd"])
def test_a_plan_that_was_planned_fits_its_generator(generator):
    check_plan(plan_for(generator, EFFORTS["few steps"], target_epsilon=3.0, delta=1e-5))


@pytest.mark.parametrize(
    ("generator", "other", "fix"),
    [
        ("medvae", "medvae-sgd", "at least 1 round"),
        ("medvae-sgd", "medvae", 'rounds = 0 .* generator = "medvae-sgd"'),
        ("mcm", "mcm-sgd", "at least 1 round"),
        ("mcm-sgd", "mcm", 'rounds = 0 .* generator = "mcm-sgd"'),
    ],
)
def test_a_plan_of_the_other_generators_kind_is_refused(generator, other, fix):
    plan = plan_for(generator, EFFORTS["few steps"], target_epsilon=3.0, delta=1e-5)
    with pytest.raises(InputError, match=fix) as caught:
        check_plan(replace(plan, generator=other))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("rounds of the plan: ")
    with pytest.raises(InputError, match="no generator"):
        check_plan(replace(plan, generator="oracle"))


@pytest.mark.parametrize(("rounds", "local_steps"), [(0, 3), (3, 0), (-1, 3), (-1, -1), (0, -1)])
def test_rounds_without_steps_and_steps_without_rounds_are_no_plan(rounds, local_steps):
    plan = plan_for("medvae", EFFORTS["few steps"], target_epsilon=3.0, delta=1e-5)
    with pytest.raises(InputError, match="both"):
        replace(plan, rounds=rounds, local_steps=local_steps)


def test_one_release_out_of_reach_is_refused_in_one_line():
    for epsilon, history in ((1e-4, ()), (1.0, (GaussianEvent(noise_multiplier=2.0),))):
        with pytest.raises(InputError, match="no noise reaches") as caught:
            plan_for("medvae", EFFORTS["one site"], target_epsilon=epsilon, delta=1e-5, history=history)
        assert "\n" not in str(caught.value)


def test_pairs_of_codes_are_bought_where_the_public_sizes_carry_their_noise():
    """Eight sites add eight noises: their sum has root eight times one's."""
    asked = partial(
        plan_for_records,
        "eva",
        effort_for_records(20_000),
        target_epsilon=3.0,
        delta=1e-5,
        hyperparameters={},
    )
    noise = asked().prior_noise_multiplier
    assert "pairs" not in asked().hyperparameters
    edge = PATIENTS_A_NOISE * noise
    for sizes, pays in (
        ((round(edge) + 1,), 1.0),
        ((round(edge) - 1,), 0.0),
        ((round(edge / 8 * math.sqrt(8)) + 1,) * 8, 1.0),
        ((round(edge / 8 * math.sqrt(8)) - 1,) * 8, 0.0),
    ):
        assert asked(sizes=sizes).hyperparameters == {"pairs": pays}


def test_records_leave_most_of_epsilon_to_what_is_bought_and_less_after_a_history():
    def noise(*history: GaussianEvent) -> float:
        effort = effort_for_records(20_000)
        plan = plan_for_records(
            "eva", effort, target_epsilon=3.0, delta=1e-5, hyperparameters={}, history=history
        )
        assert admission_epsilon((*history, *plan.total_events()), 1e-5) <= 3.0
        return plan.prior_noise_multiplier

    alone = admission_epsilon([GaussianEvent(noise_multiplier=noise())], 1e-5)
    assert alone == pytest.approx(0.7 * 3.0, rel=0.01)
    assert noise(GaussianEvent(noise_multiplier=8.0)) > 1.1 * noise()
