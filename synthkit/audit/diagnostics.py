"""Figures an officer may want to see beside the verdict. They decide nothing.

Fifty of a thousand patients copied verbatim leave distance-to-closest-record and its ratio within their
usual limits, so no threshold is put on them here. Knows evidence; refuses to judge.
"""

import numpy as np

from synthkit.audit import identity
from synthkit.audit.evidence import Evidence
from synthkit.audit.membership import scores
from synthkit.audit.presence import distance_scores
from synthkit.audit.statistics import auc


def describe(evidence: Evidence) -> dict[str, float]:
    """Medians, shares and areas by name; distances are per column, in [0, 1] of the public range."""
    members, holdout = evidence.members, evidence.holdout
    figures = {
        "dcr_median_members": float(np.median(members.distance)),
        "dcr_median_holdout": float(np.median(holdout.distance)),
        "nndr_median_members": _median_ratio(members.distance, members.second),
        "nndr_median_holdout": _median_ratio(holdout.distance, holdout.second),
        "nearer_to_members_share": _nearer_share(evidence),
        "nearer_to_members_expected": len(members) / (len(members) + len(holdout)),
        "exact_share_members": float(np.mean(members.exact)),
        "exact_share_holdout": float(np.mean(holdout.exact)),
        "exact_share_reference": float(np.mean(evidence.reference.exact)),
    }
    for name, score in (
        ("density_ratio", scores(evidence)),
        ("distance", distance_scores(evidence, "distance")),
    ):
        figures[f"auc_{name}"] = auc(score.members, score.holdout)
    return figures | identity.figures(evidence)


def _median_ratio(first: np.ndarray, second: np.ndarray) -> float:
    """Median of nearest over second nearest distance; 1 where both are 0."""
    return float(np.median(np.divide(first, second, out=np.ones_like(first), where=second > 0)))


def _nearer_share(evidence: Evidence) -> float:
    """Share of synthetic rows nearer to a member than to any holdout patient, ties by size.

    Without a leak it is about members / (members + holdout): compare with `nearer_to_members_expected`.
    """
    members, holdout = evidence.members, evidence.holdout
    expected = len(members) / (len(members) + len(holdout))
    nearer, tied = members.to_query < holdout.to_query, members.to_query == holdout.to_query
    return float(np.mean(nearer) + expected * np.mean(tied))
