"""Every named point at which a site's process can be killed, and how to kill it exactly there.

A point has a scene (what the process is doing) and a trap (what is set before it does it). The trap ends
the process with SIGKILL: nothing is flushed, no handler runs. What was drawn, and what left, is noted by
the process itself as it happens, in files of its own: they are the truth that the ledger is held against.
"""

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import synthkit_client.agent as agent_module
from synthkit.privacy import ledger as ledger_module
from synthkit.privacy import rng
from synthkit.privacy.ledger import Ledger
from synthkit_client.agent import SiteAgent

Trap = Callable[[np.random.Generator], None]


def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_be_killed(action: Callable[[], None]) -> None:
    """Fork, run the action in the child, and see that SIGKILL is what ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)  # reached only where the trap did not close
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), (
        f"the process ended by itself, with status {os.waitstatus_to_exitcode(status)}"
    )
    assert os.WTERMSIG(status) == signal.SIGKILL


def note_draws(path: Path, patch) -> None:
    """Note one byte, unbuffered, for each privacy sample (s) and each draw of noise (n), from here on."""
    for name, mark in (("poisson_sample", b"s"), ("normal", b"n")):
        real = getattr(rng, name)

        def noted(*arguments, real=real, mark=mark, **options):
            with path.open("ab", buffering=0) as file:
                file.write(mark)
            return real(*arguments, **options)

        patch.setattr(rng, name, noted)


def before(owner, name: str) -> Trap:
    return lambda _rng: setattr(owner, name, die)


def after(owner, name: str, *, call: int = 1) -> Trap:
    """Die right after the `call`-th call of this function."""

    def trap(_rng):
        real, left = getattr(owner, name), [call]

        def deadly(*arguments, **options):
            found = real(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                die()
            return found

        setattr(owner, name, deadly)

    return trap


def file_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def within_write(ending: str, *, call: int = 1) -> Trap:
    """Die in the `call`-th write to the file with this ending, after some of its bytes: at least one is
    written and at least one is missing."""

    def trap(generator):
        real, left = os.write, [call]

        def deadly(descriptor, data):
            if file_of(descriptor).endswith(ending):
                left[0] -= 1
                if left[0] == 0:
                    real(descriptor, bytes(data)[: int(generator.integers(1, len(data)))])
                    die()
            return real(descriptor, data)

        os.write = deadly

    return trap


def before_sync(ending: str, *, call: int = 1) -> Trap:
    """Die when the `call`-th sync of the file with this ending is about to begin: all bytes are written."""

    def trap(_rng):
        real, left = os.fsync, [call]

        def deadly(descriptor):
            if file_of(descriptor).endswith(ending):
                left[0] -= 1
                if left[0] == 0:
                    die()
            return real(descriptor)

        os.fsync = deadly

    return trap


def around_rename(ending: str, *, done: bool, call: int = 1) -> Trap:
    """Die right before, or right after, the `call`-th file with this ending gets its name."""

    def trap(_rng):
        real, left = os.replace, [call]

        def deadly(source, target):
            left[0] -= str(target).endswith(ending)
            matches = left[0] == 0
            if matches and not done:
                die()
            real(source, target)
            if matches:
                die()

        os.replace = deadly

    return trap


def at_a_random_draw(name: str, *, most: int) -> Trap:
    """Die right after one of the first `most` calls of this source of randomness."""
    return lambda generator: after(rng, name, call=int(generator.integers(1, most + 1)))(generator)


LEDGER, STATE, REPLY, WITNESS = "ledger.jsonl", "state.safetensors", ".safetensors", "witness.json"
PARTIAL = ".partial"


@dataclass(frozen=True, kw_only=True)
class Point:
    """`reserved` and `committed`: what the ledger has to show afterwards. None: either is right, because
    the bytes were written and not yet known to be on disk."""

    scene: str
    trap: Trap
    reserved: bool | None = True
    committed: bool | None = False


POINTS = {
    "before the guard": Point(scene="round", trap=before(agent_module, "check_plan"), reserved=False),
    "before the reservation": Point(scene="round", trap=before(Ledger, "reserve"), reserved=False),
    "within the reservation's line": Point(scene="round", trap=within_write(LEDGER), reserved=False),
    "before the reservation is synced": Point(scene="round", trap=before_sync(LEDGER), reserved=None),
    "after the reservation": Point(scene="round", trap=after(Ledger, "reserve")),
    "after the first sample": Point(scene="round", trap=after(rng, "poisson_sample")),
    "between two steps": Point(scene="round", trap=after(rng, "poisson_sample", call=2)),
    "after a draw of noise": Point(scene="round", trap=at_a_random_draw("normal", most=8)),
    "after the training": Point(scene="round", trap=after(agent_module, "train")),
    "within storing the state": Point(scene="round", trap=within_write(STATE + PARTIAL)),
    "after storing the state": Point(scene="round", trap=around_rename(STATE, done=True)),
    "within storing the reply": Point(scene="round", trap=within_write(REPLY + PARTIAL, call=2)),
    "before the reply is synced": Point(scene="round", trap=before_sync(REPLY + PARTIAL, call=2)),
    "before the reply has its name": Point(scene="round", trap=around_rename(REPLY, done=False, call=2)),
    "after storing the reply": Point(scene="round", trap=before(Ledger, "commit")),
    "within the commit's line": Point(scene="round", trap=within_write(LEDGER, call=2)),
    "before the commit is synced": Point(scene="round", trap=before_sync(LEDGER, call=2), committed=None),
    "after the commit": Point(scene="round", trap=after(Ledger, "commit"), committed=True),
    "before signing": Point(scene="round", trap=before(SiteAgent, "_sign"), committed=True),
    "after signing": Point(scene="round", trap=after(SiteAgent, "_sign"), committed=True),
    "after sending": Point(scene="sent", trap=lambda _rng: None, committed=True),
    "within the prior's noise": Point(scene="prior", trap=after(rng, "normal")),
    "after fitting the prior": Point(scene="prior", trap=after(agent_module, "close")),
    "within a replay": Point(scene="replay", trap=after(SiteAgent, "_read_reply"), committed=True),
    "before the tail is cut": Point(scene="repair", trap=before(ledger_module, "cut_file")),
    "after the tail was cut": Point(scene="repair", trap=after(ledger_module, "cut_file")),
    "within the repair's line": Point(scene="repair", trap=within_write(LEDGER)),
    "before the repair is synced": Point(scene="repair", trap=before_sync(LEDGER)),
    "within storing the witness": Point(scene="witness", trap=within_write(WITNESS + PARTIAL)),
    "before the witness is synced": Point(scene="witness", trap=before_sync(WITNESS + PARTIAL)),
    "before the witness has its name": Point(scene="witness", trap=around_rename(WITNESS, done=False)),
    "after the witness has its name": Point(scene="witness", trap=around_rename(WITNESS, done=True)),
    "within noting the closing": Point(scene="closing", trap=within_write(WITNESS + PARTIAL)),
    "within the audit's line": Point(scene="audit", trap=within_write(LEDGER)),
    "before the audit entry is synced": Point(scene="audit", trap=before_sync(LEDGER)),
    "after the audit entry": Point(scene="audit", trap=after(Ledger, "record_audit")),
    "within a purchase's reservation": Point(scene="purchase", trap=within_write(LEDGER), reserved=False),
    "after a purchase's reservation": Point(scene="purchase", trap=after(Ledger, "reserve")),
    "between a purchase's mechanisms": Point(scene="purchase", trap=after(rng, "normal")),
    "after a purchase's noise": Point(scene="purchase", trap=after(rng, "normal", call=2)),
    "within storing what was bought": Point(scene="purchase", trap=within_write("schema.json" + PARTIAL)),
    "within a purchase's commit": Point(scene="purchase", trap=within_write(LEDGER, call=2)),
    "within a refund's line": Point(scene="refund", trap=within_write(LEDGER, call=2)),
}
