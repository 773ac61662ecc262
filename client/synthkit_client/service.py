"""The site's service: the node that calls out, and the process that reads rows and answers rounds.

Knows the site's folder and the digest of the one app bundle that this installation allows. Decides nothing:
each round is asked of the guard, from files. Rules kept here: one service per folder; before anything is
started the coordinator has answered through the pinned authority; a process that ended is started again, for
a coordinator may be restarted too; whatever ends the service ends every process that it started. Lines for
the operator are the site's own log, which holds no cell.

Where the node runs under another user than the process that reads rows, as a hardened unit does, this is
not used: see deploy/README.md.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from synthkit.errors import InputError, PeerError
from synthkit.federation.commands import (
    WORKER,
    free_port,
    quiet_environment,
    supernode_command,
    worker_options,
)
from synthkit.federation.processes import Children, is_service_running, only_service
from synthkit_client.enrol import NODE_KEY, NODE_SECRET
from synthkit_client.joining import AUTHORITY, KnownCoordinator, known_coordinator
from synthkit_client.papers import read_signed_policy
from synthkit_client.reach import wait_for
from synthkit_client.site_folder import SiteFolder
from synthkit_client.storage import make_private

NODE, SITE = "node", "site"

LOCK = "service.lock"

RESTART_S = (5.0, 15.0, 60.0)
"""Seconds before a process that ended is started again: the first time, the second, and from then on. A node
that was killed is taken for online for a minute, and its successor turned away as long."""

CALM_S = 120.0
"""A process that ran this long begins again with the first pause."""

POLL_S = 0.5

TOLD = ("refused", "cannot be opened")
"""Lines of the site's process that its operator sees at once; the others are in its log."""

Tell = Callable[[str], None]


def serve(folder: SiteFolder, *, bundle: str, wait_s: float, tell: Tell) -> None:
    """Answer rounds until the process is told to stop.

    Args:
        folder: The site's.
        bundle: SHA-256 of the app bundle of this installation: what runs here and nothing else.
        wait_s: Seconds in which the coordinator has to answer at the beginning.
        tell: Takes one line for the operator.

    Raises:
        InputError: The site joined no coordinator, or a service runs here already.
        PolicyError: The policy is not signed as it stands.
        LedgerError: The ledger does not verify.
        PeerError: The coordinator does not answer, or not as the one that this site joined.
    """
    coordinator = known_coordinator(folder)
    if coordinator is None:
        fix = "synthkit site join INVITATION"
        raise InputError("no coordinator yet", where=f"site {folder.name}", fix=fix)
    read_signed_policy(folder)
    folder.open_ledger()
    with only_service(folder.path / LOCK):
        reached = wait_for(coordinator.address, folder.node / AUTHORITY, wait_s=wait_s)
        if not reached.is_clock_right:
            raise PeerError("tells another time", where=coordinator.address, fix="set this machine's clock")
        logs = folder.path / "logs"
        make_private(logs)
        with Children(logs) as children:
            service = _Service(folder=folder, coordinator=coordinator, bundle=bundle, children=children)
            tell(f"{folder.name} calls {coordinator.name} at {coordinator.address}")
            service.run(tell)


@dataclass(kw_only=True, eq=False)
class _Service:
    """The two processes, and what is read of their logs."""

    folder: SiteFolder
    coordinator: KnownCoordinator
    bundle: str
    children: Children
    port: int = field(default_factory=free_port)
    started: dict[str, float] = field(default_factory=dict)
    endings: dict[str, int] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)

    def run(self, tell: Tell) -> None:
        """Start both and keep them running; ends only with an exception."""
        logs = self.folder.path / "logs"
        site, node = Tail(logs / f"{SITE}.log"), Tail(logs / f"{NODE}.log")
        ledger = Tail(self.folder.ledger_path)
        for name in (NODE, SITE):
            self._start(name)
        while True:
            time.sleep(POLL_S)
            if any("SuperNode ID" in line for line in node.new_lines()):
                tell(f"connected to {self.coordinator.name}")
            for line in ledger.new_lines():
                tell(f"ledger: {_entry_words(line)}")
            for line in site.new_lines():
                if any(word in line for word in TOLD):
                    tell(line)
            self._revive(tell)

    def _revive(self, tell: Tell) -> None:
        """Start again what ended, after a pause that grows."""
        now = time.monotonic()
        for name, code in self.children.ended().items():
            if name not in self.due:
                pause = self._pause(name, now)
                self.due[name] = now + pause
                tell(f"the {name} process ended with status {code}; again in {pause:g} s, see {name}.log")
            elif now >= self.due[name]:
                self._start(name)

    def _pause(self, name: str, now: float) -> float:
        is_calm = now - self.started[name] >= CALM_S
        count = 0 if is_calm else self.endings.get(name, 0)
        self.endings[name] = count + 1
        return RESTART_S[min(count, len(RESTART_S) - 1)]

    def _start(self, name: str) -> None:
        self.due.pop(name, None)
        self.started[name] = time.monotonic()
        home = self.folder.path / "logs" / f"flower-{name}"
        temporary = home / "tmp"
        shutil.rmtree(home, ignore_errors=True)
        make_private(home)
        make_private(temporary)
        environment = quiet_environment(home=home, temporary=temporary, has_proxies=name == NODE)
        self.children.start(name, self._command(name), environment=environment, cwd=temporary)

    def _command(self, name: str) -> tuple[str, ...]:
        site_dir = self.folder.path.resolve()
        secret = site_dir / NODE_SECRET
        if name == SITE:
            return (
                *WORKER,
                *worker_options(port=self.port, secret=secret, site_dir=site_dir, bundle=self.bundle),
            )
        return supernode_command(
            superlink=self.coordinator.address,
            authority=site_dir / "node" / AUTHORITY,
            key=site_dir / NODE_KEY,
            port=self.port,
            secret=secret,
            site_dir=site_dir,
        )


def _entry_words(line: str) -> str:
    """A ledger's new line in words. Whether it is true is asked whenever the ledger is opened, not here."""
    try:
        entry = json.loads(line)
        words = f"entry {entry['n']}, {entry['kind']}"
        if entry["kind"] == "reserve":
            words += f", round {entry['server_round']} of study {entry['study'][:12]}"
    except (ValueError, KeyError, TypeError):
        return "a line that cannot be read"
    return words


class Tail:
    """Whole lines that a file gained since the last look, beginning with its end as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> list[str]:
        """Without their line ends; an unfinished last line is left for the next look."""
        if not self._path.exists():
            return []
        self._place = min(self._place, self._path.stat().st_size)  # a crash's last line may be cut off
        with self._path.open("rb") as file:
            file.seek(self._place)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


def is_running(folder: SiteFolder) -> bool:
    """Whether a service runs in this folder."""
    return is_service_running(folder.path / LOCK)
