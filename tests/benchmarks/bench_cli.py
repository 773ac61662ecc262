"""How long a person waits: `synthkit --help`, a command's help, and a recipient's verification.

Run it on an idle machine: `python tests/benchmarks/bench_cli.py`. Prints the median and the slowest of
several cold starts, in seconds of wall time.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

from synthkit.cli.main import run

RUNS = 9
LIMITS = {"--help": 0.5, "release verify": 1.0}


def seconds(arguments: list[str]) -> list[float]:
    """Wall time of each cold start."""
    command = [sys.executable, "-m", "synthkit.cli.main", *arguments]
    found = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        found.append(time.perf_counter() - began)
    return found


def make_bundle() -> None:
    """A verified release in the current folder."""
    tables = "--members members.csv --holdout holdout.csv --reference reference.csv --synthetic synthetic.csv"
    policy = "--policy lenient.toml"
    book = "--ledger heart.ledger --model model"
    for line in (
        "release keygen --name north --role site -o keys",
        "release keygen --name ada --role officer -o keys",
        f"audit {tables} --schema schema.toml {policy} {book} --save audit.json",
        f"release seal --table synthetic.csv --schema schema.toml --audit audit.json {policy} {book}"
        " --site north --key keys/north.pem -o candidate",
        f"release approve candidate --site north --officer ada --key keys/ada.pem {policy}",
        "release export candidate -o heart.synthkit",
    ):
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            code = run(line.split())
        if code:
            raise SystemExit(f"failed: {line}")


def main() -> None:
    """Print the figures."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
    build = import_module("cli_clinic").build
    with tempfile.TemporaryDirectory() as name:
        os.chdir(build(Path(name)))
        make_bundle()
        cases = {
            "--help": ["--help"],
            "--version": ["--version"],
            "release --help": ["release", "--help"],
            "evaluate --help": ["evaluate", "--help"],
            "audit --help": ["audit", "--help"],
            "policy check": ["policy", "check", "standard"],
            "budget verify": ["budget", "verify", "--ledger", "heart.ledger"],
            "release verify": ["release", "verify", "heart.synthkit", "--trust", "keys"],
        }
        for label, arguments in cases.items():
            found = seconds(arguments)
            limit = f"  (limit {LIMITS[label]:g})" if label in LIMITS else ""
            print(f"{label:16} median {statistics.median(found):.3f} s, slowest {max(found):.3f} s{limit}")
        os.chdir("/")


if __name__ == "__main__":
    main()
