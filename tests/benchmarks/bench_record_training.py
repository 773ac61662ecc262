"""What one pass over records of visits costs, with and without privacy, and Algorithm 1's alternation.

    python tests/benchmarks/bench_record_training.py [--patients N] [--visits V] [--steps S] [--generator K]

Simulated patients, 50,000 of 20 visits unless said otherwise, in batches of 64. Each line is a process of its
own, so that its peak memory is its own. A pass is as many times the median step as it has batches; buying
the shares is counted apart, in processor time. Wall time counts; on a machine with other work the processor
time is the steadier figure, and twice the cores can at best halve it.
"""

import argparse
import logging
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from bench_desk import in_own_process, measured, peak_mb, print_machine, print_table

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.training.loop import StepKind
from synthkit.training.planning import Effort
from synthkit.training.sequence_artefact import new_sequence_generator
from synthkit.training.sequence_loop import buy_shares, train_records
from synthkit.training.sequence_site import plan_for_records
from synthkit.training.unsafe import UnsafeNoPrivacy

BATCH, MOST_VISITS = 64, 200
EPOCH_BAR_S, RATIO_BAR, MEMORY_BAR_MB = 180.0, 5.0, 3 * 1024
KINDS: dict[str, tuple[StepKind, float]] = {
    "plain": (UnsafeNoPrivacy, 0.0),
    "Algorithm 1": (UnsafeNoPrivacy, 10.0),
    "DP-SGD": (DpSgdStep, 0.0),
}


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Medians over steps, in seconds, and the peak memory of all of it; `shares_s` is processor time."""

    shares_s: float
    wall_s: float
    processor_s: float
    peak_mb: float


def cost_of(kind: str, generator_kind: str, patients: int, visits: float, steps: int) -> StepCost:
    """What buying the shares and one step cost. The last steps count: those of Algorithm 1's chain."""
    logging.disable(logging.WARNING)
    process = standard_process(visits_mean=visits, most_visits=MOST_VISITS)
    records = PatientSequences(**vars(simulate(process, patients, seed=1)))
    privacy, samples = KINDS[kind]
    given = {"most_visits": float(MOST_VISITS), "most_codes": 100.0, "dated": 1.0, "posterior": samples}
    given["pairs"] = float(privacy is not UnsafeNoPrivacy)
    generator = new_sequence_generator(generator_kind, records.schema, given, seed=0)
    states = fit_sequence_encoding(records.schema, generator.hyperparameters).encode(records)
    effort = Effort(rounds=1, local_steps=steps, sample_rate=BATCH / patients, learning_rate=0.002)
    plan = plan_for_records(generator_kind, effort, target_epsilon=8.0, delta=1e-6, hyperparameters=given)
    is_private = privacy is not UnsafeNoPrivacy
    _, shares = measured(partial(buy_shares, generator, states, plan, is_private=is_private))
    moments = [(time.perf_counter(), time.process_time())]

    def note(*_: int) -> None:
        moments.append((time.perf_counter(), time.process_time()))

    train_records(generator, states, plan, declared_size=patients, privacy=privacy, progress=note)
    took = np.diff(np.array(moments), axis=0)[-(steps // 3 or 1) :]  # after the burn-in
    wall, processor = np.median(took, axis=0).tolist()
    return StepCost(shares_s=shares.processor, wall_s=wall, processor_s=processor, peak_mb=peak_mb())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=50_000)
    parser.add_argument("--visits", type=float, default=20.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--generator", default="eva")
    given = parser.parse_args()
    whole = -(-given.patients // BATCH)
    steps = given.steps or whole
    print_machine()
    found = {
        kind: in_own_process(cost_of, kind, given.generator, given.patients, given.visits, steps)
        for kind in KINDS
    }
    plain = found["plain"]
    rows = [
        [
            kind,
            f"{cost.shares_s:.0f}",
            f"{cost.wall_s * whole:.0f}",
            f"{cost.processor_s * whole:.0f}",
            f"{cost.processor_s / plain.processor_s:.2f}",
            f"{cost.peak_mb:.0f}",
        ]
        for kind, cost in found.items()
    ]
    print_table(["one pass", "shares s", "wall s", "processor s", "of plain", "peak MB"], rows)
    print(f"{whole} times the median of the last third of {steps} steps")
    print(f"bars: plain {EPOCH_BAR_S:.0f} s on two cores, DP-SGD {RATIO_BAR:g} of plain, {MEMORY_BAR_MB} MB")


if __name__ == "__main__":
    main()
