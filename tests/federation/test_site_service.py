"""A site's service keeps its processes running, tells what happens in plain lines, and runs once."""

import sys
import time

import pytest

from synthkit.errors import InputError
from synthkit.federation.processes import Children, is_service_running, only_service
from synthkit_client import service
from synthkit_client.joining import KnownCoordinator
from synthkit_client.service import Tail, _entry_words, _Service


class Folder:
    """As much of a site's folder as the supervisor looks at."""

    def __init__(self, path):
        self.path = path


def supervised(tmp_path, children):
    known = KnownCoordinator(name="hub", address="127.0.0.1:1", public_key="", fingerprint="")
    return _Service(folder=Folder(tmp_path), coordinator=known, bundle="", children=children)


def test_a_process_that_ends_is_started_again_after_growing_pauses(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(service, "RESTART_S", (0.05, 0.15, 0.3))
    short = (sys.executable, "-S", "-c", "print('up'); raise SystemExit(3)")
    monkeypatch.setattr(_Service, "_command", lambda *_: short)
    lines = []
    with Children(tmp_path / "logs") as children:
        running = supervised(tmp_path, children)
        running._start("node")
        deadline = time.monotonic() + 30
        while len(lines) < 4 and time.monotonic() < deadline:
            running._revive(lines.append)
            time.sleep(0.01)
        ups = (tmp_path / "logs" / "node.log").read_text().count("up")
    pauses = [line.split("again in ")[1].split(",")[0] for line in lines]
    assert pauses == ["0.05 s", "0.15 s", "0.3 s", "0.3 s"]
    assert all("the node process ended with status 3" in line for line in lines)
    assert ups == 4


def test_a_process_that_ran_for_long_begins_with_the_first_pause(tmp_path):
    with Children(tmp_path) as children:
        running = supervised(tmp_path, children)
        running.endings["node"], running.started["node"] = 2, 1000.0
        assert running._pause("node", 1000.0 + service.CALM_S) == service.RESTART_S[0]
        assert running._pause("node", 1001.0) == service.RESTART_S[1]


def test_new_lines_are_told_once_and_whole(tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    tail = Tail(path)
    assert tail.new_lines() == []
    with path.open("a") as file:
        file.write("one\ntw")
    assert tail.new_lines() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert tail.new_lines() == ["two"]
    path.write_text("bef\n")  # a ledger's torn line, cut off at its next opening
    assert tail.new_lines() == []
    with path.open("a") as file:
        file.write("three\n")
    assert tail.new_lines() == ["three"]
    assert Tail(tmp_path / "absent").new_lines() == []


def test_a_damaged_line_of_the_ledger_does_not_end_the_service():
    assert "cannot be read" in _entry_words("{")
    assert "cannot be read" in _entry_words("[1]")
    assert _entry_words('{"n": 3, "kind": "commit"}') == "entry 3, commit"


def test_one_service_runs_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("synthkit.federation.processes.LOCK_S", 0.1)
    lock = tmp_path / "service.lock"
    assert not is_service_running(lock)
    with only_service(lock):
        assert is_service_running(lock)
        with pytest.raises(InputError, match="another service"), only_service(lock):
            pass
    assert not is_service_running(lock)
