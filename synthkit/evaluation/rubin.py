"""One estimate and one interval from several synthetic tables.

Knows estimates and their variances, one pair per table. Refuses to know what was estimated. Rules: the
rule is named in the result; no rule is applied to tables it was not derived for without its docstring
saying so.

What no rule here covers: that the generator cannot express a relation (bias); and, under PARTIAL and
SIMPLE, whatever all the tables share. Tables drawn from *one* model that was trained with differential
privacy share that one draw of its noise, so neither the variance between them nor that within them shows
it, and the interval is too narrow. It is covered where each table comes from a model that was trained
anew, each with noise (and budget) of its own, or under FULL where each table's parameters were drawn from
a posterior that knows the noise (Raisa, Jalko, Kaski and Honkela, AISTATS 2023).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import t as student

from synthkit.errors import InputError

MANY = 1e9
"""Degrees of freedom that make a t quantile a normal one."""


class Rule(StrEnum):
    """How several tables' estimates become one. q: mean estimate, u: mean variance, b: variance between.

    PARTIAL: T = u r + b / m, degrees of freedom (m - 1)(1 + u r m / b)^2. For tables whose values come
    from one fitted model, all sampled or in part. r is synthetic over real number of rows; 1 is the
    published case. Source: Reiter, Survey Methodology 29 (2003), 181-188; for draws from a fitted model
    without a posterior: Reiter and Kinney, Journal of Official Statistics 28 (2012), 583-590.

    SIMPLE: T = u (r + 1 / m), normal. The same case without b, so that one table is enough. Source: Raab,
    Nowok and Dibben, Journal of Privacy and Confidentiality 7 (2016), 67-97.

    FULL: T = (1 + 1 / m) b - u, degrees of freedom (m - 1)(1 - u m / ((m + 1) b))^2; where that is not
    above 0, u r. For tables each of which has parameters drawn from their posterior. Source:
    Raghunathan, Reiter and Rubin, Journal of Official Statistics 19 (2003), 1-16; the replacement of
    a negative T: Reiter, Journal of Official Statistics 18 (2002), 531-543.
    """

    PARTIAL = "partially synthetic"
    SIMPLE = "simple synthesis"
    FULL = "fully synthetic"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """The pooled estimates; all arrays float64 of shape (terms,).

    `variance` is the rule's T. `between` is b, `within` is u. `quantile` makes the interval:
    estimate plus or minus quantile times the root of variance.
    """

    rule: Rule
    sets: int
    estimate: np.ndarray
    variance: np.ndarray
    between: np.ndarray
    within: np.ndarray
    degrees_of_freedom: np.ndarray
    quantile: np.ndarray

    @property
    def standard_error(self) -> np.ndarray:
        """Root of the variance."""
        return np.asarray(np.sqrt(self.variance))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end."""
        reach = self.quantile * self.standard_error
        return self.estimate - reach, self.estimate + reach


def pool(
    estimates: np.ndarray,
    variances: np.ndarray,
    *,
    rule: Rule = Rule.PARTIAL,
    ratio: float = 1.0,
    confidence: float = 0.95,
) -> Pooled:
    """Pool the estimates of several synthetic tables of equal size.

    Args:
        estimates: float64, shape (tables, terms).
        variances: float64, shape (tables, terms): squared standard errors, each as if its table were real.
        rule: See `Rule`.
        ratio: Rows of one synthetic table over real rows. A synthetic table larger than the real one has
            smaller variances than the real patients can support; the ratio puts that right.
        confidence: Of the interval.

    Raises:
        InputError: The shapes differ, there are fewer than two tables (SIMPLE: none), a variance is not
            positive, or `ratio` or `confidence` is out of range.
    """
    estimates, variances = np.atleast_2d(estimates), np.atleast_2d(variances)
    _check(estimates, variances, rule, ratio, confidence)
    sets = len(estimates)
    within = variances.mean(axis=0)
    between = estimates.var(axis=0, ddof=1) if sets > 1 else np.zeros_like(within)
    variance, freedom = _RULES[rule](between, within, sets, ratio)
    return Pooled(
        rule=rule,
        sets=sets,
        estimate=estimates.mean(axis=0),
        variance=variance,
        between=between,
        within=within,
        degrees_of_freedom=freedom,
        quantile=student.ppf(0.5 + confidence / 2, freedom),
    )


def _check(estimates: np.ndarray, variances: np.ndarray, rule: Rule, ratio: float, confidence: float) -> None:
    if estimates.shape != variances.shape or estimates.ndim != 2:
        raise InputError("estimates and variances differ in shape", where="pooling")
    if len(estimates) < (1 if rule is Rule.SIMPLE else 2):
        raise InputError("it takes two synthetic tables or more", where=f"pooling rule {rule.value}")
    if not (np.isfinite(estimates).all() and np.isfinite(variances).all() and (variances > 0).all()):
        raise InputError("a variance is not above 0, or a figure is not finite", where="pooling")
    if not (ratio > 0 and 0 < confidence < 1):
        raise InputError("ratio is above 0 and confidence between 0 and 1", where="pooling")


def _partial(
    between: np.ndarray, within: np.ndarray, sets: int, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    variance = within * ratio + between / sets
    share = np.maximum(between / sets / (within * ratio), np.sqrt((sets - 1) / MANY))
    return variance, (sets - 1) * (1 + 1 / share) ** 2


def _simple(
    between: np.ndarray, within: np.ndarray, sets: int, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    return within * (ratio + 1 / sets), np.full_like(between, MANY)


def _full(between: np.ndarray, within: np.ndarray, sets: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    total = (1 + 1 / sets) * between
    variance = total - within
    is_usable = variance > 0
    share = np.where(is_usable, within / np.where(is_usable, total, 1.0), 0.0)
    freedom = np.where(is_usable, (sets - 1) * (1 - share) ** 2, sets - 1.0)
    # Below one degree of freedom the quantile runs off to infinity and says nothing any more.
    return np.where(is_usable, variance, within * ratio), np.maximum(freedom, 1.0)


_RULES = {Rule.PARTIAL: _partial, Rule.SIMPLE: _simple, Rule.FULL: _full}
