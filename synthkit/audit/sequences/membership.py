"""Membership by density ratio of records: nearer to the synthetic records than to people.

Attacker: holds the release, a target's whole record and a sample of the population (the reference).
Success: a high score for members more often than for people the generator never saw. The score is the
logarithm of the mean distance to the five nearest reference patients over the distance to the nearest
synthetic record; distances are Jaccard's, tokens weighted by rarity. Two views: multisets of visits, which
sees copies, and bags of codes, which sees what a model took over without copying visits.

With earlier releases made from the same patients, the mean of all releases' scores attacks too.

Source: the ratio, van Breugel et al. 2023 (DOMIAS, arXiv 2302.12580), with neighbours for the densities.
Knows evidence; refuses to know verdicts.
"""

from collections.abc import Callable

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence

NAME = "record density ratio"
TOGETHER = "earlier records"
VIEWS = {"by visits": "visit_scores", "by codes": "code_scores"}


def density_ratio(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """Both views at three rates; the first rate bounds a PASS."""
    return tuple(
        _scores(evidence, figure, lambda scores: scores[0]).claims_at(
            rate, name=f"{NAME}, {view}", bounds=rate == RATES[0]
        )
        for view, figure in VIEWS.items()
        for rate in RATES
    )


def releases_together(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """Both views' means over all releases; nothing where this is the first."""
    if len(evidence.members.visit_scores) < 2:
        return ()
    return tuple(
        _scores(evidence, figure, lambda scores: scores.mean(axis=0)).claims_at(
            rate, name=f"{TOGETHER}, {view}"
        )
        for view, figure in VIEWS.items()
        for rate in RATES[:2]
    )


def _scores(evidence: SequenceEvidence, figure: str, together: Callable[[np.ndarray], np.ndarray]) -> Scores:
    def of(part: Figures) -> np.ndarray:
        return together(getattr(part, figure))

    return Scores(
        members=of(evidence.members),
        holdout=of(evidence.holdout),
        reference=of(evidence.reference),
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )
