"""The real thing on loopback: SuperLink, SuperNodes, TLS, authenticated nodes, one executor per site."""

import json
import os
import sys
from pathlib import Path

import pytest
from standin import StandIn, make_initial, make_keys, make_study, write_signed_study

from synthkit.errors import InputError, PeerError
from synthkit.federation.messages import digest_weights
from synthkit.federation.pki import create_node_key
from synthkit.release.signing import TrustStore, generate_key, open_document, write_key
from synthkit_client.app import make_app
from synthkit_server.local_grid import run_local
from synthkit_server.rehearsal import run_processes
from synthkit_server.storage import write_weights

STANDIN_WORKER = (sys.executable, str(Path(__file__).with_name("standin_worker.py")))

WITNESS = """
import json, os, sys

def note(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        line = json.dumps([str(part) for part in address] if isinstance(address, tuple) else [str(address)])
        descriptor = os.open(os.environ["CONNECTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, (line + "\\n").encode())
        os.close(descriptor)

sys.addaudithook(note)
"""
"""Loaded by every Python process of the rehearsal; writes down each address that any of them connects to."""


@pytest.fixture
def federation(tmp_path):
    """A signed study of two rounds on the wire, three sites, and a work folder with a space in its path.

    The coordinator's key lies in a folder of its own.
    """
    base = tmp_path / "a hospital's folder"
    keys = make_keys()
    for name, key in keys.items():
        (base / "sites" / name).mkdir(parents=True)
        write_key(key, base / "sites" / name / "site.key", None)
    hub = generate_key()
    (tmp_path / "hub").mkdir()
    write_key(hub, tmp_path / "hub" / "coordinator.key", None)
    study_file, trust_file = write_signed_study(base, make_study(keys, rounds=1), hub)
    write_weights(base / "initial.safetensors", make_initial())
    return base, keys, study_file, trust_file


def start(federation, **options):
    base, keys, study_file, trust_file = federation
    return run_processes(
        study_file,
        base / "initial.safetensors",
        {name: base / "sites" / name for name in keys},
        base / "work",
        trust=trust_file,
        key=base.parent / "hub" / "coordinator.key",
        **{"worker": STANDIN_WORKER, **options},
    )


def processes_of(folder):
    """Processes that mention this folder in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in text:
                found.append(entry.name)
    return found


@pytest.mark.slow
def test_processes_give_the_same_weights_and_leave_nothing_behind(federation, tmp_path, monkeypatch):
    base, keys, _, _ = federation
    witness, home = tmp_path / "witness", tmp_path / "home"
    witness.mkdir()
    home.mkdir()
    (witness / "sitecustomize.py").write_text(WITNESS)
    connections = witness / "connections"
    monkeypatch.setenv("PYTHONPATH", str(witness))
    monkeypatch.setenv("CONNECTIONS", str(connections))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HTTPS_PROXY", "http://192.0.2.1:9")
    rounds = []

    result = start(federation, progress=rounds.append)

    local = run_local(
        make_study(keys, rounds=1),
        make_initial(),
        {name: make_app(StandIn(name, key)) for name, key in keys.items()},
    )
    assert digest_weights(result.weights) == digest_weights(local.weights)
    assert [summary.server_round for summary in rounds] == [1, 2]
    assert result.rounds == tuple(rounds)
    assert processes_of(base / "work") == []
    for name in keys:
        answers = [json.loads(line) for line in (base / "sites" / name / "answers.jsonl").open()]
        assert [answer["round"] for answer in answers] == [1, 2]
        assert len({answer["pid"] for answer in answers}) == 1, "one warm process for all rounds"
        envelope = json.loads((base / "sites" / name / "witness.json").read_text())
        document, signer = open_document(envelope, "witness", TrustStore.read(base / "trust.json"))
        assert (document["site"], document["server_round"], signer) == (name, 2, "hub")
        assert document["ledger_head"] == result.ledgers[name].head
    assert list(home.iterdir()) == []
    assert {entry.name for entry in base.iterdir()} == {
        *("sites", "work", "study.json", "trust.json", "initial.safetensors")
    }
    hosts = {json.loads(line)[0] for line in connections.open()}
    assert hosts == {"127.0.0.1"}, "and the witness saw some"
    assert {entry.name for entry in (base / "work").iterdir()} == {"logs", "output"}


@pytest.mark.slow
def test_a_site_whose_executor_dies_ends_the_rehearsal_with_its_name(federation, tmp_path):
    base = federation[0]
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('this site has no torch')")
    with pytest.raises(PeerError, match=r"process site-\w+: ended with status 1 \(see site-\w+\.log\)"):
        start(federation, worker=(sys.executable, str(broken)))
    assert processes_of(base / "work") == []


@pytest.mark.slow
def test_a_node_with_another_key_than_the_registered_one_does_not_get_in(federation, tmp_path, monkeypatch):
    base = federation[0]

    def register_a_strangers_key(path):
        create_node_key(path)
        return create_node_key(tmp_path / f"stranger-{path.name}")

    monkeypatch.setattr("synthkit_server.rehearsal.create_node_key", register_a_strangers_key)
    with pytest.raises(PeerError, match=r"process node-\w+: ended with status 1"):
        start(federation)
    log = "".join(file.read_text() for file in (base / "work" / "logs").glob("node-*.log"))
    assert "SuperNode ID" not in log
    assert processes_of(base / "work") == []


@pytest.mark.slow
def test_a_refusal_reaches_the_caller_as_a_code(federation):
    """South's folder holds west's key, so that its replies do not verify."""
    base, keys, _, _ = federation
    for suffix in ("", ".pub"):
        (base / "sites" / "south" / f"site.key{suffix}").unlink()
    write_key(keys["west"], base / "sites" / "south" / "site.key", None)
    with pytest.raises(PeerError, match=r"south: invalid \(the signature is wrong\)"):
        start(federation)
    assert processes_of(base / "work") == []


def test_a_used_work_folder_and_a_wrong_roster_are_refused_before_anything_starts(federation):
    base, _, study_file, trust_file = federation
    (base / "work" / "output").mkdir(parents=True)
    with pytest.raises(InputError, match="in use"):
        start(federation)
    with pytest.raises(InputError, match="roster"):
        run_processes(
            study_file,
            base / "initial.safetensors",
            {},
            base / "work",
            trust=trust_file,
            worker=STANDIN_WORKER,
        )
