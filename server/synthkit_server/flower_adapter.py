"""Every name of Flower's that is not public API, used by the coordinator, in one place.

Flower 1.41 keeps `flwr.app`, `flwr.serverapp` and `flwr.clientapp` stable; the rest may move with any
release. A contract test imports each name below from the installed version, so that an upgrade fails
there and not in a hospital. Nothing else in this package imports from `flwr` outside those three.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from flwr.app import Message
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "SUPERLINK_NODE_ID",
    "ConfigValue",
    "ControlClient",
    "NodeInfo",
    "Run",
    "RunState",
    "build_bundle_bytes",
    "empty_run",
    "online_node",
    "send_through_wire",
    "task_identity",
]

ConfigValue = bool | int | float | str

SUPERLINK_NODE_ID = 1


def empty_run(run_id: int) -> Run:
    """A Run that nobody stored, for a Grid without a SuperLink."""
    return Run.create_empty(run_id)


def online_node(node_id: int, name: str) -> NodeInfo:
    """A node as a SuperLink lists it."""
    return NodeInfo(node_id=node_id, name=name, status="online")


@contextmanager
def task_identity(*, run_id: int, node_id: int = SUPERLINK_NODE_ID, task_id: int = 1) -> Iterator[None]:
    """Give this process the identity that new instruction messages carry; restore the old one after.

    It is global to the process. Replies do not use it, so sites may answer in several threads.
    """
    old = (TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id
    try:
        yield
    finally:
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = old


def send_through_wire(message: Message) -> tuple[Message, int]:
    """Serialise a message and read it back, as a SuperLink would; also the number of bytes."""
    message_id = message.object_id
    contents = {key: nested.deflate() for key, nested in get_all_nested_objects(message).items()}
    size = sum(len(part) for part in contents.values())  # before Flower empties the mapping
    received = cast(Message, inflate_object_from_contents(message_id, contents))
    received.metadata.__dict__["_message_id"] = message_id
    return received, size


def build_bundle_bytes(files: Mapping[str, bytes]) -> bytes:
    """A Flower app bundle from these files; equal files give equal bytes."""
    content: bytes = build_fab_from_files(dict(files))[0]
    return content


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run's state as the SuperLink reports it."""

    is_finished: bool
    summary: str


class ControlClient:
    """The SuperLink's Control API, called from this process.

    Close it before the SuperLink is stopped: an open connection delays its shutdown.
    """

    def __init__(self, address: str, *, root_certificate: bytes) -> None:
        with _without_proxies():
            self._client = ControlHttpClient.from_server_address(
                address,
                insecure=False,
                root_certificates=root_certificate,
                interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
            )

    def register_node(self, name: str, public_key: bytes) -> int:
        """Enrol a SuperNode's public key (PEM) under a site's name; its node id."""
        return int(self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Every node that is enrolled, with its name, public key (PEM) and status."""
        return tuple(self._client.ListNodes(ListNodesRequest()).nodes_info)

    def unregister_node(self, node_id: int) -> None:
        """Forget a node: it is no longer let in. Its key can never be enrolled again."""
        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start_run(self, bundle: bytes, config: Mapping[str, ConfigValue]) -> int:
        """Submit a bundle with these overrides of its configuration; the run's id."""
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config)))
        return int(self._client.StartRun(request).run_id)

    def run_state(self, run_id: int) -> RunState:
        """Where a run stands."""
        runs = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict
        status = runs[run_id].status
        return RunState(
            is_finished=status.status == "finished", summary=f"{status.status}:{status.sub_status}"
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Hide proxy settings while a loopback client is made: it would send even 127.0.0.1 there."""
    names = [name for name in os.environ if name.lower().endswith("_proxy")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
