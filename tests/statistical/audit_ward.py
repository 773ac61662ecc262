"""A simulated ward: records of few visits, and ways in which a generator could give them away."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from synthkit.audit.sequences.run import run_sequence_audit
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences, pool_synthetic, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.domain.schema import Column, Kind

RULES = AuditRules(max_advantage=0.05, alpha=0.05, max_attempts=3)
Sets = tuple[SyntheticSequences, SyntheticSequences, SyntheticSequences, SyntheticSequences]
Change = Callable[[SyntheticSequences, np.random.Generator], SyntheticSequences]


def ward(sizes: tuple[int, int, int, int], seed: int, *, visits: float = 8.0, most: int = 20) -> Sets:
    """Members, holdout, reference and fresh patients, all of one population and all different."""
    everyone = simulate(standard_process(visits_mean=visits, most_visits=most), sum(sizes), seed=seed)
    cuts = starts_of(np.array(sizes))
    one, two, three, four = (everyone.take(np.arange(a, b)) for a, b in pairwise(cuts))
    return one, two, three, four


def with_condition(sets: Sets, *, share: float, seed: int) -> Sets:
    """The same patients with one more binary column, `ill`: so many have it, and nothing foretells whom."""
    rng, column = np.random.default_rng(seed), Column(name="ill", kind=Kind.BINARY, categories=("no", "yes"))
    return tuple(  # type: ignore[return-value]
        replace(
            part,
            schema=replace(part.schema, columns=(*part.schema.columns, column)),
            statics=part.statics.assign(ill=np.where(rng.random(len(part)) < share, "yes", "no")),
        )
        for part in sets
    )


def real(part: Sequences) -> PatientSequences:
    return PatientSequences(**{name: getattr(part, name) for name in FIELDS})


FIELDS = (
    "schema", "codes", "visit_starts", "patient_starts", "statics", "gaps", "first_days", "is_dated",
)  # fmt: skip


def long_ones(part: SyntheticSequences, share: float, *, least: int = 5) -> SyntheticSequences:
    """The first so large a share of the patients with that many visits or more."""
    chosen = np.flatnonzero(part.visits_per_patient >= least)
    return part.take(chosen[: max(1, round(share * chosen.size))])


def with_records(fresh: SyntheticSequences, records: SyntheticSequences) -> SyntheticSequences:
    """The fresh patients, the first of them replaced."""
    return pool_synthetic([records, fresh.take(np.arange(len(records), len(fresh)))])


def rebuilt(part: SyntheticSequences, visits: list[np.ndarray]) -> SyntheticSequences:
    """The same patients, days and static columns with other codes."""
    return SyntheticSequences(
        **{name: getattr(part, name) for name in FIELDS if name not in ("codes", "visit_starts")},
        codes=np.concatenate(visits).astype(np.int32),
        visit_starts=starts_of(np.array([visit.size for visit in visits])),
    )


def codes_of(part: Sequences) -> list[np.ndarray]:
    return [np.array(visit) for visit in np.split(part.codes, part.visit_starts[1:-1])]


def other_code(visit: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The visit with one of its codes replaced by one it has not."""
    free = np.setdiff1d(np.arange(size), visit)
    changed = visit.copy()
    if changed.size:
        changed[rng.integers(changed.size)] = rng.choice(free)
    return np.sort(changed)


def one_code_changed(part: SyntheticSequences, rng: np.random.Generator) -> SyntheticSequences:
    """One code of one visit of each patient."""
    visits, size = codes_of(part), len(part.schema.code.categories)
    for start, end in zip(part.patient_starts, part.patient_starts[1:], strict=False):
        place = int(rng.integers(start, end))
        visits[place] = other_code(visits[place], size, rng)
    return rebuilt(part, visits)


def shuffled(part: SyntheticSequences, rng: np.random.Generator) -> SyntheticSequences:
    """Each patient's visits in another order."""
    visits = codes_of(part)
    order = np.lexsort((rng.random(part.visit_count), part.patient_of_visit))
    return rebuilt(part, [visits[place] for place in order])


def verbatim(part: SyntheticSequences, _rng: np.random.Generator) -> SyntheticSequences:
    return part


def audit(sets: Sets, made: SyntheticSequences, *, seed: int = 0) -> AuditReport:
    members, holdout, reference, _ = sets
    return run_sequence_audit(
        members=real(members),
        holdout=real(holdout),
        reference=real(reference),
        synthetic=made,
        rules=RULES,
        policy_digest="0" * 64,
        seed=seed,
    )
