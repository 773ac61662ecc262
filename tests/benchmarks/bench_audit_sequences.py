"""What an audit of records costs: seconds and memory of the whole battery at a large hospital's size.

    python tests/benchmarks/bench_audit_sequences.py [--members N] [--holdout N] [--reference N]
        [--synthetic N]

20,000 members, 10,000 holdout and 10,000 reference patients against 20,000 synthetic patients, all drawn from
the simulator's standard process (about 44 visits of four codes each), on one thread. The "synthetic" patients
are as fresh as the others: nothing about a member can be learnt from them, so FAIL would be wrong. The audit
runs in a process of its own; its memory is that process's peak, the records included.
"""

import argparse
import time
from itertools import pairwise

import numpy as np
from bench_desk import Cost, in_own_process, measured, print_machine, print_table
from threadpoolctl import threadpool_limits

from synthkit.audit.sequences.run import run_sequence_audit
from synthkit.cli.loading import load_policy
from synthkit.data.sequences import PatientSequences, SyntheticSequences, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate

SIZES = (20_000, 10_000, 10_000, 20_000)


def _real(part: SyntheticSequences) -> PatientSequences:
    return PatientSequences(**vars(part))


def audited(sizes: tuple[int, int, int, int], seed: int) -> tuple[str, Cost, float]:
    """The verdict, what the audit cost, and the peak memory before it in MB."""
    everyone = simulate(standard_process(), sum(sizes), seed=seed)
    cuts = starts_of(np.array(sizes))
    members, holdout, reference, fresh = (
        everyone.take(np.arange(start, end)) for start, end in pairwise(cuts)
    )
    del everyone
    policy = load_policy("standard")
    _, before = measured(lambda: None)
    start = time.perf_counter()

    def audit() -> str:
        report = run_sequence_audit(
            members=_real(members),
            holdout=_real(holdout),
            reference=_real(reference),
            synthetic=fresh,
            rules=policy.audit,
            policy_digest=policy.digest,
            seed=seed,
            progress=lambda step: print(f"  {time.perf_counter() - start:6.1f} s  {step}", flush=True),
        )
        return report.verdict.value

    with threadpool_limits(1):
        verdict, cost = measured(audit)
    return verdict, cost, before.peak_mb


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, size in zip(("members", "holdout", "reference", "synthetic"), SIZES, strict=True):
        parser.add_argument(f"--{name}", type=int, default=size, help="patients")
    parser.add_argument("--seed", type=int, default=0, help="the patients, and the audit")
    given = parser.parse_args()
    print_machine()
    sizes = (given.members, given.holdout, given.reference, given.synthetic)
    verdict, cost, before = in_own_process(audited, sizes, given.seed)
    label = "{:,} / {:,} / {:,} x {:,} patients".format(*sizes)
    line = [
        label,
        verdict,
        f"{cost.wall:.1f}",
        f"{cost.processor:.1f}",
        f"{before:,.0f}",
        f"{cost.peak_mb:,.0f}",
    ]
    print_table(["audit", "verdict", "wall s", "processor s", "MB before", "peak MB"], [line])


if __name__ == "__main__":
    main()
