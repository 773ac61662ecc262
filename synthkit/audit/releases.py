"""Several releases together: do two harmless tables add up to a harmful pair?

Attacker: holds this table and earlier ones made from the same patients, the full record of a target and a
sample of the population (the reference). Success: names members more often than people of the holdout.
The score of each table is that of `membership`; two attackers put them together. One takes the mean: what
each table adds by chance averages out, what all owe to the member does not. The other takes the least: who
is near in every release, the intersection.

Thresholds are the reference's top 1 % and 10 %. Each earlier table had an audit of its own, so their
union alone is not attacked again. Knows evidence; refuses to know verdicts.
"""

from collections.abc import Callable

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.evidence import Evidence, RealRows

NAME = "several releases together"
MEAN, LEAST = f"{NAME}, on average", f"{NAME}, in every one"


def combine(evidence: Evidence) -> tuple[Claims, ...]:
    """Both attackers' claims at the two lower rates; nothing where this is the first release."""
    if len(evidence.real.members.copy_scores) < 2:
        return ()
    scores = {MEAN: _scores(evidence, np.mean), LEAST: _scores(evidence, np.min)}
    return tuple(score.claims_at(rate, name=name) for name, score in scores.items() for rate in RATES[:2])


def _scores(evidence: Evidence, together: Callable[..., np.ndarray]) -> Scores:
    def of(part: RealRows) -> np.ndarray:
        return part.people.largest(together(part.copy_scores, axis=0))

    real = evidence.real
    return Scores(
        members=of(real.members),
        holdout=of(real.holdout),
        reference=of(real.reference),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )
