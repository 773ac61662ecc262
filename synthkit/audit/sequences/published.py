"""Presence disclosure as EVA's authors drew it: sensitivity and precision against known patients.

Shown for comparison; decides nothing. The attacker knows K patients, four in five of them members, and
claims everybody whose multiset of visits stands in the release. As published the test cannot fail: with half
of the patients copied the sensitivity is about 0.5, below the limit of 0.8, and the precision says little
without the rate at which strangers match.

Source: EVA (Biswal et al. 2021), figure 5. Knows evidence; refuses to judge.
"""

import numpy as np

from synthkit.audit.sequences.evidence import SequenceEvidence
from synthkit.audit.sequences.presence import found

SHARE = 0.8
"""Share of members among the known, as published."""
KNOWN = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
PURPOSE = 13
SENSITIVITY, PRECISION = "eva_sensitivity_at_{}", "eva_precision_at_{}"


def eva_axes(evidence: SequenceEvidence) -> dict[str, float]:
    """Sensitivity and precision for every K that the sets are large enough for.

    Nobody claimed: no precision.
    """
    rng = evidence.rng(PURPOSE)
    members, holdout = (
        rng.permutation(found(part.records, evidence.synthetic, lambda one: one.multiset, 1))
        for part in (evidence.members, evidence.holdout)
    )
    figures: dict[str, float] = {}
    for known in KNOWN:
        inside = round(SHARE * known)
        if inside > members.size or known - inside > holdout.size:
            break
        right, wrong = int(members[:inside].sum()), int(holdout[: known - inside].sum())
        figures[SENSITIVITY.format(known)] = right / inside
        if right + wrong:
            figures[PRECISION.format(known)] = right / (right + wrong)
    return figures | {
        "median_distance_members": float(np.median(evidence.members.visit_distance)),
        "median_distance_holdout": float(np.median(evidence.holdout.visit_distance)),
    }
