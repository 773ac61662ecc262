"""Adversarial adaptive schedules: whoever chooses the next request, the cap holds."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent
from synthkit.errors import BudgetExceededError
from synthkit.privacy.accounting import check_admissible, reported_epsilon
from synthkit.privacy.ledger import Ledger, verify_ledger

SAMPLED = [
    DpSgdEvent(noise_multiplier=sigma, sample_rate=rate, steps=1)
    for sigma, rate in [(0.7, 0.004), (1.0, 0.03), (1.5, 0.1), (3.0, 0.3), (10.0, 0.5)]
]
"""Five kinds of step; their curves are cached, so that thousands of histories stay quick."""


def event_strategy():
    gaussian = st.builds(GaussianEvent, noise_multiplier=st.floats(0.5, 100), count=st.integers(1, 20))
    sampled = st.builds(
        lambda event, steps: DpSgdEvent(
            noise_multiplier=event.noise_multiplier, sample_rate=event.sample_rate, steps=steps
        ),
        st.sampled_from(SAMPLED),
        st.integers(1, 400),
    )
    return st.one_of(gaussian, sampled)


def gaussian_delta(precision, epsilon):
    """Exact delta of composed full-batch Gaussians (Balle and Wang, arXiv 1805.06530, Theorem 8)."""
    mu = math.sqrt(precision)
    tail = math.exp(epsilon) * math.erfc((epsilon / mu + mu / 2) / math.sqrt(2)) / 2
    return math.erfc((epsilon / mu - mu / 2) / math.sqrt(2)) / 2 - tail


def test_greedy_gaussian_schedules_never_pass_the_exact_cap():
    """2,000 schedules that halve their ask at each refusal until nothing fits; checked in closed form."""
    rng = np.random.default_rng(20_250_101)
    for _ in range(2000):
        budget = Budget(epsilon=rng.uniform(0.1, 10), delta=10 ** -rng.uniform(4, 9))
        history = []
        sigma = 10 ** rng.uniform(-0.5, 1.5)
        while sigma < 100:
            ask = GaussianEvent(noise_multiplier=sigma, count=int(rng.integers(1, 4)))
            try:
                check_admissible(history, [ask], budget)
                history.append(ask)
                if len(history) > 15:
                    break
            except BudgetExceededError:
                sigma *= rng.uniform(1.2, 2)
        if history:
            precision = sum(event.count / event.noise_multiplier**2 for event in history)
            assert gaussian_delta(precision, budget.epsilon) <= budget.delta


ORDERS = [2.0, *(quarter / 4 for quarter in range(11, 80)), *range(20, 129, 4), 256, 512, 1024]


@cache
def opacus_curve(sigma, rate):
    return np.array(compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=ORDERS))


def opacus_epsilon(history, delta):
    """Renyi epsilon by an implementation that shares no code with the filter."""
    total = np.zeros(len(ORDERS))
    for event in history:
        if isinstance(event, DpSgdEvent):
            total += event.steps * opacus_curve(event.noise_multiplier, event.sample_rate)
        else:
            total += event.count * np.array(ORDERS) / (2 * event.noise_multiplier**2)
    return get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)[0]


def admitted(asks, budget):
    """What a filter lets through of these asks, each asked once in this order."""
    history = []
    for ask in asks:
        try:
            check_admissible(history, [ask], budget)
        except BudgetExceededError:
            continue
        history.append(ask)
    return history


@pytest.mark.filterwarnings("ignore:Optimal order")
@given(asks=st.lists(event_strategy(), min_size=1, max_size=12), epsilon=st.floats(0.3, 8))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_admitted_mixtures_are_within_the_cap_by_opacus(asks, epsilon):
    history = admitted(asks, Budget(epsilon=epsilon, delta=1e-6))
    if history:
        assert opacus_epsilon(history, 1e-6) <= epsilon


@given(asks=st.lists(event_strategy(), min_size=1, max_size=6), epsilon=st.floats(0.5, 8))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_admitted_mixtures_are_within_the_cap_by_the_tight_accountant(asks, epsilon):
    history = admitted(asks, Budget(epsilon=epsilon, delta=1e-6))
    assert reported_epsilon(history, 1e-6) <= epsilon


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "commit", "abandon", "refund", "reopen", "tear", "audit"]),
        st.integers(0, 2),
        event_strategy(),
    ),
    max_size=15,
)


@given(operations=OPERATIONS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_sequence_of_operations_counts_every_drawn_event(operations, tmp_path_factory):
    """A model beside the ledger counts what must be spent; both agree, live and from the file."""
    path = tmp_path_factory.mktemp("l") / "ledger.jsonl"
    budget, quota = Budget(epsilon=4.0, delta=1e-6), Budget(epsilon=2.0, delta=1e-6)
    ledger = Ledger.create(path, asset="a", site="s", budget=budget)
    spent, waiting = [], []
    for verb, study, event in operations:
        if verb == "reserve":
            try:
                taken = ledger.reserve(
                    study=f"s{study}", server_round=1, base_digest="b", events=[event], study_budget=quota
                )
                spent.append((taken.number, taken.study, event))
                waiting.append(taken)
            except BudgetExceededError:
                pass
        elif verb in ("commit", "abandon", "refund") and waiting:
            taken = waiting.pop(study % len(waiting))
            if verb == "commit":
                ledger.commit(taken, reply_digest="r")
            else:
                ledger.abandon(taken, "code", nothing_was_drawn=verb == "refund")
            if verb == "refund":
                spent = [entry for entry in spent if entry[0] != taken.number]
        elif verb == "reopen":
            ledger = Ledger.open(path, witness=ledger.head)
        elif verb == "tear":
            with path.open("ab") as handle:
                handle.write(b'{"torn')
    assert ledger.history() == tuple(event for _, _, event in spent)
    for study in ("s0", "s1", "s2"):
        assert ledger.history(study) == tuple(event for _, name, event in spent if name == study)
    assert ledger.open_reservations() == tuple(sorted(waiting, key=lambda taken: taken.number))
    assert verify_ledger(path, witness=ledger.head).events == ledger.history()
