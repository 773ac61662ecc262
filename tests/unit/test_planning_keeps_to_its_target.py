"""A plan never costs more than its target, and more epsilon buys less noise."""

import itertools

import pytest

from synthkit.domain.privacy import Budget, DpSgdEvent
from synthkit.errors import InputError
from synthkit.privacy.accounting import admission_epsilon, reported_epsilon
from synthkit.privacy.ledger import Ledger
from synthkit.training.planning import Effort, effort_for, effort_without_privacy, plan_for

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
    from synthkit.errors import BudgetExceededError

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
