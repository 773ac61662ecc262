"""Replies that a coordinator must not count, each wrong in one way."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from standin import StandIn, apps_of, honest, make_initial, make_study, refusals_of

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import PeerError, PolicyError
from synthkit.federation.refusal import RefusalCode
from synthkit_client.app import make_app
from synthkit_server.flower_adapter import task_identity
from synthkit_server.local_grid import LocalGrid, run_local
from synthkit_server.strategy import RoundRules, run_rounds


def with_array(name, value):
    return lambda reply: replace(reply, weights={**reply.weights, name: value})


def without_array(reply):
    return replace(reply, weights={k: v for k, v in reply.weights.items() if k != "scale"})


HOSTILE = {
    "nan": (with_array("scale", np.array(np.nan, np.float32)), "not finite"),
    "infinity": (with_array("scale", np.array(np.inf, np.float32)), "not finite"),
    "shape": (with_array("decoder.bias", np.zeros((1, 3), np.float32)), "shape or dtype"),
    "broadcastable shape": (with_array("decoder.bias", np.zeros(1, np.float32)), "shape or dtype"),
    "double precision": (with_array("decoder.bias", np.zeros(3)), "shape or dtype"),
    "big-endian": (with_array("decoder.bias", np.zeros(3, ">f4")), "shape or dtype"),
    "integers": (with_array("decoder.bias", np.zeros(3, np.int32)), "shape or dtype"),
    "too many bytes": (with_array("decoder.bias", np.zeros(10_000, np.float32)), "more bytes"),
    "extra array": (with_array("extra", np.zeros(1, np.float32)), "array names"),
    "missing array": (without_array, "array names"),
    "huge update": (with_array("decoder.bias", np.full(3, 1e6, np.float32)), "sanity bound"),
    "overflowing update": (with_array("decoder.bias", np.full(3, 3e38, np.float32)), "sanity bound"),
    "other study": (lambda r: replace(r, study_digest=sha256_hex(b"other")), "another study"),
    "other site": (lambda r: replace(r, site="west"), "another site"),
    "stale round": (lambda r: replace(r, server_round=0), "another round"),
    "future round": (lambda r: replace(r, server_round=2), "another round"),
    "other base": (lambda r: replace(r, base_digest=sha256_hex(b"other")), "other weights"),
    "counter zero": (lambda r: replace(r, ledger_counter=0), "malformed"),
    "head is no digest": (lambda r: replace(r, ledger_head="a\nb"), "malformed"),
    "counter is text": (lambda r: replace(r, ledger_counter="7"), "wrong type"),
    "counter is a boolean": (lambda r: replace(r, ledger_counter=True), "wrong type"),
}


@pytest.mark.parametrize("defect", HOSTILE)
def test_a_well_signed_but_wrong_reply_is_rejected(keys, defect):
    tamper, reason = HOSTILE[defect]
    agents = honest(keys) | {"south": StandIn("south", keys["south"], before_signing=tamper)}
    refusals, result = refusals_of(make_study(keys, rounds=1), agents)
    assert refusals["south"].code is RefusalCode.INVALID
    assert reason in refusals["south"].detail
    assert result.rounds[0].sites == ("north", "west")
    assert all(np.isfinite(array).all() for array in result.weights.values())


SIGNATURES = {
    "missing": lambda reply: replace(reply, signature=""),
    "not hexadecimal": lambda reply: replace(reply, signature="zz" * 64),
    "of other weights": lambda reply: replace(
        reply, weights={**reply.weights, "scale": np.array(0.25, np.float32)}
    ),
    "of another counter": lambda reply: replace(reply, ledger_counter=reply.ledger_counter + 1),
}


@pytest.mark.parametrize("defect", SIGNATURES)
def test_a_reply_that_its_signature_does_not_cover_is_rejected(keys, defect):
    agents = honest(keys) | {"south": StandIn("south", keys["south"], after_signing=SIGNATURES[defect])}
    refusals, _ = refusals_of(make_study(keys, rounds=1), agents)
    assert refusals["south"].code is RefusalCode.INVALID
    assert "signature" in refusals["south"].detail


def test_another_sites_key_does_not_sign_for_this_site(keys):
    agents = honest(keys) | {"south": StandIn("south", keys["west"])}
    refusals, _ = refusals_of(make_study(keys, rounds=1), agents)
    assert "signature" in refusals["south"].detail


def test_a_valid_reply_from_another_sites_node_does_not_count(keys):
    """West's node answers with a reply that south really signed, and the other way round."""
    agents = honest(keys)
    swapped = apps_of(agents) | {"south": make_app(agents["west"]), "west": make_app(agents["south"])}
    with pytest.raises(PeerError, match=r"south: invalid .*another site.*west: invalid .*another site"):
        run_local(make_study(keys), make_initial(), swapped)


def test_a_message_that_does_not_come_from_the_asked_node_does_not_count(keys):
    class Misrouted(LocalGrid):
        def pull_messages(self, message_ids):
            messages = list(super().pull_messages(message_ids))
            for message in messages:
                if message.metadata.src_node_id == self.sites["south"]:
                    message.metadata._src_node_id = self.sites["west"]
            return messages

    grid = Misrouted(apps_of(honest(keys)))
    with task_identity(run_id=1), pytest.raises(PeerError, match=r"south: invalid .came from another node"):
        run_rounds(grid, make_study(keys), make_initial(), sites=grid.sites)


def raw_app(change):
    """A site whose app alters the records themselves, below our own packing."""

    def wrap(app):
        wrapped = ClientApp()

        @wrapped.train()
        def train(message, context):
            reply = app(message, context)
            change(reply.content)
            return Message(reply.content, reply_to=message)

        return wrapped

    return wrap


def set_record(name, record):
    return lambda content: content.__setitem__(name, record)


def claim_size(content):
    content["reply"] = ConfigRecord({**content["reply"], "num_examples": 10**9})


def lie_about_length(content):
    array = content["weights"]["decoder.bias"]
    content["weights"]["decoder.bias"] = Array(
        dtype=array.dtype, shape=array.shape, stype=array.stype, data=array.data[:-2]
    )


def pickle_array(content):
    array = content["weights"]["decoder.bias"]
    content["weights"]["decoder.bias"] = Array(
        dtype=array.dtype, shape=array.shape, stype=array.stype, data=b"\x80\x04K\x01."
    )


def giant_header(content):
    """A header that asks for far more memory than the bytes that follow."""
    array = content["weights"]["decoder.bias"]
    content["weights"]["decoder.bias"] = Array(
        dtype=array.dtype,
        shape=array.shape,
        stype=array.stype,
        data=array.data.replace(b"(3,), }        ", b"(900000000000,)}"),
    )


RAW = {
    "claimed size": claim_size,
    "a metric record": set_record("metrics", MetricRecord({"num-examples": 10**9})),
    "reply is arrays": set_record("reply", ArrayRecord()),
    "weights are scalars": set_record("weights", ConfigRecord({"a": 1})),
    "truncated array": lie_about_length,
    "pickled array": pickle_array,
    "giant header": giant_header,
    "refusal with text": set_record("refusal", ConfigRecord({"code": "policy", "text": "x"})),
}


@pytest.mark.parametrize("defect", RAW)
def test_records_that_are_not_exactly_ours_are_rejected(keys, defect):
    apps = apps_of(honest(keys))
    apps["south"] = raw_app(RAW[defect])(apps["south"])
    result = run_local(make_study(keys, rounds=1), make_initial(), apps, rules=RoundRules(min_sites=2))
    (refusal,) = result.rounds[0].refusals
    assert (refusal.site, refusal.code) == ("south", RefusalCode.INVALID)


@pytest.mark.parametrize("code", ["unheard-of", "offline", ""])
def test_a_site_cannot_say_a_code_that_is_not_a_sites(keys, code):
    def only_refuse(content):
        content.clear()
        content["refusal"] = ConfigRecord({"code": code})

    apps = apps_of(honest(keys))
    apps["south"] = raw_app(only_refuse)(apps["south"])
    result = run_local(make_study(keys, rounds=1), make_initial(), apps, rules=RoundRules(min_sites=2))
    assert result.rounds[0].refusals[0].code is RefusalCode.INVALID


def test_a_refusal_is_one_record_with_one_field(keys):
    app = make_app(StandIn("south", keys["south"], error=PolicyError("text", rule="r")))
    grid = LocalGrid({"south": app})
    with task_identity(run_id=1):
        message = Message(RecordDict(), grid.sites["south"], "train")
        (reply,) = grid.send_and_receive([message])
    assert dict(reply.content) == {"refusal": ConfigRecord({"code": "input"})}
