"""How fast rows are made and models are trained, on the bundled diabetes example (30 columns).

    python tests/benchmarks/bench_speed.py [--rows N] [--epochs E] [--only generate|train] [--generator mcm]

Generation: sampling and decoding on one core, then the same with the CSV written, from a model of the
default size, fitted to tables at epsilon 3; and on one core what that fit took. Training: `--epochs` passes
over all 40,280 training patients, pooled, in DP-SGD steps of a tenth of the patients each, on two cores; the
prior's fit; and the same steps without privacy, for the ratio. Each line is a process of its own, so that its
peak memory is its own. Wall time counts; on a machine with other work the processor time is the steadier
figure.
"""

import argparse
import logging
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from bench_desk import Cost, in_own_process, measured, pooled, print_machine, print_table

from synthkit.data.connectors import write_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.study import TrainingPlan
from synthkit.generators.base import Generator
from synthkit.training.artefact import Model, new_generator
from synthkit.training.loop import LoopState, close, finish, train
from synthkit.training.planning import effort_for, plan_for
from synthkit.training.synthesis import synthesize
from synthkit.training.unsafe import UnsafeNoPrivacy

ROWS_PER_SECOND_BARS = {"medvae": 200_000, "mcm": 20_000}
TRAINING_BAR_S = 90.0
RATIO_BAR = 2.0
BATCHES = (1_000, 4_000)
"""Expected patients a step: privacy's cost is largest, in proportion, on small batches."""

ROUND_SIZE = 40_000
"""Declared size of the pooled table: a public round figure, as a site gives one."""


def plan_of(epochs: int, batch: int = BATCHES[-1]) -> TrainingPlan:
    """A plan at epsilon 3 whose steps pass `epochs` times over the patients."""
    rate = batch / ROUND_SIZE
    effort = replace(effort_for(ROUND_SIZE), local_steps=round(epochs / rate), sample_rate=rate)
    return plan_for("medvae-sgd", effort, target_epsilon=3.0, delta=1e-5)


def trained(
    table: PatientTable, plan: TrainingPlan, privacy: type[UnsafeNoPrivacy] | None
) -> tuple[Generator, Cost, Cost]:
    """A generator after the plan's steps, what they cost, and what the prior's fit cost."""
    states = fit_encoding(table.schema).encode_patients(table)
    generator = new_generator("medvae-sgd", table.schema, None, seed=0)
    take_steps = partial(
        train,
        generator,
        states,
        plan,
        steps=plan.total_steps,
        declared_size=ROUND_SIZE,
        state=LoopState(),
        privacy=privacy,
        device=torch.device("cpu"),
    )
    _, steps = measured(take_steps)
    _, prior = measured(partial(close, generator, states, plan, privacy=privacy))
    return generator, steps, prior


def training(epochs: int, batch: int, is_private: bool) -> tuple[Cost, Cost]:
    """Costs of the steps and of the prior's fit, on two cores."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    _, steps, prior = trained(pooled(), plan_of(epochs, batch), None if is_private else UnsafeNoPrivacy)
    return steps, prior


def generation(kind: str, rows: int) -> tuple[Cost, Cost, Cost]:
    """Costs on one core of a fit to bought tables, of `rows` rows in memory, and of writing them as CSV."""
    torch.set_num_threads(1)
    table = pooled()
    plan = plan_for(kind, effort_for(ROUND_SIZE), target_epsilon=3.0, delta=1e-5)
    generator = new_generator(kind, table.schema, None, seed=0)
    close(generator, fit_encoding(table.schema).encode_patients(table), plan)
    device = torch.device("cpu")
    _, fitted = measured(partial(finish, generator, plan, [ROUND_SIZE], device=device))
    model = Model(
        schema=table.schema,
        generator=generator,
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="benchmark",
        study_digest="0" * 64,
        site="benchmark",
    )
    synthesize(model, 10_000, seed=0)  # the first call fills caches
    synthesis, drawn = measured(partial(synthesize, model, rows, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        _, written = measured(partial(write_table, synthesis.table, Path(folder) / "rows.csv"))
    return fitted, drawn, written


def report_generation(kind: str, rows: int) -> None:
    """Print rows per second with and without the file, and the seconds of the fit before."""
    fitted, drawn, written = in_own_process(generation, kind, rows)
    both = Cost(
        wall=drawn.wall + written.wall,
        processor=drawn.processor + written.processor,
        peak_mb=written.peak_mb,
    )
    lines = [
        [label, f"{rows / c.wall:,.0f}", f"{rows / c.processor:,.0f}", f"{c.wall:.2f}", f"{c.peak_mb:,.0f}"]
        for label, c in (("sampled and decoded", drawn), ("and written as CSV", both))
    ]
    title = f"{kind}: {rows:,} rows on one core (bar {ROWS_PER_SECOND_BARS[kind]:,} rows/s)"
    print_table([title, "rows/s", "rows/s of processor", "wall s", "peak MB"], lines)
    print(f"{kind}, fitted to bought tables: {fitted.wall:.0f} s, {fitted.processor:.0f} s of the processor")


def report_training(epochs: int, batch: int) -> None:
    """Print the costs with and without privacy, and their ratio."""
    private, prior = in_own_process(training, epochs, batch, True)
    plain, plain_prior = in_own_process(training, epochs, batch, False)
    cases = {
        "private steps (DP-SGD)": private,
        "private prior": prior,
        "the same steps without privacy": plain,
        "prior without privacy": plain_prior,
    }
    lines = [[n, f"{c.wall:.1f}", f"{c.processor:.1f}", f"{c.peak_mb:,.0f}"] for n, c in cases.items()]
    title = (
        f"{epochs} epochs of 40,280 patients in batches of {batch:,}, "
        f"{plan_of(epochs, batch).total_steps} steps (bar {TRAINING_BAR_S:g} s)"
    )
    print_table([title, "wall s", "processor s", "peak MB"], lines)
    ratio = private.processor / plain.processor
    print(f"privacy costs {ratio:.2f} times the processor time (bar {RATIO_BAR:g} at batches of 1,000)")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000, help="rows to generate")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the patients")
    parser.add_argument("--only", choices=("generate", "train"), help="one half of it")
    parser.add_argument(
        "--generator",
        nargs="+",
        choices=list(ROWS_PER_SECOND_BARS),
        default=list(ROWS_PER_SECOND_BARS),
        help="whose fit and rows; training is medvae-sgd's",
    )
    given = parser.parse_args()
    print_machine()
    if given.only != "train":
        for kind in given.generator:
            report_generation(kind, given.rows)
    if given.only != "generate":
        for batch in BATCHES:
            report_training(given.epochs, batch)


if __name__ == "__main__":
    main()
