"""Presence by near match of records: does a record very like somebody's stand in the release?

Attacker: holds the release and a target's whole record; no sample of the population but for the weights of
rare tokens. Success: finds a record alike for members more often than for people the generator never saw.

`jaccard_0.60`: the nearest synthetic record shares so much of the multiset of visits, a threshold fixed
before any table was seen: a copy with one visit in five altered is above it. The other statistics claim
everybody nearer than the reference's nearest 1, 10 and 50 %, by visits and by codes: the latter sees copies
of which every visit was altered.

Source: for the soft match, sum of smaller over sum of larger multiplicities, Jaccard 1901; thresholds at a
set false-positive rate as in El Emam et al., JMIR 2020, 22:e23139. Knows evidence; refuses verdicts.
"""

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.audit.sequences.presence import by_strata

NAME = "near record match"
ALIKE = 0.6
"""Jaccard similarity of visits from which two records are alike."""


def near_match(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """The fixed threshold with its strata, then the reference's thresholds by visits and by codes."""
    by_chance = is_alike(evidence.reference)
    soft = Claims(
        name=NAME,
        statistic=f"jaccard_{ALIKE:.2f}",
        members=is_alike(evidence.members),
        holdout=is_alike(evidence.holdout),
        baseline_rate=float(by_chance.mean()),
    )
    views = {f"{NAME}, by visits": "visit_distance", f"{NAME}, by codes": "code_distance"}
    ranked = [
        _scores(evidence, figure).claims_at(rate, name=name, bounds=rate == RATES[0])
        for name, figure in views.items()
        for rate in RATES
    ]
    return (soft, *by_strata(soft, by_chance, evidence), *ranked)


def is_alike(part: Figures) -> np.ndarray:
    """Who has a synthetic record alike: bool (patients,)."""
    return np.asarray(part.likeness >= ALIKE)


def _scores(evidence: SequenceEvidence, figure: str) -> Scores:
    return Scores(
        members=-getattr(evidence.members, figure),
        holdout=-getattr(evidence.holdout, figure),
        reference=-getattr(evidence.reference, figure),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )
