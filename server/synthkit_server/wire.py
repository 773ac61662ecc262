"""TrainRequest and Closing to Flower messages, Flower messages to TrainReply and receipt.

Knows the names of the records. Refuses whatever is not exactly expected: another record, another name,
another dtype or shape, or more bytes than the array needs, before the bytes are decoded. Flower's error
texts are dropped here: they are written by the other end.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from synthkit.errors import InputError
from synthkit.federation.messages import Closing, Scalar, TrainReply, TrainRequest, Weights
from synthkit.federation.refusal import SITE_CODES, RefusalCode

WEIGHTS, REQUEST, REPLY, REFUSAL = "weights", "request", "reply", "refusal"
CLOSING, RECEIPT = "closing", "receipt"

WITNESS_TYPE = f"{MessageType.QUERY}.witness"

NPY_HEADER_BYTES = 1024
"""Room for the header in front of an array's own bytes."""


def pack_request(request: TrainRequest) -> RecordDict:
    """The content of a round's message to one site, arrays in name order.

    The order is part of what a site sees: a resumed study reads its weights from a file, which has an
    order of its own, and must ask for the same bytes again.
    """
    arrays = ArrayRecord(
        {name: Array(np.asarray(a, order="C")) for name, a in sorted(request.weights.items())}
    )
    return RecordDict({WEIGHTS: arrays, REQUEST: ConfigRecord(dict(request.scalars()))})


def pack_closing(closing: Closing) -> RecordDict:
    """The content of a study's last message to one site."""
    return RecordDict({CLOSING: ConfigRecord(dict(closing.scalars()))})


def address_closing(content: RecordDict, *, node_id: int, ttl_s: float) -> Message:
    """The message for one node, which spends nothing there."""
    return Message(content, node_id, WITNESS_TYPE, ttl=ttl_s, group_id="closing")


def address(content: RecordDict, *, node_id: int, server_round: int, ttl_s: float) -> Message:
    """The message for one node. After `ttl_s` seconds nobody starts to answer it any more."""
    return Message(content, node_id, MessageType.TRAIN, ttl=ttl_s, group_id=str(server_round))


def unpack_reply(message: Message, *, like: Weights) -> TrainReply | RefusalCode:
    """What a site answered.

    Args:
        message: As received; may be an error made by the SuperLink.
        like: Arrays whose names, shapes and dtype the reply has to have.

    Raises:
        InputError: Neither a well-formed reply nor a well-formed refusal.
    """
    if message.has_error():
        return RefusalCode.UNREACHABLE
    content = message.content
    if set(content) == {REFUSAL}:
        return _refusal_code(content)
    if set(content) != {WEIGHTS, REPLY}:
        raise InputError("records missing or unknown", where="train reply")
    arrays, scalars = content[WEIGHTS], content[REPLY]
    if not isinstance(arrays, ArrayRecord) or not isinstance(scalars, ConfigRecord):
        raise InputError("a record has the wrong type", where="train reply")
    return TrainReply.from_wire(_unpack_arrays(arrays, like), _scalars(scalars))


def unpack_receipt(message: Message) -> RefusalCode | None:
    """What a site answered to a closing: nothing when it was noted, else why not.

    Raises:
        InputError: Neither a receipt nor a well-formed refusal.
    """
    if message.has_error():
        return RefusalCode.UNREACHABLE
    content = message.content
    if set(content) == {REFUSAL}:
        return _refusal_code(content)
    receipt = content[RECEIPT] if set(content) == {RECEIPT} else None
    if not isinstance(receipt, ConfigRecord) or len(receipt):
        raise InputError("records missing or unknown", where="receipt")
    return None


def _refusal_code(content: RecordDict) -> RefusalCode:
    """The code of a refusal; only codes that a site may send."""
    record = content[REFUSAL]
    code = record.get("code") if isinstance(record, ConfigRecord) and len(record) == 1 else None
    if code not in SITE_CODES:
        raise InputError("unknown refusal", where="train reply")
    return RefusalCode(code)


def _scalars(record: ConfigRecord) -> dict[str, Scalar]:
    """The record's values; a wire field is a whole number or a text and nothing else.

    Raises:
        InputError: A value has another type.
    """
    scalars: dict[str, Scalar] = {}
    for name, value in record.items():
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InputError("a field has the wrong type", where="train reply")
        scalars[name] = value
    return scalars


def _unpack_arrays(record: ArrayRecord, like: Weights) -> Weights:
    """Decode arrays that have the expected names, sizes, shapes and dtype."""
    if set(record) != set(like):
        raise InputError("array names differ from the model's", where="train reply")
    return {name: _unpack_array(record[name], expected) for name, expected in like.items()}


def _unpack_array(array: Array, expected: np.ndarray) -> np.ndarray:
    if len(array.data) > expected.nbytes + NPY_HEADER_BYTES:
        raise InputError("an array has more bytes than the model's", where="train reply")
    try:
        values = array.numpy()
    except (ValueError, TypeError, EOFError, OSError, MemoryError):
        raise InputError("an array cannot be decoded", where="train reply") from None
    if values.shape != expected.shape or values.dtype != expected.dtype:
        raise InputError("an array's shape or dtype differs from the model's", where="train reply")
    return values
