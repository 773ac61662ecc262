"""How useful synthetic rows are at several budgets, on the bundled diabetes example (30 columns).

    python tests/benchmarks/bench_quality.py [--epsilon none 3 3:8 1] [--generator KIND] [--rows N]

A budget is an epsilon at delta 1e-5, or none; 3:8 is epsilon 3 at each of the eight hospitals, averaged as in
a federation, every hospital adding its full noise. Without a colon one site holds all 40,280 training
patients (the hospitals pooled, for measuring alone). As many rows are generated as there are training
patients, and compared with the test file, whose patients no model saw. sdmetrics' figures stand beside their
floor (independent columns) and ceiling (real rows in the synthetic table's place); mean total variation
distances of one- and two-way tables likewise; a classifier trained on synthetic rows and one trained on all
real rows are tested on the same real rows. Noise is the operating system's, so runs differ: quote several.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from bench_desk import measured, print_machine, print_table

from synthkit.data.bundled import Example, example
from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, pool
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.study import TrainingPlan
from synthkit.domain.utility import UtilityReport
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target
from synthkit.generators.base import SteppedGenerator
from synthkit.training.artefact import Model, new_generator
from synthkit.training.loop import LoopState, close, finish, train
from synthkit.training.planning import (
    effort_for,
    effort_without_privacy,
    hyperparameters_without_privacy,
    plan_for,
)
from synthkit.training.synthesis import synthesize
from synthkit.training.unsafe import UnsafeNoPrivacy
from synthkit_server.aggregation import weighted_average

DELTA = 1e-5
ROUND_SIZE = 40_000
"""Declared size of the pooled table: a public round figure, as a site gives one."""

TARGETS = (
    "age >= 70",
    "insulin = No without diabetesMed, change, metformin, glipizide, glyburide, pioglitazone, rosiglitazone",
    "readmitted = NO",
)
BARS = {"none": (0.97, 0.976), "3": (0.955, 0.90), "1": (0.945, 0.85)}
"""Least sdmetrics overall score, and least AUC of the first target as a share of real rows', by budget."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One budget's report and its seconds: to train, to generate, to evaluate."""

    report: UtilityReport
    seconds: tuple[float, float, float]


def plan_of(generator: str, budget: str) -> TrainingPlan:
    """The plan that `synthkit train` makes for this size and budget."""
    if budget != "none":
        epsilon = float(budget.partition(":")[0])
        return plan_for(generator, effort_for(ROUND_SIZE), target_epsilon=epsilon, delta=DELTA)
    effort, usual = effort_without_privacy(ROUND_SIZE), hyperparameters_without_privacy(generator)
    return plan_for(generator, effort, target_epsilon=1.0, delta=DELTA, hyperparameters=usual)


def trained(tables: Sequence[PatientTable], plan: TrainingPlan, budget: str, seed: int) -> Model:
    """A model of one table, or of several sites' averaged releases; no ledger: nothing is released."""
    privacy = UnsafeNoPrivacy if budget == "none" else None
    schema = tables[0].schema
    generator = new_generator(plan.generator, schema, plan.hyperparameters, seed=seed)
    replies = []
    for table in tables:
        states = fit_encoding(schema).encode_patients(table)
        if isinstance(generator, SteppedGenerator):
            if len(tables) > 1:
                raise SystemExit("several sites are measured for generators that take no steps")
            train(
                generator,
                states,
                plan,
                steps=plan.total_steps,
                declared_size=ROUND_SIZE,
                state=LoopState(),
                privacy=privacy,
            )
        close(generator, states, plan, privacy=privacy)
        replies.append(generator.get_weights())
    sizes = [round(len(table), -2) for table in tables]
    generator.set_weights(weighted_average(replies, sizes))
    finish(generator, plan, sizes, privacy=privacy)
    return Model(
        schema=schema,
        generator=generator,
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="benchmark",
        study_digest="0" * 64,
        site="benchmark",
    )


def outcome_of(
    budget: str, sites: Sequence[PatientTable], test: PatientTable, *, generator: str, rows: int, seed: int
) -> Outcome:
    """Train, generate and evaluate at one budget."""
    table = pool(sites)
    targets = tuple(parse_target(text, table.schema) for text in TARGETS)
    holders = sites if ":" in budget else [table]
    model, training = measured(partial(trained, holders, plan_of(generator, budget), budget, seed))
    synthesis, drawing = measured(partial(synthesize, model, rows, seed=seed))
    judge = partial(evaluate, real=test, synthetic=synthesis.table, train=table, targets=targets, seed=seed)
    report, judging = measured(judge)
    return Outcome(report=report, seconds=(training.wall, drawing.wall, judging.wall))


def fidelity_line(label: str, report: UtilityReport, part: str) -> list[str]:
    """sdmetrics' figures and total variation of one row: `quality`, `floor` or `ceiling`."""
    quality = getattr(report, part)
    prefix = "" if part == "quality" else f"{part}_"
    distances = [report.total_variation[f"{prefix}{way}"] for way in ("one_way", "two_way")]
    figures = [quality.overall, quality.column_shapes, quality.column_pairs, *distances]
    return [label, *(f"{figure:.3f}" for figure in figures)]


def print_outcomes(outcomes: dict[str, Outcome]) -> None:
    """Fidelity, usefulness and time, a line for each budget."""
    first = next(iter(outcomes.values())).report
    lines = [fidelity_line("floor", first, "floor")]
    for budget, outcome in outcomes.items():
        bar, _ = BARS.get(budget, (0.0, 0.0))
        met = "met" if outcome.report.quality.overall >= bar else "MISSED"
        label = f"epsilon {budget}" + (f" (bar {bar:g}: {met})" if bar else "")
        lines.append(fidelity_line(label, outcome.report, "quality"))
    lines.append(fidelity_line("ceiling", first, "ceiling"))
    print_table(["", "overall", "shapes", "pairs", "TVD one-way", "TVD two-way"], lines)
    labels = [entry.target for entry in first.utility]
    aucs = [["real", *(f"{entry.real.auc:.3f}" for entry in first.utility)]]
    aucs += [
        [f"epsilon {b}", *(f"{entry.synthetic.auc:.3f}" for entry in o.report.utility)]
        for b, o in outcomes.items()
    ]
    print_table(["AUC on real rows, trained on", *labels], aucs)
    for budget, outcome in outcomes.items():
        first_task = outcome.report.utility[0]
        ratio, (_, bar) = first_task.synthetic.auc / first_task.real.auc, BARS.get(budget, (0.0, 0.0))
        met = (f" (bar {bar:g}: " + ("met)" if ratio >= bar else "MISSED)")) if bar else ""
        print(f"epsilon {budget}: AUC of {first_task.target} is {ratio:.3f} of real rows'{met}")
    seconds = [[f"epsilon {b}", *(f"{s:.0f}" for s in o.seconds)] for b, o in outcomes.items()]
    print_table(["seconds", "train", "generate", "evaluate"], seconds)


def test_rows(found: Example) -> PatientTable:
    """The patients that no hospital file holds."""
    if found.test is None:
        raise SystemExit("the example has no test file")
    return read_table(found.test, found.schema)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilon", nargs="+", default=["none", "3", "3:8", "1"], help="budgets, or none")
    parser.add_argument("--generator", default="medvae", help="its kind")
    parser.add_argument("--rows", type=int, help="rows to generate; by default as many as trained on")
    parser.add_argument("--seed", type=int, default=0, help="initial weights, rows and classifiers")
    parser.add_argument("--threads", type=int, default=2, help="processor threads")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    print_machine()
    found = example("diabetes")
    sites, test = [read_table(path, found.schema) for path in found.sites.values()], test_rows(found)
    rows = given.rows or sum(map(len, sites))
    settings = {"generator": given.generator, "rows": rows, "seed": given.seed}
    outcomes = {b: outcome_of(b, sites, test, **settings) for b in given.epsilon}
    print_outcomes(outcomes)


if __name__ == "__main__":
    main()
