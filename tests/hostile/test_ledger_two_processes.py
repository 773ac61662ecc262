"""Two studies in two real processes on one ledger file: together they never take more than there is.

`test_ledger_crashes` races two processes for the last budget once. Here both ask on, each with its own
quota and events of its own kind, until neither gets anything more.
"""

import multiprocessing

from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent, GaussianThresholdEvent
from synthkit.errors import BudgetExceededError
from synthkit.privacy.accounting import reported_epsilon
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.renyi import Tally, filter_epsilon, leading_order

BUDGET = Budget(epsilon=3.0, delta=1e-6)
QUOTA = Budget(epsilon=2.5, delta=1e-6)
SPAWN = multiprocessing.get_context("spawn")
ASKS = {
    "x": [DpSgdEvent(noise_multiplier=1.3, sample_rate=0.03, steps=steps) for steps in (60, 30, 10)],
    "y": [GaussianEvent(noise_multiplier=sigma) for sigma in (4.0, 8.0, 20.0)]
    + [GaussianThresholdEvent(noise_multiplier=30.0, failure_delta=3e-9)],
}


def ask_on(path, barrier, results, study):
    """Every kind in turn until each was refused; each fifth reservation is given back, nothing drawn."""
    ledger, taken, refused = Ledger.open(path), 0, set()
    barrier.wait()
    while len(refused) < len(ASKS[study]):
        for number, event in enumerate(ASKS[study]):
            try:
                reservation = ledger.reserve(
                    study=study, server_round=taken, base_digest="b", events=[event], study_budget=QUOTA
                )
            except BudgetExceededError:
                refused.add(number)
                continue
            taken += 1
            if taken % 5 == 0:
                ledger.abandon(reservation, "stopped", nothing_was_drawn=True)
            else:
                ledger.commit(reservation, reply_digest="r")
    results.put((study, taken))


def test_two_studies_in_two_processes_never_spend_one_budget_twice(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path, asset="a", site="s", budget=BUDGET)
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    studies = [SPAWN.Process(target=ask_on, args=(path, barrier, results, name)) for name in ASKS]
    for study in studies:
        study.start()
    taken = dict(results.get(timeout=60) for _ in studies)
    for study in studies:
        study.join(30)
    assert all(taken.values())
    ledger = Ledger.open(path)
    events = verify_ledger(path).events
    assert len(events) == sum(count - count // 5 for count in taken.values())
    assert reported_epsilon(events, BUDGET.delta) <= BUDGET.epsilon
    assert ledger.planned_epsilon() <= BUDGET.epsilon
    for name, asks in ASKS.items():
        own = ledger.history(name)
        assert {type(event) for event in own} <= {type(event) for event in asks}
        order = leading_order(own[0], QUOTA)
        assert filter_epsilon(Tally(own), QUOTA.delta, order) <= QUOTA.epsilon
