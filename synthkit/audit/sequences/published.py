"""Presence disclosure against the number of patients known, on EVA's axes and on those that can tell.

Shown beside the verdict; decides nothing. The attacker knows K patients, four in five of them members, and
claims everybody whose multiset of visits stands in the release. As published the test cannot fail: with half
of the patients copied the sensitivity is about 0.5, below the limit of 0.8, and the precision says little
without the rate at which strangers match. So the same attacker is shown by advantage and lift too, who knows
100, 1,000 or all patients; the verdict rests on the advantage over all.

Source: EVA (Biswal et al. 2021), figure 5. Knows evidence; refuses to judge.
"""

import numpy as np

from synthkit.audit.sequences.evidence import SequenceEvidence
from synthkit.audit.sequences.presence import found
from synthkit.audit.statistics import newcombe

SHARE = 0.8
"""Share of members among the known, as published."""
KNOWN = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
PURPOSE = 13
SENSITIVITY, PRECISION = "eva_sensitivity_at_{}", "eva_precision_at_{}"
FEW_AND_MANY = (100, 1000)
EVERYONE = "all"
CONFIDENCE = 0.95


def presence_figures(evidence: SequenceEvidence) -> dict[str, float]:
    """All figures of this file, by name."""
    return eva_axes(evidence) | advantage_and_lift(evidence)


def advantage_and_lift(evidence: SequenceEvidence) -> dict[str, float]:
    """Advantage with its 95 % interval (Newcombe) and lift, for 100, 1,000 and all known patients.

    The K known are those of `eva_axes`, four in five of them members; a K that the sets are too small for is
    left out. Lift is precision over that prior, so at most 1.25; "all" knows every patient and has the same
    prior. Nobody claimed: no lift.
    """
    members, holdout = _matched(evidence)
    cuts = {str(known): _cut(known) for known in FEW_AND_MANY}
    cuts[EVERYONE] = members.size, holdout.size
    figures: dict[str, float] = {}
    for known, (inside, outside) in cuts.items():
        if inside <= members.size and outside <= holdout.size:
            figures |= _at(known, members[:inside], holdout[:outside])
    return figures


def _at(known: str, members: np.ndarray, holdout: np.ndarray) -> dict[str, float]:
    right, wrong = int(members.sum()), int(holdout.sum())
    rate, false_rate = right / members.size, wrong / holdout.size
    interval = newcombe(right, members.size, wrong, holdout.size, confidence=CONFIDENCE)
    figures = {
        f"presence_advantage_at_{known}": rate - false_rate,
        f"presence_advantage_lower_at_{known}": interval.lower,
        f"presence_advantage_upper_at_{known}": interval.upper,
    }
    if right + wrong:
        figures[f"presence_lift_at_{known}"] = rate / (SHARE * rate + (1.0 - SHARE) * false_rate)
    return figures


def _cut(known: int) -> tuple[int, int]:
    """How many of so many known patients are members, and how many are not."""
    inside = round(SHARE * known)
    return inside, known - inside


def _matched(evidence: SequenceEvidence) -> tuple[np.ndarray, np.ndarray]:
    """Which members and which holdout patients match, each in the random order in which they are known."""
    rng = evidence.rng(PURPOSE)
    members, holdout = (
        rng.permutation(found(part.records, evidence.synthetic, lambda one: one.multiset, 1))
        for part in (evidence.members, evidence.holdout)
    )
    return members, holdout


def eva_axes(evidence: SequenceEvidence) -> dict[str, float]:
    """Sensitivity and precision for every K that the sets are large enough for.

    Nobody claimed: no precision.
    """
    members, holdout = _matched(evidence)
    figures: dict[str, float] = {}
    for known in KNOWN:
        inside, outside = _cut(known)
        if inside > members.size or outside > holdout.size:
            break
        right, wrong = int(members[:inside].sum()), int(holdout[:outside].sum())
        figures[SENSITIVITY.format(known)] = right / inside
        if right + wrong:
            figures[PRECISION.format(known)] = right / (right + wrong)
    return figures | {
        "median_distance_members": float(np.median(evidence.members.visit_distance)),
        "median_distance_holdout": float(np.median(evidence.holdout.visit_distance)),
    }
