"""The component audit: seconds and width of epsilon's interval; with --power, each fault's margin.

    python tests/benchmarks/bench_component.py
    python tests/benchmarks/bench_component.py --power 5

The margin is the distance between the claim and the nearer end of the interval, in halves of its width:
how many times wider the interval would have to be for the fault to be missed.
"""

# ruff: noqa: E402

import argparse
import math
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "hostile")]

import pytest
import torch
from small_ward import WARD, make_plan
from training_claims import CLINIC, SHORT, claimed
from training_faults import FAULTS, REFUSED, REQUEST, commit

from synthkit.audit.component import audit_steps
from synthkit.audit.component_checks import Check
from synthkit.audit.component_runs import FULL, NARROW

torch.set_num_threads(1)


def width_and_time(steps: int) -> None:
    figures = {"sample_rate": 0.05, "noise_multiplier": 1.0, "learning_rate": 0.02, "local_steps": steps}
    plan = make_plan(hyperparameters=NARROW["medvae-sgd"], **figures)
    audit_steps(CLINIC, claimed(), effort=SHORT).epsilon  # noqa: B018 - the accountant's import
    began, used = time.perf_counter(), time.process_time()
    report = audit_steps(WARD, plan, effort=FULL)
    epsilon = report.epsilon
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    half = (epsilon.interval.upper - epsilon.interval.lower) / 2 / epsilon.claimed
    print(f"{steps} steps, {report.watched} watched: {seconds:.1f} s, {processor:.1f} s of processor time")
    print(
        f"epsilon {epsilon.claimed:.3f} claimed, [{epsilon.interval.lower:.3f}, {epsilon.interval.upper:.3f}]"
    )
    print(f"half-width {half:.2%} at confidence {epsilon.interval.confidence:.5f}")
    print(f"contradicted: {[check.name for check in report.contradicted]}")


def margin(check: Check) -> float:
    """How far the claim lies outside the interval, in halves of its width; infinite for an exact check."""
    if check.interval is None:
        return math.inf if not check.agrees else 0.0
    outside = max(check.interval.lower - check.claimed, check.claimed - check.interval.upper)
    return outside / max(1e-300, (check.interval.upper - check.interval.lower) / 2)


def power(repetitions: int) -> None:
    for fault in FAULTS:
        if fault.caught_by in (REFUSED, REQUEST):
            continue
        with pytest.MonkeyPatch.context() as patch:
            commit(patch, fault)
            plan = claimed(sample_rate=fault.sample_rate)
            found = [
                audit_steps(CLINIC, plan, effort=SHORT, seed=seed)[fault.caught_by]
                for seed in range(repetitions)
            ]
        caught = sum(not check.agrees for check in found)
        least = min(margin(check) for check in found)
        words = f"{caught}/{repetitions}  least margin {min(least, 9999):.3g}"
        print(f"{fault.name:45} {fault.caught_by:32} {words}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--power", type=int, default=0)
    options = parser.parse_args()
    if options.power:
        power(options.power)
    else:
        width_and_time(options.steps)
