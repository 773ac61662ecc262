"""What an audit costs: seconds and memory of the whole battery at a middle hospital's size.

    python tests/benchmarks/bench_audit.py [--members N] [--holdout N] [--reference N] [--rows N]
    python tests/benchmarks/bench_audit.py --simulated    # 50,000 / 10,000 / 10,000 x 50,000 rows

9,000 members, 2,000 holdout and 1,000 reference patients against 10,000 rows, on the 30 columns of the
bundled diabetes example (hospitals pooled, for measuring alone). The "synthetic" rows are further real
patients, disjoint from the other three: nothing about any member can be learnt from them, so FAIL would be
wrong. The bundled patients are too few for a large hospital; `--simulated` draws all four tables from one
simulated population of 30 columns. The audit runs in a process of its own on two threads; its memory is
that process's peak, the tables included.
"""

import argparse
import time

import numpy as np
import pandas as pd
from bench_desk import Cost, in_own_process, measured, pooled, print_machine, print_table
from scipy import special
from threadpoolctl import threadpool_limits

from synthkit.audit.run import run_audit
from synthkit.cli.loading import load_policy
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema

THREADS = 2
LARGE = (50_000, 10_000, 10_000, 50_000)
FACTORS, NUMBERS, CODES = 6, 12, 18


def simulated(size: int, seed: int) -> PatientTable:
    """Independent patients of one population: 12 numbers of 1,000 values and 18 codes of 2 to 40 levels."""
    weights = np.random.default_rng(7).normal(size=(FACTORS, NUMBERS + CODES))
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(size, FACTORS)) @ weights + 2.0 * rng.normal(size=(size, NUMBERS + CODES))
    shares = special.ndtr(hidden / np.sqrt((weights**2).sum(axis=0) + 4.0))
    columns, cells = [], {}
    for j in range(NUMBERS + CODES):
        name = f"column_{j}"
        if j < NUMBERS:
            columns.append(Column(name=name, kind=Kind.INTEGER, minimum=0, maximum=999))
            cells[name] = np.floor(shares[:, j] ** 2 * 1000)
        else:
            levels = tuple(f"level {code}" for code in range(2 + (j - NUMBERS) * 38 // (CODES - 1)))
            columns.append(Column(name=name, kind=Kind.CATEGORICAL, categories=levels))
            codes = np.floor(shares[:, j] ** 2 * len(levels)).astype(int)
            cells[name] = np.array(levels, dtype=object)[np.minimum(codes, len(levels) - 1)]
    schema = Schema(name="simulated", columns=tuple(columns))
    return PatientTable(schema=schema, frame=pd.DataFrame(cells), patients=np.arange(size))


def audited(sizes: tuple[int, int, int, int], seed: int, is_simulated: bool) -> tuple[str, Cost, float]:
    """The verdict, what the audit cost, and the peak memory before it in MB."""
    table = simulated(sum(sizes), seed) if is_simulated else pooled()
    order = np.random.default_rng(seed).permutation(len(table))
    parts: list[PatientTable] = []
    for size in sizes:
        parts.append(table.take(order[:size]))
        order = order[size:]
    members, holdout, reference, rest = parts
    del table
    policy = load_policy("standard")
    _, before = measured(lambda: None)
    start = time.perf_counter()

    def audit() -> str:
        report = run_audit(
            members=members,
            holdout=holdout,
            reference=reference,
            synthetic=SyntheticTable(schema=rest.schema, frame=rest.frame),
            rules=policy.audit,
            policy_digest=policy.digest,
            seed=seed,
            progress=lambda step: print(f"  {time.perf_counter() - start:6.1f} s  {step}", flush=True),
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
    parser.add_argument("--simulated", action="store_true", help="a large simulated hospital instead")
    parser.add_argument("--seed", type=int, default=0, help="division of the patients, and the audit")
    given = parser.parse_args()
    print_machine()
    own = (given.members, given.holdout, given.reference, given.rows)
    sizes = LARGE if given.simulated else own
    verdict, cost, before = in_own_process(audited, sizes, given.seed, given.simulated)
    label = "{:,} / {:,} / {:,} x {:,} rows x 30 columns".format(*sizes)
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
