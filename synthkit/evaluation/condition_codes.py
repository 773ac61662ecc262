"""What patients with a condition carry: the share with each code, generated against real.

Knows which patients carry which codes. Refuses to weigh a code that hardly anyone carries. Rules: shares
are of patients, not of codes, so that long records do not weigh more; correlations of shares are led by
frequent codes, as everywhere, so the correlation of log lifts stands beside them; floor and ceiling are
computed as the score is.

Source: EVA (Biswal et al. 2020), section 5.3 and Figure 3 (3); lifts and contrary codes are this project's.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from synthkit.data.sequences import Sequences
from synthkit.domain.sequence_utility import CodeShare, Profile
from synthkit.evaluation.record_conditions import RecordCondition
from synthkit.evaluation.sequences import correlation

SEEN = 25
"""Codes carried by fewer real patients have a lift that is mostly chance."""

EXPECTED = 20.0
"""Chance would have given a code to so many real patients of the condition, and none has it: contrary.
At 20 expected, none by chance is of probability below 1e-8 a code."""

HALF = 0.5
"""Added to counts where a code may be absent."""

SHOWN = 12
"""Codes that are listed by name."""


def carried(records: Sequences) -> sparse.csr_array:
    """Whether each patient carries each code at any visit: float64 (patients, codes), 0 and 1."""
    starts = records.visit_starts[records.patient_starts]
    shape = (records.patient_count, len(records.schema.code.categories))
    counts = sparse.csr_array((np.ones(records.codes.size), records.codes.astype(np.int64), starts), shape)
    counts.sum_duplicates()
    counts.data[:] = 1.0
    return counts


@dataclass(frozen=True, kw_only=True, eq=False)
class Carriers:
    """Patients with and without a condition, and how many of each carry each code, (codes,)."""

    with_it: float
    without: float
    codes_with: np.ndarray
    codes_without: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Of patients with the condition, (codes,)."""
        return self.codes_with / max(self.with_it, 1.0)

    @property
    def shares_without(self) -> np.ndarray:
        """Of patients without it, (codes,)."""
        return self.codes_without / max(self.without, 1.0)

    @property
    def lifts(self) -> np.ndarray:
        """Log of the share with the condition over that without it, (codes,)."""
        with_it = (self.codes_with + HALF) / (self.with_it + HALF)
        return np.log(with_it) - np.log((self.codes_without + HALF) / (self.without + HALF))


@dataclass(frozen=True, kw_only=True, eq=False)
class Matter:
    """One set of records ready for any condition."""

    records: Sequences
    carried: sparse.csr_array

    def of(self, condition: RecordCondition) -> Carriers:
        """Who carries what; the condition's own codes count as carried by nobody."""
        answers = condition.answers(self.records)
        yes, no = (answers == 1).astype(float), (answers == 0).astype(float)
        sides = [np.asarray(side @ self.carried) for side in (yes, no)]
        for side in sides:
            side[list(condition.codes)] = 0.0
        return Carriers(with_it=yes.sum(), without=no.sum(), codes_with=sides[0], codes_without=sides[1])

    def contrary(self, condition: RecordCondition, codes: np.ndarray) -> float:
        """Share of the condition's patients who carry any of these codes (numbers)."""
        yes = condition.answers(self.records) == 1
        if not yes.any():
            return float("nan")
        chosen = self.carried[np.flatnonzero(yes)][:, codes]
        return float((np.asarray(chosen.sum(axis=1)) > 0).mean()) if codes.size else 0.0


def matter_of(records: Sequences) -> Matter:
    """Count who carries what, once."""
    return Matter(records=records, carried=carried(records))


def profile(real: Matter, other: Matter, condition: RecordCondition) -> Profile:
    """How alike the two are in what the condition's patients carry."""
    own, its = real.of(condition), other.of(condition)
    often = own.codes_with + own.codes_without >= SEEN
    return Profile(
        shares=correlation(own.shares[often], its.shares[often]),
        lifts=correlation(own.lifts[often], its.lifts[often]),
        contrary=other.contrary(condition, never_carried(own)),
    )


def never_carried(real: Carriers) -> np.ndarray:
    """Codes that no real patient of the condition carries though chance gives them to many: numbers."""
    total = real.codes_with + real.codes_without
    expected = total * real.with_it / max(real.with_it + real.without, 1.0)
    return np.flatnonzero((real.codes_with == 0) & (expected >= EXPECTED))


def telling_codes(real: Matter, synthetic: Matter, condition: RecordCondition) -> tuple[CodeShare, ...]:
    """The codes that set the condition most apart among real patients, by difference of shares."""
    own, its = real.of(condition), synthetic.of(condition)
    names = real.records.schema.code.categories
    often = own.codes_with + own.codes_without >= SEEN
    apart = np.where(often, np.abs(own.shares - own.shares_without), -1.0)
    chosen = [int(code) for code in np.argsort(-apart, kind="stable")[:SHOWN] if apart[code] > 0]
    return tuple(
        CodeShare(
            code=names[code],
            real=float(own.shares[code]),
            real_without=float(own.shares_without[code]),
            synthetic=float(its.shares[code]),
            synthetic_without=float(its.shares_without[code]),
        )
        for code in chosen
    )
