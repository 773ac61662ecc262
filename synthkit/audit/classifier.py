"""Membership from a classifier: does this person look more like the table than like the population?

Attacker: holds the released table, the full record of a target and a sample of the population that the
generator never saw (the reference). Trains boosted trees to tell synthetic rows from the reference's, and
calls the targets members that the trees find most synthetic. Success: names members more often than
people of the holdout. Trees see what distances and tables do not: relations of three columns and more,
and heaps at single values.

Each half of the reference is scored by the trees that learnt from the other half, every target by both;
thresholds are the reference's top 1 %, 10 % and 50 %. Source: the ratio of densities by classification, as in
Hayes et al., LOGAN, PoPETs 2019, and the discriminators of DOMIAS (van Breugel et al., AISTATS 2023).
Knows evidence; refuses to know verdicts.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.distance import Rows
from synthkit.audit.evidence import Evidence

NAME = "membership by classifier"
PURPOSE = 2
MAX_ROWS = 20_000
"""Synthetic rows, and reference rows, that the trees learn from."""


def scores(evidence: Evidence) -> Scores:
    """How synthetic the trees find each patient, by the row they find most so."""
    rng, real = evidence.rng(PURPOSE), evidence.real
    halves = rng.permutation(len(real.reference.people)) % 2
    half_of_row = halves[real.reference.people.owner]
    made = _features(evidence.synthetic.rows)
    side = rng.permutation(len(made)) % 2
    others, members, holdout = (_features(part.rows) for part in (real.reference, real.members, real.holdout))
    found = [np.zeros(len(members)), np.zeros(len(holdout)), np.zeros(len(others))]
    for half in (0, 1):
        trees = _learn(made[side == half], others[half_of_row == half], rng)
        unseen = half_of_row != half
        found[0] += trees.decision_function(members) / 2.0
        found[1] += trees.decision_function(holdout) / 2.0
        found[2][unseen] = trees.decision_function(others[unseen])
    return Scores(
        members=real.members.people.largest(found[0]),
        holdout=real.holdout.people.largest(found[1]),
        reference=real.reference.people.largest(found[2]),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )


def _features(rows: Rows) -> np.ndarray:
    return np.hstack((rows.numbers, rows.codes)).astype(np.float32)


def _learn(
    synthetic: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> HistGradientBoostingClassifier:
    """Trees that tell the two apart, both sides weighing the same."""
    parts = [rng.permutation(part)[:MAX_ROWS] for part in (synthetic, reference)]
    labels = np.repeat([1, 0], [len(part) for part in parts])
    trees = HistGradientBoostingClassifier(
        max_iter=40,
        max_leaf_nodes=16,
        min_samples_leaf=5,
        early_stopping=False,
        class_weight="balanced",
        random_state=int(rng.integers(2**31)),
    )
    # Its own threads wait for one another in a loop, which on a busy machine takes minutes.
    with threadpool_limits(1):
        return trees.fit(np.concatenate(parts), labels)


def classify(evidence: Evidence) -> tuple[Claims, ...]:
    """Claims at every rate; they can fail a table, and the lower two's best estimates hold back a PASS."""
    score = scores(evidence)
    return tuple(score.claims_at(rate, name=NAME, holds=rate < RATES[-1]) for rate in RATES)
