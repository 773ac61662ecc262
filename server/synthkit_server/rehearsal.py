"""A whole federation on loopback: SuperLink, SuperNodes, TLS, authenticated nodes, real processes.

Knows folders of sites and the signed study. What it rehearses is production's route: the code-free
bundle, one warm executor per site that checks the bundle's digest, one private Flower home per process,
telemetry, update check and run-time installation off. Refuses to leave anything behind: all files are in
the work folder, keys are removed and all processes end with the call, and no connection goes further
than 127.0.0.1.
"""

import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import InputError, PeerError
from synthkit.federation.pki import ServerFiles, create_authority, create_node_key, create_server_certificate
from synthkit.release.trust import TrustStore
from synthkit_server.app import PROGRESS, read_failure
from synthkit_server.bundle import build_bundle
from synthkit_server.flower_adapter import ConfigValue, ControlClient
from synthkit_server.processes import Children, terminated_as_exception
from synthkit_server.result import RESULT_JSON, FederationResult, RoundSummary
from synthkit_server.strategy import RoundRules
from synthkit_server.study_file import read_study

HOST = "127.0.0.1"

SUPERLINK = "superlink"

START_S = 60.0
"""Seconds that a SuperLink has to answer, and nodes to come online."""

POLL_S = 0.25

WORKER = (sys.executable, "-m", "synthkit_client.worker")
"""The site's executor, by command: this package does not import the other node."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "NO_PROXY": f"{HOST},localhost",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment of every process: Flower calls home and installs packages unless told not to."""


@dataclass(frozen=True, kw_only=True)
class WorkFolders:
    """Where a rehearsal keeps its files, all below one folder."""

    root: Path

    def __post_init__(self) -> None:
        for folder in (self.pki, self.logs, self.homes, self.temporary, self.output):
            folder.mkdir(parents=True, exist_ok=False, mode=0o700)

    @property
    def pki(self) -> Path:
        """Certificates, node keys and executor secrets."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """Output of each process."""
        return self.root / "logs"

    @property
    def homes(self) -> Path:
        """One Flower home per process: two processes that share one overwrite each other's bundles."""
        return self.root / "homes"

    @property
    def temporary(self) -> Path:
        """TMPDIR of every process."""
        return self.root / "tmp"

    @property
    def output(self) -> Path:
        """Result, progress, checkpoint and mirror."""
        return self.root / "output"

    def forget_secrets(self) -> None:
        """Remove keys, installed bundles and temporary files; logs and output stay."""
        for folder in (self.pki, self.homes, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)

    def environment(self, process: str) -> dict[str, str]:
        """Environment of one process: this one's without proxies, quiet, with its own Flower home."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        scripts = sysconfig.get_path("scripts")
        return {
            **kept,
            **QUIET,
            "FLWR_HOME": str(self.homes / process),
            "TMPDIR": str(self.temporary),
            "PATH": os.pathsep.join((scripts, kept.get("PATH", os.defpath))),
        }


def run_processes(
    study_file: Path,
    initial: Path,
    site_dirs: Mapping[str, Path],
    work_dir: Path,
    *,
    trust: Path,
    key: Path | None = None,
    rules: RoundRules | None = None,
    progress: Callable[[RoundSummary], None] | None = None,
    worker: Sequence[str] = WORKER,
) -> FederationResult:
    """Run a signed study over real processes on this machine.

    Args:
        study_file: Envelope of kind `study`.
        initial: Weights that the first round starts from, safetensors.
        site_dirs: One folder by site name, exactly the roster's.
        work_dir: New or empty folder; everything this run writes is below it, except what each site
            writes in its own folder.
        trust: Trusted keys, a file or a folder.
        key: The key that signed the study, to countersign the sites' ledgers; None: nobody does.
        rules: Deadline, quorum and averaging.
        progress: Told of each finished round.
        worker: Command that starts a site's executor.

    Raises:
        InputError: A file cannot be used, or the folders are not the roster's.
        SignatureError: The study is not signed by a trusted coordinator, or by another key.
        PeerError: A process died, a site did not come online, or a round fell below its quorum.
    """
    study = read_study(study_file, TrustStore.read(trust))
    if set(site_dirs) != {site.name for site in study.roster}:
        raise InputError("the sites' folders are not the roster's", where=f"study {study.name}")
    try:
        folders = WorkFolders(root=work_dir.resolve())
    except FileExistsError:
        raise InputError("the work folder is in use", where=work_dir.name, fix="give a new one") from None
    rules = rules or RoundRules()
    config: dict[str, ConfigValue] = {
        "study-file": str(study_file.resolve()),
        "trust": str(trust.resolve()),
        "initial-file": str(initial.resolve()),
        "output-dir": str(folders.output),
        "key-file": str(key.resolve()) if key else "",
        "deadline-s": float(rules.deadline_s),
        "online-s": START_S,
        "min-sites": rules.min_sites or 0,
        "average-last": rules.average_last,
    }
    with terminated_as_exception(), ExitStack() as stack:
        stack.callback(folders.forget_secrets)
        children = stack.enter_context(Children(folders.logs))
        rehearsal = _Rehearsal(folders=folders, children=children, bundle=build_bundle(), worker=worker)
        address, certificates = rehearsal.start_superlink()
        rehearsal.start_workers_and_nodes(site_dirs, address, certificates)
        limit = START_S + study.plan.server_rounds * (rules.deadline_s + START_S)
        return rehearsal.run(address, certificates, config, progress or (lambda _summary: None), limit)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rehearsal:
    """The running parts."""

    folders: WorkFolders
    children: Children
    bundle: bytes
    worker: Sequence[str]

    def start_superlink(self) -> tuple[str, ServerFiles]:
        """Start the SuperLink and wait until it answers; its address and certificates."""
        authority = create_authority(self.folders.pki, days=2)
        files = create_server_certificate(self.folders.pki, authority, days=2)
        port = _free_port()
        arguments = ("--host", HOST, "--port", str(port), "--enable-supernode-auth")
        certificates = (
            *("--ssl-ca-certfile", str(files.authority)),
            *("--ssl-certfile", str(files.certificate)),
            *("--ssl-keyfile", str(files.key)),
        )
        self._start(SUPERLINK, _script("flower-superlink"), *arguments, *certificates)
        self._wait_healthy(port, files.authority)
        return f"{HOST}:{port}", files

    def start_workers_and_nodes(
        self, site_dirs: Mapping[str, Path], address: str, files: ServerFiles
    ) -> None:
        """Enrol each site's node key under the site's name and start its node and executor."""
        with closing(ControlClient(address, root_certificate=files.authority.read_bytes())) as control:
            for site, site_dir in site_dirs.items():
                key = self.folders.pki / f"node-{site}"
                control.register_node(site, create_node_key(key))
                self._start_site(site, site_dir.resolve(), address, key)

    def _start_site(self, site: str, site_dir: Path, address: str, key: Path) -> None:
        runtime_port = _free_port()
        secret = self.folders.pki / f"node-{site}.secret"
        secret.touch(mode=0o600)
        secret.write_bytes(secrets.token_bytes(32))
        self._start(
            f"node-{site}",
            _script("flower-supernode"),
            *("--superlink", address, "--root-certificates", str(self.folders.pki / "ca.pem")),
            *("--auth-supernode-private-key", str(key)),
            *("--host", HOST, "--port", str(runtime_port), "--isolation", "process"),
            *("--superexec-auth-secret-file", str(secret)),
            *("--node-config", f"site-dir={json.dumps(str(site_dir))}"),
        )
        self._start(
            f"site-{site}",
            *self.worker,
            *("--runtime", f"{HOST}:{runtime_port}", "--secret-file", str(secret)),
            *("--site-dir", str(site_dir), "--allow", sha256_hex(self.bundle)),
        )

    def run(
        self,
        address: str,
        files: ServerFiles,
        config: Mapping[str, ConfigValue],
        progress: Callable[[RoundSummary], None],
        limit_s: float,
    ) -> FederationResult:
        """Submit the run, report its rounds, and read its result."""
        deadline = time.monotonic() + limit_s
        told = 0
        with closing(ControlClient(address, root_certificate=files.authority.read_bytes())) as control:
            run_id = control.start_run(self.bundle, config)
            while True:
                self.children.check_alive()
                state = control.run_state(run_id)
                summaries = _read_progress(self.folders.output / PROGRESS)
                for summary in summaries[told:]:
                    progress(summary)
                told = len(summaries)
                if state.is_finished:
                    break
                if time.monotonic() > deadline:
                    raise PeerError("the run did not end in time", where="rehearsal")
                time.sleep(POLL_S)
        return self._result(state.summary)

    def _result(self, summary: str) -> FederationResult:
        """The run's own files decide: Flower's `completed` only says that nothing was raised."""
        failure = read_failure(self.folders.output)
        if failure is not None:
            raise PeerError(failure)
        if not (self.folders.output / RESULT_JSON).exists():
            raise PeerError(f"the run ended without a result ({summary})", where="rehearsal")
        return FederationResult.load(self.folders.output)

    def _start(self, name: str, *command: str) -> None:
        (self.folders.homes / name).mkdir(mode=0o700)
        self.children.start(
            name,
            command,
            environment=self.folders.environment(name),
            cwd=self.folders.temporary,
            is_quotable=name == SUPERLINK,
        )

    def _wait_healthy(self, port: int, authority: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        deadline = time.monotonic() + START_S
        while not _is_healthy(port, context):
            self.children.check_alive()
            if time.monotonic() > deadline:
                raise PeerError("does not answer", where=SUPERLINK, fix=self.children.last_words(SUPERLINK))
            time.sleep(POLL_S)


def _is_healthy(port: int, context: ssl.SSLContext) -> bool:
    """Whether the SuperLink answers, over TLS with the pinned authority."""
    connection = http.client.HTTPSConnection(HOST, port, timeout=2.0, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _read_progress(path: Path) -> list[RoundSummary]:
    """Rounds reported so far; an unfinished last line is left for the next look."""
    content = path.read_bytes() if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return [RoundSummary.from_json(json.loads(line)) for line in lines]


def _free_port() -> int:
    """A port that is free now. Should another process take it first, ours ends early, which is noticed."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _script(name: str) -> str:
    """A console script of this installation."""
    return str(Path(sysconfig.get_path("scripts")) / name)
