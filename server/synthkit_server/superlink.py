"""A SuperLink as a child process: start it, wait for it, follow a run in it.

Knows a command, a health page over TLS and a run's files. What `synthkit federate --processes` rehearses and
what a coordinator's service runs are these same functions. Rule kept here: a run's own files decide how it
ended; Flower's `completed` only says that nothing was raised.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synthkit.errors import PeerError
from synthkit.federation.commands import LOOPBACK, SUPERLINK, superlink_command
from synthkit.federation.pki import ServerFiles
from synthkit.federation.processes import Children
from synthkit_server.app import PROGRESS, read_failure
from synthkit_server.flower_adapter import ConfigValue, ControlClient
from synthkit_server.result import RESULT_JSON, FederationResult, RoundSummary
from synthkit_server.strategy import RoundRules

START_S = 60.0
"""Seconds that a SuperLink has to answer, and that a run waits for the nodes that it was begun with."""

POLL_S = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class SuperLink:
    """A running one, reached from this machine. It ends with its `Children`."""

    children: Children
    port: int
    authority: Path

    def control(self) -> ControlClient:
        """Its Control API. Close it before the SuperLink is stopped."""
        return ControlClient(f"{LOOPBACK}:{self.port}", root_certificate=self.authority.read_bytes())


def start_superlink(
    children: Children,
    files: ServerFiles,
    *,
    host: str,
    port: int,
    environment: Mapping[str, str],
    cwd: Path,
    database: Path | None = None,
) -> SuperLink:
    """Start a SuperLink and return as soon as it answers over TLS.

    Raises:
        PeerError: It ended, or did not answer in time.
    """
    command = superlink_command(host=host, port=port, files=files, database=database)
    children.start(SUPERLINK, command, environment=environment, cwd=cwd, is_quotable=True)
    context = ssl.create_default_context(cafile=str(files.authority))
    deadline = time.monotonic() + START_S
    while not _is_healthy(port, context):
        children.check_alive()
        if time.monotonic() > deadline:
            raise PeerError("does not answer", where=SUPERLINK, fix=children.last_words(SUPERLINK))
        time.sleep(POLL_S)
    return SuperLink(children=children, port=port, authority=files.authority)


def run_config(
    *, study_file: Path, trust: Path, initial: Path, output: Path, key: Path | None, rules: RoundRules
) -> dict[str, ConfigValue]:
    """One run's configuration, as `synthkit_server.app.RunSettings` reads it; the app has its own folder."""
    return {
        "study-file": str(study_file.resolve()),
        "trust": str(trust.resolve()),
        "initial-file": str(initial.resolve()),
        "output-dir": str(output.resolve()),
        "key-file": str(key.resolve()) if key else "",
        "deadline-s": float(rules.deadline_s),
        "online-s": START_S,
        "min-sites": rules.min_sites or 0,
        "average-last": rules.average_last,
    }


def follow_run(
    control: ControlClient,
    children: Children,
    bundle: bytes,
    config: Mapping[str, ConfigValue],
    *,
    output: Path,
    progress: Callable[[RoundSummary], None],
    limit_s: float,
    poll_s: float = POLL_S,
) -> FederationResult:
    """Submit a run, report the rounds that it finishes from now on, and read its result.

    Each look, `poll_s` seconds apart, is a line in the SuperLink's log.

    Raises:
        PeerError: A process died, the run did not end in time, or it failed.
    """
    deadline = time.monotonic() + limit_s
    told = len(read_progress(output))
    run_id = control.start_run(bundle, config)
    while True:
        children.check_alive()
        state = control.run_state(run_id)
        summaries = read_progress(output)
        for summary in summaries[told:]:
            progress(summary)
        told = len(summaries)
        if state.is_finished:
            return _result(output, state.summary)
        if time.monotonic() > deadline:
            raise PeerError("the run did not end in time", where=SUPERLINK)
        time.sleep(poll_s)


def read_progress(output: Path) -> list[RoundSummary]:
    """Rounds reported so far; an unfinished last line is left for the next look."""
    path = output / PROGRESS
    content = path.read_bytes() if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return [RoundSummary.from_json(json.loads(line)) for line in lines]


def _result(output: Path, summary: str) -> FederationResult:
    failure = read_failure(output)
    if failure is not None:
        raise PeerError(failure)
    if not (output / RESULT_JSON).exists():
        raise PeerError(f"the run ended without a result ({summary})", where=SUPERLINK)
    return FederationResult.load(output)


def _is_healthy(port: int, context: ssl.SSLContext) -> bool:
    """Whether the SuperLink answers, over TLS with the pinned authority."""
    connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=2.0, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
