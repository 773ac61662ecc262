"""The process's formulas, once: what `sampling` draws with and `truth` evaluates.

Knows arrays of states. Refuses to know a record's layout or a random number. Rule: the formulas take
and return whatever float type they are given, so that drawing (float32) and truth (float64) are the same
code; a class axis, where there is one, comes last but one.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.data.simulator.process import AGE_PIVOT, DAYS_PER_YEAR, Process


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """Patients as they come to a visit, one row each.

    `ages`: whole years at the first visit; `sexes`: 0 women, 1 men; `days`: the visit's day since
    1970-01-01; `elapsed`: days since the first visit; `gaps`: days since the last visit, 0 at the first;
    `present`: (rows, K) conditions before; `acute`: (rows, M) events and `followers`: (rows, B) codes of
    the last visit, as 0 and 1.
    """

    ages: np.ndarray
    sexes: np.ndarray
    days: np.ndarray
    elapsed: np.ndarray
    gaps: np.ndarray
    present: np.ndarray
    acute: np.ndarray
    followers: np.ndarray


def event_rates(process: Process, moment: Moment) -> np.ndarray:
    """Rates of onsets and acute events at a visit but for the class's factor, shape (rows, A).

    A condition's rate is already times its exposure. P(event | u) = 1 - exp(-rate * e^classes[u]), and
    that is an onset's probability only for conditions that are not present yet.
    """
    kind = moment.present.dtype.type
    count = process.conditions
    before = np.concatenate([moment.present, moment.acute], axis=1)
    decades = ((moment.ages + moment.elapsed / DAYS_PER_YEAR - AGE_PIVOT) / 10.0).astype(kind)
    eta = before @ process.after.astype(kind)
    eta += process.base.astype(kind) + process.sex.astype(kind)[moment.sexes]
    slope = process.age.astype(kind)
    rates: np.ndarray = np.exp(eta + decades[:, None] * slope)
    rates[:, :count] *= (moment.gaps / DAYS_PER_YEAR).astype(kind)[:, None]
    is_first = moment.gaps == 0
    if is_first.any():
        rates[is_first, :count] = np.exp(eta[is_first, :count]) * lifelong(process, moment.ages[is_first])
    angle = (2 * np.pi / DAYS_PER_YEAR) * (moment.days[:, None] % DAYS_PER_YEAR - process.peak)
    rates[:, count:] *= 1 + (process.swing * np.cos(angle)).astype(kind)
    return rates


def lifelong(process: Process, ages: np.ndarray) -> np.ndarray:
    """Years of exposure before the first visit, as years at 60: shape (rows, K).

    The integral of e^(slope (a - 60) / 10) over the ages a from 0.
    """
    slope = process.age[: process.conditions] / 10.0
    flat = np.abs(slope) < 1e-9
    safe = np.where(flat, 1.0, slope)
    start, end = np.exp(-AGE_PIVOT * safe), np.exp((ages[:, None] - AGE_PIVOT) * safe)
    exposure: np.ndarray = np.where(flat, ages[:, None], (end - start) / safe)
    return exposure


def follower_weights(process: Process, moment: Moment) -> np.ndarray:
    """What the state before contributes to each follower's weight, shape (rows, B)."""
    kind = moment.present.dtype.type
    weights: np.ndarray = moment.present @ process.old.astype(kind)
    weights += moment.followers @ process.last.astype(kind)
    return weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Departure:
    """What follows a visit, by class: shapes (rows, U), and `scheduled` (rows,).

    `died`: probability of death; `daily`: rate of the next visit a day, unless it is an appointment.
    """

    died: np.ndarray
    daily: np.ndarray
    scheduled: np.ndarray


def departure(
    process: Process,
    *,
    ages: np.ndarray,
    elapsed: np.ndarray,
    present: np.ndarray,
    acute: np.ndarray,
    drugs: np.ndarray,
) -> Departure:
    """What may follow a visit, given the state after it.

    Args:
        process: The process.
        ages: Whole years at the first visit, (rows,).
        elapsed: Days since the first visit, (rows,).
        present: Conditions present, this visit's onsets included, (rows, K).
        acute: Acute events of this visit, (rows, M).
        drugs: Whether the visit has a drug, (rows,) bool.
    """
    decades = (ages + elapsed / DAYS_PER_YEAR - AGE_PIVOT) / 10.0
    sick = (present * process.death_conditions).sum(axis=1)
    zeta = process.death_base + (decades * process.death_age + sick)[:, None]
    load = present.sum(axis=1, dtype=float) * process.visit_condition
    load += acute.sum(axis=1, dtype=float) * process.visit_acute
    yearly = np.exp(process.visit_base + load[:, None])
    return Departure(
        died=-np.expm1(-np.exp(zeta)),
        daily=yearly / DAYS_PER_YEAR,
        scheduled=process.scheduled[drugs.astype(np.int64)],
    )


def gap_chances(process: Process, leave: Departure, gaps: np.ndarray) -> np.ndarray:
    """P(gap | there is a next visit, u), shape (rows, U); `gaps` in days, (rows,), at least 1."""
    low, high = process.quarter
    quarterly = ((gaps >= low) & (gaps <= high)) / (high - low + 1)
    waited = (gaps - 1)[:, None] * leave.daily
    is_longest = (gaps == process.longest)[:, None]
    drawn = np.exp(-waited) * np.where(is_longest, 1.0, -np.expm1(-leave.daily))
    drawn = np.where((gaps > process.longest)[:, None] | (gaps < 1)[:, None], 0.0, drawn)
    mixed: np.ndarray = (leave.scheduled * quarterly)[:, None] + (1 - leave.scheduled)[:, None] * drawn
    return mixed
