"""The demo over a real SuperLink and four SuperNodes: real agents, TLS, node keys, nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthkit.privacy.ledger import verify_ledger

pytestmark = pytest.mark.slow


def flower_processes():
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"flower-super" in words or b"synthkit_client.worker" in words or b"flwr-serverapp" in words:
                found.add(int(entry.name))
    return found


def test_the_demo_over_processes_releases_and_leaves_no_process(tmp_path):
    before = flower_processes()
    program = [sys.executable, "-c", "import sys; from synthkit.cli.main import run; sys.exit(run())"]
    options = ["demo", "--processes", "--rounds", "2", "--output", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(
        [*program, *options],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["released"] else 1), done.stderr
    assert flower_processes() <= before
    assert set(result["spend"]) == {"cleveland", "hungarian", "switzerland", "va"}
    for name in result["spend"]:
        summary = verify_ledger(tmp_path / "demo" / "sites" / name / "ledger.jsonl")
        assert summary.reservations == 3  # two training rounds and the prior's
        assert summary.open_reservations == 0
