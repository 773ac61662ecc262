"""What freezing medvae-sgd's encoder costs or gains, on the bundled diabetes example (30 columns).

    python tests/benchmarks/bench_encoders.py [--epsilon 3] [--size 5000] [--encoder random public] [--runs 3]

One hospital is left out (--left-out): a model of its patients without privacy draws simulated rows, an
encoder is fitted to those, and this is the public one. The other hospitals' patients are pooled (for
measuring alone), and as many of them as the size are trained on. A line each for an encoder trained along
(trained), fixed random features (random), the public one (public), one trained with DP first at half of
epsilon (dp:0.5) or any other share, and for the default generator, which has none (medvae). As many rows are
generated as there are training patients; both figures are on the test file, whose patients no model saw.
Noise is the operating system's, so runs differ: quote several (--runs).
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from bench_desk import measured, print_machine, print_table

from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, pool
from synthkit.domain.study import TrainingPlan
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.privacy.accounting import admission_epsilon
from synthkit.training.artefact import Model, new_generator
from synthkit.training.encoder_source import EncoderSource, plan_with_encoder
from synthkit.training.freeze import encoder_of, encoder_plan, freeze, place_encoder
from synthkit.training.loop import LoopState, close, finish, train
from synthkit.training.planning import effort_for, effort_without_privacy, plan_for
from synthkit.training.synthesis import synthesize
from synthkit.training.unsafe import UnsafeNoPrivacy

DELTA, KIND, TARGET = 1e-5, "medvae-sgd", "age >= 70"
ENCODERS = ("trained", "random", "public", "dp:0.5", "medvae")
SIMULATED = 5_000
"""Rows that the public encoder is fitted to."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The patients that may be trained on, those of the test file, and the left-out hospital's."""

    patients: PatientTable
    test: PatientTable
    left_out: PatientTable

    def first(self, size: int) -> PatientTable:
        """As many patients, whichever hospital's: in an order drawn once."""
        order = np.random.default_rng(0).permutation(len(self.patients))[:size]
        frame = self.patients.frame.iloc[order].reset_index(drop=True)
        return PatientTable(schema=self.patients.schema, frame=frame, patients=np.arange(len(frame)))


def take_steps(generator: Generator, table: PatientTable, plan: TrainingPlan, privacy=None) -> None:
    """All steps of a plan; nothing for a generator that takes none."""
    if isinstance(generator, SteppedGenerator):
        states = fit_encoding(table.schema).encode_patients(table)
        size, steps = round_size(table), plan.total_steps
        train(generator, states, plan, steps=steps, declared_size=size, state=LoopState(), privacy=privacy)


def round_size(table: PatientTable) -> int:
    """A public round figure."""
    return max(100, round(len(table), -2))


def close_all(generator: Generator, table: PatientTable, plan: TrainingPlan, privacy=None) -> Model:
    """The closing release, and the model; no ledger: nothing is released."""
    states = fit_encoding(table.schema).encode_patients(table)
    close(generator, states, plan, privacy=privacy)
    finish(generator, plan, [round_size(table)], privacy=privacy)
    return Model(
        schema=table.schema,
        generator=generator,
        spend=None,
        encoder_provenance=plan.encoder_provenance,
        study="benchmark",
        study_digest="0" * 64,
        site="benchmark",
    )


def without_privacy(table: PatientTable, seed: int) -> Model:
    """A model as public data would give it, in the private form's proportions."""
    effort = effort_without_privacy(round_size(table))
    plan = plan_for(KIND, effort, target_epsilon=1.0, delta=DELTA)
    generator = new_generator(KIND, table.schema, plan.hyperparameters, seed=seed)
    take_steps(generator, table, plan, UnsafeNoPrivacy)
    return close_all(generator, table, plan, UnsafeNoPrivacy)


@cache
def public_encoder(bench: Bench, seed: int) -> EncoderSource:
    """An encoder fitted to rows that a model of the left-out hospital drew."""
    rows = synthesize(without_privacy(bench.left_out, seed), SIMULATED, seed=seed).table
    simulated = PatientTable(schema=rows.schema, frame=rows.frame, patients=np.arange(len(rows.frame)))
    taught = without_privacy(simulated, seed).generator
    weights = {name: array + 0.0 for name, array in encoder_of(taught).items()}
    return EncoderSource(kind="public", weights=weights, hyperparameters=taught.hyperparameters)


def source_of(bench: Bench, encoder: str, epsilon: float, seed: int) -> EncoderSource:
    """What one line of the table freezes."""
    if encoder == "public":
        return public_encoder(bench, seed)
    if encoder.startswith("dp:"):
        return EncoderSource(kind="dp", epsilon=float(encoder.removeprefix("dp:")) * epsilon)
    return EncoderSource(kind="trained" if encoder == "medvae" else encoder)


def trained(table: PatientTable, source: EncoderSource, kind: str, epsilon: float, seed: int) -> Model:
    """A private model, as `synthkit train` makes it."""
    size = round_size(table)
    plan = plan_with_encoder(source, kind, effort_for(size), target_epsilon=epsilon, delta=DELTA)
    assert admission_epsilon(plan.total_events(), DELTA) <= epsilon
    generator = new_generator(kind, table.schema, plan.hyperparameters, seed=seed)
    place_encoder(generator, plan, source.weights)
    if plan.encoder_events():
        take_steps(generator, table, encoder_plan(plan))
    freeze(generator, plan)
    take_steps(generator, table, plan)
    return close_all(generator, table, plan)


def line(bench: Bench, encoder: str, epsilon: float, size: int, seed: int) -> list[str]:
    """One line of the table: train, generate, evaluate."""
    table, kind = bench.first(size), "medvae" if encoder == "medvae" else KIND
    source = source_of(bench, encoder, epsilon, seed)
    model, cost = measured(partial(trained, table, source, kind, epsilon, seed))
    rows = synthesize(model, len(table), seed=seed).table
    targets = (parse_target(TARGET, table.schema),)
    report = evaluate(real=bench.test, synthetic=rows, train=table, targets=targets, seed=seed)
    task = report.utility[0]
    figures = [f"{report.quality.overall:.3f}", f"{task.synthetic.auc:.3f}", f"{task.real.auc:.3f}"]
    return [encoder, f"{epsilon:g}", f"{size:,}", *figures, f"{cost.wall:.0f}"]


def read_bench(left_out: str) -> Bench:
    """The bundled example, one hospital apart."""
    found = example("diabetes")
    if left_out not in found.sites or found.test is None:
        raise SystemExit(f"one of {', '.join(found.sites)}")
    tables = {name: read_table(path, found.schema) for name, path in found.sites.items()}
    return Bench(
        patients=pool([table for name, table in tables.items() if name != left_out]),
        test=read_table(found.test, found.schema),
        left_out=tables[left_out],
    )


def lines(bench: Bench, given: argparse.Namespace) -> Iterable[list[str]]:
    """All asked-for lines, each printed as it comes: the whole table takes hours."""
    for size in given.size:
        for epsilon in given.epsilon:
            for encoder in given.encoder:
                for run in range(given.runs):
                    made = line(bench, encoder, epsilon, size, given.seed + run)
                    print("  ".join(made), flush=True)
                    yield made


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epsilon", nargs="+", type=float, default=[0.5, 1, 3, 8])
    parser.add_argument("--size", nargs="+", type=int, default=[500, 5_000, 40_000])
    parser.add_argument("--encoder", nargs="+", default=list(ENCODERS), help="dp:SHARE is a share of epsilon")
    parser.add_argument("--left-out", default=next(iter(example("diabetes").sites)), help="a hospital's name")
    parser.add_argument("--runs", type=int, default=1, help="trainings a line, each with its own noise")
    parser.add_argument("--seed", type=int, default=0, help="initial weights, rows and classifiers")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    print_machine()
    bench = read_bench(given.left_out)
    headings = ["encoder", "epsilon", "patients", "overall", f"AUC {TARGET}", "AUC real", "seconds"]
    print_table(headings, list(lines(bench, given)))


if __name__ == "__main__":
    main()
