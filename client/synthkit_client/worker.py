"""A site's warm executor: one process that answers every round.

Knows the SuperNode beside it, the site's folder and which app bundles this site approved. Refuses to run
code that the coordinator sent: the bundle is hashed and compared, never unpacked; what runs is the
installed package. One process for all rounds also means that torch is imported once.

    python -m synthkit_client.worker --runtime 127.0.0.1:9094 --secret-file S --site-dir D --allow SHA256
"""

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Message
from flwr.clientapp import ClientApp

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import SynthkitError
from synthkit.federation.refusal import RefusalCode
from synthkit_client.app import app, open_agent, refusal
from synthkit_client.flower_adapter import Task, TaskSource

log = logging.getLogger("synthkit.site")

POLL_S = 0.2


def answer_with(client_app: ClientApp, approved: frozenset[str]) -> Callable[[Task], Message]:
    """How this site answers a task: with its installed app, if it approved the run's bundle.

    Args:
        client_app: The installed app.
        approved: SHA-256 digests of the bundles on this site's allow-list; an empty list allows none.
    """

    def answer(task: Task) -> Message:
        digest = sha256_hex(task.bundle)
        if digest not in approved:
            log.error("refused (policy): app bundle %s is not on the allow-list", digest)
            return refusal(task.message, RefusalCode.POLICY)
        try:
            return client_app(task.message, task.context)
        except Exception as error:
            # The app wraps its own errors; this one is Flower's, for example an unknown message type.
            log.error("refused (input): %s before the app was reached", type(error).__name__)
            return refusal(task.message, RefusalCode.INPUT)

    return answer


def serve(client_app: ClientApp, *, runtime: str, secret_file: Path, approved: frozenset[str]) -> None:
    """Answer tasks until the process is told to stop.

    Args:
        client_app: Answers each message.
        runtime: `host:port` of the SuperNode's Runtime API.
        secret_file: The secret the SuperNode was started with (`--superexec-auth-secret-file`).
        approved: SHA-256 digests of approved bundles.
    """
    source = TaskSource(runtime, secret_file)
    answer = answer_with(client_app, approved)
    try:
        while True:
            if not _serve_one(source, answer):
                time.sleep(POLL_S)
    finally:
        source.close()


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, open the site's agent and serve."""
    parser = argparse.ArgumentParser(prog="synthkit_client.worker", description="Answer training rounds.")
    parser.add_argument("--runtime", required=True, help="host:port of the SuperNode's Runtime API")
    parser.add_argument("--secret-file", required=True, type=Path, help="secret shared with the SuperNode")
    parser.add_argument("--site-dir", required=True, type=Path, help="the site's folder")
    parser.add_argument("--allow", action="append", default=[], help="SHA-256 of an approved app bundle")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _warm_up(given.site_dir)
    serve(app, runtime=given.runtime, secret_file=given.secret_file, approved=frozenset(given.allow))


def _warm_up(site_dir: Path) -> None:
    """Open the agent before the first round asks for it.

    A site that cannot be opened keeps serving: it answers with a code, and a person reads the log.
    """
    try:
        open_agent(site_dir)
    except SynthkitError as error:
        log.error("the site cannot be opened: %s", error)
    except Exception as error:
        log.error("the site cannot be opened: %s", type(error).__name__)


def _serve_one(source: TaskSource, answer: Callable[[Task], Message]) -> bool:
    """Serve one task; a SuperNode that is not there yet, or has gone, is waited for."""
    try:
        return source.serve_one(answer)
    except Exception as error:
        log.warning("no task from the SuperNode: %s", type(error).__name__)
        return False


if __name__ == "__main__":
    main()
