"""Med-VAE as published: how useful its rows are, and how many of them are copies of patients.

    python tests/benchmarks/bench_paper.py [--epochs N] [--kl-weight B] [--batch-size N] [--seed N]

Trains on the 40,280 training patients of the bundled diabetes example WITHOUT privacy, draws as many rows as
the test file has patients, and compares them with that file. `--kl-weight 1` is the paper's text; 0 is what
the authors' notebook trains. The last table counts rows that agree in every column of categories with some
patient the model saw, with one of a part of these patients, and with one of as many it did not see: rows
that were not copied agree with both parts equally often.
"""

import argparse
import logging
from functools import partial

import numpy as np
import pandas as pd
import torch
from bench_desk import measured, pooled, print_machine, print_table
from bench_quality import TARGETS, fidelity_line, test_rows

from synthkit.data.bundled import example
from synthkit.data.table import PatientTable
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target
from synthkit.training.paper_medvae import MedVaeSettings, PublishedMedVae, train_medvae


def copies(synthetic: pd.DataFrame, patients: PatientTable) -> float:
    """Share of synthetic rows whose categories are all those of some patient."""
    names = [column.name for column in patients.schema if not column.is_numeric]
    known = set(patients.frame[names].itertuples(index=False, name=None))
    return float(np.mean([row in known for row in synthetic[names].itertuples(index=False, name=None)]))


def spread(synthetic: pd.DataFrame, patients: PatientTable) -> float:
    """Mean ratio of the numeric columns' standard deviations, synthetic to real."""
    names = [column.name for column in patients.schema if column.is_numeric]
    return float((synthetic[names].std() / patients.frame[names].std()).mean())


def report(model: PublishedMedVae, train: PatientTable, test: PatientTable, seed: int) -> None:
    """Draw, evaluate, print."""
    targets = tuple(parse_target(text, train.schema) for text in TARGETS)
    (table, _), drawing = measured(partial(model.draw, len(test), seed=seed))
    judge = partial(evaluate, real=test, synthetic=table, train=train, targets=targets, seed=seed)
    found, _ = measured(judge)
    lines = [fidelity_line(part, found, part) for part in ("floor", "quality", "ceiling")]
    print_table(["", "overall", "shapes", "pairs", "TVD one-way", "TVD two-way"], lines)
    scores = [
        [entry.target[:24], *(f"{figure:.3f}" for figure in figures)]
        for entry in found.utility
        for figures in [(entry.real.auc, entry.synthetic.auc, entry.real.accuracy, entry.synthetic.accuracy)]
    ]
    print_table(["tested on real", "AUC real", "AUC synthetic", "accuracy real", "synthetic"], scores)
    some = np.random.default_rng(seed).choice(len(train), size=len(test), replace=False)
    groups = (train, train.take(some), test)
    rows = [["all categories as a patient's", *(f"{copies(table.frame, group):.3f}" for group in groups)]]
    print_table(["share of synthetic rows", "all trained on", "as many of them", "not seen"], rows)
    print(f"numeric standard deviation, synthetic to real: {spread(table.frame, test):.3f}")
    print(f"drawing: {drawing.wall:.1f} s")


def main() -> None:
    """Parse, train, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--kl-weight", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="training, rows and classifiers")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print_machine()
    found = example("diabetes")
    train, test = pooled(found), test_rows(found)
    settings = MedVaeSettings(epochs=given.epochs, kl_weight=given.kl_weight, batch_size=given.batch_size)
    fit = partial(train_medvae, train, settings, seed=given.seed, study="benchmark", site="benchmark")
    model, training = measured(fit)
    print(f"{settings}: {training.processor:.0f} s of processor time")
    report(model, train, test, given.seed)


if __name__ == "__main__":
    main()
