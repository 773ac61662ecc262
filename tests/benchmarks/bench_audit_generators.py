"""Verdicts of the audit on real generators: overfitted ones have to FAIL, private ones mostly PASS.

    python tests/benchmarks/bench_audit_generators.py [--cases NAME ...] [--repeats N] [--policy NAME]

Every repeat draws other patients of the bundled Diabetes 130 (hospitals pooled, for measuring alone) into
members, holdout and reference, trains anew and audits as many synthetic rows as there are members, by the
policy's rules, first attempt. Private cases train at epsilon 1 and delta 1e-5 under a ledger of their own, on
enough patients that a PASS is possible; a public round figure stands for their number. Cases without privacy
have few patients and many passes over them: they are what an audit is for. "strangers" are rows of further
patients instead of a generator's: nothing about a member can be learnt from them, so FAIL would be wrong.

Shares of verdicts are printed with 95 % Clopper-Pearson intervals, and each FAIL with its first reason. The
noise is the operating system's, so runs differ.
"""

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_desk import pooled, print_machine, print_table

from synthkit.audit.run import run_audit
from synthkit.audit.statistics import clopper_pearson
from synthkit.cli.loading import load_policy
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.policy import SitePolicy
from synthkit.domain.privacy import Budget
from synthkit.generators.registry import is_stepped
from synthkit.privacy.ledger import Ledger
from synthkit.training.paper import PaperModel
from synthkit.training.paper_mcm import McmSettings, train_mcm
from synthkit.training.paper_medvae import MedVaeSettings, train_medvae
from synthkit.training.planning import (
    Effort,
    effort_for,
    hyperparameters_without_privacy,
    plan_for,
)
from synthkit.training.single_site import Job, train_privately, train_unsafe
from synthkit.training.synthesis import synthesize

EPSILON, DELTA = 1.0, 1e-5
MEMBERS, HOLDOUT, REFERENCE = 9_000, 4_000, 2_000
"""Of a private case: the detectable effects are then well below the standard policy's limit."""
FEW = 1_000
"""Members of a case without privacy; its holdout and reference are as many."""
PASSES, BATCH = 400, 100
"""Over the patients, and patients a step, of a training that is to learn them by heart."""
NUMBER_OF_STRANGERS = 10_000

Draw = Callable[[PatientTable, int], SyntheticTable]
"""Trains on members with a seed and draws as many rows."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is audited, on how many members, and which verdict is the wanted one."""

    draw: Draw | None
    """None: the rows of strangers."""
    sizes: tuple[int, int, int]
    wanted: Verdict


def private(generator: str) -> Draw:
    """Train at epsilon 1 as `synthkit train` does, and draw."""

    def draw(members: PatientTable, seed: int) -> SyntheticTable:
        size = round(members.patient_count, -3)
        plan = plan_for(generator, effort_for(size), target_epsilon=EPSILON, delta=DELTA)
        job = Job(study="bench", site="bench", declared_size=size, min_patients=100, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            budget = Budget(epsilon=EPSILON, delta=DELTA)
            ledger = Ledger.create(Path(folder) / "ledger", asset="bench", site="bench", budget=budget)
            target = Path(folder) / "model"
            model = train_privately(members, plan, job, ledger=ledger, quota=budget, folder=target)
        return synthesize(model, members.patient_count, seed=seed).table

    return draw


def overfitted(generator: str) -> Draw:
    """Train without privacy, over and over on the same few patients, and draw."""

    def draw(members: PatientTable, seed: int) -> SyntheticTable:
        size = members.patient_count
        wide = {"hidden": 256.0} if generator == "mcm-sgd" else {"hidden_1": 512.0, "hidden_2": 256.0}
        usual = hyperparameters_without_privacy(generator, size)
        steps = PASSES * size // BATCH if is_stepped(generator) else 0
        effort = Effort(rounds=1, local_steps=steps, sample_rate=BATCH / size, learning_rate=0.002)
        plan = plan_for(generator, effort, target_epsilon=1.0, delta=DELTA, hyperparameters=usual | wide)
        job = Job(study="bench", site="bench", declared_size=size, min_patients=100, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            model = train_unsafe(members, plan, job, folder=Path(folder) / "model")
        return synthesize(model, size, seed=seed).table

    return draw


def published(train: Callable[..., PaperModel], settings: MedVaeSettings | McmSettings) -> Draw:
    """Train as the paper does, and draw."""

    def draw(members: PatientTable, seed: int) -> SyntheticTable:
        model = train(members, settings=settings, seed=seed, study="bench", site="bench")
        return synthesize(model, members.patient_count, seed=seed).table

    return draw


def resampled(members: PatientTable, seed: int) -> SyntheticTable:
    """No generator at all: the members' own rows, drawn with replacement."""
    chosen = np.random.default_rng(seed).integers(len(members), size=len(members))
    return SyntheticTable(schema=members.schema, frame=members.frame.iloc[chosen].reset_index(drop=True))


LARGE, SMALL = (MEMBERS, HOLDOUT, REFERENCE), (FEW, FEW, FEW)
CASES = {
    "medvae, epsilon 1": Case(draw=private("medvae"), sizes=LARGE, wanted=Verdict.PASS),
    "mcm, epsilon 1": Case(draw=private("mcm"), sizes=LARGE, wanted=Verdict.PASS),
    "medvae-sgd, epsilon 1": Case(draw=private("medvae-sgd"), sizes=LARGE, wanted=Verdict.PASS),
    "mcm-sgd, epsilon 1": Case(draw=private("mcm-sgd"), sizes=LARGE, wanted=Verdict.PASS),
    "strangers": Case(draw=None, sizes=LARGE, wanted=Verdict.PASS),
    "medvae-sgd, no privacy": Case(draw=overfitted("medvae-sgd"), sizes=SMALL, wanted=Verdict.FAIL),
    "mcm-sgd, no privacy": Case(draw=overfitted("mcm-sgd"), sizes=SMALL, wanted=Verdict.FAIL),
    "medvae, as published": Case(
        draw=published(train_medvae, MedVaeSettings()), sizes=SMALL, wanted=Verdict.FAIL
    ),
    "mcm, as published": Case(draw=published(train_mcm, McmSettings()), sizes=SMALL, wanted=Verdict.FAIL),
    "resampled rows": Case(draw=resampled, sizes=SMALL, wanted=Verdict.FAIL),
}


def judged(case: Case, table: PatientTable, policy: SitePolicy, seed: int) -> AuditReport:
    """Split, train, draw, audit. The split, the initial weights and the draw follow from the seed."""
    order = np.random.default_rng(seed).permutation(len(table))
    cuts = np.cumsum(case.sizes)
    members, holdout, reference = (table.take(part) for part in np.split(order, cuts)[:3])
    if case.draw is None:
        others = table.take(order[cuts[-1] : cuts[-1] + NUMBER_OF_STRANGERS])
        synthetic = SyntheticTable(schema=others.schema, frame=others.frame)
    else:
        synthetic = case.draw(members, seed)
    return run_audit(
        members=members,
        holdout=holdout,
        reference=reference,
        synthetic=synthetic,
        rules=policy.audit,
        policy_digest=policy.digest,
        seed=seed,
    )


def words_of(report: AuditReport) -> str:
    """The hard rule or the first reason, if it did not pass; and the attack of least p value, in figures."""
    reason = "" if report.verdict is Verdict.PASS else f": {report.reasons[0]}"
    deciding = [attack for attack in report.attacks if attack.decides]
    if not deciding:
        return reason
    least = min(deciding, key=lambda attack: attack.p_adjusted)
    rates = f"{least.attack_rate:.4f} against {least.control_rate:.4f}, adjusted p {least.p_adjusted:.2g}"
    return f"{reason} ({least.name}, {least.statistic}, {least.stratum}: {rates})"


def row_of(name: str, reports: list[AuditReport], wanted: Verdict, seconds: float) -> list[str]:
    """One printed line: verdicts by number, and the share of the wanted one with its interval."""
    counts = Counter(report.verdict for report in reports)
    hits, all_ = counts[wanted], len(reports)
    interval = clopper_pearson(hits, all_)
    share = f"{hits}/{all_} [{interval.lower:.2f}, {interval.upper:.2f}]"
    at_1 = [a.advantage for r in reports for a in r.attacks if a.statistic == "tpr_at_fpr_0.01"]
    return [
        name,
        wanted.value,
        share,
        *(str(counts[verdict]) for verdict in Verdict),
        f"{max(at_1, default=0.0):+.3f}",
        f"{seconds / all_:.0f}",
    ]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which to run")
    parser.add_argument("--repeats", type=int, default=10, help="trainings of each case")
    parser.add_argument("--policy", default="standard", help="whose limits")
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    given = parser.parse_args()
    logging.getLogger("synthkit.unsafe").setLevel(logging.ERROR)
    print_machine()
    table, policy = pooled(), load_policy(given.policy)
    rows = []
    for name in given.cases:
        case, start, reports = CASES[name], time.perf_counter(), []
        for repeat in range(given.repeats):
            report = judged(case, table, policy, given.seed + repeat)
            reports.append(report)
            print(f"  {name}, repeat {repeat}: {report.verdict.value}{words_of(report)}", flush=True)
        rows.append(row_of(name, reports, case.wanted, time.perf_counter() - start))
    headings = ["case", "wanted", "of all, 95 %", *(v.value for v in Verdict), "most at 1 %", "s each"]
    print_table(headings, rows)


if __name__ == "__main__":
    main()
