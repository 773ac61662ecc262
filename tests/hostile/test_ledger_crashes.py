"""Real processes: two that race for the last budget, and one that is killed at every point of a round."""

import json
import multiprocessing
import os
import signal

import pytest

from synthkit.domain.privacy import Budget, GaussianEvent
from synthkit.errors import BudgetExceededError
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_file import exclusive_lock

BUDGET = Budget(epsilon=3.0, delta=1e-6)
EVENT = GaussianEvent(noise_multiplier=30.0)
LAST = GaussianEvent(noise_multiplier=2.0)
"""Costs epsilon 2.6: the budget has room for one of it and not for two."""
SPAWN = multiprocessing.get_context("spawn")


def race(path, barrier, results, study):
    ledger = Ledger.open(path)
    barrier.wait()
    try:
        ledger.reserve(study=study, server_round=1, base_digest="b", events=[LAST])
        results.put("won")
    except BudgetExceededError:
        results.put("refused")


def test_two_processes_racing_for_the_last_budget_never_both_win(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path, asset="a", site="s", budget=BUDGET)
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    racers = [SPAWN.Process(target=race, args=(path, barrier, results, name)) for name in ("x", "y")]
    for racer in racers:
        racer.start()
    outcomes = sorted(results.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join(30)
    assert outcomes == ["refused", "won"]
    assert verify_ledger(path).events == (LAST,)


def hammer(path, count, study):
    ledger = Ledger.open(path)
    for server_round in range(count):
        reservation = ledger.reserve(study=study, server_round=server_round, base_digest="b", events=[EVENT])
        ledger.commit(reservation, reply_digest="r")


def test_interleaved_processes_keep_one_whole_chain(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path, asset="a", site="s", budget=Budget(epsilon=1000.0, delta=1e-6))
    writers = [SPAWN.Process(target=hammer, args=(path, 60, name)) for name in ("x", "y")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    summary = verify_ledger(path)
    assert (summary.reservations, summary.commits, summary.head[0]) == (120, 120, 240)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_within(name, call, partial=0):
    """Kill this process at the `call`-th os.write or os.fsync, before it or after `partial` bytes."""
    real, left = getattr(os, name), [call]

    def deadly(descriptor, *data):
        left[0] -= 1
        if left[0] == 0:
            if partial:
                real(descriptor, bytes(data[0])[:partial])
            die()
        return real(descriptor, *data)

    setattr(os, name, deadly)


def one_round(path, drawn, point):
    """A site's round in its prescribed order; `drawn` notes, durably, each time noise was drawn."""
    ledger = Ledger.open(path)
    if point in DEADLY_CALLS:
        die_within(*DEADLY_CALLS[point])
    reservation = ledger.reserve(study="s", server_round=1, base_digest="b", events=[EVENT])
    if point == "after reserve":
        die()
    with open(drawn, "ab", buffering=0) as handle:
        handle.write(b"x")
    if point == "after drawing":
        die()
    drawn.with_name("reply").write_bytes(b"reply")
    if point == "after storing the reply":
        die()
    if point == "after abandoning":
        ledger.abandon(reservation, "stopped")
        die()
    ledger.commit(reservation, reply_digest="r")
    if point == "after commit":
        die()
    drawn.with_name("sent").write_bytes(b"sent")
    die()


DEADLY_CALLS = {
    "before writing the reservation": ("write", 1),
    "within the reservation, 1 byte": ("write", 1, 1),
    "within the reservation, 150 bytes": ("write", 1, 150),
    "before syncing the reservation": ("fsync", 1),
    "before writing the commit": ("write", 2),
    "within the commit, 1 byte": ("write", 2, 1),
    "within the commit, 100 bytes": ("write", 2, 100),
    "before syncing the commit": ("fsync", 2),
}
POINTS = [
    *DEADLY_CALLS,
    "after reserve",
    "after drawing",
    "after storing the reply",
    "after abandoning",
    "after commit",
    "after sending",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_ledger_covers_the_true_spend(tmp_path, point):
    path, drawn = tmp_path / "ledger.jsonl", tmp_path / "drawn"
    Ledger.create(path, asset="a", site="s", budget=BUDGET)
    child = SPAWN.Process(target=one_round, args=(path, drawn, point))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    ledger = Ledger.open(path, asset="a")
    true_spend = drawn.stat().st_size if drawn.exists() else 0
    assert true_spend <= len(ledger.history()) <= true_spend + 1
    if (tmp_path / "sent").exists():
        assert ledger.find_commit("s", 1, "b") is not None
    else:
        assert ledger.find_commit("s", 1, "b") is None or (tmp_path / "reply").exists()
    torn = any(json.loads(line)["kind"] == "repair" for line in path.read_bytes().splitlines())
    assert torn == point.startswith("within")
    ledger.reserve(study="s", server_round=2, base_digest="b2", events=[EVENT])
    assert verify_ledger(path).head == ledger.head


def test_a_killed_holder_releases_the_lock(tmp_path):
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path, asset="a", site="s", budget=BUDGET)
    child = SPAWN.Process(target=hold_and_die, args=(path,))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert Ledger.open(path).head[0] == 0


def hold_and_die(path):
    with exclusive_lock(path):
        die()
