"""The site's Flower ClientApp: one message in, one reply, receipt or coarse code out.

Knows the record layouts and where the site's folder is. Refuses to let any text out: Flower sends
an exception's text to the coordinator, so no exception leaves this module; a refusal is a single code,
and the reason stays in `agent.log` in the site's folder. Of an unforeseen error even that log holds
only the type and the place in the code, because its text may quote a cell.
"""

import logging
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import InputError, SynthkitError
from synthkit.federation.messages import Closing, Scalar, TrainReply, TrainRequest, Weights
from synthkit.federation.refusal import RefusalCode, code_of

WEIGHTS, REQUEST, REPLY, REFUSAL = "weights", "request", "reply", "refusal"
CLOSING, RECEIPT = "closing", "receipt"

WITNESS_ACTION = "witness"
"""A closing arrives as a message of type `query.witness`."""

AGENT_LOG = "agent.log"

log = logging.getLogger("synthkit.site")


class Agent(Protocol):
    """What answers a request: guard, ledger, training. `synthkit_client.agent.SiteAgent` in production."""

    def answer(self, request: TrainRequest) -> TrainReply:
        """Train one round, or raise a SynthkitError."""

    def note(self, closing: Closing) -> None:
        """Keep the coordinator's last witness statement, or raise a SynthkitError."""


def make_app(agent: Agent) -> ClientApp:
    """A ClientApp for one agent in this process."""
    return _app_for(lambda _context: agent, lambda _context: log)


def answer_message(
    message: Message, find_agent: Callable[[], Agent], find_log: Callable[[], logging.Logger]
) -> Message:
    """Answer one message; never raises an Exception.

    Args:
        message: From the coordinator, trusted in nothing.
        find_agent: Gives the site's agent; its errors become codes as well.
        find_log: Gives the site's own log; never raises.
    """
    return _answered(message, lambda: _trained(message, find_agent), find_log)


def note_message(
    message: Message, find_agent: Callable[[], Agent], find_log: Callable[[], logging.Logger]
) -> Message:
    """Note a closing; a receipt that says nothing, or a code. Arguments as `answer_message`."""
    return _answered(message, lambda: _noted(message, find_agent), find_log)


def _answered(
    message: Message, content: Callable[[], RecordDict], find_log: Callable[[], logging.Logger]
) -> Message:
    try:
        return Message(content(), reply_to=message)
    except Exception as error:
        _log_refusal(find_log(), error)
        return refusal(message, code_of(error))


def _trained(message: Message, find_agent: Callable[[], Agent]) -> RecordDict:
    request = _unpack_request(message)
    return _pack_reply(find_agent().answer(request))


def _noted(message: Message, find_agent: Callable[[], Agent]) -> RecordDict:
    closing = _unpack_closing(message)
    find_agent().note(closing)
    return RecordDict({RECEIPT: ConfigRecord({})})


def refusal(message: Message, code: RefusalCode) -> Message:
    """The reply that says no and gives one word for it."""
    return Message(RecordDict({REFUSAL: ConfigRecord({"code": code.value})}), reply_to=message)


def open_agent(site_dir: Path) -> Agent:
    """The agent of a site's folder; opened once per process, later calls get the same one.

    Raises:
        SynthkitError: The folder cannot be used.
    """
    # Imported here because an ImportError while Flower loads this module is sent to the coordinator
    # with its text, and because `make_app` has to work without loading torch.
    from synthkit_client.agent import SiteAgent  # noqa: PLC0415

    key = site_dir.resolve()
    with _opening:
        if key not in _agents:
            _agents[key] = SiteAgent.open(key)
        return _agents[key]


_agents: dict[Path, Agent] = {}
_opening = threading.Lock()


def _app_for(
    find_agent: Callable[[Context], Agent], find_log: Callable[[Context], logging.Logger]
) -> ClientApp:
    """A ClientApp that knows two message types, `train` and `query.witness`."""
    client_app = ClientApp()

    @client_app.train()
    def train(message: Message, context: Context) -> Message:
        return answer_message(message, lambda: find_agent(context), lambda: find_log(context))

    @client_app.query(WITNESS_ACTION)
    def witness(message: Message, context: Context) -> Message:
        return note_message(message, lambda: find_agent(context), lambda: find_log(context))

    return client_app


def _site_dir(context: Context) -> Path:
    """The folder that this node's administrator configured.

    Raises:
        InputError: None is configured, or it is not there.
    """
    site_dir = context.node_config.get("site-dir")
    if not isinstance(site_dir, str) or not site_dir or not Path(site_dir).is_dir():
        raise InputError("site-dir is missing", where="node configuration", fix="start the node with it")
    return Path(site_dir).resolve()


def _unpack_request(message: Message) -> TrainRequest:
    """Rebuild the request; the agent checks what it asks.

    Raises:
        InputError: Records, names or arrays are not those of a train request.
    """
    content = message.content
    if set(content) != {WEIGHTS, REQUEST}:
        raise InputError("records missing or unknown", where="train request")
    arrays, scalars = content[WEIGHTS], content[REQUEST]
    if not isinstance(arrays, ArrayRecord) or not isinstance(scalars, ConfigRecord):
        raise InputError("a record has the wrong type", where="train request")
    return TrainRequest.from_wire(_unpack_arrays(arrays), _scalars(scalars, "train request"))


def _unpack_closing(message: Message) -> Closing:
    """Rebuild the closing; the agent checks what it states.

    Raises:
        InputError: The record is not that of a closing.
    """
    content = message.content
    record = content[CLOSING] if set(content) == {CLOSING} else None
    if not isinstance(record, ConfigRecord):
        raise InputError("records missing or unknown", where="closing")
    return Closing.from_wire(_scalars(record, "closing"))


def _scalars(record: ConfigRecord, what: str) -> dict[str, Scalar]:
    """The record's values; a wire field is a whole number or a text and nothing else.

    Raises:
        InputError: A value has another type.
    """
    scalars: dict[str, Scalar] = {}
    for name, value in record.items():
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InputError("a field has the wrong type", where=what)
        scalars[name] = value
    return scalars


def _unpack_arrays(record: ArrayRecord) -> Weights:
    """Decode float32 arrays."""
    try:
        weights = {name: array.numpy() for name, array in record.items()}
    except (ValueError, TypeError, EOFError, OSError, MemoryError):
        raise InputError("an array cannot be decoded", where="train request") from None
    if any(array.dtype != np.float32 for array in weights.values()):
        raise InputError("an array is not float32", where="train request")
    return weights


def _pack_reply(reply: TrainReply) -> RecordDict:
    """The content of an answer: the reply's arrays and its scalars, nothing else."""
    arrays = ArrayRecord({name: Array(np.asarray(a, order="C")) for name, a in reply.weights.items()})
    return RecordDict({WEIGHTS: arrays, REPLY: ConfigRecord(dict(reply.scalars()))})


def _log_refusal(site_log: logging.Logger, error: Exception) -> None:
    """Keep the reason at the site. The text of a SynthkitError carries no data by that type's rule."""
    code = code_of(error).value
    if isinstance(error, SynthkitError):
        site_log.warning("refused (%s): %s", code, error)
        return
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    site_log.error("refused (%s): %s at %s", code, type(error).__name__, places)


def _log_of(context: Context) -> logging.Logger:
    """The log in the site's own folder; where that cannot be written, the process's log."""
    try:
        path = _site_dir(context) / AGENT_LOG
        # A logger of its own for each folder: several sites may share a process in a rehearsal, and
        # one site's reasons must not reach another's folder.
        site_log = log.getChild(sha256_hex(str(path).encode())[:16])
        if not site_log.handlers:
            _log_to(site_log, path)
    except (SynthkitError, OSError):
        return log
    return site_log


def _log_to(site_log: logging.Logger, path: Path) -> None:
    """Send a log to a file that its owner alone can read."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    site_log.addHandler(handler)
    site_log.setLevel(logging.INFO)


app = _app_for(lambda context: open_agent(_site_dir(context)), _log_of)
