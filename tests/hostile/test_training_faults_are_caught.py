"""Each fault of the training step and loop is raised by its named check, and a sound build raises none."""

import pytest
from training_claims import CLINIC, SHORT, claimed
from training_faults import FAULTS, REFUSED, REQUEST, commit

from synthkit.audit.component import audit_steps
from synthkit.errors import InputError
from synthkit.federation.messages import TrainRequest


def report(sample_rate=0.25, seed=0):
    return audit_steps(CLINIC, claimed(sample_rate=sample_rate), effort=SHORT, seed=seed)


def raised(fault):
    """Names of the checks that a fault raises."""
    if fault.caught_by == REQUEST:
        return settings_in_a_request()
    if fault.caught_by == REFUSED:
        with pytest.raises(InputError, match="a layer mixes patients"):
            report()
        return {REFUSED}
    return {check.name for check in report(fault.sample_rate).contradicted}


def settings_in_a_request():
    """Raised where a request that carries a training parameter is not refused."""
    plain = {"study_digest": "0" * 64, "server_round": 1, "witness": ""}
    assert TrainRequest.from_wire({}, plain).server_round == 1
    for name in ("noise_multiplier", "max_grad_norm", "sample_rate", "local_steps"):
        try:
            TrainRequest.from_wire({}, {**plain, name: 1})
        except InputError:
            continue
        return {REQUEST}
    return set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught_by_its_named_check(monkeypatch, fault):
    """Missed with a probability below 1e-3 each: see the margins of `bench_component.py --power`."""
    commit(monkeypatch, fault)
    found = raised(fault)
    assert fault.caught_by in found, f"raised instead: {sorted(found)}"


def test_no_fault_is_named_twice():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_sound_build_raises_nothing():
    """False alarm below 1e-3."""
    assert report().contradicted == ()
    assert settings_in_a_request() == set()


@pytest.mark.slow
def test_a_sound_build_raises_nothing_twenty_times():
    """Noise is fresh from the operating system each time: false alarm below 2 %."""
    for seed in range(20):
        assert report(seed=seed).contradicted == ()
