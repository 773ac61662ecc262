"""What a site says when something goes wrong: one word, whatever the error's text was."""

import json

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from standin import StandIn, make_initial, make_keys, make_study

from synthkit.errors import InputError, PeerError, PolicyError
from synthkit.federation.messages import TrainRequest
from synthkit.federation.refusal import RefusalCode
from synthkit_client.app import AGENT_LOG, app, make_app
from synthkit_client.flower_adapter import Task
from synthkit_client.worker import answer_with
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid
from synthkit_server.strategy import run_rounds
from synthkit_server.wire import address, pack_request

PLANTED = "patient Jane Doe"


class Tapped(LocalGrid):
    """Keeps every reply as the bytes that would cross the network."""

    def pull_messages(self, message_ids):
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

        messages = list(super().pull_messages(message_ids))
        for message in messages:
            self.tape += b"".join(part.deflate() for part in get_all_nested_objects(message).values())
        return messages

    tape = b""


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError(PLANTED)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"row 17: {PLANTED}"),
        KeyError(PLANTED),
        PolicyError(PLANTED, rule="r"),
        InputError(PLANTED, where=PLANTED, fix=PLANTED),
        type(PLANTED.replace(" ", "_"), (Exception,), {})(PLANTED),
        UnprintableError(),
        ExceptionGroup(PLANTED, [ValueError(PLANTED)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_byte_of_a_reply_holds_an_errors_text(error):
    keys = make_keys(("north", "south"))
    agents = {"north": StandIn("north", keys["north"]), "south": StandIn("south", keys["south"], error=error)}
    grid = Tapped({name: make_app(agent) for name, agent in agents.items()})
    with task_identity(run_id=1), pytest.raises(PeerError) as caught:
        run_rounds(grid, make_study(keys), make_initial(), sites=grid.sites)
    assert b"north" in grid.tape, "the tape works: an honest reply names its site"
    assert b"refusal" in grid.tape
    for word in (b"patient", b"Jane", b"Doe", b"row 17"):
        assert word not in grid.tape
        assert word.decode() not in str(caught.value)


def test_the_sites_log_has_the_place_of_an_unforeseen_error_and_not_its_text(caplog):
    key = make_keys(("south",))["south"]
    grid = LocalGrid({"south": make_app(StandIn("south", key, error=ValueError(PLANTED)))})
    with task_identity(run_id=1), pytest.raises(PeerError):
        run_rounds(grid, make_study({"south": key}), make_initial(), sites=grid.sites)
    assert "ValueError at app.py:" in caplog.text
    assert "standin.py:" in caplog.text
    assert "Jane" not in caplog.text


def test_an_error_by_flower_itself_loses_its_text_too():
    """An app that is not ours and raises: Flower makes an error of it, of which only a code is kept."""
    keys = make_keys(("north", "south"))
    foreign = ClientApp()

    @foreign.train()
    def train(message, context):
        raise ValueError(PLANTED)

    grid = Tapped({"north": make_app(StandIn("north", keys["north"])), "south": foreign})
    with task_identity(run_id=1), pytest.raises(PeerError, match="south: unreachable") as caught:
        run_rounds(grid, make_study(keys), make_initial(), sites=grid.sites)
    assert b"Jane" not in grid.tape
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("message_type", ["train.other", "query", "evaluate", "query.rows"])
def test_the_executor_answers_unknown_messages_with_a_code(message_type):
    keys = make_keys(("south",))
    agent = StandIn("south", keys["south"])
    answer = answer_with(
        make_app(agent), frozenset({"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"})
    )
    with task_identity(run_id=1):
        message = Message(RecordDict(), 2, message_type)
    reply = answer(Task(message=message, context=_context({}), bundle=b""))
    assert reply.content["refusal"]["code"] == RefusalCode.INPUT
    assert agent.asked == []


def test_a_bundle_that_is_not_on_the_allow_list_runs_nothing():
    keys = make_keys(("south",))
    agent = StandIn("south", keys["south"])
    request = TrainRequest(study_digest=make_study(keys).digest, server_round=1, weights=make_initial())
    with task_identity(run_id=1):
        message = address(pack_request(request), node_id=2, server_round=1, ttl_s=60.0)
    task = Task(message=message, context=_context({}), bundle=b"code")
    for approved in (frozenset(), frozenset({"0" * 64})):
        reply = answer_with(make_app(agent), approved)(task)
        assert dict(reply.content["refusal"]) == {"code": RefusalCode.POLICY}
    assert agent.asked == []


def test_a_node_without_a_site_folder_refuses(tmp_path):
    for config in ({}, {"site-dir": ""}, {"site-dir": 7}, {"site-dir": str(tmp_path / "missing")}):
        with task_identity(run_id=1):
            message = Message(RecordDict(), 2, "train")
        reply = app(message, _context(config))
        assert dict(reply.content["refusal"]) == {"code": RefusalCode.INPUT}


def test_the_reason_stays_in_the_sites_own_log(tmp_path):
    """A request that is not one: the coordinator reads a code, the site's folder holds the reason."""
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
    with task_identity(run_id=1):
        message = Message(RecordDict(), 2, "train")
    reply = app(message, _context({"site-dir": str(tmp_path / "south")}))
    log = (tmp_path / "south" / AGENT_LOG).read_text()
    assert "records missing or unknown" in log
    assert "records" not in json.dumps(dict(reply.content["refusal"]))
    assert (tmp_path / "south" / AGENT_LOG).stat().st_mode & 0o077 == 0
    assert not (tmp_path / "north" / AGENT_LOG).exists()


def _context(node_config):
    return Context(run_id=1, node_id=2, node_config=node_config, state=RecordDict(), run_config={})
