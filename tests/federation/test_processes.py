"""Children end with their block, whatever ends the block and wherever they hid."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthkit.errors import PeerError
from synthkit.federation.processes import Children

HIDER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
"""Starts a process in a session of its own, as a SuperLink starts its executor."""

BLOCK = """
import signal
# A shell that runs tests in the background makes its children deaf to SIGINT; a person's shell does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys
from pathlib import Path
from synthkit.federation.processes import Children, terminated_as_exception
import os, time
folder = Path(sys.argv[1])
with terminated_as_exception(), Children(folder) as children:
    children.start("hider", [sys.executable, "-c", sys.argv[2]], environment=os.environ, cwd=folder)
    print("up", flush=True)
    time.sleep(600)
"""


def is_running(pid):
    """Whether it runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def hidden_pid(log_dir):
    log = log_dir / "hider.log"
    return wait_for(lambda: log.exists() and log.read_text().strip())


ORPHANER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
"""
"""Ends at once, and leaves a process behind that has no parent any more."""


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, SystemExit])
def test_an_exception_ends_children_and_their_hidden_children(tmp_path, error):
    def fail_with_a_child():
        with Children(tmp_path) as children:
            children.start("hider", [sys.executable, "-c", HIDER], environment=os.environ, cwd=tmp_path)
            assert is_running(hidden_pid(tmp_path))
            children.check_alive()
            raise error

    with pytest.raises(error):
        fail_with_a_child()
    assert not is_running(hidden_pid(tmp_path))


def test_a_process_that_lost_its_parent_ends_too(tmp_path):
    with Children(tmp_path) as children:
        children.start("hider", [sys.executable, "-c", ORPHANER], environment=os.environ, cwd=tmp_path)
        wait_for(lambda: children._children["hider"].poll() is not None)
        assert is_running(hidden_pid(tmp_path))
    assert not is_running(hidden_pid(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_children_and_their_hidden_children(tmp_path, number):
    block = subprocess.Popen([sys.executable, "-c", BLOCK, str(tmp_path), HIDER], stderr=subprocess.DEVNULL)
    try:
        pid = hidden_pid(tmp_path)
        assert is_running(pid)
        block.send_signal(number)
        assert block.wait(15) != 0
        wait_for(lambda: not is_running(pid))
    finally:
        block.kill()
        block.wait()


def test_a_child_that_ignores_sigterm_ends_too(tmp_path, monkeypatch):
    monkeypatch.setattr("synthkit.federation.processes.GRACE_S", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    with Children(tmp_path) as children:
        command = [sys.executable, "-c", f"{deaf}; time.sleep(600)"]
        children.start("deaf", command, environment=os.environ, cwd=tmp_path)
        wait_for(lambda: "deaf" in (tmp_path / "deaf.log").read_text())
        pid = children._children["deaf"].pid
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("is_quotable", "words"), [(True, r"\(no such port\)"), (False, r"\(see node-west\.log\)")]
)
def test_a_dead_child_is_named_and_its_log_quoted_only_if_allowed(tmp_path, is_quotable, words):
    with Children(tmp_path) as children:
        command = [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"]
        children.start("node-west", command, environment=os.environ, cwd=tmp_path, is_quotable=is_quotable)
        wait_for(lambda: children._children["node-west"].poll() is not None)
        with pytest.raises(PeerError, match=f"node-west: ended with status 3 {words}"):
            children.check_alive()
