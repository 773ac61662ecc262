"""The coordinator's ServerApp: the signed study decides, and a failure leaves one line."""

import datetime as dt
import json
from dataclasses import replace

import pytest
from standin import StandIn, make_initial, make_study, run_app, write_signed_study

from synthkit.errors import BudgetExceededError, InputError, PeerError, SignatureError, SynthkitError
from synthkit.federation.messages import digest_weights
from synthkit_client.app import make_app
from synthkit_server.app import FAILURE, PROGRESS, read_failure, wait_online
from synthkit_server.flower_adapter import online_node
from synthkit_server.local_grid import LocalGrid, run_local
from synthkit_server.result import RESULT_WEIGHTS, FederationResult
from synthkit_server.storage import write_weights


@pytest.fixture
def config(tmp_path, keys):
    study_file, trust_file = write_signed_study(tmp_path, make_study(keys, rounds=1))
    write_weights(tmp_path / "initial.safetensors", make_initial())
    (tmp_path / "output").mkdir()
    return {
        "study-file": str(study_file),
        "trust": str(trust_file),
        "initial-file": str(tmp_path / "initial.safetensors"),
        "output-dir": str(tmp_path / "output"),
        "deadline-s": 30.0,
        "online-s": 0.2,
        "min-sites": 0,
        "average-last": 1,
    }


def test_the_app_runs_the_signed_study_and_writes_its_result(tmp_path, keys, config):
    agents = {name: StandIn(name, key) for name, key in keys.items()}
    run_app(config, agents)
    result = FederationResult.load(tmp_path / "output")
    again = {name: make_app(StandIn(name, key)) for name, key in keys.items()}
    direct = run_local(make_study(keys, rounds=1), make_initial(), again)
    assert digest_weights(result.weights) == digest_weights(direct.weights)
    assert result.to_json() == direct.to_json()
    assert len((tmp_path / "output" / PROGRESS).read_text().splitlines()) == 2
    assert read_failure(tmp_path / "output") is None


def test_a_result_whose_weights_were_exchanged_is_refused(tmp_path, keys, config):
    run_app(config, {name: StandIn(name, key) for name, key in keys.items()})
    write_weights(tmp_path / "output" / RESULT_WEIGHTS, make_initial())
    with pytest.raises(InputError, match="do not belong together"):
        FederationResult.load(tmp_path / "output")


def alter_study(path, change):
    envelope = json.loads(path.read_text())
    change(envelope)
    path.write_text(json.dumps(envelope))


def test_an_altered_study_asks_nobody(tmp_path, keys, config):
    alter_study(tmp_path / "study.json", lambda e: e["document"]["plan"].update(noise_multiplier=0.01))
    agents = {name: StandIn(name, key) for name, key in keys.items()}
    with pytest.raises(SignatureError):
        run_app(config, agents)
    assert all(agent.asked == [] for agent in agents.values())
    assert "signature" in read_failure(tmp_path / "output")


def test_a_study_by_an_unknown_coordinator_asks_nobody(tmp_path, keys, config):
    other = tmp_path / "other"
    other.mkdir()
    _, other_trust = write_signed_study(other, make_study(keys))
    with pytest.raises(SignatureError, match="unknown key"):
        run_app({**config, "trust": str(other_trust)}, {})


def test_an_expired_study_is_refused(tmp_path, keys, config):
    expired = replace(make_study(keys), expires=dt.date(2020, 1, 1))
    study_file, trust_file = write_signed_study(tmp_path, expired)
    with pytest.raises(InputError, match="expired"):
        run_app({**config, "study-file": str(study_file), "trust": str(trust_file)}, {})


def test_missing_sites_are_named_at_the_deadline(tmp_path, keys, config):
    agents = {name: StandIn(name, key) for name, key in keys.items() if name != "west"}
    with pytest.raises(PeerError, match="not online: west"):
        run_app(config, agents)
    assert agents["north"].asked == []
    run_app({**config, "min-sites": 2}, agents)
    assert agents["north"].asked == [1, 2]


def test_a_name_with_two_nodes_is_nobodys(keys):
    class Doubled(LocalGrid):
        def get_nodes(self):
            return [*super().get_nodes(), online_node(99, "west")]

    grid = Doubled({name: make_app(StandIn(name, key)) for name, key in keys.items()})
    with pytest.raises(PeerError, match="not online: west"):
        wait_online(grid, make_study(keys), quorum=3, deadline_s=0.1)
    assert set(wait_online(grid, make_study(keys), quorum=2, deadline_s=0.1)) == {"north", "south"}


def test_a_failed_run_leaves_its_line(tmp_path, keys, config):
    agents = {name: StandIn(name, key) for name, key in keys.items()}
    agents["south"].error = BudgetExceededError("nothing left")
    with pytest.raises(PeerError):
        run_app(config, agents)
    document = json.loads((tmp_path / "output" / FAILURE).read_text())
    assert document["error"] == "PeerError"
    assert "south: budget" in document["message"]
    assert "nothing left" not in document["message"]
    agents["south"].error = None
    run_app(config, agents)
    assert read_failure(tmp_path / "output") is None
    assert agents["north"].counter == 2, "the answered round was replayed, not repeated"


@pytest.mark.parametrize(
    "change",
    [{"study-file": ""}, {"output-dir": ""}, {"deadline-s": 0.0}, {"min-sites": -1}, {"average-last": 0}],
)
def test_a_configuration_out_of_range_is_refused(config, change):
    with pytest.raises(SynthkitError):
        run_app({**config, **change}, {})
