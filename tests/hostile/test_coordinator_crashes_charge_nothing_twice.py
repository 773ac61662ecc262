"""The coordinator killed with SIGKILL at each of its own steps: resumed, no site pays twice."""

import numpy as np
import pytest
import torch
from crash_points import after, around_rename, before, before_sync, run_and_be_killed
from hospital import found, initial

from synthkit.federation.messages import digest_weights
from synthkit.privacy.ledger import verify_ledger
from synthkit_client.app import make_app
from synthkit_client.witness import stored_witness
from synthkit_server import strategy
from synthkit_server.checkpoint import Checkpoint
from synthkit_server.countersign import Countersigner
from synthkit_server.local_grid import run_local
from synthkit_server.mirror import BudgetMirror

POINTS = {
    "before the mirror's line": before(BudgetMirror, "record"),
    "before the mirror is synced": before_sync("mirror.jsonl"),
    "after the mirror's line": after(BudgetMirror, "record", call=2),
    "before the checkpoint": before(Checkpoint, "save"),
    "before the round's weights have their name": around_rename("round-0002.safetensors", done=False),
    "before the state has its name": around_rename("state.json", done=False, call=2),
    "after the state has its name": around_rename("state.json", done=True),
    "before the kept witness has its name": around_rename("north.json", done=False, call=2),
    "after the last checkpoint": after(Checkpoint, "save", call=3),
    "before the closing": before(strategy._Conductor, "close"),
    "after the closing": after(strategy._Conductor, "close"),
}


def conduct(hospital, folder):
    """The whole study in this process: coordinator and site end together when it is killed."""
    return run_local(
        hospital.study,
        initial(hospital.study),
        {"north": make_app(hospital.agent())},
        checkpoint=folder,
        countersigner=Countersigner(key=hospital.coordinator, name="coordinator"),
    )


@pytest.mark.parametrize("point", POINTS)
def test_killed_there_the_resumed_study_costs_what_the_plan_says(tmp_path, point):
    torch.set_num_threads(1)
    hospital, folder = found(tmp_path).ready(), tmp_path / "checkpoint"

    def killed():
        POINTS[point](np.random.default_rng(0))
        conduct(hospital, folder)

    run_and_be_killed(killed)
    so_far = verify_ledger(hospital.path / "ledger.jsonl").events
    result = conduct(hospital, folder)
    plan = hospital.study.plan
    every_round = tuple(event for number in (1, 2, 3) for event in plan.round_events(number))
    summary = verify_ledger(hospital.path / "ledger.jsonl")
    assert summary.events == every_round
    assert every_round[: len(so_far)] == so_far
    assert (summary.open_reservations, summary.commits, summary.repairs) == (0, 3, 0)
    assert stored_witness(hospital.path / "witness.json").mark == summary.head
    assert digest_weights(result.weights) == digest_weights(conduct(hospital, folder).weights)
    assert verify_ledger(hospital.path / "ledger.jsonl").events == every_round
