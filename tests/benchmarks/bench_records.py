"""Records of visits: all models of EVA's paper in one table, between their floors and their ceiling.

    python tests/benchmarks/bench_records.py (--data FILE | --simulated N) [--visits-mean V] [--patients N]
        [--models a,b] [--seeds N] [--epsilon 3 8] [--effort E] [--useful] [--results FILE]

`--data` is Diabetes 130: `records_desk` says where it comes from and which codes are taken. `--simulated
20000` takes that many patients of the simulator. Four patients in five are trained on; as many are made as
were trained on, and compared with the fifth. A seed decides the split, the initial weights and the draws. The
paper's rivals have as many parameters as EVA (within 5 %), and all models but the paper's own (`paper-`)
decode the codes of a visit one after the other.

Columns: the bound on the held-out log-likelihood, in nats a visit; correlations with the held-out records of
codes, of pairs within a visit and across consecutive ones, and of their LOG LIFTS (pairs seen at least 25
times in both), which are what decides: the pairs' own correlation is as good for shuffled codes. Jaccard
similarity of consecutive visits, unique codes, codes a visit, visits a patient and days between visits stand
beside the held-out records' in the first row. "KL" is the latent's share of the bound: near 0 it is not used.
A model of `eva-c` and `paper-eva-c` has ten conditions, the most frequent diagnoses; they follow from the
codes, so its bound is one on the codes, too. "weighted" is the tighter bound, by importance weights over 20
draws of the latent and over the posterior samples of the weights, "given" the records' part of it given their
conditions: what the paper reports of EVA_c. `paper-`: of records after Algorithm 2, which replaces visits,
and given the conditions: not comparable.

Rows with an epsilon are trained under DP-SGD, delta 1e-5, at 20,000 declared patients or the next round
number. `--effort` multiplies steps and epochs. `--useful` adds, as `synthkit evaluate` measures them: recall
of the next visit after training on made records, as a share of real-trained; what ten times as many made
records add to the recall of 500 real patients; and the mean AUC over the ten most frequent diagnoses, each
told from a patient's other codes, as a share of real-trained. With `--results` every row is kept as it is
ready, and none is computed twice. One line a seed, then the table: mean (least to most).
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bench_desk import measured, print_machine, print_table
from records_desk import (
    MOST_VISITS,
    condition_questions,
    dealt,
    diabetes130,
    simulated,
    with_conditions,
)

from synthkit.data.sequences import PatientSequences, Sequences
from synthkit.domain.privacy import Adjacency, Budget
from synthkit.domain.utility import Estimate
from synthkit.evaluation.sequence_run import evaluate_sequences
from synthkit.evaluation.sequences import likeness, pair_counts, shape_of, shuffled
from synthkit.generators.sequence_registry import sequence_defaults
from synthkit.privacy.ledger import Ledger
from synthkit.training.paper_eva import PublishedEva, train_eva
from synthkit.training.paper_eva_loop import EvaSettings
from synthkit.training.planning import Effort
from synthkit.training.record_models import draw_from, likelihood_of
from synthkit.training.sequence_artefact import SequenceModel, matched_to_eva
from synthkit.training.sequence_site import (
    effort_for_records,
    effort_for_records_without_privacy,
    plan_for_records,
    train_records_privately,
    train_records_unsafe,
)
from synthkit.training.single_site import Job

SHARES = (0.8, 0.2)
COHORT = 500
"""Real patients that generated ones augment, with --useful."""

CONTROLS = ("real half", "shuffled codes", "visits dealt")
CAPS = (float(MOST_VISITS), 60.0)
"""Visits of a patient and codes of a visit that are trained on: no patient of Diabetes 130 has more."""

POSTERIOR = 10.0
"""Posterior samples that EVA and EVA_c keep; `-point` models have none."""

MODELS = ("eva", "eva-c", "eva-point", "vae-deconv", "vae-lstm", "lstm", "paper-eva", "paper-eva-c")
"""What the table has by default."""

OTHERS = ("eva-plain", "eva-c-point", "paper-eva-point", "paper-eva-c-point")
"""What it has where they are named; `eva-plain` is EVA's point estimate without the memory of single codes,
which the paper has not and the rivals have not either."""

FIGURES = (
    ("bound / visit", "bound", 2),
    ("weighted", "weighted", 2),
    ("given", "given", 2),
    ("codes", "unigram", 3),
    ("pairs in", "bigram_within", 3),
    ("across", "bigram_across", 3),
    ("LIFT in", "lift_within", 3),
    ("LIFT across", "lift_across", 3),
    ("Jaccard", "jaccard", 3),
    ("unique", "unique", 3),
    ("codes / v", "codes", 2),
    ("visits / p", "visits", 2),
    ("gap days", "gap", 1),
    ("KL", "kl", 3),
    ("parameters", "parameters", 0),
    ("train s", "train", 0),
    ("draw s", "draw", 1),
)

USEFUL = (
    ("recall, top 20", "recall 20", 3),
    ("lower", "recall 20 lower", 3),
    ("top 30", "recall 30", 3),
    ("shuffled codes", "recall 20 shuffled", 3),
    ("gain x 10", "gain", 3),
    ("lower", "gain lower", 3),
    ("upper", "gain upper", 3),
    ("condition AUC", "auc", 3),
    ("shuffled", "auc shuffled", 3),
    ("AUC of real", "auc real", 3),
)
"""What `--useful` adds, of the models alone."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of one seed. `epsilon` None: without privacy."""

    model: str
    seed: int
    epsilon: float | None
    effort: float
    is_useful: bool = False

    @property
    def name(self) -> str:
        """What the table calls the row."""
        return self.model if self.epsilon is None else f"{self.model}, epsilon {self.epsilon:g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """A seed's patients, trained on and held out."""

    train: PatientSequences
    test: PatientSequences


def split(records: PatientSequences, seed: int) -> Sets:
    """Four in five, and the fifth."""
    train, test = records.split(SHARES, seed=seed, purpose="benchmark")
    return Sets(train=train, test=test)


def scores(made: Sequences, real: PatientSequences) -> dict[str, float]:
    """Likeness and shape of records."""
    found, shape = likeness(pair_counts(real), pair_counts(made)), shape_of(made)
    return {
        "unigram": found.unigram,
        "bigram_within": found.within.bigram,
        "bigram_across": found.across.bigram,
        "lift_within": found.within.lift,
        "lift_across": found.across.lift,
        "jaccard": shape.jaccard,
        "unique": shape.unique_ratio,
        "codes": shape.codes[0],
        "visits": shape.visits[0],
        "gap": shape.gaps[0] if shape.gaps else float("nan"),
    }


def control(name: str, sets: Sets, seed: int) -> dict[str, float]:
    """A ceiling or a floor."""
    rng = np.random.default_rng(seed)
    made = {
        "held-out records": lambda: sets.test,
        "real half": lambda: sets.train,
        "shuffled codes": lambda: shuffled(sets.test, rng),
        "visits dealt": lambda: dealt(sets.test, rng),
    }[name]()
    return scores(made, sets.test)


def trained(task: Task, sets: Sets) -> dict[str, float]:
    """Train a model, draw from it, and score what it draws."""
    conditional = "eva-c" in task.model
    if conditional:
        train, test = (with_conditions(part, sets.train) for part in (sets.train, sets.test))
        sets = Sets(train=train, test=test)
    fit = _paper if task.model.startswith("paper-") else _fit
    model, training = measured(lambda: fit(task, sets))
    found, drawing = measured(lambda: draw_from(model, len(sets.train), seed=task.seed))
    known = likelihood_of(model, sets.test)
    visits = float(sets.test.visits_per_patient.mean())
    network = model.generator if isinstance(model, SequenceModel) else model.network
    more = {
        "bound": known.log_likelihood / visits,
        **({} if known.weighted is None else {"weighted": known.weighted / visits}),
        **({} if known.given_statics is None else {"given": known.given_statics / visits}),
        "kl": known.kl_share,
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "train": training.processor,
        "draw": drawing.processor,
    }
    if not isinstance(model, SequenceModel) and model.copies is not None:
        more |= {f"copied {name}": float(value) for name, value in model.copies.to_json().items()}
        more |= {"replaced": model.replaced_share, "replaced unseen": model.words(sets.test).replaced_share}
    if task.is_useful:
        more |= usefulness(found.records, sets, task.seed)
    return scores(found.records, sets.test) | more


def usefulness(made: Sequences, sets: Sets, seed: int) -> dict[str, float]:
    """What can be learnt from made records: recall and AUC as shares of real-trained ones', and gain."""
    asked = condition_questions(sets.test, sets.train)
    report = evaluate_sequences(sets.test, made, train=sets.train, cohort=COHORT, conditions=asked, seed=seed)
    if report.next_visit is None or report.augmentation is None:
        return {}
    found: dict[str, float] = {}
    for count, transfer in report.next_visit.top.items():
        found |= _estimates(f"recall {count}", transfer.ratio) | {
            f"recall {count} shuffled": _mean(transfer.floor_ratio)
        }
    found |= _estimates("gain", report.augmentation.steps[-1].gain[min(report.next_visit.top)])
    told = [scores.auc for scores in report.conditions if scores.auc is not None]
    if told:
        found["auc real"] = float(np.mean([_mean(auc.real) for auc in told]))
        found["auc"] = float(np.mean([_mean(auc.synthetic) for auc in told])) / found["auc real"]
        found["auc shuffled"] = float(np.mean([_mean(auc.floor) for auc in told])) / found["auc real"]
    return found


def _mean(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.mean


def _estimates(name: str, estimate: Estimate | None) -> dict[str, float]:
    """A figure and its interval over test patients and networks."""
    if estimate is None:
        return {}
    return {name: estimate.mean, f"{name} lower": estimate.lower, f"{name} upper": estimate.upper}


def _paper(task: Task, sets: Sets) -> PublishedEva:
    """The published system."""
    usual = EvaSettings()
    samples = 0 if task.model.endswith("-point") else usual.posterior
    settings = replace(usual, epochs=max(1, round(usual.epochs * task.effort)), posterior=samples)
    return train_eva(
        sets.train,
        settings,
        unseen=sets.test,
        is_conditional="eva-c" in task.model,
        seed=task.seed,
        study="benchmark",
        site="benchmark",
    )


def _fit(task: Task, sets: Sets) -> SequenceModel:
    """This project's EVA and the paper's rivals."""
    kind = task.model.removesuffix("-point").removesuffix("-plain")
    size = next(round_ for round_ in (1000, 2000, 5000, 10_000, 20_000, 50_000) if round_ >= len(sets.train))
    usual = (effort_for_records_without_privacy if task.epsilon is None else effort_for_records)(size)
    effort = Effort(
        rounds=1,
        local_steps=max(1, round(usual.local_steps * task.effort)),
        sample_rate=usual.sample_rate,
        learning_rate=usual.learning_rate,
    )
    plan = plan_for_records(
        kind,
        effort,
        target_epsilon=task.epsilon or 1.0,
        delta=1e-5,
        hyperparameters=_hyperparameters(task, kind, sets.train),
        sizes=() if task.epsilon is None else (size,),  # as `synthkit train` has it
    )
    job = Job(study="benchmark", site="benchmark", declared_size=size, min_patients=2, seed=task.seed)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        if task.epsilon is None:
            return train_records_unsafe(sets.train, plan, job, folder=target)
        budget = Budget(epsilon=100.0, delta=1e-5, adjacency=Adjacency.ADD_OR_REMOVE_ONE_PATIENT)
        ledger = Ledger.create(
            Path(folder) / "ledger",
            asset="benchmark",
            site="benchmark",
            budget=budget,
            reference=plan.total_events()[0],
        )
        return train_records_privately(sets.train, plan, job, ledger=ledger, quota=budget, folder=target)


def _hyperparameters(task: Task, kind: str, train: PatientSequences) -> dict[str, float]:
    """Caps, which are read off no record; widths of a rival; and posterior samples."""
    most_visits, most_codes = CAPS
    caps = {"most_visits": most_visits, "most_codes": most_codes, "dated": float(train.is_dated)}
    if "posterior" in sequence_defaults(kind):
        caps["posterior"] = POSTERIOR if task.model in ("eva", "eva-c") else 0.0
    if task.model.endswith("-plain"):
        caps["memory"] = 0.0
    return matched_to_eva(kind, train.schema, caps)


class Results:
    """Rows that are ready, kept in a file if there is one."""

    def __init__(self, path: Path | None, data: str) -> None:
        self.path, self.data = path, data
        self.rows: dict[tuple[str, int], dict[str, float]] = {}
        self._known: dict[str, dict[str, float]] = {}
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                entry = json.loads(line)
                self._known[entry["key"]] = entry["figures"]

    def add(self, task: Task, compute: Callable[[], dict[str, float]]) -> None:
        """A row's figures, from the file or computed."""
        key = f"{self.data}|{task.name}|{task.seed}|{task.effort:g}{'|useful' if task.is_useful else ''}"
        start, is_new = time.perf_counter(), key not in self._known
        figures = self._known[key] if not is_new else compute()
        if is_new and self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "figures": figures}) + "\n")
        self.rows[task.name, task.seed] = figures
        texts = [f"{title} {_text(figures.get(name), digits)}" for title, name, digits in FIGURES]
        extra = {name: value for name, value in figures.items() if name not in {f[1] for f in FIGURES}}
        print(f"{task.name}, seed {task.seed}: {'; '.join(texts)}; wall {time.perf_counter() - start:.0f} s")
        if extra:
            print("   " + "; ".join(f"{name} {value:.4f}" for name, value in extra.items()), flush=True)

    def table(self, names: Sequence[str], columns: Sequence[tuple[str, str, int]] = FIGURES) -> None:
        """Mean, and least to most where there are several seeds."""
        lines = []
        for name in names:
            seeds = [figures for (row, _), figures in self.rows.items() if row == name]
            cells = [_range([s[key] for s in seeds if key in s], digits) for _, key, digits in columns]
            lines.append([name, *cells])
        print_table(["", *(title for title, _, _ in columns)], lines)


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"  # noqa: PLR0124


def _range(values: Sequence[float], digits: int) -> str:
    known = [value for value in values if value == value]  # noqa: PLR0124
    if not known:
        return "-"
    mean = _text(float(np.mean(known)), digits)
    if len(known) == 1 or digits == 0:
        return mean
    return f"{mean} ({_text(min(known), digits)} to {_text(max(known), digits)})"


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="Diabetes 130, see records_desk")
    source.add_argument("--simulated", type=int, metavar="N", help="so many simulated patients")
    parser.add_argument("--visits-mean", type=float, default=6.0, help="of simulated patients")
    parser.add_argument("--patients", type=int, help="take the first so many alone")
    parser.add_argument("--models", default=",".join(MODELS), help="of these, separated by commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--epsilon", type=float, nargs="*", default=(), help="private rows, of --models alone"
    )
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies steps and epochs")
    parser.add_argument(
        "--useful", action="store_true", help="measure what can be learnt from the records too"
    )
    parser.add_argument("--results", type=Path, help="keep rows here, and compute none twice")
    return parser.parse_args()


def main() -> None:
    """Parse, read, train, score, print."""
    given = _parsed()
    models = tuple(given.models.split(","))
    if unknown := set(models) - {*MODELS, *OTHERS}:
        raise SystemExit(f"no such model: {min(unknown)}; of {', '.join(MODELS)}")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print_machine()
    records = diabetes130(given.data) if given.data else simulated(given.simulated, given.visits_mean)
    if given.patients is not None:
        records = records.take(np.arange(min(given.patients, len(records))))
    data = f"{'diabetes130' if given.data else f'simulated {given.visits_mean:g}'} {len(records)}"
    print(f"{data}: {records.visit_count} visits, {len(records.schema.vocabulary)} codes")
    results, controls = Results(given.results, data), ("held-out records", *CONTROLS)
    epsilons: tuple[float | None, ...] = tuple(given.epsilon) or (None,)
    tasks = [(epsilon, model) for epsilon in epsilons for model in models]
    for seed in range(given.seeds):
        sets = split(records, seed)
        for name in controls:
            task = Task(model=name, seed=seed, epsilon=None, effort=1.0)
            results.add(task, lambda name=name, sets=sets, seed=seed: control(name, sets, seed))
        for epsilon, model in tasks:
            task = Task(model=model, seed=seed, epsilon=epsilon, effort=given.effort, is_useful=given.useful)
            results.add(task, lambda task=task, sets=sets: trained(task, sets))
    names = [*controls]
    names += [Task(model=m, seed=0, epsilon=e, effort=1.0).name for e, m in tasks]
    print()
    results.table(names)
    if given.useful:
        print()
        results.table(names[len(controls) :], USEFUL)


if __name__ == "__main__":
    main()
