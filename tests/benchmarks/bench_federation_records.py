"""What a federation of records of visits gains over one hospital alone and loses against pooled patients.

    python tests/benchmarks/bench_federation_records.py [--sites 1 3 8] [--epsilon 3 8]
        [--ways federated pooled] [--seeds N] [--rounds R] [--steps S] [--rate Q] [--speed L] [--results FILE]
    python tests/benchmarks/bench_federation_records.py --data FILE ...

20,000 simulated patients of eight hospitals of 1,000 to 5,000, whose patients differ by age, and so in what
they have. `--data` is Diabetes 130 with the hospitals that its patients' numbers are blocks of (see
`records_desk`). `--sites K` takes the first K. A fifth of each of the eight is held out; pooled it is what
records are compared with, as many as were trained on. So a model of few hospitals is asked about patients
that it never saw the like of.

Federated: every hospital buys its sum with its own noise, the sums are added, and all start from them; then
rounds of private steps, averaged by declared sizes, as `synthkit federate` does it; no ledger: nothing is
released. Pooled: the same patients as one hospital with that budget; no command of synthkit does it. Alone
and pooled train on about 600 patients a step, as `synthkit train` does, and all take as many steps. Figures
as `bench_records` prints them. The noise is the operating system's; a seed fixes the hospitals, the split,
initial weights and draws.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_desk import measured, print_machine
from bench_records import Results, Sets, Task, control, scores
from records_desk import diabetes130, hospitals_of_diabetes130, simulated

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.domain.study import TrainingPlan
from synthkit.federation.bought_sum import added
from synthkit.federation.messages import Weights
from synthkit.privacy.accounting import spend_of
from synthkit.training.loop import LoopState
from synthkit.training.planning import Effort
from synthkit.training.record_models import draw_from, likelihood_of
from synthkit.training.record_rounds import (
    averaged_rounds,
    buy_record_sum,
    settle_rounds,
    start_from_sum,
    take_record_steps,
)
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator
from synthkit.training.sequence_site import effort_for_records, plan_for_records
from synthkit_server.aggregation import plain_average, weighted_average

SIZES = (3000, 1000, 5000, 1500, 4000, 1250, 2250, 2000)
"""Patients of each hospital, in the order in which `--sites` takes them."""

AGE_RANKS = (3, 7, 5, 0, 2, 6, 1, 4)
"""Which hospital has the youngest patients (0), and so on."""

AGE_NOISE = 10.0
"""Standard deviation, in years, of what decides a patient's hospital besides the patient's age."""

HELD_OUT = 0.2
WAYS = ("federated", "pooled")
CONTROLS = ("held-out records", "real half", "shuffled codes", "visits dealt")
CAPS = {"most_visits": 40.0, "most_codes": 60.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """The hospitals' training patients, and the held-out ones of all."""

    sites: Sequence[PatientSequences]
    everyone: PatientSequences
    held_out: PatientSequences

    def parties(self, way: str, count: int) -> list[PatientSequences]:
        """Who trains: each of the first `count` hospitals, or all of them as one."""
        if way == "federated":
            return list(self.sites[:count])
        members = np.concatenate([np.asarray(self._members(i)) for i in range(count)])
        return [self.everyone.take(members)]

    def _members(self, site: int) -> range:
        start = sum(len(one) for one in self.sites[:site])
        return range(start, start + len(self.sites[site]))


def hospitals_by_age(records: PatientSequences, seed: int) -> list[np.ndarray]:
    """Positions of each hospital's patients: unlike by age, sizes in proportion to SIZES."""
    rng = np.random.default_rng(seed)
    ages = records.statics["age"].to_numpy(dtype=float)
    order = np.argsort(ages + AGE_NOISE * rng.standard_normal(len(ages)))
    by_rank = sorted(range(len(SIZES)), key=lambda site: AGE_RANKS[site])
    ends = np.cumsum([SIZES[site] for site in by_rank]) * len(ages) // sum(SIZES)
    parts = np.split(order, ends[:-1])
    return [parts[by_rank.index(site)] for site in range(len(SIZES))]


def bench_of(records: PatientSequences, hospitals: Sequence[np.ndarray], seed: int) -> Bench:
    """Each hospital's patients split in two, by chance."""
    rng = np.random.default_rng(1000 + seed)
    shuffled = [rng.permutation(one) for one in hospitals]
    cuts = [round((1 - HELD_OUT) * len(one)) for one in shuffled]
    kept = [one[:cut] for one, cut in zip(shuffled, cuts, strict=True)]
    apart = np.concatenate([one[cut:] for one, cut in zip(shuffled, cuts, strict=True)])
    return Bench(
        sites=[records.take(one) for one in kept],
        everyone=records.take(np.concatenate(kept)),
        held_out=records.take(apart),
    )


def declared(records: PatientSequences) -> int:
    """A hospital's public size: its own to the nearest hundred."""
    return max(100, round(len(records), -2))


def federated(parties: Sequence[PatientSequences], plan: TrainingPlan, seed: int) -> SequenceModel:
    """The rounds of a study, as agents and coordinator take them, without keys and ledgers."""
    schema = parties[0].schema
    fresh = partial(new_sequence_generator, plan.generator, schema, plan.hyperparameters, seed=seed)
    encoding, generator = fit_sequence_encoding(schema, fresh().hyperparameters), fresh()
    states = [encoding.encode(party) for party in parties]
    bought = added([buy_record_sum(generator, one, plan) for one in states])
    start_from_sum(generator, bought)
    weights, kept = generator.get_weights(), []
    loops = [LoopState() for _ in parties]
    sizes = [declared(party) for party in parties]
    for _ in range(plan.rounds):
        replies: list[Weights] = []
        for site, (size, one) in enumerate(zip(sizes, states, strict=True)):
            generator.set_weights(weights)
            loops[site] = take_record_steps(
                generator, one, plan, steps=plan.local_steps, declared_size=size, state=loops[site]
            )
            replies.append(generator.get_weights())
        weights = weighted_average(replies, [float(size) for size in sizes])
        kept.append(weights)
    generator.set_weights(plain_average(kept[-averaged_rounds(plan) :]))
    settle_rounds(generator, bought)
    generator.eval()
    return SequenceModel(
        schema=schema,
        generator=generator,
        spend=spend_of(plan.total_events(), plan.delta),
        study="benchmark",
        study_digest="0" * 64,
        site="benchmark",
    )


def plan_of(given: argparse.Namespace, epsilon: float, parties: Sequence[PatientSequences]) -> TrainingPlan:
    """`--rounds` rounds of as many steps as make `--steps` in all, each over a share of the patients."""
    like, steps = parties[0], max(1, round(given.steps / given.rounds))
    usual = effort_for_records(declared(like))
    rate = given.rate if len(parties) > 1 else usual.sample_rate
    speed = given.speed if len(parties) > 1 else usual.learning_rate
    effort = Effort(rounds=given.rounds, local_steps=steps, sample_rate=rate, learning_rate=speed)
    settings = {**CAPS, "dated": float(like.is_dated), "posterior": 0.0}
    sizes = [declared(party) for party in parties]
    plan = plan_for_records(
        "eva", effort, target_epsilon=epsilon, delta=1e-5, hyperparameters=settings, sizes=sizes
    )
    return replace(plan, prior_first=True)


def measure(
    bench: Bench, parties: Sequence[PatientSequences], plan: TrainingPlan, seed: int
) -> dict[str, float]:
    """Train, draw as many records as were trained on, and score them on all hospitals' held-out patients."""
    model, training = measured(partial(federated, parties, plan, seed))
    found, drawing = measured(lambda: draw_from(model, sum(map(len, parties)), seed=seed))
    known = likelihood_of(model, bench.held_out)
    visits = float(bench.held_out.visits_per_patient.mean())
    return scores(found.records, bench.held_out) | {
        "bound": known.log_likelihood / visits,
        "kl": known.kl_share,
        "parameters": float(sum(p.numel() for p in model.generator.parameters())),
        "train": training.processor,
        "draw": drawing.processor,
        "noise": plan.noise_multiplier,
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="Diabetes 130, see records_desk; else simulated patients")
    parser.add_argument("--patients", type=int, default=20_000, help="simulated, in all")
    parser.add_argument("--sites", nargs="+", type=int, default=[1, 3, 8], help="numbers of hospitals")
    parser.add_argument("--epsilon", nargs="+", type=float, default=[3.0, 8.0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=24, help="in all rounds together")
    parser.add_argument("--rate", type=float, default=0.2, help="share of a hospital's patients in a step")
    parser.add_argument("--speed", type=float, default=0.015, help="learning rate of a federation")
    parser.add_argument("--results", type=Path, help="keep rows here, and compute none twice")
    given = parser.parse_args()
    if not all(1 <= count <= len(SIZES) for count in given.sites):
        parser.error(f"--sites: 1 to {len(SIZES)}")
    return given


def main() -> None:
    """Parse, train, score, print."""
    given = parsed()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print_machine()
    records = diabetes130(given.data) if given.data else simulated(given.patients, 6.0)
    data = f"federated {'diabetes130' if given.data else 'simulated'} {len(records)}"
    results, names = Results(given.results, data), dict.fromkeys(CONTROLS)
    for seed in range(given.seeds):
        by_site = hospitals_of_diabetes130(given.data) if given.data else hospitals_by_age(records, seed)
        bench = bench_of(records, by_site, seed)
        sets = Sets(train=bench.everyone, test=bench.held_out)
        for name in CONTROLS:
            task = Task(model=name, seed=seed, epsilon=None, effort=1.0)
            results.add(task, lambda name=name, sets=sets, seed=seed: control(name, sets, seed))
        for epsilon in given.epsilon:
            for count in given.sites:
                for way in given.ways if count > 1 else ("federated",):
                    parties = bench.parties(way, count)
                    plan = plan_of(given, epsilon, parties)
                    words = "alone" if count == 1 else f"{count} sites {way}"
                    steps = f"{plan.rounds} x {plan.local_steps} steps of {plan.sample_rate:g}"
                    setting = f"{words}, {steps} at {plan.learning_rate:g}"
                    task = Task(model=setting, seed=seed, epsilon=epsilon, effort=1.0)
                    names[task.name] = None
                    results.add(task, partial(measure, bench, parties, plan, seed))
    print()
    results.table(list(names))


if __name__ == "__main__":
    main()
