"""What a federation gains over each hospital alone and loses against pooled patients.

    python tests/benchmarks/bench_federation.py [--sites 1 3 5 8] [--epsilon 1 3 8 none] [--seeds 0 1 2]
    python tests/benchmarks/bench_federation.py --data heart --sites 4 --epsilon 3 8 [--generator mcm]

Diabetes 130: the first hospitals of H1 to H8, 40,280 rows generated each time, compared with the test file,
whose patients come from all eight. Heart disease: its hospitals split by patient, 30 % of each held out and
pooled as the test rows (about 280, so its figures are coarse), as many rows generated as trained on.

Federated: every hospital releases its tables with the full noise of its own budget, and the coordinator
averages by rounded sizes. Pooled: the same patients as one site with that budget; no command of synthkit does
it. Alone: one model of each hospital, the figures' mean over the hospitals. With one site the three are one.
The budget is each patient's, at delta 1e-5; none is without privacy. The AUC is XGBoost's on the test rows:
trained on synthetic rows, and beside it on the same patients' real rows. Several seeds: mean (least-most).
The noise is the operating system's; a seed fixes initial weights, rows and classifiers.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import torch
from bench_desk import measured, print_machine, print_table
from bench_quality import TARGETS, plan_of, test_rows, trained

from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.table import PatientTable, pool
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import Target, default_targets, parse_target
from synthkit.training.synthesis import synthesize

WAYS = ("federated", "pooled", "alone")
HEART_SHARES = (0.7, 0.3)

Groups = tuple[tuple[int, ...], ...]
"""Who trains: for each party its hospitals, by position. A party of several hospitals pools them."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One model's, or a mean: overall score, two-way distance, AUC of synthetic and of real rows, seconds of
    the processor to train."""

    overall: float
    two_way: float
    auc: float
    real_auc: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The hospitals' training rows, the test rows and the one target; keeps what it measured."""

    sites: Sequence[PatientTable]
    test: PatientTable
    target: Target
    rows: int | None
    """Rows to generate; None: as many as trained on."""
    generator: str

    kept: dict[tuple[Groups, str, int], Figures] = field(default_factory=dict)

    def figures(self, groups: Groups, budget: str, seed: int) -> Figures:
        """Train the parties, generate and evaluate, once for the same question."""
        key = (groups, budget, seed)
        if key not in self.kept:
            self.kept[key] = self._measure(groups, budget, seed)
        return self.kept[key]

    def _measure(self, groups: Groups, budget: str, seed: int) -> Figures:
        parties = [pool([self.sites[i] for i in group]) for group in groups]
        patients = pool(parties)
        model, cost = measured(partial(trained, parties, plan_of(self.generator, budget), budget, seed))
        synthetic = synthesize(model, self.rows or len(patients), seed=seed).table
        report = evaluate(
            real=self.test, synthetic=synthetic, train=patients, targets=(self.target,), seed=seed
        )
        (task,) = report.utility
        return Figures(
            overall=report.quality.overall,
            two_way=report.total_variation["two_way"],
            auc=task.synthetic.auc,
            real_auc=task.real.auc,
            seconds=cost.processor,
        )

    def of_way(self, way: str, count: int, budget: str, seed: int) -> Figures:
        """The figures of the first `count` hospitals, federated, pooled or alone."""
        single = tuple((i,) for i in range(count))
        if way == "alone":
            return mean_of([self.figures((site,), budget, seed) for site in single])
        return self.figures(single if way == "federated" else (tuple(range(count)),), budget, seed)


def mean_of(figures: Sequence[Figures]) -> Figures:
    """Each figure's mean."""
    return Figures(**{name: fmean(getattr(one, name) for one in figures) for name in vars(figures[0])})


def diabetes(generator: str) -> Bench:
    """Eight hospitals and the bundled test file."""
    found = example("diabetes")
    sites = [read_table(path, found.schema) for path in found.sites.values()]
    target = parse_target(TARGETS[0], found.schema)
    rows = sum(map(len, sites))
    return Bench(sites=sites, test=test_rows(found), target=target, rows=rows, generator=generator)


def heart(generator: str) -> Bench:
    """Four hospitals, a part of each held out."""
    found = example("heart")
    tables = [read_table(path, found.schema) for path in found.sites.values()]
    sites, held_out = zip(*(table.split(HEART_SHARES, seed=0) for table in tables), strict=True)
    test = pool(held_out)
    (target,) = default_targets(found.schema, test.frame)
    return Bench(sites=sites, test=test, target=target, rows=None, generator=generator)


def shown(values: Sequence[float]) -> str:
    """The mean, and least and most where there are several."""
    spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"


def line_of(label: str, way: str, figures: Sequence[Figures]) -> list[str]:
    """One printed row: the seeds' figures together."""
    names = ("overall", "two_way", "auc", "real_auc")
    seconds = fmean(one.seconds for one in figures)
    return [label, way, *(shown([getattr(one, name) for one in figures]) for name in names), f"{seconds:.0f}"]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=("diabetes", "heart"), default="diabetes")
    parser.add_argument("--generator", choices=("medvae", "mcm"), default="medvae", help="fitted to tables")
    parser.add_argument("--sites", nargs="+", type=int, help="numbers of hospitals; by default 1 3 5 8, or 4")
    parser.add_argument("--epsilon", nargs="+", default=["1", "3", "8", "none"], help="budgets, or none")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="who trains")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    print_machine()
    bench = (diabetes if given.data == "diabetes" else heart)(given.generator)
    counts = given.sites or ([1, 3, 5, 8] if given.data == "diabetes" else [4])
    if not all(1 <= count <= len(bench.sites) for count in counts):
        parser.error(f"--sites: {given.data} has 1 to {len(bench.sites)} hospitals")
    lines = []
    for budget in given.epsilon:
        for count in counts:
            for way in given.ways:
                found = [bench.of_way(way, count, budget, seed) for seed in given.seeds]
                lines.append(line_of(f"{count} sites, epsilon {budget}", way, found))
                print("measured:", *lines[-1], flush=True)
    label = f"AUC {bench.target.label}"
    print_table(
        [given.data, "trained", "overall", "TVD two-way", label, "of real rows", "processor s"], lines
    )


if __name__ == "__main__":
    main()
