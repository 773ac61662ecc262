"""What one pass over records of visits costs, with and without privacy, and Algorithm 1's alternation.

    python tests/benchmarks/bench_record_training.py [--patients N] [--visits V] [--generator K] [--kinds a,b]
        [--steps S | --whole] [--draw N] [--most-visits V]

Simulated patients, 50,000 of 20 visits unless said otherwise, in batches of 64. Each line is a process of its
own, so that its peak memory is its own. With --whole every step of a pass is taken and all of them are added
up; otherwise a pass is as many times the median of the last third of the steps as it has batches. Buying the
shares is counted apart, in processor time. Wall time counts; on a machine with other work the processor time
is the steadier figure, and twice the cores can at best halve it. With --draw that many records are drawn as
well, from a generator that has bought its shares and taken no step: their visits and codes are as many as
the patients'.
"""

import argparse
import logging
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from bench_desk import in_own_process, measured, peak_mb, print_machine, print_table

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.training.loop import StepKind
from synthkit.training.planning import Effort
from synthkit.training.sequence_artefact import new_sequence_generator
from synthkit.training.sequence_loop import buy_shares, train_records
from synthkit.training.sequence_site import plan_for_records
from synthkit.training.unsafe import UnsafeNoPrivacy

BATCH = 64
EPOCH_BAR_S, RATIO_BAR, MEMORY_BAR_MB, DRAWING_BAR = 180.0, 5.0, 3 * 1024, 2000.0
KINDS: dict[str, tuple[StepKind, float]] = {
    "plain": (UnsafeNoPrivacy, 0.0),
    "Algorithm 1": (UnsafeNoPrivacy, 10.0),
    "DP-SGD": (DpSgdStep, 0.0),
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is trained: simulated patients, how many visits they have in the mean and at most, and steps."""

    generator: str
    patients: int
    visits: float
    most_visits: int
    steps: int

    @property
    def batches(self) -> int:
        """In one pass."""
        return -(-self.patients // BATCH)


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """One pass in seconds, and the peak memory of all of it; `shares_s` is processor time."""

    shares_s: float
    wall_s: float
    processor_s: float
    peak_mb: float


def prepared(work: Work, given: dict[str, float]) -> tuple[SequenceGenerator, RecordStates]:
    """A fresh generator and the patients."""
    logging.disable(logging.WARNING)
    process = standard_process(visits_mean=work.visits, most_visits=work.most_visits)
    records = PatientSequences(**vars(simulate(process, work.patients, seed=1)))
    sizes = {"most_visits": float(work.most_visits), "most_codes": 100.0, "dated": 1.0}
    generator = new_sequence_generator(work.generator, records.schema, {**sizes, **given}, seed=0)
    return generator, fit_sequence_encoding(records.schema, generator.hyperparameters).encode(records)


def cost_of(kind: str, work: Work) -> PassCost:
    """What buying the shares and a pass cost."""
    privacy, samples = KINDS[kind]
    is_private = privacy is not UnsafeNoPrivacy
    generator, states = prepared(work, {"posterior": samples, "pairs": float(is_private)})
    rate = BATCH / work.patients
    effort = Effort(rounds=1, local_steps=work.steps, sample_rate=rate, learning_rate=0.002)
    plan = plan_for_records(
        work.generator,
        effort,
        target_epsilon=8.0,
        delta=1e-6,
        hyperparameters=dict(generator.hyperparameters),
    )
    _, shares = measured(partial(buy_shares, generator, states, plan, is_private=is_private))
    moments = [(time.perf_counter(), time.process_time())]

    def note(*_: int) -> None:
        moments.append((time.perf_counter(), time.process_time()))

    train_records(generator, states, plan, declared_size=work.patients, privacy=privacy, progress=note)
    took = np.diff(np.array(moments), axis=0)
    took[0, 1] -= min(shares.processor, took[0, 1])  # the first step's time holds the shares', bought anew
    took[0, 0] -= min(shares.wall, took[0, 0])
    if work.steps < work.batches:
        took = np.median(took[-(work.steps // 3 or 1) :], axis=0, keepdims=True) * work.batches  # burnt in
    wall, processor = took.sum(axis=0).tolist()
    return PassCost(shares_s=shares.processor, wall_s=wall, processor_s=processor, peak_mb=peak_mb())


def cost_of_drawing(work: Work, count: int) -> PassCost:
    """What drawing that many records costs. The shares of at most 2,000 patients make their sizes."""
    some = replace(work, patients=min(work.patients, 2000))
    generator, states = prepared(some, {})
    generator.set_shares(generator.statistics(states).sum(dim=0).numpy(), noise=0.0)
    draw = partial(generator.eval().sample, count, rng=torch.Generator().manual_seed(3))
    _, cost = measured(draw)
    return PassCost(shares_s=0.0, wall_s=cost.wall, processor_s=cost.processor, peak_mb=cost.peak_mb)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=50_000)
    parser.add_argument("--visits", type=float, default=20.0)
    parser.add_argument("--most-visits", type=int, default=200)
    parser.add_argument("--generator", default="eva")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--draw", type=int, default=0)
    given = parser.parse_args()
    batches = -(-given.patients // BATCH)
    work = Work(
        generator=given.generator,
        patients=given.patients,
        visits=given.visits,
        most_visits=given.most_visits,
        steps=batches if given.whole else min(given.steps, batches),
    )
    print_machine()
    plain = 0.0
    rows = []
    for kind in [name for name in given.kinds.split(",") if name]:
        cost = in_own_process(cost_of, kind, work)
        plain = plain or cost.processor_s
        figures = (cost.shares_s, cost.wall_s, cost.processor_s)
        share = f"{cost.processor_s / plain:.2f}"
        rows.append([kind, *(f"{figure:.0f}" for figure in figures), share, f"{cost.peak_mb:.0f}"])
    if rows:
        print_table(["one pass", "shares s", "wall s", "processor s", "of the first", "peak MB"], rows)
        how = "all of its" if work.steps == batches else f"the median of the last third of {work.steps}"
        print(f"{batches} steps of {BATCH} patients, from {how} steps")
        print(f"bars: {EPOCH_BAR_S:.0f} s on two cores, DP-SGD {RATIO_BAR:g} of plain, {MEMORY_BAR_MB} MB")
    if given.draw:
        cost = in_own_process(cost_of_drawing, work, given.draw)
        rates = [f"{given.draw / seconds:.0f}" for seconds in (cost.wall_s, cost.processor_s)]
        headings = ["drawing", "a second", "a processor second", "peak MB"]
        print_table(headings, [[f"{given.draw} records", *rates, f"{cost.peak_mb:.0f}"]])
        print(f"bar: {DRAWING_BAR:.0f} a second on two cores")


if __name__ == "__main__":
    main()
