"""A study across a coordinator and three hospitals, each in a folder and processes of its own, by commands.

One round is asked for over a real SuperLink with TLS and node keys: by a coordinator that nobody comes to, by
one that ends because a hospital has not decided, and by its successor, to whom the hospitals come back.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthkit.cli.main import run
from synthkit.data.bundled import example
from synthkit.domain.documents import schema_to_toml
from synthkit.privacy.ledger import verify_ledger
from synthkit.release.signing import TrustStore, open_document
from synthkit.training.artefact import load_model

pytestmark = pytest.mark.slow

HOSPITALS = ("cleveland", "hungarian", "va")
PROGRAM = (sys.executable, "-c", "import sys; from synthkit.cli.main import run; sys.exit(run())")
POLICY = (Path(__file__).parents[2] / "policies" / "demo.toml").read_text("utf-8")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The folder that everything lies in; whatever still runs there afterwards is ended and was a fault."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "policy.toml").write_text(POLICY.replace('"demo-patients"', '"heart-patients"'))
    (tmp_path / "schema.toml").write_text(schema_to_toml(example("heart").schema))
    yield tmp_path
    left = processes_in(tmp_path)
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert left == []


def processes_in(folder):
    """Processes that work in this folder, or name it in their command or their environment's TMPDIR."""
    found, mark = [], str(folder).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            place = os.readlink(entry / "cwd").encode()
        except OSError:
            continue
        if mark in words or mark in place:
            found.append(int(entry.name))
    return found


def synthkit(*words, code=0):
    """One command that ends by itself, in this process; its JSON, if it was asked for."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        ended = run(list(words))
    assert ended == code, f"{words}: {err.getvalue()}"
    return json.loads(out.getvalue()) if "--json" in words else out.getvalue() + err.getvalue()


def start(name, *words):
    with Path(f"{name}.out").open("wb") as output:
        return subprocess.Popen([*PROGRAM, *words], stdout=output, stderr=subprocess.STDOUT)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def enrol_all():
    address = f"127.0.0.1:{free_port()}"
    hub = synthkit("coordinator", "init", "hub", "--address", address, "--listen", address, "--json")
    for name in HOSPITALS:
        given = ("--declared-size", "150", "--table", "patients.csv.gz", "--policy", "policy.toml")
        synthkit("site", "init", name, "--name", name, *given)
        shutil.copyfile(example("heart").sites[name], Path(name) / "patients.csv.gz")
        synthkit("coordinator", "invite", name, "--folder", "hub")
        told = ("--fingerprint", hub["fingerprint"])
        synthkit("site", "join", f"{name}.invitation.json", "--folder", name, *told)
        synthkit("coordinator", "enrol", f"{name}.request.json", "--folder", "hub")


def hand_in_study():
    sites = [word for name in HOSPITALS for word in ("--site", name)]
    given = ("--schema", "schema.toml", "--epsilon", "2", "--coordinator", "hub", "--policy", "policy.toml")
    synthkit("study", "draft", *given, *sites, "-o", "study.toml")
    signed = synthkit("study", "sign", "study.toml", "--coordinator", "hub", "--json")
    synthkit("study", "submit", "study.json", "--to", "hub")
    return signed["digest"]


def test_from_two_folders_that_know_nothing_of_each_other_to_one_model(world):
    enrol_all()
    digest = hand_in_study()
    for name in ("cleveland", "hungarian"):
        synthkit("site", "approve", "study.json", "--folder", name)

    alone = synthkit("coordinator", "run", "--folder", "hub", "--wait", "0", code=7)
    assert "not online after 0 s: cleveland, hungarian, va" in alone
    assert processes_in(world) == []

    hub = start("hub", "coordinator", "run", "--folder", "hub", "--wait", "120")
    services = [start(name, "site", "run", "--folder", name, "--wait", "120") for name in HOSPITALS]
    assert hub.wait(300) == 7, Path("hub.out").read_text()
    assert "va: policy" in Path("hub.out").read_text()
    assert verify_ledger(Path("va/ledger.jsonl")).reservations == 0
    assert "[rule study.approved]" in Path("va/agent.log").read_text()
    (failed,) = synthkit("study", "status", "hub", "--json")["studies"]
    assert (failed["state"], failed["finished_rounds"]) == ("failed", 0)

    # Brought and approved while its service runs: the guard reads its papers anew for every round.
    synthkit("site", "approve", "study.json", "--folder", "va")
    done = synthkit("coordinator", "run", "--folder", "hub", "--wait", "180", "--json")
    (study,) = done["studies"]
    assert (study["digest"], study["state"], study["finished_rounds"]) == (digest, "done", 1)
    assert set(study["last_round"]["sites"]) == set(HOSPITALS)
    assert all(service.poll() is None for service in services)
    check_everybody_knows(digest, Path(study["model"]))

    for service in services:
        service.send_signal(signal.SIGTERM)
    assert [service.wait(60) for service in services] == [0, 0, 0]
    deadline = time.monotonic() + 10
    while processes_in(world) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_in(world) == []


def check_everybody_knows(digest, model):
    """The model is there, every ledger was charged, every site holds the coordinator's witness of it."""
    made = load_model(model)
    assert made.study_digest == digest
    trust = TrustStore.read(Path("hub/trust.json"))
    for name in HOSPITALS:
        standing = synthkit("site", "status", "--folder", name, "--json")
        (study,) = standing["studies"]
        assert (study["decision"], study["last_round"], standing["running"]) == ("approved", 1, True)
        # Who had answered before sends the stored reply again: asked twice, charged once.
        summary = verify_ledger(Path(name) / "ledger.jsonl")
        assert (summary.reservations, summary.commits, summary.open_reservations) == (1, 1, 0)
        assert study["spent_epsilon"] == pytest.approx(made.spend.epsilon)
        assert 0 < study["spent_epsilon"] <= 2
        envelope = json.loads((Path(name) / "witness.json").read_text())
        document, _ = open_document(envelope, "witness", trust)
        assert (document["site"], document["study_digest"]) == (name, digest)
        assert standing["ledger"]["witnessed"] == standing["ledger"]["counter"]
