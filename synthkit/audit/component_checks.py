"""What watched steps say about a claim: one check a sentence, each with an interval.

Knows observations and the claim; refuses to know how they were made. A check agrees where its interval
holds the claimed value; an exact check, which no chance enters, where both are equal. Every interval has
the same level, `LEVEL`, so that a sound step meets a contradiction with probability at most
`FALSE_ALARM` over all of them together (Bonferroni).

Units: released sums in units of the clipping norm C. Figures that no sampling could yield (a rate of 1
has no batches that vary) are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from synthkit.audit.component_watch import CANARY_ROWS, LOUD_QUARTERS, Observation, canary_rows
from synthkit.audit.statistics import clopper_pearson
from synthkit.domain.audit import Interval
from synthkit.domain.canonical import JsonObject
from synthkit.domain.privacy import DpSgdEvent

FALSE_ALARM: Final = 1e-3
"""Largest probability that a sound step is contradicted by any check of one audit."""

STATISTICAL_CHECKS: Final = 17
"""Checks that chance enters; each gets an equal part of `FALSE_ALARM`."""

LEVEL: Final = FALSE_ALARM / STATISTICAL_CHECKS

MOST_COMPARED: Final = 2048
"""Most releases whose noise is compared pair by pair: bounds memory."""

SENSITIVITY: Final = "sensitivity, rows "
"""Beginning of the names of the sensitivity checks, one for each number of a canary's rows."""

SAME_LOSS: Final = 1e-4
"""Largest relative change of a patient's loss that is rounding."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One sentence about the step: what was claimed, what was measured.

    `interval` is None for an exact check. `false_alarm` is the probability that a sound step is
    contradicted.
    """

    name: str
    claimed: float
    measured: float
    interval: Interval | None = None

    @property
    def agrees(self) -> bool:
        """Whether the measurement leaves the claim standing; never where it is no number."""
        if self.interval is None:
            return bool(self.claimed == self.measured)
        return bool(self.interval.lower <= self.claimed <= self.interval.upper)

    @property
    def false_alarm(self) -> float:
        """Probability of a contradiction where the claim holds."""
        return 0.0 if self.interval is None else 1.0 - self.interval.confidence

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "name": self.name,
            "claimed": self.claimed,
            "measured": self.measured,
            "interval": None if self.interval is None else self.interval.to_json(),
            "agrees": self.agrees,
            "false_alarm": self.false_alarm,
        }


def noise_checks(quiet: Observation, claim: DpSgdEvent) -> tuple[Check, ...]:
    """The noise of steps in which every gradient is zero."""
    releases = len(quiet.squares)
    variance = _variance(quiet.squares.sum(), releases * int(quiet.sizes.sum()))
    return (
        _check("noise", claim.noise_multiplier, variance.root()),
        _check("noise in every layer", claim.noise_multiplier, _oddest_layer(quiet, claim).root()),
        _check("noise is normal", 3.0, _kurtosis(quiet.coordinates)),
        _check("noise fresh at each step", 0.0, _largest_correlation(quiet.coordinates)),
        _check("noise fresh in each coordinate", 0.0, _largest_correlation(quiet.coordinates.T)),
        _check("divisor blind to the batch", 0.0, _follows_batch(quiet)),
    )


def site_check(one: Observation, other: Observation) -> Check:
    """Whether two sites that train from the same study and weights share any step's noise."""
    found = _largest_correlation(one.coordinates, other.coordinates)
    return _check("noise of its own at each site", 0.0, found)


def clipping_checks(loud: Observation, quiet: Observation, claim: DpSgdEvent) -> tuple[Check, ...]:
    """How far canaries move the sum, and the noise beside them, over several physical batches."""
    coordinates, sigma = float(quiet.sizes.sum()), claim.noise_multiplier
    calls = _per_release(loud, np.arange(len(loud.releases)))
    energy, canaries = loud.squares.sum(axis=1), loud.loud[calls].astype(float) ** 2
    errors = np.sqrt(2 * coordinates * sigma**4 + 4 * canaries * sigma**2)
    rows = np.array([canary_rows(call) for call in calls])
    columns = [np.ones_like(canaries), *(canaries * (rows == r) for r in CANARY_ROWS)]
    noise, *moved = _fitted(columns, energy, errors)
    few = calls % len(LOUD_QUARTERS) == 0
    floor = quiet.squares.sum() / max(1, len(quiet.squares))
    (alone,) = _fitted([canaries[few]], energy[few] - floor, errors[few])
    return (
        *(_check(f"{SENSITIVITY}{r}", 1.0, m.root()) for r, m in zip(CANARY_ROWS, moved, strict=True)),
        _check("clipped one by one", 1.0, alone.root()),
        _check("noise once a step", sigma, noise.scaled(1 / coordinates).root()),
    )


def sampling_checks(seen: Observation, claim: DpSgdEvent) -> tuple[Check, ...]:
    """Who was drawn, over many steps: each patient, each time, alone and at the accounted rate."""
    steps, patients = seen.drawn.shape
    inclusions = int(seen.drawn.sum(dtype=np.int64))
    rate = clopper_pearson(min(inclusions, steps * patients), steps * patients, confidence=1 - LEVEL)
    share = inclusions / (steps * patients)
    first = Check(name="sampling rate", claimed=claim.sample_rate, measured=share, interval=rate)
    once = _exact("drawn at most once a step", 1, max(1, int(seen.drawn.max(initial=0))))
    if not 0 < share < 1 or claim.sample_rate == 1:
        return (first, once)
    spread = share * (1 - share)
    counts, sizes = seen.drawn.sum(axis=0, dtype=np.int64), seen.batch_sizes
    by_patient = float(((counts - steps * share) ** 2).sum() / (steps * spread))
    by_step = float(((sizes - patients * share) ** 2).sum() / (patients * spread))
    return (
        first,
        once,
        _check("patients drawn alike", 1.0, _variance(by_patient, patients - 1)),
        _check("batch sizes vary", 1.0, _variance(by_step, steps - 1)),
        _check("drawn afresh at each step", 0.0, _turns(seen.drawn, share)),
    )


def empty_check(sparse: Observation, claim: DpSgdEvent) -> Check:
    """Share of steps that release noise without any patient, at a site where there have to be many."""
    noisy = np.zeros(len(sparse.releases), dtype=bool)
    noisy[_per_release(sparse, np.arange(len(noisy)))[sparse.squares.sum(axis=1) > 0]] = True
    empty = int(((sparse.batch_sizes == 0) & noisy).sum())
    expected = (1 - claim.sample_rate) ** sparse.patients
    interval = clopper_pearson(empty, len(sparse.batch_sizes), confidence=1 - LEVEL)
    share = empty / len(sparse.batch_sizes)
    return Check(name="empty batches kept", claimed=expected, measured=share, interval=interval)


def bookkeeping_checks(
    runs: tuple[Observation, ...], quiet: Observation, claim: DpSgdEvent, max_grad_norm: float
) -> tuple[Check, ...]:
    """What no chance enters: who is counted, what is stepped, and how often."""
    said = [
        run.settings.noise_multiplier == claim.noise_multiplier
        and run.settings.sample_rate == claim.sample_rate
        and run.settings.max_grad_norm == max_grad_norm
        and run.settings.expected_batch == run.normaliser
        for run in runs
    ]
    excess = max((int(np.abs(run.releases - 1).max(initial=0)) for run in runs), default=0)
    missing = max(abs(len(run.counted) - run.told) for run in runs)
    strangers = max(int(np.abs(run.counted - run.patients).max(initial=0)) for run in runs)
    return (
        _exact("settings are the study's", 1, int(all(said))),
        _exact("one release a step", 1, 1 + excess),
        _exact("steps as told", 0, missing),
        _exact("releases as accounted", claim.steps, int(quiet.releases.sum())),
        _exact("a unit is a patient", 0, strangers),
        _exact("starts from public state", 1, int(all(run.is_fresh for run in runs))),
        _exact("only releases move weights", 0, sum(run.strays for run in runs)),
    )


def company_check(largest_change: float) -> Check:
    """Whether a patient's loss depends on the company, from the largest relative change of one."""
    shown = 0.0 if largest_change <= SAME_LOSS else largest_change
    return _exact("patients do not mix", 0, shown)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its interval at `LEVEL`, on the scale on which it was estimated."""

    value: float
    lower: float
    upper: float

    def root(self) -> "Estimate":
        """Of a square: negative ends, which only chance yields, become zero."""
        value, lower, upper = (float(np.sqrt(max(0.0, x))) for x in (self.value, self.lower, self.upper))
        return Estimate(value=value, lower=lower, upper=upper)

    def scaled(self, factor: float) -> "Estimate":
        """Times a positive constant."""
        return Estimate(value=self.value * factor, lower=self.lower * factor, upper=self.upper * factor)


def _check(name: str, claimed: float, found: Estimate) -> Check:
    if np.isnan([found.value, found.lower, found.upper]).any():
        return _exact(name, claimed, np.nan)
    interval = Interval(lower=found.lower, upper=found.upper, confidence=1 - LEVEL)
    return Check(name=name, claimed=claimed, measured=found.value, interval=interval)


def _exact(name: str, claimed: float, measured: float) -> Check:
    return Check(name=name, claimed=float(claimed), measured=float(measured))


def _normal(value: float, error: float, level: float = LEVEL) -> Estimate:
    half = float(stats.norm.isf(level / 2)) * error
    return Estimate(value=value, lower=value - half, upper=value + half)


def _variance(squares: float, freedom: int, level: float = LEVEL) -> Estimate:
    """A variance (or its ratio to the claimed one) from a sum of squares: chi-square interval."""
    freedom = max(1, freedom)
    return Estimate(
        value=float(squares) / freedom,
        lower=float(squares / stats.chi2.isf(level / 2, freedom)),
        upper=float(squares / stats.chi2.ppf(level / 2, freedom)),
    )


def _oddest_layer(quiet: Observation, claim: DpSgdEvent) -> Estimate:
    """Variance in the parameter that fits the claim worst, its level shared among all parameters."""
    releases = len(quiet.squares)
    level = LEVEL / len(quiet.sizes)
    squares, freedoms = quiet.squares.sum(axis=0), releases * quiet.sizes
    deviations = np.abs(squares / np.maximum(freedoms, 1) / claim.noise_multiplier**2 - 1)
    worst = int(np.argmax(deviations * np.sqrt(freedoms)))
    return _variance(squares[worst], int(freedoms[worst]), level)


def _kurtosis(coordinates: np.ndarray) -> Estimate:
    """Fourth moment over squared second moment: 3 for normal noise; standard error sqrt(24 / n)."""
    squares = coordinates.astype(np.float64).ravel() ** 2
    second = squares.mean() if squares.size else 0.0
    value = float((squares**2).mean() / second**2) if second > 0 else 0.0
    return _normal(value, float(np.sqrt(24 / max(1, squares.size))))


def _largest_correlation(rows: np.ndarray, others: np.ndarray | None = None) -> Estimate:
    """The strongest correlation of any two rows, or of any row with any of `others`.

    Rows of independent normal numbers correlate with standard error at most 1 / sqrt(length); the level
    is shared among all pairs. Rows of zeros, which are the same, count as correlated.
    """
    first = _unit_rows(rows[:MOST_COMPARED])
    second = first if others is None else _unit_rows(others[:MOST_COMPARED])
    products = first @ second.T
    if others is None:
        np.fill_diagonal(products, 0.0)
    strongest = float(products.flat[int(np.argmax(np.abs(products)))]) if products.size else 1.0
    pairs = products.size if others is not None else products.size // 2
    return _normal(strongest, 1 / np.sqrt(max(1, rows.shape[1])), LEVEL / max(1, pairs))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = np.full_like(rows, 1 / np.sqrt(max(1, rows.shape[1])))
    units: np.ndarray = np.divide(rows, norms, out=flat, where=norms > 0)
    return units


def _per_release(seen: Observation, values: np.ndarray) -> np.ndarray:
    """A figure of each call, once for each of its releases."""
    repeated: np.ndarray = np.repeat(values, seen.releases)
    return repeated


def _follows_batch(quiet: Observation) -> Estimate:
    """Power of the batch size with which the noise's width goes; -1 where the batch divides it."""
    sizes = _per_release(quiet, quiet.batch_sizes)
    energy = quiet.squares.sum(axis=1)
    is_used = (sizes > 0) & (energy > 0)
    logs = np.log(sizes[is_used])
    spread = float(((logs - logs.mean()) ** 2).sum()) if logs.size else 0.0
    if spread == 0:
        return Estimate(value=0.0, lower=-np.inf, upper=np.inf)
    widths = 0.5 * np.log(energy[is_used])
    power = float(((logs - logs.mean()) * widths).sum()) / spread
    return _normal(power, float(np.sqrt(0.5 / quiet.sizes.sum() / spread)))


def _fitted(columns: Sequence[np.ndarray], y: np.ndarray, errors: np.ndarray) -> list[Estimate]:
    """Weighted least squares with known errors: the coefficient of each column, with its interval.

    Where points lie off the fit by more than their errors, the intervals widen accordingly.
    """
    design = np.column_stack(columns) / errors[:, None]
    if np.linalg.matrix_rank(design) < len(columns):
        return [Estimate(value=0.0, lower=0.0, upper=0.0)] * len(columns)
    covariance = np.linalg.inv(design.T @ design)
    found = covariance @ design.T @ (y / errors)
    misfit = float(((y / errors - design @ found) ** 2).sum())
    factor = max(1.0, misfit / float(stats.chi2.isf(LEVEL, max(1, len(y) - len(columns)))))
    spread = np.sqrt(np.diag(covariance) * factor)
    return [_normal(float(value), float(error)) for value, error in zip(found, spread, strict=True)]


def _turns(drawn: np.ndarray, share: float) -> Estimate:
    """Correlation of being drawn at a step and at the next."""
    centred = drawn.astype(np.float32) - np.float32(share)
    products = float(np.einsum("ti,ti->", centred[1:], centred[:-1], dtype=np.float64))
    pairs = max(1, centred[1:].size)
    return _normal(products / pairs / (share * (1 - share)), float(1 / np.sqrt(pairs)))
