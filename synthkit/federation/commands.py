"""The command lines of a federation's processes, and the environment that each of them needs.

Knows the programs' options, as words. Refuses to start anything (`synthkit.federation.processes` does) and to
know Flower's code. Rules kept here: Flower calls home and installs packages unless told not to, so every
process is told; two processes that share a Flower home overwrite each other's bundles, so each has its own.
"""

import json
import os
import socket
import sys
import sysconfig
from pathlib import Path

from synthkit.federation.pki import ServerFiles

LOOPBACK = "127.0.0.1"

SUPERLINK = "superlink"

WORKER = (sys.executable, "-m", "synthkit_client.worker")
"""The site's executor, by command: the coordinator's package does not import the site's."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
}


def quiet_environment(*, home: Path, temporary: Path, has_proxies: bool) -> dict[str, str]:
    """Environment of one process: this one's, quiet, with its own Flower home.

    Args:
        home: The process's Flower home.
        temporary: Its TMPDIR.
        has_proxies: Whether it keeps this process's proxy settings; loopback is never sent to a proxy.
    """
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if has_proxies:
        kept = dict(os.environ)
    scripts = sysconfig.get_path("scripts")
    return {
        **kept,
        **QUIET,
        "NO_PROXY": f"{LOOPBACK},localhost",
        "no_proxy": f"{LOOPBACK},localhost",
        "FLWR_HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": os.pathsep.join((scripts, kept.get("PATH", os.defpath))),
    }


def superlink_command(*, host: str, port: int, files: ServerFiles, database: Path | None) -> tuple[str, ...]:
    """A SuperLink with TLS that admits enrolled nodes alone; without a database it remembers in memory."""
    return (
        _script("flower-superlink"),
        *("--host", host, "--port", str(port), "--enable-supernode-auth"),
        "--disable-runtime-dependency-installation",
        *("--ssl-ca-certfile", str(files.authority)),
        *("--ssl-certfile", str(files.certificate)),
        *("--ssl-keyfile", str(files.key)),
        *(("--database", str(database)) if database is not None else ()),
    )


def supernode_command(
    *, superlink: str, authority: Path, key: Path, port: int, secret: Path, site_dir: Path
) -> tuple[str, ...]:
    """A site's node: it calls out to `superlink` (host:port) and listens on loopback alone."""
    return (
        _script("flower-supernode"),
        *("--superlink", superlink, "--root-certificates", str(authority)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", LOOPBACK, "--port", str(port), "--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret)),
        *("--node-config", f"site-dir={json.dumps(str(site_dir))}"),
    )


def worker_options(*, port: int, secret: Path, site_dir: Path, bundle: str) -> tuple[str, ...]:
    """Options of a site's executor beside the node on this port; `bundle` is the digest it allows."""
    return (
        *("--runtime", f"{LOOPBACK}:{port}", "--secret-file", str(secret)),
        *("--site-dir", str(site_dir), "--allow", bundle),
    )


def free_port() -> int:
    """A port that is free now. Should another process take it first, ours ends early, which is noticed."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _script(name: str) -> str:
    """A console script of this installation."""
    return str(Path(sysconfig.get_path("scripts")) / name)
