"""The coordinator's Flower ServerApp.

Knows the run's configuration, which holds paths and deadlines. Takes what is to be done from the signed
study alone. Which node is which site comes from the SuperLink's registrations (authenticated keys),
never from a message. Flower stores an exception's text with the run, so only SynthkitErrors, which
carry no data, leave here with a text; `failure.json` holds the same line.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from synthkit.domain.canonical import canonical_json
from synthkit.domain.study import Study
from synthkit.errors import InputError, PeerError, SynthkitError
from synthkit.release.signing import read_key
from synthkit.release.trust import TrustStore
from synthkit_server.countersign import Countersigner
from synthkit_server.result import FederationResult, RoundSummary
from synthkit_server.storage import append_line, read_weights, write_atomically
from synthkit_server.strategy import RoundRules, run_rounds
from synthkit_server.study_file import check_signer, read_study

log = logging.getLogger("synthkit.coordinator")

CHECKPOINT, PROGRESS, FAILURE = "checkpoint", "progress.jsonl", "failure.json"

ONLINE_POLL_S = 0.5

app = ServerApp()


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run's configuration, as in the bundle's `[tool.flwr.app.config]`."""

    study_file: Path
    trust: Path
    initial_file: Path
    output_dir: Path
    key_file: Path | None
    """The coordinator's key, without a passphrase; None: replies are not countersigned."""
    online_s: float
    rules: RoundRules

    @classmethod
    def from_run_config(cls, config: Mapping[str, object]) -> "RunSettings":
        """Read what Flower hands over.

        Raises:
            InputError: A path is missing or a number is out of range.
        """
        for key in ("study-file", "trust", "initial-file", "output-dir"):
            if not config.get(key):
                raise InputError(f"{key} is missing", where="run configuration", fix="give its path")
        try:
            rules = RoundRules(
                deadline_s=float(str(config["deadline-s"])),
                min_sites=int(str(config["min-sites"])) or None,
                average_last=int(str(config["average-last"])),
            )
            online_s = float(str(config["online-s"]))
        except (KeyError, ValueError):
            raise InputError("a number is missing or malformed", where="run configuration") from None
        return cls(
            study_file=Path(str(config["study-file"])),
            trust=Path(str(config["trust"])),
            initial_file=Path(str(config["initial-file"])),
            output_dir=Path(str(config["output-dir"])),
            key_file=Path(str(config["key-file"])) if config.get("key-file") else None,
            online_s=online_s,
            rules=rules,
        )


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study that the run's configuration names.

    Raises:
        SynthkitError: As `conduct`; the line is in `failure.json` too.
    """
    settings = RunSettings.from_run_config(context.run_config)
    (settings.output_dir / FAILURE).unlink(missing_ok=True)  # of an earlier attempt that this one resumes
    try:
        conduct(grid, settings)
    except SynthkitError as error:
        failure = {"error": type(error).__name__, "message": str(error)}
        write_atomically(settings.output_dir / FAILURE, canonical_json(failure))
        raise


def conduct(grid: Grid, settings: RunSettings) -> FederationResult:
    """Verify the study, wait for its sites, run its rounds and write the result.

    Raises:
        InputError: A file cannot be used, or the study has expired.
        SignatureError: The study is not signed by a trusted coordinator, or by another key.
        PeerError: Too few sites are online, or a round fell below its quorum.
    """
    trust = TrustStore.read(settings.trust)
    study = read_study(settings.study_file, trust)
    countersigner = _countersigner(settings, trust)
    initial = read_weights(settings.initial_file)
    quorum = settings.rules.quorum(study)
    sites = wait_online(grid, study, quorum=quorum, deadline_s=settings.online_s)

    def report(summary: RoundSummary) -> None:
        append_line(settings.output_dir / PROGRESS, canonical_json(summary.to_json()))

    result = run_rounds(
        grid,
        study,
        initial,
        sites=sites,
        rules=settings.rules,
        checkpoint=settings.output_dir / CHECKPOINT,
        on_round=report,
        countersigner=countersigner,
    )
    result.save(settings.output_dir)
    return result


def _countersigner(settings: RunSettings, trust: TrustStore) -> Countersigner | None:
    """With the key that signed the study, if the run has it."""
    if settings.key_file is None:
        log.warning("no key-file: the sites get no signed witness of their ledgers")
        return None
    key = read_key(settings.key_file)
    return Countersigner(key=key, name=check_signer(settings.study_file, trust, key))


def wait_online(grid: Grid, study: Study, *, quorum: int, deadline_s: float) -> dict[str, int]:
    """Node ids of the roster's sites, as soon as all are online or the deadline has passed.

    Raises:
        PeerError: Fewer than `quorum` sites are online at the deadline.
    """
    names = [site.name for site in study.roster]
    deadline = time.monotonic() + deadline_s
    while True:
        online = _online_sites(grid, names)
        if len(online) == len(names) or time.monotonic() >= deadline:
            break
        time.sleep(ONLINE_POLL_S)
    missing = [name for name in names if name not in online]
    if len(online) < quorum:
        raise PeerError(
            f"not online: {', '.join(missing)}",
            where=f"study {study.name}",
            fix="start these sites' agents, or lower min-sites",
        )
    for name in missing:
        log.warning("starting without %s", name)
    return online


def _online_sites(grid: Grid, names: list[str]) -> dict[str, int]:
    """Online nodes by registered name. A name with two online nodes is nobody's."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for node in grid.get_nodes():
        if node.name in found and node.status == "online":
            found[node.name].append(int(node.node_id))
    return {name: nodes[0] for name, nodes in found.items() if len(nodes) == 1}


def read_failure(output_dir: Path) -> str | None:
    """The line a failed run left behind."""
    try:
        document = json.loads((output_dir / FAILURE).read_bytes())
    except (OSError, ValueError):
        return None
    return str(document["message"])
