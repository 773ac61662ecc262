"""The same rounds in this process: a Grid that calls ClientApps itself.

Knows the apps it was handed, by site name. Shares nothing with them by reference: every message is
serialised to bytes and read back, in both directions, so what works here works over a network. An
exception of a ClientApp arrives as an error without its text.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from synthkit.domain.study import Study
from synthkit.errors import InputError
from synthkit.federation.messages import Weights
from synthkit_server.countersign import Countersigner
from synthkit_server.flower_adapter import (
    SUPERLINK_NODE_ID,
    NodeInfo,
    Run,
    empty_run,
    online_node,
    send_through_wire,
    task_identity,
)
from synthkit_server.result import FederationResult
from synthkit_server.strategy import OnRound, RoundRules, run_rounds

RUN_ID = 1

CLIENT_APP_RAISED = 2
"""Flower's error code for an exception inside a ClientApp."""


class LocalGrid(Grid):
    """A Grid over ClientApps in this process.

    Args:
        apps: One ClientApp by site name.
        node_configs: What each node's administrator set, by site name.
        workers: Sites that answer at the same time, each in its own thread.

    `bytes_down` and `bytes_up` count serialised bytes from and to the coordinator.
    """

    def __init__(
        self,
        apps: Mapping[str, ClientApp],
        *,
        node_configs: Mapping[str, Mapping[str, str]] | None = None,
        workers: int = 1,
    ) -> None:
        self.sites = {name: SUPERLINK_NODE_ID + 1 + index for index, name in enumerate(apps)}
        self.bytes_down = 0
        self.bytes_up = 0
        configs = node_configs or {}
        self._apps = {self.sites[name]: app for name, app in apps.items()}
        self._configs = {self.sites[name]: dict(configs.get(name, {})) for name in apps}
        self._states = {node_id: RecordDict() for node_id in self._apps}
        self._replies: dict[str, Message] = {}
        self._run = empty_run(RUN_ID)
        self._workers = workers

    def set_run(self, run: Run) -> None:
        """Flower's contract; the run of this Grid never changes anything here."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description, empty but for its id."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's contract; the round loop makes its messages itself."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; they are always online."""
        return list(self._apps)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes, under their sites' names."""
        return [online_node(node_id, name) for name, node_id in self.sites.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep the reply; the ids of the messages, in their order."""
        received = [send_through_wire(message) for message in messages]
        self.bytes_down += sum(size for _, size in received)
        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            replies = list(pool.map(self._answer, (message for message, _ in received)))
        ids = [str(message.metadata.message_id) for message, _ in received]
        for message_id, reply in zip(ids, replies, strict=True):
            self._replies[message_id], size = send_through_wire(reply)
            self.bytes_up += size
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to these messages, each handed out once."""
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Flower's contract; replies are there at once, so `timeout` has nothing to bound."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        node_id = message.metadata.dst_node_id
        context = Context(
            run_id=RUN_ID,
            node_id=node_id,
            node_config=dict(self._configs[node_id]),
            state=self._states[node_id],
            run_config={},
        )
        try:
            return self._apps[node_id](message, context)
        except Exception as error:
            return Message(Error(code=CLIENT_APP_RAISED, reason=type(error).__name__), reply_to=message)


def run_local(
    study: Study,
    initial: Weights,
    apps: Mapping[str, ClientApp],
    *,
    site_dirs: Mapping[str, Path] | None = None,
    rules: RoundRules | None = None,
    checkpoint: Path | None = None,
    on_round: OnRound | None = None,
    workers: int = 1,
    countersigner: Countersigner | None = None,
) -> FederationResult:
    """Run a study in this process.

    Args:
        study: Approved and verified by the caller.
        initial: float32 arrays that the first round starts from.
        apps: One ClientApp by site name, from `synthkit_client.app`: `app`, or `make_app(agent)`.
        site_dirs: Each site's folder, handed to its app as node configuration `site-dir`.
        rules: As in `run_rounds`.
        checkpoint: As in `run_rounds`.
        on_round: As in `run_rounds`.
        workers: Sites that train at the same time, each in its own thread.
        countersigner: As in `run_rounds`.

    Raises:
        InputError: An app is for a site that is not on the roster, or as `run_rounds`.
        PeerError: A round had fewer usable replies than the quorum.
    """
    strangers = set(apps) - {site.name for site in study.roster}
    if strangers:
        raise InputError(f"not on the roster: {', '.join(sorted(strangers))}", where=f"study {study.name}")
    configs = {name: {"site-dir": str(path)} for name, path in (site_dirs or {}).items()}
    grid = LocalGrid(apps, node_configs=configs, workers=workers)
    with task_identity(run_id=RUN_ID):
        return run_rounds(
            grid,
            study,
            initial,
            sites=grid.sites,
            rules=rules,
            checkpoint=checkpoint,
            on_round=on_round,
            countersigner=countersigner,
        )
