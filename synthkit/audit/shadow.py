"""Shadow trainings: the attacker retrains the generator and learns what a patient's presence does to a table.

Attacker: knows the generator and its settings, holds the released table, the full record of a target and a
sample of the population (the reference), and trains N shadow generators on the reference, each with a random
half of the targets put in. Success: names members more often than people of the holdout. The targets are
the lonely: members, holdout and reference patients whose mean distance to five reference patients is beyond
the same threshold, equally many at most, drawn at random.

What is looked at: how near the table comes to a target (the nearest row and the five nearest, as in
`membership`) and the rare cells shared with one row (as in `agreement`). A target's own mean over all shadows
is taken off, for some people are near to any table; what is left is weighed by Fisher's linear discriminant
of shadows with the target against those without. Thresholds come from the reference's targets. The same
with the weights' likelihood stands beside, where the model is at hand, and decides nothing.

Canaries: records drawn evenly from the schema's bounds and categories, nobody's, are put into each shadow
training by a fair coin of its own, and never into anything that leaves. One half of the shadows teaches
what a canary looks like, on the other half the coins are guessed: a lower bound on epsilon, which has to be
below the claimed one (hard rule) and is shown.

Source: Shokri et al., S&P 2017 (shadow training); Carlini et al., S&P 2022, LiRA with one variance for all
targets; Stadler et al., USENIX Security 2022, Groundhog, for synthetic tables; targets by distance, Meeus et
al., arXiv 2306.10308; canaries, Steinke et al., arXiv 2305.08846, Theorem 5.2: over independent trainings the
coins of all of them are the coins of one mechanism. Knows tables and a way to train; refuses to keep a model.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from synthkit.audit.agreement import most_shared
from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.distance import encode, nearest, reference_space
from synthkit.audit.empirical_epsilon import Guesses, guess, one_run_epsilon
from synthkit.audit.evidence import NEIGHBOURS, RARE_SHARE, SMOOTHING, Evidence
from synthkit.audit.people import Grouping
from synthkit.data.table import PatientTable, SyntheticTable, pool
from synthkit.domain.schema import Schema

NAME = "membership by shadow trainings"
WEIGHTS = f"{NAME}, from the weights"
CANARIES = "canaries in shadow trainings"
RARE = "rare"
LEAST_TRAININGS = 8
"""Below, a target's own mean and the canaries' are too coarse to stand for anything."""
TARGETS = 120
"""Of each set at most."""
LEAST_TARGETS = 40
"""Reference patients beyond the threshold, if there are as many; a small reference has a lower threshold."""
CANARY_COUNT = 40
GUESSED_SHARE = 0.25
"""Share of the coins called in, and as many called out; on the others the attacker abstains."""
LEVEL_SHARE = 0.02
"""Share of the attempt's level at which the hard rule fires; see `copies`."""
PURPOSE = 11

Likelihood = Callable[[PatientTable], np.ndarray | None]
"""Of each row, or None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadow:
    """What one training yields: rows, and what its weights say of records."""

    table: SyntheticTable
    likelihood: Likelihood


Train = Callable[[PatientTable, int, int], Shadow]
"""From patients, the number of rows and a seed: train as the released table's generator was, and draw."""


@dataclass(frozen=True, kw_only=True)
class Shadowing:
    """What is asked for: `trainings` shadows by `train`.

    `epsilon` is the model's claim at `delta`, None without one; `likelihood` is the released model's.
    `seconds` tells how long a training on these patients will take, by a timed beginning of one; None: nobody
    knows before the first.
    """

    trainings: int
    train: Train
    seconds: Callable[[PatientTable], float] | None = None
    epsilon: float | None = None
    delta: float = 1e-5
    likelihood: Likelihood | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of it: claims that decide, claims beside, the guessed coins."""

    claims: tuple[Claims, ...]
    beside: tuple[Claims, ...]
    guesses: Guesses


class ShadowAttack:
    """The attack on one table; the trainings take place once, at the first question."""

    def __init__(
        self,
        asked: Shadowing,
        sets: dict[str, PatientTable],
        synthetic: SyntheticTable,
        progress: Callable[[str], None],
    ) -> None:
        self._asked, self._sets, self._synthetic, self._progress = asked, sets, synthetic, progress
        self._outcome: Outcome | None = None

    def outcome(self, evidence: Evidence) -> Outcome:
        """Train, unless that was done, and attack."""
        if self._outcome is None:
            self._outcome = _attack(self._asked, self._sets, self._synthetic, evidence, self._progress)
        return self._outcome

    def claims(self, evidence: Evidence) -> tuple[Claims, ...]:
        """About the released table's lonely patients, at the two lower rates."""
        return self.outcome(evidence).claims

    def beside(self, evidence: Evidence) -> tuple[Claims, ...]:
        """From the weights, and about canaries."""
        return self.outcome(evidence).beside

    def hard_rule(self, evidence: Evidence, level: float) -> tuple[str, ...]:
        """In words, that the canaries contradict the claimed epsilon."""
        asked = self._asked
        if asked.epsilon is None:
            return ()
        confidence = 1.0 - level * LEVEL_SHARE
        found = one_run_epsilon(self.outcome(evidence).guesses, delta=asked.delta, confidence=confidence)
        if found <= asked.epsilon:
            return ()
        return ("shadow trainings give their canaries away beyond the epsilon that is claimed for the model",)

    def figures(self, evidence: Evidence) -> dict[str, float]:
        """For the diagnostics: the canaries' lower bound on epsilon at 95 %, and what it rests on."""
        guesses = self.outcome(evidence).guesses
        return {
            "shadow_trainings": float(self._asked.trainings),
            "shadow_canary_guesses": float(guesses.made),
            "shadow_canary_guesses_right": float(guesses.correct),
            "shadow_canary_epsilon_at_least": one_run_epsilon(guesses, delta=self._asked.delta),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Targets:
    """Whom the shadows are about: patients of each set, in this order, and then the canaries.

    `table` holds all their rows, `people` says whose; `counts` are members, holdout, reference, canaries.
    """

    table: PatientTable
    people: Grouping
    counts: tuple[int, int, int, int]

    def put_in(self, inside: np.ndarray) -> PatientTable:
        """All rows of the targets marked by a bool (targets,)."""
        return self.table.take(np.flatnonzero(inside[self.people.owner]))

    def part(self, index: int) -> slice:
        """Places of one kind among all targets."""
        start = sum(self.counts[:index])
        return slice(start, start + self.counts[index])


def _attack(
    asked: Shadowing,
    sets: dict[str, PatientTable],
    synthetic: SyntheticTable,
    evidence: Evidence,
    progress: Callable[[str], None],
) -> Outcome:
    """Choose targets, train, look, judge."""
    rng = evidence.rng(PURPOSE)
    targets, others = _targets(sets, evidence, rng)
    bits = _bits(targets, asked.trainings, rng)
    tables = (pool([others, targets.put_in(inside)]) for inside in bits)
    shadows = _trained(asked, tables, len(synthetic), progress)
    reference = sets["reference"]
    looks = np.stack([_look(targets, reference, shadow.table, evidence.seed) for shadow in shadows])
    released = _look(targets, reference, synthetic, evidence.seed)
    patients = slice(0, sum(targets.counts[:3]))
    weights = _discriminant(looks[:, :, patients], bits[:, patients])
    seen = np.einsum("f,jft->jt", weights, looks)
    scores = weights @ released[:, patients] - seen[:, patients].mean(axis=0)
    canaries, guesses = _canaries(seen[:, targets.part(3)], bits[:, targets.part(3)])
    by_weights = _by_weights(asked, targets, shadows, bits, rng)
    return Outcome(
        claims=_claims(NAME, scores, targets, rng), beside=(*by_weights, canaries), guesses=guesses
    )


def _targets(
    sets: dict[str, PatientTable], evidence: Evidence, rng: np.random.Generator
) -> tuple[_Targets, PatientTable]:
    """The targets, and the rest of the reference, which every shadow is trained on.

    One threshold for all three sets, from the reference, and a random choice beyond it: members and holdout
    stay exchangeable.
    """
    share = max(RARE_SHARE, min(0.5, LEAST_TARGETS / len(evidence.reference)))
    threshold = np.quantile(evidence.reference.rarity, 1.0 - share)
    masks, counts = {}, []
    for name in ("members", "holdout", "reference"):
        chosen = rng.permutation(np.flatnonzero(getattr(evidence, name).rarity >= threshold))[:TARGETS]
        masks[name] = np.isin(Grouping.of(sets[name].patients).owner, chosen)
        counts.append(len(chosen))
    if min(counts) == 0:
        raise ValueError("a set has no lonely patient")
    canaries = canary_records(sets["reference"].schema, CANARY_COUNT, rng)
    table = pool([*(sets[name].take(np.flatnonzero(mask)) for name, mask in masks.items()), canaries])
    members, holdout, reference = counts
    targets = _Targets(
        table=table,
        people=Grouping.of(table.patients),
        counts=(members, holdout, reference, CANARY_COUNT),
    )
    return targets, sets["reference"].take(np.flatnonzero(~masks["reference"]))


def canary_records(schema: Schema, count: int, rng: np.random.Generator) -> PatientTable:
    """Records drawn evenly from the public bounds and categories, column by column: nobody's."""
    cells: dict[str, np.ndarray] = {}
    for column in schema:
        if column.is_numeric:
            low, high = float(column.minimum or 0.0), float(column.maximum or 0.0)
            drawn = np.round(rng.uniform(low, high, count), 0 if column.is_whole else column.decimals)
            cells[column.name] = np.clip(drawn, low, high)
        else:
            places = rng.integers(len(column.categories), size=count)
            cells[column.name] = np.array(column.categories, dtype=object)[places]
    return PatientTable(schema=schema, frame=pd.DataFrame(cells), patients=np.arange(count))


def _bits(targets: _Targets, trainings: int, rng: np.random.Generator) -> np.ndarray:
    """(trainings, targets) who is put in: each patient into just half of them, each canary by its coins."""
    patients = sum(targets.counts[:3])
    half = np.arange(trainings)[:, None] < trainings // 2
    balanced = rng.permuted(np.repeat(half, patients, axis=1), axis=0)
    return np.hstack((balanced, rng.random((trainings, targets.counts[3])) < 0.5))


def _trained(
    asked: Shadowing, tables: Iterable[PatientTable], rows: int, progress: Callable[[str], None]
) -> list[Shadow]:
    """A shadow of each table. A beginning, and then each one done, tells how long the others will take."""
    shadows: list[Shadow] = []
    start = time.monotonic()
    for place, table in enumerate(tables):
        left = ""
        if place:
            left = _to_go((time.monotonic() - start) / place * (asked.trainings - place))
        elif asked.seconds is not None:
            progress("shadow trainings: timing the beginning of one")
            left = _to_go(asked.seconds(table) * asked.trainings)
            start = time.monotonic()
        progress(f"shadow training {place + 1} of {asked.trainings}{left}")
        shadows.append(asked.train(table, rows, place))
    return shadows


def _to_go(seconds: float) -> str:
    return f", about {seconds / 60:.0f} min to go" if seconds >= 60 else f", about {seconds:.0f} s to go"


def _look(targets: _Targets, reference: PatientTable, made: SyntheticTable, seed: int) -> np.ndarray:
    """(3, targets) how near the table comes to each, and the rare cells it shares; large is near."""
    frames = [targets.table.frame, reference.frame, made.frame]
    rows, people, synthetic = encode(reference.schema, frames)
    space = reference_space(people, seed=seed)
    distances = nearest(rows, synthetic, space, k=min(NEIGHBOURS, len(synthetic))).distances
    width = rows.numbers.shape[1] + rows.codes.shape[1]
    near = -np.log(np.stack((distances[:, 0], distances.mean(axis=1))) + SMOOTHING / width)
    shared = most_shared(rows, people, synthetic)
    return np.stack([targets.people.largest(one) for one in (*near, shared)])


def _discriminant(looks: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """(figures,) weights that best tell shadows with a target from those without.

    Args:
        looks: (shadows, figures, targets).
        bits: bool (shadows, targets), each target in half of the shadows.
    """
    left = looks - looks.mean(axis=0)
    inside, outside = (left.transpose(0, 2, 1)[chosen] for chosen in (bits, ~bits))
    gap = inside.mean(axis=0) - outside.mean(axis=0)
    within = np.concatenate((inside - inside.mean(axis=0), outside - outside.mean(axis=0)))
    covariance = np.atleast_2d(np.cov(within.T))
    ridge = 1e-3 * np.diag(np.diag(covariance)) + 1e-12 * np.eye(gap.size)
    return np.asarray(np.linalg.solve(covariance + ridge, gap))


def _claims(name: str, scores: np.ndarray, targets: _Targets, rng: np.random.Generator) -> tuple[Claims, ...]:
    ties = rng.random(scores.size)
    parts = [targets.part(index) for index in range(3)]
    score = Scores(
        members=scores[parts[0]],
        holdout=scores[parts[1]],
        reference=scores[parts[2]],
        member_ties=ties[parts[0]],
        holdout_ties=ties[parts[1]],
        reference_ties=ties[parts[2]],
    )
    claims = (score.claims_at(rate, name=name, holds=False) for rate in RATES[:2])
    return tuple(replace(claim, stratum=RARE) for claim in claims)


def _by_weights(
    asked: Shadowing,
    targets: _Targets,
    shadows: Sequence[Shadow],
    bits: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Claims, ...]:
    """The same by the likelihood of the released model's weights; nothing where it has none."""
    models = [shadow.likelihood for shadow in shadows]
    if asked.likelihood is None:
        return ()
    patients = slice(0, sum(targets.counts[:3]))
    fits = [one(targets.table) for one in (*models, asked.likelihood)]
    known = [targets.people.largest(fit)[patients] for fit in fits if fit is not None]
    if len(known) < len(fits):
        return ()
    looks = np.stack(known)[:, None, :]
    weights = _discriminant(looks[:-1], bits[:, patients])
    scores = weights @ (looks[-1] - looks[:-1].mean(axis=0))
    return _claims(WEIGHTS, scores, targets, rng)


def _canaries(seen: np.ndarray, bits: np.ndarray) -> tuple[Claims, Guesses]:
    """Claims about the canaries' coins, and the guesses that bound epsilon.

    The first half of the shadows says what each canary looks like in a table, by coins that are not guessed;
    the weights of what is looked at come from the patients, whose places are drawn apart.

    Args:
        seen: (shadows, canaries) weighed figures.
        bits: bool (shadows, canaries) the coins.
    """
    half = len(seen) // 2
    taught, asked = seen[:half], seen[half:]
    middle = [_middle(taught[:, c], bits[:half, c]) for c in range(seen.shape[1])]
    scores, coins = (asked - np.array(middle)).ravel(), bits[half:].ravel()
    called = round(GUESSED_SHARE * scores.size)
    claims = scores > 0
    found = Claims(
        name=CANARIES,
        statistic="called_in",
        members=claims[coins],
        holdout=claims[~coins],
        baseline_rate=0.5,
        holds=False,
    )
    return found, guess(scores, coins, called_in=called, called_out=called)


def _middle(values: np.ndarray, bits: np.ndarray) -> float:
    """Halfway between a canary's mean with and without; the plain mean where one is missing."""
    if bits.all() or not bits.any():
        return float(values.mean())
    return float((values[bits].mean() + values[~bits].mean()) / 2.0)
