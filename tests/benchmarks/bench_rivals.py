"""Med-VAE and MCM beside other generators, on the bundled diabetes example: one command, one table.

    python tests/benchmarks/bench_rivals.py [--only NAME ...] [--table NAME=FILE ...] [--epochs 60]

Every generator gets the eight hospitals' 40,280 patients pooled and makes as many rows, which are compared
with the test file, whose patients none of them saw: sdmetrics' overall and pair scores, mean total variation
of one- and two-way tables, AUC on real rows of XGBoost trained on the made ones. Seconds are the
processor's, to train and generate. `independent` is every column shuffled on its own, `real` the training
patients themselves.

The rivals that are packages come with `pip install 'synthkit[benchmark]'`: sdv (BUSL-1.1: read its licence)
and mbi (Apache-2.0). A rival whose package is missing gets a line that says so; `sdv-ctgan` is long, so it
has to be asked for. A rival with an environment of its own writes a CSV, which `--table NAME=FILE` judges.

`mst-EPSILON` is McKenna, Miklau and Sheldon 2021 (arXiv 2108.04978): noisy one-way tables, a spanning tree
of pairs chosen privately, their noisy tables, and a graphical model of all (mbi's mirror descent), a third of
the budget each. mbi has no MST of its own; the mechanism is written out below. `star-COLUMN-EPSILON` buys one
table of every other column with COLUMN, and draws the others independently given it: a baseline that knows
which question will be asked. Both work on synthkit's public states, at delta 1e-5, and their rho is that of
the one Gaussian mechanism that Med-VAE buys at the same epsilon, so nobody is favoured by its accounting.
sdv's three and what ends in none make no privacy claim; of MCM that is `mcm-sgd`, the form to use then.
"""

import argparse
import importlib
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench_desk import measured, pooled, print_machine, print_table
from bench_quality import TARGETS, plan_of, test_rows, trained

from synthkit.data.bundled import example
from synthkit.data.connectors import read_synthetic
from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.layout import Layout
from synthkit.domain.levels import to_decimal
from synthkit.domain.schema import Column, Kind
from synthkit.errors import SynthkitError
from synthkit.evaluation.run import evaluate
from synthkit.evaluation.targets import parse_target
from synthkit.privacy import rng as noise
from synthkit.training.synthesis import synthesize

MEDVAE = "medvae"
MST_ESTIMATION = 1_000
"""Steps of the graphical model's fits."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every generator is given: patients, rows to make, a seed, and passes over the patients (sdv)."""

    train: PatientTable
    rows: int
    seed: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Rival:
    """How to make its rows, the package it needs, and whether it runs without being asked for."""

    make: Callable[[Task], SyntheticTable]
    package: str = ""
    is_long: bool = False


def real(task: Task) -> SyntheticTable:
    """The ceiling: training patients in the made rows' place."""
    chosen = np.random.default_rng(task.seed).permutation(len(task.train))[: task.rows]
    return SyntheticTable(schema=task.train.schema, frame=task.train.take(chosen).frame)


def independent(task: Task) -> SyntheticTable:
    """The floor: real columns, no relation between them."""
    rng, frame = np.random.default_rng(task.seed), task.train.frame
    drawn = {name: rng.permutation(frame[name].to_numpy())[: task.rows] for name in frame}
    return SyntheticTable(schema=task.train.schema, frame=pd.DataFrame(drawn))


def own(task: Task, *, kind: str, budget: str) -> SyntheticTable:
    """What `synthkit train` and `generate` make at one site."""
    model = trained([task.train], plan_of(kind, budget), budget, task.seed)
    return synthesize(model, task.rows, seed=task.seed).table


def sdv_rows(task: Task, *, synthesizer: str, is_neural: bool) -> SyntheticTable:
    """One of sdv's single-table synthesizers, told the columns' kinds, otherwise as it comes.

    An ordinal column whose levels are numbers (decades of age) is a number to it, as it would detect.
    """
    module = importlib.import_module("sdv.single_table")
    metadata = importlib.import_module("sdv.metadata").Metadata
    schema = task.train.schema
    numbers = {c.name for c in schema if c.is_numeric or levels_as_numbers(c) is not None}
    kinds = {c.name: {"sdtype": "numerical" if c.name in numbers else "categorical"} for c in schema}
    table = task.train.frame.astype(dict.fromkeys(numbers, float))
    described = metadata.load_from_dict({"tables": {"patients": {"columns": kinds}}, "relationships": []})
    settings = {"epochs": task.epochs, "enable_gpu": False} if is_neural else {}
    torch.manual_seed(task.seed)
    np.random.seed(task.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(module, synthesizer)(described, **settings)
        model.fit({"patients": table})
        frame = model.sample(task.rows)["patients"]
    return SyntheticTable(
        schema=schema, frame=pd.DataFrame({c.name: as_cells(frame[c.name], c) for c in schema})
    )


def levels_as_numbers(column: Column) -> np.ndarray | None:
    """An ordinal column's levels where all are numbers: float64, in their order."""
    levels = [to_decimal(level) for level in column.categories] if column.kind is Kind.ORDINAL else [None]
    return None if None in levels else np.array(levels, dtype=float)


def as_cells(made: pd.Series, column: Column) -> np.ndarray:
    """A made column in a table's form; a number of an ordinal column is its nearest level."""
    levels = levels_as_numbers(column)
    if levels is None:
        return made.to_numpy(dtype=float if column.is_numeric else object)
    nearest = np.abs(made.to_numpy(dtype=float)[:, None] - levels).argmin(axis=1)
    return np.array(column.categories, dtype=object)[nearest]


def noise_multiplier(budget: str) -> float:
    """Of the one Gaussian mechanism that this budget buys, at sensitivity 1."""
    return plan_of(MEDVAE, budget).noise_multiplier


def star(task: Task, *, column: str, budget: str) -> SyntheticTable:
    """Every other column drawn given one, from noisy tables of the two."""
    encoding = fit_encoding(task.train.schema)
    layout, states = encoding.layout, encoding.encode(task.train)
    hub = layout.names.index(column)
    others = [i for i in range(len(layout.names)) if i != hub]
    # A patient is in one cell of each table.
    std = noise_multiplier(budget) * math.sqrt(len(others))
    tables = {i: noisy_table(states, layout, (hub, i), std).clip(min=0.0) for i in others}
    shares = np.mean([table.sum(axis=1) / table.sum() for table in tables.values()], axis=0)
    rng = np.random.default_rng(task.seed)
    drawn = np.empty((task.rows, len(layout.names)), dtype=np.int64)
    drawn[:, hub] = rng.choice(shares.size, size=task.rows, p=shares / shares.sum())
    for i, table in tables.items():
        for state in np.unique(drawn[:, hub]):
            rows = np.flatnonzero(drawn[:, hub] == state)
            weights = table[state] if table[state].any() else np.ones(table.shape[1])
            drawn[rows, i] = rng.choice(weights.size, size=rows.size, p=weights / weights.sum())
    return encoding.decode(drawn, rng)


def noisy_table(states: np.ndarray, layout: Layout, columns: Sequence[int], std: float) -> np.ndarray:
    """Patients per cell of the columns' joint states, plus noise of this standard deviation."""
    shape = [layout.states[i] for i in columns]
    cells = np.ravel_multi_index(tuple(states[:, i] for i in columns), shape)
    counts = np.bincount(cells, minlength=math.prod(shape))
    return (counts + noise.normal(counts.size, std=std)).reshape(shape)


def mst(task: Task, *, budget: str) -> SyntheticTable:
    """Maximum spanning tree of noisy two-way tables, on mbi's graphical model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on single precision, which the next line ends
        mbi = importlib.import_module("mbi")
    importlib.import_module("jax").config.update("jax_enable_x64", True)
    np.random.seed(task.seed)  # of mbi's drawing; the noise is the operating system's
    encoding = fit_encoding(task.train.schema)
    layout, states = encoding.layout, encoding.encode(task.train)
    rho = 1.0 / (2.0 * noise_multiplier(budget) ** 2)
    domain = mbi.Domain(layout.names, layout.states)
    singles = [(i,) for i in range(len(layout.names))]
    ones, merged = measure(mbi, states, layout, singles, rho / 3), {}
    for one, size in zip(ones, layout.states, strict=True):
        rare = np.asarray(one.noisy_measurement) < 3 * one.stddev
        if rare.sum() > 1:  # states too rare to be told from noise become one
            kept = np.cumsum(~rare) - 1
            merged[one.clique[0]] = np.where(rare, size - rare.sum(), kept)
    fit = mbi.estimation.MirrorDescent().estimate
    data = mbi.Dataset(dict(zip(layout.names, states.T, strict=True)), domain).compress(merged)
    ones = [one.compress(merged, domain) for one in ones]
    first = fit(data.domain, ones, iters=MST_ESTIMATION)
    small = Layout(names=layout.names, states=tuple(data.domain.shape))
    codes = np.column_stack([data.data[name] for name in layout.names]).astype(np.int64)
    singly = [np.asarray(first.project((name,)).datavector()) for name in layout.names]
    pairs = spanning_tree(codes, small, singly, rho / 3, np.random.default_rng())
    twos = measure(mbi, codes, small, pairs, rho / 3)
    drawn = fit(data.domain, ones + twos, iters=MST_ESTIMATION).synthetic_data(task.rows).decompress(merged)
    made = np.column_stack([np.asarray(drawn.data[name]) for name in layout.names]).astype(np.int64)
    return encoding.decode(made, np.random.default_rng(task.seed))


def measure(
    mbi: Any, states: np.ndarray, layout: Layout, cliques: Sequence[tuple[int, ...]], rho: float
) -> list[Any]:
    """These tables for rho together: a patient is in one cell of each."""
    std = math.sqrt(len(cliques) / (2.0 * rho))
    return [
        mbi.LinearMeasurement(
            noisy_table(states, layout, clique, std).ravel(), tuple(layout.names[i] for i in clique), std
        )
        for clique in cliques
    ]


def spanning_tree(
    states: np.ndarray, layout: Layout, singly: Sequence[np.ndarray], rho: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Pairs that independent columns of these counts miss most, each drawn by the exponential mechanism."""
    columns = range(len(layout.names))
    missed = {}
    for pair in combinations(columns, 2):
        guessed = np.outer(singly[pair[0]], singly[pair[1]]) / singly[pair[0]].sum()
        missed[pair] = float(np.abs(noisy_table(states, layout, pair, 0.0) - guessed).sum())
    # A bounded-range mechanism of this epsilon costs epsilon**2 / 8, and one patient moves a gap by 1.
    epsilon = math.sqrt(8.0 * rho / (len(columns) - 1))
    part, tree = {i: i for i in columns}, []
    while len(tree) < len(columns) - 1:
        open_pairs = [pair for pair in missed if part[pair[0]] != part[pair[1]]]
        scores = 0.5 * epsilon * np.array([missed[pair] for pair in open_pairs])
        weights = np.exp(scores - scores.max())
        chosen = open_pairs[rng.choice(len(open_pairs), p=weights / weights.sum())]
        tree.append(chosen)
        old, new = part[chosen[0]], part[chosen[1]]
        part = {i: new if home == old else home for i, home in part.items()}
    return tree


def sdv(synthesizer: str, *, is_neural: bool = True, is_long: bool = False) -> Rival:
    """One of sdv's."""
    make = partial(sdv_rows, synthesizer=synthesizer, is_neural=is_neural)
    return Rival(make=make, package="sdv", is_long=is_long)


RIVALS = {
    "independent": Rival(make=independent),
    "medvae-none": Rival(make=partial(own, kind=MEDVAE, budget="none")),
    "medvae-3": Rival(make=partial(own, kind=MEDVAE, budget="3")),
    "medvae-1": Rival(make=partial(own, kind=MEDVAE, budget="1")),
    "mcm-none": Rival(make=partial(own, kind="mcm-sgd", budget="none")),
    "mcm-3": Rival(make=partial(own, kind="mcm", budget="3")),
    "mcm-1": Rival(make=partial(own, kind="mcm", budget="1")),
    "sdv-copula": sdv("GaussianCopulaSynthesizer", is_neural=False),
    "sdv-tvae": sdv("TVAESynthesizer"),
    "sdv-ctgan": sdv("CTGANSynthesizer", is_long=True),
    "mst-3": Rival(make=partial(mst, budget="3"), package="mbi"),
    "mst-1": Rival(make=partial(mst, budget="1"), package="mbi"),
    "star-age-3": Rival(make=partial(star, column="age", budget="3")),
    "star-age-1": Rival(make=partial(star, column="age", budget="1")),
    "star-insulin-1": Rival(make=partial(star, column="insulin", budget="1")),
    "star-readmitted-1": Rival(make=partial(star, column="readmitted", budget="1")),
    "real": Rival(make=real),
}


def line_of(name: str, table: SyntheticTable, seconds: str, *, task: Task, test: PatientTable) -> list[str]:
    """One judged table as a printed row."""
    targets = tuple(parse_target(text, test.schema) for text in TARGETS)
    report = evaluate(real=test, synthetic=table, train=task.train, targets=targets, seed=task.seed)
    distances = [report.total_variation[way] for way in ("one_way", "two_way")]
    aucs = [entry.synthetic.auc for entry in report.utility]
    figures = [report.quality.overall, report.quality.column_pairs, *distances, *aucs]
    return [name, *(f"{figure:.3f}" for figure in figures), seconds]


def rival_line(name: str, *, task: Task, test: PatientTable) -> list[str]:
    """A rival's row, or why there is none."""
    rival = RIVALS[name]
    if rival.package and find_spec(rival.package) is None:
        return [name, *("-" for _ in range(4 + len(TARGETS))), f"{rival.package}: not installed"]
    table, cost = measured(partial(rival.make, task))
    return line_of(name, table, f"{cost.processor:.0f}", task=task, test=test)


def named_file(text: str) -> tuple[str, Path]:
    """NAME=FILE, taken apart."""
    name, found, path = text.partition("=")
    if not (name and found and path):
        raise argparse.ArgumentTypeError("write it NAME=FILE")
    return name, Path(path)


def main() -> None:
    """Parse, measure, print."""
    usual = [name for name, rival in RIVALS.items() if not rival.is_long]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(RIVALS), help="these alone; nothing: no generator")
    parser.add_argument("--table", nargs="+", type=named_file, default=[], help="made elsewhere: NAME=FILE")
    parser.add_argument("--epochs", type=int, default=60, help="of sdv's TVAE and CTGAN")
    parser.add_argument("--rows", type=int, help="rows to make; by default as many as trained on")
    parser.add_argument("--seed", type=int, default=0, help="initial weights, rows and classifiers")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(given.threads)
    print_machine()
    found = example("diabetes")
    train, test = pooled(found), test_rows(found)
    task = Task(train=train, rows=given.rows or len(train), seed=given.seed, epochs=given.epochs)
    try:
        elsewhere = {name: read_synthetic(path, train.schema) for name, path in given.table}
    except SynthkitError as error:
        parser.error(f"--table: {error}")
    lines = []
    for name in usual if given.only is None else given.only:
        lines.append(rival_line(name, task=task, test=test))
        print("measured:", *lines[-1], flush=True)
    for name, table in elsewhere.items():
        lines.append(line_of(name, table, "-", task=task, test=test))
    left_out = [] if given.only is not None else [name for name in RIVALS if name not in usual]
    lines += [[name, *("-" for _ in range(4 + len(TARGETS))), "long: --only"] for name in left_out]
    labels = [f"AUC {parse_target(text, train.schema).label}" for text in TARGETS]
    print_table(["", "overall", "pairs", "TVD one-way", "TVD two-way", *labels, "seconds"], lines)


if __name__ == "__main__":
    main()
