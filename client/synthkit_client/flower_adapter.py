"""Every name of Flower's that is not public API, used by a site, in one place.

Knows how a SuperNode hands a task to a process of the site's own (`--isolation process`). The
coordinator has its own adapter: the two nodes import nothing of each other's. A contract test imports
each name below from the installed version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

ACQUIRE_TASK = "/flwr.proto.Runtime/AcquireTask"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One message for this site, with the node's own configuration and the bundle's bytes."""

    message: Message
    context: Context
    bundle: bytes


class TaskSource:
    """A SuperNode's Runtime API on loopback, opened with the secret that its administrator set."""

    def __init__(self, address: str, secret_file: Path) -> None:
        self._address = address
        proof = SuperExecAuthHttpInterceptor(
            master_secret=secret_file.read_bytes(), protected_methods={ACQUIRE_TASK}
        )
        self._client = _connect(address, proof)

    def serve_one(self, answer: Callable[[Task], Message]) -> bool:
        """Take a task if there is one and answer it; whether there was one.

        `answer` must not raise: what it raises would end this call without a reply to the coordinator.
        """
        response = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
        if not response.HasField("task") or not response.token:
            return False
        client = _connect(self._address, RuntimeTokenHttpInterceptor(response.token))
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        context, status = None, SubStatus.FAILED
        try:
            message, context, _run, fab = pull_task_input(client)
            reply = answer(Task(message=message, context=context, bundle=fab.content))
            push_message(client, reply, context)
            status = SubStatus.COMPLETED
        finally:
            push_task_output(client=client, context=context, sub_status=status, details="")
            heartbeat.stop()
            client.close()
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


def _connect(
    address: str, proof: RuntimeTokenHttpInterceptor | SuperExecAuthHttpInterceptor
) -> RuntimeHttpClient:
    """A client of the SuperNode's loopback interface, which is not encrypted."""
    return RuntimeHttpClient.from_server_address(
        address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), proof],
        retry_invoker=make_simple_http_retry_invoker(),
    )
