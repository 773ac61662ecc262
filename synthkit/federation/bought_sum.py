"""BoughtSum: the noised sum that sites of a study buy in its first round, and how it travels beside weights.

Knows two arrays by name and their form. Refuses to know what the numbers of a sum mean. Rules: a site's sum
and its noise's variance add up with other sites'; the sum stays beside the weights to the study's end, so
that a resumed study, every site and the final model read the same one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.errors import InputError
from synthkit.federation.messages import Weights

TOTAL, VARIANCE = "bought.total", "bought.variance"
"""Names on the wire; no parameter of a generator is called so."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BoughtSum:
    """A sum over patients of vectors of norm at most 1, with Gaussian noise in every number.

    Attributes:
        total: float32 (k,).
        variance: Of the noise of each number; 0 where nothing was bought yet.
    """

    total: np.ndarray
    variance: float

    @classmethod
    def nothing(cls, width: int) -> "BoughtSum":
        """What a study starts from: zeros of this width."""
        return cls(total=np.zeros(width, dtype=np.float32), variance=0.0)

    @classmethod
    def of_noise(cls, total: np.ndarray, *, noise_multiplier: float) -> "BoughtSum":
        """One site's, with noise of this standard deviation."""
        return cls(total=total.astype(np.float32), variance=float(np.float32(noise_multiplier**2)))

    @property
    def std(self) -> float:
        """Standard deviation of the noise of each number."""
        return math.sqrt(self.variance)

    @property
    def is_bought(self) -> bool:
        """Whether a round has put anything there."""
        return self.variance > 0

    def beside(self, weights: Weights) -> Weights:
        """Weights with this sum, as they travel."""
        return {**weights, TOTAL: self.total, VARIANCE: np.array([self.variance], dtype=np.float32)}


def taken_apart(weights: Weights, *, where: str) -> tuple[Weights, BoughtSum]:
    """The weights alone, and the sum beside them.

    Raises:
        InputError: There is none, or it is not float32 of one dimension, finite, with a variance of at
            least 0.
    """
    if TOTAL not in weights or VARIANCE not in weights:
        raise InputError(
            "no bought sum beside the weights", where=where, fix="both ends need the same version"
        )
    total, variance = weights[TOTAL], weights[VARIANCE]
    if total.ndim != 1 or variance.shape != (1,) or {total.dtype, variance.dtype} != {np.dtype(np.float32)}:
        raise InputError("the bought sum has another form", where=where)
    if not np.isfinite(total).all() or not np.isfinite(variance).all() or variance[0] < 0:
        raise InputError("the bought sum is not finite", where=where)
    alone = {name: array for name, array in weights.items() if name not in (TOTAL, VARIANCE)}
    return alone, BoughtSum(total=total, variance=float(variance[0]))


def added(sums: Sequence[BoughtSum]) -> BoughtSum:
    """The sum over all sites' patients; its noise's variance is the sum of theirs. Added in float64."""
    if not sums or len({one.total.shape for one in sums}) != 1:
        raise ValueError("sums of one width are added, and at least one")
    total = np.sum([one.total.astype(np.float64) for one in sums], axis=0)
    return BoughtSum(
        total=total.astype(np.float32), variance=float(np.float32(sum(o.variance for o in sums)))
    )
