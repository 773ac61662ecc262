"""A whole federation on loopback: SuperLink, SuperNodes, TLS, authenticated nodes, real processes.

Knows folders of sites and the signed study. What it rehearses is production's route: the code-free
bundle, one warm executor per site that checks the bundle's digest, one private Flower home per process,
telemetry, update check and run-time installation off. Refuses to leave anything behind: all files are in
the work folder, keys are removed and all processes end with the call, and no connection goes further
than 127.0.0.1.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import InputError
from synthkit.federation.commands import (
    LOOPBACK,
    SUPERLINK,
    WORKER,
    free_port,
    quiet_environment,
    supernode_command,
    worker_options,
)
from synthkit.federation.pki import ServerFiles, create_authority, create_node_key, create_server_certificate
from synthkit.federation.processes import Children, terminated_as_exception
from synthkit.release.trust import TrustStore
from synthkit_server.bundle import build_bundle
from synthkit_server.result import FederationResult, RoundSummary
from synthkit_server.strategy import RoundRules
from synthkit_server.study_file import read_study
from synthkit_server.superlink import START_S, SuperLink, follow_run, run_config, start_superlink


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
        return quiet_environment(home=self.homes / process, temporary=self.temporary, has_proxies=False)


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
    config = run_config(
        study_file=study_file, trust=trust, initial=initial, output=folders.output, key=key, rules=rules
    )
    with terminated_as_exception(), ExitStack() as stack:
        stack.callback(folders.forget_secrets)
        children = stack.enter_context(Children(folders.logs))
        rehearsal = _Rehearsal(folders=folders, children=children, bundle=build_bundle(), worker=worker)
        link, certificates = rehearsal.start_superlink()
        rehearsal.start_workers_and_nodes(site_dirs, link, certificates)
        with closing(link.control()) as control:
            return follow_run(
                control,
                children,
                rehearsal.bundle,
                config,
                output=folders.output,
                progress=progress or (lambda _summary: None),
                limit_s=START_S + study.plan.server_rounds * (rules.deadline_s + START_S),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rehearsal:
    """The running parts."""

    folders: WorkFolders
    children: Children
    bundle: bytes
    worker: Sequence[str]

    def start_superlink(self) -> tuple[SuperLink, ServerFiles]:
        """Start the SuperLink and wait until it answers."""
        authority = create_authority(self.folders.pki, days=2)
        files = create_server_certificate(self.folders.pki, authority, days=2)
        link = start_superlink(
            self.children,
            files,
            host=LOOPBACK,
            port=free_port(),
            environment=self._environment(SUPERLINK),
            cwd=self.folders.temporary,
        )
        return link, files

    def start_workers_and_nodes(
        self, site_dirs: Mapping[str, Path], link: SuperLink, files: ServerFiles
    ) -> None:
        """Enrol each site's node key under the site's name and start its node and executor."""
        with closing(link.control()) as control:
            for site, site_dir in site_dirs.items():
                key = self.folders.pki / f"node-{site}"
                control.register_node(site, create_node_key(key))
                self._start_site(site, site_dir.resolve(), f"{LOOPBACK}:{link.port}", files, key)

    def _start_site(self, site: str, site_dir: Path, address: str, files: ServerFiles, key: Path) -> None:
        port = free_port()
        secret = self.folders.pki / f"node-{site}.secret"
        secret.touch(mode=0o600)
        secret.write_bytes(secrets.token_bytes(32))
        node = supernode_command(
            superlink=address,
            authority=files.authority,
            key=key,
            port=port,
            secret=secret,
            site_dir=site_dir,
        )
        bundle = sha256_hex(self.bundle)
        options = worker_options(port=port, secret=secret, site_dir=site_dir, bundle=bundle)
        self._start(f"node-{site}", *node)
        self._start(f"site-{site}", *self.worker, *options)

    def _start(self, name: str, *command: str) -> None:
        environment = self._environment(name)
        self.children.start(name, command, environment=environment, cwd=self.folders.temporary)

    def _environment(self, name: str) -> dict[str, str]:
        (self.folders.homes / name).mkdir(mode=0o700)
        return self.folders.environment(name)
