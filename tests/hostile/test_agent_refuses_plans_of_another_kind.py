"""A plan of steps for a generator that takes none, or the other way round, reaches no row and no ledger."""

import numpy as np
import pytest
from hospital import found
from small_ward import SMALL

from synthkit.errors import InputError
from synthkit.federation.messages import TrainRequest

TABLES = {"rounds": 0, "local_steps": 0}
STEPS = {"rounds": 2, "local_steps": 2}
CODES = {**SMALL, "codes": 40, "fit_steps": 5}

MISMATCHED = {
    "no steps for medvae-sgd": ({"generator": "medvae-sgd", **TABLES}, "trained by steps"),
    "steps for medvae": ({"generator": "medvae", **STEPS, "hyperparameters": CODES}, "takes no steps"),
}
FITTING = {
    "steps for medvae-sgd": {"generator": "medvae-sgd", **STEPS},
    "no steps for medvae": {"generator": "medvae", **TABLES, "hyperparameters": CODES},
}


@pytest.fixture
def hospital(tmp_path):
    return found(tmp_path)


def ledger_bytes(hospital) -> bytes:
    return (hospital.path / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize("changes", FITTING.values(), ids=FITTING)
def test_a_plan_that_fits_is_answered(hospital, changes):
    """Each refusal below is one change away from this."""
    study = hospital.with_plan(**changes)
    reply = hospital.ready(study).agent().answer(hospital.request(study=study))
    assert reply.ledger_counter == 2


@pytest.mark.parametrize(("changes", "words"), MISMATCHED.values(), ids=MISMATCHED)
def test_the_officers_tool_refuses_to_approve_it(hospital, changes, words):
    study = hospital.with_plan(**changes)
    hospital.bring(study)
    with pytest.raises(InputError, match=words):
        hospital.approve(study)
    assert not (hospital.folder.study_folder(study.digest) / "approval.json").exists()


@pytest.mark.parametrize(("changes", "words"), MISMATCHED.values(), ids=MISMATCHED)
@pytest.mark.parametrize("server_round", [1, 3])
def test_the_agent_refuses_it_though_approved_with_the_table_gone(hospital, changes, words, server_round):
    study = hospital.with_plan(**changes)
    hospital.bring(study)
    hospital.force_approval(study)
    hospital.table.unlink()
    before = ledger_bytes(hospital)
    with pytest.raises(InputError, match=words) as caught:
        hospital.agent().answer(hospital.request(server_round, study=study))
    assert "\n" not in str(caught.value)
    assert ledger_bytes(hospital) == before


@pytest.mark.parametrize("server_round", [0, 2, 3])
def test_one_release_has_one_round(hospital, server_round):
    study = hospital.with_plan(**FITTING["no steps for medvae"])
    hospital.ready(study).table.unlink()
    before = ledger_bytes(hospital)
    with pytest.raises(InputError, match="not in the plan"):
        hospital.agent().answer(hospital.request(server_round, study=study))
    assert ledger_bytes(hospital) == before


@pytest.mark.parametrize("name", ["tables", "codes", "millions", "table_noise", "linear.bias"])
@pytest.mark.parametrize("spoil", ["another shape", "not a number", "missing"])
def test_weights_that_do_not_fit_reserve_nothing(hospital, name, spoil):
    study = hospital.with_plan(**FITTING["no steps for medvae"])
    agent = hospital.ready(study).agent()
    before = ledger_bytes(hospital)
    weights = dict(hospital.request(study=study).weights)
    if spoil == "missing":
        del weights[name]
    elif spoil == "not a number":
        weights[name] = weights[name] * np.float32("nan")
    else:
        weights[name] = np.stack([weights[name], weights[name]])
    with pytest.raises(InputError, match="weights"):
        agent.answer(TrainRequest(study_digest=study.digest, server_round=1, weights=weights))
    assert ledger_bytes(hospital) == before
