"""A site's process killed at eight points of a round: the ledger is at or above the true spend."""

import multiprocessing
import os
import signal

import pytest
from hospital import as_bytes, found

import synthkit_client.agent as agent_module
from synthkit.errors import BudgetExceededError
from synthkit.privacy import rng
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit_client.agent import SiteAgent
from synthkit_client.site_folder import SiteFolder

FORK = multiprocessing.get_context("fork")


def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name):
    setattr(owner, name, die)


def after(owner, name, *, call=1):
    """Die right after the `call`-th call of this function."""
    real, left = getattr(owner, name), [call]

    def deadly(*arguments, **options):
        found = real(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            die()
        return found

    setattr(owner, name, deadly)


POINTS = {
    "before the reservation": lambda: before(Ledger, "reserve"),
    "after the reservation": lambda: after(Ledger, "reserve"),
    "after the first sample": lambda: after(rng, "poisson_sample"),
    "after the training": lambda: after(agent_module, "train"),
    "after storing the state": lambda: after(SiteAgent, "_store"),
    "within storing the reply": lambda: after(os, "replace", call=2),
    "after storing the reply": lambda: after(SiteAgent, "_store", call=2),
    "after the commit": lambda: after(Ledger, "commit"),
}
DRAWN = {point for point in POINTS if point not in ("before the reservation", "after the reservation")}


def one_round(path, request, point):
    agent = SiteAgent(SiteFolder(path), SiteFolder(path).open_ledger())
    POINTS[point]()
    agent.answer(request)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_charge_is_kept_and_the_site_goes_on(tmp_path, point):
    hospital = found(tmp_path).ready()
    request = hospital.request()
    child = FORK.Process(target=one_round, args=(hospital.path, request, point))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    reserved = point != "before the reservation"
    committed = point == "after the commit"
    ledger = hospital.ledger
    assert len(ledger.history()) == int(reserved) >= int(point in DRAWN)
    assert len(ledger.open_reservations()) == int(reserved and not committed)
    reply = hospital.agent().answer(request)
    assert len(hospital.ledger.history()) == int(reserved) + int(not committed)
    assert as_bytes(hospital.agent().answer(request)) == as_bytes(reply)
    assert verify_ledger(hospital.path / "ledger.jsonl").head == hospital.ledger.head


def test_a_round_that_keeps_crashing_runs_out_of_budget(tmp_path):
    """Each restart charges anew; when the quota is gone the site refuses and draws nothing."""
    hospital = found(tmp_path)
    study = hospital.with_plan(noise_multiplier=1.5, sample_rate=0.3, local_steps=4, rounds=1)
    hospital.ready(study)
    request = hospital.request(study=study)
    crashes = 0
    while crashes < 30:
        child = FORK.Process(target=one_round, args=(hospital.path, request, "after the first sample"))
        child.start()
        child.join(60)
        if child.exitcode != -signal.SIGKILL:
            break
        crashes += 1
    assert 1 <= crashes == len(hospital.ledger.history()) < 30
    with pytest.raises(BudgetExceededError):
        hospital.agent().answer(request)
    assert hospital.ledger.spend(study.digest).epsilon <= 4.0
