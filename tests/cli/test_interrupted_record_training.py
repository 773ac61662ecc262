"""Ctrl-C in the middle of a private training of records: one line, no folder, a ledger that stays true."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthkit.cli.main import run

POLICY = Path(__file__).parents[2] / "policies" / "single-site.toml"
RECORDS = ("records.csv", "--patients", "patients.csv", "--schema", "schema.toml")
LONG = ("--generator", "eva", "--epsilon", "2.5", "--steps", "5000", "--declared-size", "200")
BUDGET = ("--policy", "policy.toml", "--ledger", "north.ledger")
STARTED = "training privately"
PATIENCE_S = 120.0

# A shell that runs tests in the background makes its children deaf to SIGINT; a person's shell does not.
CHILD = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from synthkit.cli.main import run; sys.exit(run(sys.argv[1:]))"
)


@pytest.fixture
def ward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Room for one training of 2.5, not for two.
    rules = POLICY.read_text("utf-8")
    assert "epsilon = 6.0" in rules
    Path("policy.toml").write_text(rules.replace("epsilon = 6.0", "epsilon = 3.0"), "utf-8")
    size = ("-n", "200", "--visits-mean", "3", "--most-visits", "6")
    assert run(["simulate", *size, "-o", *RECORDS]) == 0
    return tmp_path


def is_under_way(log):
    """Steps are being counted, so that the reservation is written and noise is being drawn."""
    return f"{STARTED}: " in log.read_text("utf-8")


def interrupted(folder):
    """Exit code and what was said, of a training that was stopped between its steps."""
    log = folder / "said.txt"
    command = [sys.executable, "-c", CHILD, "train", *RECORDS, *LONG, *BUDGET, "-o", "model"]
    with log.open("w", encoding="utf-8") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not is_under_way(log) and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert is_under_way(log), log.read_text("utf-8")
            child.send_signal(signal.SIGINT)
            code = child.wait(PATIENCE_S)
        finally:
            child.kill()
    return code, log.read_text("utf-8")


@pytest.mark.slow
def test_an_interrupted_training_leaves_no_model_and_counts_as_spent(ward, synthkit):
    before = set(ward.iterdir())
    code, said = interrupted(ward)
    assert code == 130
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "interrupted; nothing was finished" in errors[0]
    assert "budget show" in errors[0]
    left = {path.name for path in set(ward.iterdir()) - before} - {"said.txt"}
    assert left == {"north.ledger"} | {name for name in left if name.startswith("north.ledger.")}
    assert synthkit("budget", "verify", "--ledger", "north.ledger").code == 0
    # Noise was drawn and perhaps seen: the whole reservation counts, and the next training knows it.
    again = synthkit("train", *RECORDS, *LONG[:4], "--steps", "2", *LONG[6:], *BUDGET, "-o", "model")
    assert again.code == 5, again.err
    assert "Traceback" not in again.err
    assert not Path("model").exists()
