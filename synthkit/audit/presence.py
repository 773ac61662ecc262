"""Presence disclosure: does the table hold this person's record, or one very like it?

Attacker: holds the released table and a target's record, whole (exact match, near match) or in part (the
declared quasi-identifiers; these and half of the rest; half of the columns where none is declared); no
model, no reference sample. Success: finds a match for members more often than for people of the same
population who were not in the training data. A match alone proves nothing, because common records match by
chance; only the excess over the holdout counts.

Near match: distance at most theta, theta set where 1 % (and 10 %, 50 %) of the reference would match.
Source: El Emam et al., JMIR 2020, 22:e23139, for matching; the control group as in Anonymeter
(Giomi et al., PoPETs 2023). Knows evidence; refuses to know verdicts.
"""

from dataclasses import replace

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.evidence import Evidence, RealRows

EXACT = "presence by exact match"
NEAR = "presence by near match"
PARTIAL = "presence by near match on half of the columns"
BY_QUASI = f"{NEAR} on quasi-identifiers"
BY_QUASI_AND_HALF = f"{BY_QUASI} and half of the rest"


def exact_match(evidence: Evidence) -> tuple[Claims, ...]:
    """Claim everyone whose record, as a release rounds it, stands in the table."""
    return (
        Claims(
            name=EXACT,
            statistic="exact_match",
            members=evidence.members.exact,
            holdout=evidence.holdout.exact,
            baseline_rate=float(np.mean(evidence.reference.exact)),
            bounds=True,
        ),
    )


def distance_scores(evidence: Evidence, figure: str) -> Scores:
    """Minus the distance to the closest synthetic row; `figure` names the exposure's field."""
    return Scores(
        members=-getattr(evidence.members, figure),
        holdout=-getattr(evidence.holdout, figure),
        reference=-getattr(evidence.reference, figure),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )


def near_match(evidence: Evidence) -> tuple[Claims, ...]:
    """Claim everyone within theta of a synthetic row, all columns known.

    This is the distance-to-closest-record attack, read as a test of persons instead of an average.
    """
    scores = distance_scores(evidence, "distance")
    return tuple(scores.claims_at(rate, name=NEAR, bounds=rate == RATES[0]) for rate in RATES)


def partial_match(evidence: Evidence) -> tuple[Claims, ...]:
    """The same with a part of the columns known, at the lower rate."""
    half = distance_scores(evidence, "partial")
    if not evidence.knowledge.is_declared:
        return (half.claims_at(RATES[0], name=PARTIAL),)

    def on_quasi(part: RealRows) -> np.ndarray:
        return np.asarray(-part.people.smallest(part.by_quasi[0].distances[:, 0]))

    real = evidence.real
    few = replace(
        half,
        members=on_quasi(real.members),
        holdout=on_quasi(real.holdout),
        reference=on_quasi(real.reference),
    )
    return (
        few.claims_at(RATES[0], name=BY_QUASI, holds=False),
        half.claims_at(RATES[0], name=BY_QUASI_AND_HALF),
    )
