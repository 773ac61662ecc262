"""Claims: whom an attacker calls a member, at a threshold set on the reference.

Knows scores and thresholds; refuses to know how a score was made. Rule: a threshold is a reference
patient's score, never a holdout patient's, so the control rate stays an honest measurement.
"""

from dataclasses import dataclass

import numpy as np

RATES = (0.01, 0.10, 0.50)
"""False-positive rates at which a score is turned into claims. The first one bounds a PASS. The last finds
what moves every record a little (a fixed offset) and so never shows among the surest claims."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Claims:
    """An attack's yes or no for every member and holdout patient of a stratum.

    `baseline_rate` is how often the same rule claims a person the table knows nothing of: the reference's
    rate, which equals the yield of claiming at random as often. `bounds` says whether PASS needs this
    statistic's upper limit below tau; otherwise it can fail the table, and if it `holds` back a PASS its
    best estimate must be below. A statistic with a high rate of chance successes does not: its best
    estimate would stand above tau by chance alone at the sizes of single hospitals.
    """

    name: str
    statistic: str
    members: np.ndarray
    holdout: np.ndarray
    baseline_rate: float
    bounds: bool = False
    holds: bool = True
    stratum: str = "all"

    def __post_init__(self) -> None:
        if not (self.members.dtype == self.holdout.dtype == np.bool_):
            raise TypeError("a claim is yes or no")
        if not (self.members.size and self.holdout.size and np.isfinite(self.baseline_rate)):
            raise ValueError("claims need members, holdout and a finite baseline rate")

    def within(self, members: np.ndarray, holdout: np.ndarray, *, stratum: str) -> "Claims":
        """The same claims about a stratum's patients, which never bound a PASS."""
        return Claims(
            name=self.name,
            statistic=self.statistic,
            members=self.members[members],
            holdout=self.holdout[holdout],
            baseline_rate=self.baseline_rate,
            holds=False,
            stratum=stratum,
        )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Scores:
    """One score (larger: more like a member) for each patient of the three sets, with tie breakers."""

    members: np.ndarray
    holdout: np.ndarray
    reference: np.ndarray
    member_ties: np.ndarray
    holdout_ties: np.ndarray
    reference_ties: np.ndarray

    def __post_init__(self) -> None:
        # A comparison with NaN is silently False, which would read as "no leak".
        if not all(np.isfinite(part).all() for part in (self.members, self.holdout, self.reference)):
            raise ValueError("a score is not finite")

    def claims_at(self, rate: float, *, name: str, bounds: bool = False, holds: bool = True) -> Claims:
        """Claim everyone at or above the reference's top `rate`.

        A reference too short for the rate lends its highest score: the rate is then 1 / (size + 1).
        """
        size = self.reference.size
        rank = max(1, int(rate * (size + 1)))
        order = np.lexsort((self.reference_ties, self.reference))
        at = order[size - rank]
        threshold, tie = self.reference[at], self.reference_ties[at]

        def claim(scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
            return np.asarray((scores > threshold) | ((scores == threshold) & (ties >= tie)))

        return Claims(
            name=name,
            statistic=f"tpr_at_fpr_{rate:.2f}",
            members=claim(self.members, self.member_ties),
            holdout=claim(self.holdout, self.holdout_ties),
            baseline_rate=rank / (size + 1),
            bounds=bounds,
            holds=holds,
        )
