"""What an audit costs: seconds and memory of the whole battery at a middle hospital's size.

    python tests/benchmarks/bench_audit.py [--members N] [--holdout N] [--reference N] [--rows N]

9,000 members, 2,000 holdout and 1,000 reference patients against 10,000 rows, on the 30 columns of the
bundled diabetes example (hospitals pooled, for measuring alone). The "synthetic" rows are further real
patients, disjoint from the other three: nothing about any member can be learnt from them, so FAIL would be
wrong. The audit runs in a process of its own on two threads; its memory is that process's peak, the tables
included.
"""

import argparse

import numpy as np
from bench_desk import Cost, in_own_process, measured, pooled, print_machine, print_table
from threadpoolctl import threadpool_limits

from synthkit.audit.run import run_audit
from synthkit.cli.loading import load_policy
from synthkit.data.table import PatientTable, SyntheticTable

THREADS = 2


def audited(sizes: tuple[int, int, int, int], seed: int) -> tuple[str, Cost, float]:
    """The verdict, what the audit cost, and the peak memory before it in MB."""
    table = pooled()
    order = np.random.default_rng(seed).permutation(len(table))
    parts: list[PatientTable] = []
    for size in sizes:
        parts.append(table.take(order[:size]))
        order = order[size:]
    members, holdout, reference, rest = parts
    policy = load_policy("standard")
    _, before = measured(lambda: None)

    def audit() -> str:
        report = run_audit(
            members=members,
            holdout=holdout,
            reference=reference,
            synthetic=SyntheticTable(schema=rest.schema, frame=rest.frame),
            rules=policy.audit,
            policy_digest=policy.digest,
            seed=seed,
        )
        return report.verdict.value

    with threadpool_limits(THREADS):
        verdict, cost = measured(audit)
    return verdict, cost, before.peak_mb


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=9_000, help="patients trained on")
    parser.add_argument("--holdout", type=int, default=2_000, help="patients never seen")
    parser.add_argument("--reference", type=int, default=1_000, help="patients that set thresholds")
    parser.add_argument("--rows", type=int, default=10_000, help="synthetic rows")
    parser.add_argument("--seed", type=int, default=0, help="division of the patients, and the audit")
    given = parser.parse_args()
    print_machine()
    sizes = (given.members, given.holdout, given.reference, given.rows)
    verdict, cost, before = in_own_process(audited, sizes, given.seed)
    label = f"{given.members:,} / {given.holdout:,} / {given.reference:,} x {given.rows:,} rows x 30 columns"
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
