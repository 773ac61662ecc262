"""Calendar: how days between visits become kinds of gap, and when a visit is as numbers.

Knows whole days. Refuses to look at any record: the kinds are the same whatever the records are, so they
may leave with a model. Rules: a gap is drawn back uniformly from its kind's days; a record of undated times
starts on day 0, for the day its source counts from means nothing elsewhere.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np

DAYS, WEEKS, MONTHS, HALF_YEARS = 14, 26 * 7, 730, 3650
"""Up to here a kind of gap is one day, 7 days, 30 days, 182 days; one more kind is all beyond."""

LONGEST_DAYS = 7300
"""No gap is drawn longer; a longer one is of the last kind."""

STARTS = np.array(
    [
        *range(DAYS),
        *range(DAYS, WEEKS, 7),
        *range(WEEKS, MONTHS, 30),
        *range(MONTHS, HALF_YEARS, 182),
        HALF_YEARS,
        LONGEST_DAYS + 1,
    ],
    dtype=np.int64,
)

FIRST_YEAR, LAST_YEAR = 1900, 2099
"""A dated record's first visit lies in here; else it is moved to the nearest of these years."""

YEAR_STARTS = np.array(
    [(dt.date(year, 1, 1) - dt.date(1970, 1, 1)).days for year in range(FIRST_YEAR, LAST_YEAR + 2)]
)

CLOCK = 5
"""Numbers that say when a visit is."""


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Of one kind of records. `is_dated` says whether their times, if they have any, are calendar dates."""

    is_timed: bool
    is_dated: bool

    @property
    def kinds(self) -> int:
        """How many kinds of gap there are."""
        return STARTS.size - 1 if self.is_timed else 1

    @property
    def years(self) -> int:
        """How many states the first visit's year has; 1 where there are no dates."""
        return LAST_YEAR - FIRST_YEAR + 1 if self.is_timed and self.is_dated else 1

    def kind_of(self, days: np.ndarray) -> np.ndarray:
        """Each gap's kind, int64, from its days, at least 0."""
        if not self.is_timed:
            return np.zeros(days.shape, dtype=np.int64)
        found = np.searchsorted(STARTS, days, side="right") - 1
        return np.asarray(np.clip(found, 0, self.kinds - 1), dtype=np.int64)

    def days_of(self, kinds: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """A gap of each kind, int64 days; `uniform` in [0, 1) decides which."""
        if not self.is_timed:
            return np.zeros(kinds.shape, dtype=np.int64)
        low, high = STARTS[kinds], STARTS[kinds + 1]
        return np.asarray(low + np.floor((high - low) * uniform), dtype=np.int64)

    def year_of(self, days: np.ndarray) -> np.ndarray:
        """State of each first visit's year, int64, from days since 1970-01-01."""
        if self.years == 1:
            return np.zeros(days.shape, dtype=np.int64)
        found = np.searchsorted(YEAR_STARTS, days, side="right") - 1
        return np.asarray(np.clip(found, 0, self.years - 1), dtype=np.int64)

    def first_day_of(self, years: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """A day of each year, int64 since 1970-01-01; day 0 without dates."""
        if self.years == 1:
            return np.zeros(years.shape, dtype=np.int64)
        low, high = YEAR_STARTS[years], YEAR_STARTS[years + 1]
        return np.asarray(low + np.floor((high - low) * uniform), dtype=np.int64)

    def clock(self, place: np.ndarray, day: np.ndarray, elapsed: np.ndarray, gap: np.ndarray) -> np.ndarray:
        """When visits are, as numbers of about 1.

        Args:
            place: How many visits came before.
            day: Days since 1970-01-01; says nothing where there are no dates.
            elapsed: Days since the first visit.
            gap: Days since the visit before.

        Returns:
            float32, shape (visits, CLOCK): season as sine and cosine, time since the first and the last
            visit, and place, the three on a log scale; 0 where not known.
        """
        turn = 2.0 * np.pi * np.asarray(day) / 365.2425
        season = (np.sin(turn), np.cos(turn)) if self.years > 1 else (np.zeros(place.shape),) * 2
        numbers = (*season, np.log1p(elapsed / 365.2425), np.log1p(gap) / 4.0, np.log1p(place) / 3.0)
        return np.asarray(np.stack(numbers, axis=-1), dtype=np.float32)
