"""How useful synthetic rows are at several budgets, on the bundled diabetes example (30 columns).

    python tests/benchmarks/bench_quality.py [--epsilon none 3 3:8 1] [--generator KIND] [--rows N] [--spread]
        [--pairs N]

A budget is an epsilon at delta 1e-5, or none; 3:8 is epsilon 3 at each of the eight hospitals, averaged as in
a federation, every hospital adding its full noise. Without a colon one site holds all 40,280 training
patients (the hospitals pooled, for measuring alone). As many rows are generated as there are training
patients, and compared with the test file, whose patients no model saw. sdmetrics' figures stand beside their
floor (independent columns) and ceiling (real rows in the synthetic table's place); mean total variation
distances of one- and two-way tables likewise; a classifier trained on synthetic rows and one trained on all
real rows are tested on the same real rows. With `--spread` each numeric column's standard deviation follows
as a ratio to that of the rows trained on, and skewness and kurtosis beside theirs. With `--pairs N` the N
pairs of columns follow whose sdmetrics score lies furthest below that of real rows. Noise is the operating
system's, so runs differ: quote several.
"""

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from bench_desk import measured, print_machine, print_table

from synthkit.data.bundled import Example, example
from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, SyntheticTable, pool
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.study import TrainingPlan
from synthkit.domain.utility import Moments, Spread, UtilityReport
from synthkit.evaluation.fidelity import pair_scores, quality_frame
from synthkit.evaluation.moments import moments_by_column, spread_by_column
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.states import levels_of
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
BARS: dict[str, dict[str, tuple[float, float, float]]] = {
    "medvae": {"none": (0.97, 0.0, 0.976), "3": (0.955, 0.0, 0.90), "1": (0.945, 0.0, 0.85)},
    "mcm": {"none": (0.97, 0.967, 0.98), "3": (0.965, 0.0, 0.93), "1": (0.955, 0.0, 0.88)},
}
"""By family and budget: least overall and pairs' score of sdmetrics, and least AUC of the first target as a
share of real rows'; 0: none. A family is its generator of tables and the one trained by steps."""
NO_BARS = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One budget's report and its seconds: to train, to generate, to evaluate."""

    report: UtilityReport
    moments: dict[str, tuple[Moments, Moments]]
    """Of the rows trained on and the synthetic ones, by numeric column."""
    spread: dict[str, Spread]
    pairs: dict[tuple[str, str], tuple[float, float]]
    """sdmetrics' score of each pair of columns: of the synthetic rows, and of those trained on."""
    seconds: tuple[float, float, float]


def plan_of(generator: str, budget: str) -> TrainingPlan:
    """The plan that `synthkit train` makes for this size and budget."""
    if budget != "none":
        epsilon = float(budget.partition(":")[0])
        return plan_for(generator, effort_for(ROUND_SIZE), target_epsilon=epsilon, delta=DELTA)
    effort = effort_without_privacy(ROUND_SIZE, generator)
    usual = hyperparameters_without_privacy(generator, ROUND_SIZE)
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
    return Outcome(
        report=report,
        moments=moments_by_column(table, synthesis.table),
        spread=spread_by_column(table, synthesis.table),
        pairs=scores_by_pair(test, synthesis.table, table),
        seconds=(training.wall, drawing.wall, judging.wall),
    )


def scores_by_pair(
    test: PatientTable, synthetic: SyntheticTable, table: PatientTable
) -> dict[tuple[str, str], tuple[float, float]]:
    """Each pair's score of synthetic and of real rows against the test rows, of all rows of each."""
    schema = test.schema
    levels = levels_of(schema, test.frame, synthetic.frame, table.frame)
    real, made, others = (quality_frame(t.frame, schema, levels) for t in (test, synthetic, table))
    ceiling = pair_scores(real, others, schema)
    return {pair: (score, ceiling[pair]) for pair, score in pair_scores(real, made, schema).items()}


def family_of(kind: str) -> str:
    """The generator of tables that `kind` is, or is the form trained by steps of."""
    return kind.removesuffix("-sgd")


def fidelity_line(label: str, report: UtilityReport, part: str) -> list[str]:
    """sdmetrics' figures and total variation of one row: `quality`, `floor` or `ceiling`."""
    quality = getattr(report, part)
    prefix = "" if part == "quality" else f"{part}_"
    distances = [report.total_variation[f"{prefix}{way}"] for way in ("one_way", "two_way")]
    figures = [quality.overall, quality.column_shapes, quality.column_pairs, *distances]
    return [label, *(f"{figure:.3f}" for figure in figures)]


def told(value: float, bar: float) -> str:
    """Whether a bar is met; nothing where there is none."""
    return f" (bar {bar:g}: {'met' if value >= bar else 'MISSED'})" if bar else ""


def print_outcomes(outcomes: dict[str, Outcome], generator: str) -> None:
    """Fidelity, usefulness and time, a line for each budget."""
    bars = BARS.get(family_of(generator), {})
    first = next(iter(outcomes.values())).report
    lines = [fidelity_line("floor", first, "floor")]
    for budget, outcome in outcomes.items():
        overall = outcome.report.quality.overall
        label = f"epsilon {budget}" + told(overall, bars.get(budget, NO_BARS)[0])
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
        first_task, (_, least_pairs, least_auc) = outcome.report.utility[0], bars.get(budget, NO_BARS)
        ratio, pairs = first_task.synthetic.auc / first_task.real.auc, outcome.report.quality.column_pairs
        print(
            f"epsilon {budget}: AUC of {first_task.target} is {ratio:.4f} of real rows'"
            f"{told(ratio, least_auc)}"
        )
        if least_pairs:
            print(f"epsilon {budget}: pairs {pairs:.4f}{told(pairs, least_pairs)}")
    seconds = [[f"epsilon {b}", *(f"{s:.0f}" for s in o.seconds)] for b, o in outcomes.items()]
    print_table(["seconds", "train", "generate", "evaluate"], seconds)


def print_pairs(outcomes: dict[str, Outcome], count: int) -> None:
    """The pairs of columns that lie furthest below real rows."""
    for budget, outcome in outcomes.items():
        found = {pair: both for pair, both in outcome.pairs.items() if not math.isnan(sum(both))}
        worst = sorted(found, key=lambda pair: found[pair][0] - found[pair][1])[:count]
        lines = [[" x ".join(pair), *(f"{score:.3f}" for score in found[pair])] for pair in worst]
        print_table([f"epsilon {budget}: worst of {len(outcome.pairs)} pairs", "synthetic", "real"], lines)


def print_spread(outcomes: dict[str, Outcome]) -> None:
    """Each numeric column's spread, and its skewness and kurtosis, beside those of the rows trained on."""
    first = next(iter(outcomes.values()))
    ratios, shapes = [], []
    for name, chance in ((name, spread.chance) for name, spread in first.spread.items()):
        found = [outcome.spread[name].ratio for outcome in outcomes.values()]
        ratios.append([name, *("-" if r is None else f"{r:.3f}" for r in found), f"{chance:.3f}"])
        beside = [first.moments[name][0], *(outcome.moments[name][1] for outcome in outcomes.values())]
        shapes.append([name, *(f"{m.skewness:.2f} / {m.kurtosis:.1f}" for m in beside)])
    within = [
        sum(not spread.is_outside for spread in outcome.spread.values()) for outcome in outcomes.values()
    ]
    ratios.append(["within 2 %", *(f"{count} of {len(first.spread)}" for count in within), ""])
    labels = [f"epsilon {budget}" for budget in outcomes]
    print_table(["standard deviation, synthetic over real", *labels, "chance alone"], ratios)
    print_table(["skewness / excess kurtosis", "real", *labels], shapes)


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
    parser.add_argument("--spread", action="store_true", help="print each numeric column's moments too")
    parser.add_argument(
        "--pairs", type=int, default=0, help="print so many of the worst pairs of columns too"
    )
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
    print_outcomes(outcomes, given.generator)
    if given.pairs:
        print_pairs(outcomes, given.pairs)
    if given.spread:
        print_spread(outcomes)


if __name__ == "__main__":
    main()
