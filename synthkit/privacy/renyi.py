"""Renyi curves of events, and the filter that admits them against a cap.

Knows one number for each order: the Renyi divergence a history may have caused. Refuses to know the
outputs, the data, or any total epsilon somebody wrote down: curves add, epsilons do not.

Why the filter is sound when each event is chosen after seeing the outputs of the earlier ones. For one
order fixed in advance it is: if the order-a sums never exceed B, the whole adaptive interaction is
(a, B)-RDP, and (epsilon, delta)-DP follows by conversion. Picking, at the end, whichever order happens
to look best is not free: an analyst who steers which order survives gains on the conversion's delta.
So the orders are chosen before the first output, and each owns a share of delta:

1. One leading order with `LEADING_SHARE` of delta. It is the best order for the reference event: the one
   written at the ledger's creation, else the very first event ever reserved. Both are fixed before
   anything about these patients was released. A history of equal events therefore loses nothing.
2. The orders of `LADDER` own `LADDER_SHARE` in equal parts, so that a history of another kind is not
   locked out.
3. Failures of threshold events own `FAILURE_SHARE`, whatever orders are in use.

A request is admitted if the failure probabilities of the whole history, request included, add up to at
most their share, and one of the orders has room. The three shares add up to one.

Soundness, first without threshold events. Split all transcripts by the order that certified the last
event. An order that has room at the end had room all along, since divergences only add up. So on each
part the interaction equals the one that a filter for that order alone would have let through, whose
hockey-stick divergence is at most that order's share; over all parts the shares sum. What was refunded
had no output and is in no transcript. Concurrent studies are covered, since fixed-order Renyi filters
stay valid under concurrency.

With threshold events (approximate Renyi privacy). Such an event's output on two neighbouring data sets is
(1 - f) P + f Q and (1 - f) P' + f Q', where P and P' are at most the Gaussian's divergence apart and f is
its failure probability. Follow only the transcripts without any failure. Each weighs, on both sides alike,
the product of its own (1 - f) times what an interaction that cannot fail would give it; so it is that
interaction, weighted by a function within [0, 1], and the bound above holds for such functions as it does
for sets. All other transcripts together weigh at most the largest sum of f along any one of them, which is
what admission bounds. They are counted once, before the split by orders, so the total is delta.

The shares, the ladder and the orders are part of what a ledger promises: a ledger in use must not meet
other ones. A study's quota is judged the same way, from the study's own first event; it limits the study
and promises nothing by itself.

Source: Rogers et al., NeurIPS 2016, arXiv 1605.08294 (filters). Feldman and Zrnic, NeurIPS 2021, arXiv
2008.11193 (Renyi filter of fixed order). Whitehouse et al., ICML 2023, arXiv 2203.05481 (a filter for
approximate zCDP, the same idea for failures). Haney et al., CCS 2023, arXiv 2309.05901 (concurrency, Renyi
of fixed order). Regehr et al., arXiv 2602.15815 (natural filters are not free in general; why no order
may be picked at the end). Conversion: Canonne et al., arXiv 2004.00010v4, Proposition 12.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianThresholdEvent, PrivacyEvent

Key = TypeVar("Key")

Curve = NDArray[np.float64]
"""Renyi divergence bound at each of `ORDERS`, shape (len(ORDERS),), nats."""

ORDERS: tuple[float, ...] = (
    2.0,
    *(quarter / 4 for quarter in range(11, 41)),
    *(half / 2 for half in range(21, 33)),
    *(float(order) for order in range(17, 33)),
    *(float(order) for order in range(34, 65, 2)),
    *(72.0, 80.0, 96.0, 112.0, 128.0, 160.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0),
)
"""Orders of every curve. Fractional ones begin at 2.75: below, the series of the subsampled Gaussian
converges too slowly at large noise."""

LADDER: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)
"""Orders of the filter besides the leading one."""

LEADING_SHARE = 0.97
"""Share of delta that the leading order owns."""

LADDER_SHARE = 0.01
"""Share of delta that the orders of `LADDER` own together."""

FAILURE_SHARE = 0.02
"""Share of delta for the failures of all threshold events of an asset's whole life together."""

SMALLEST_NOISE_MULTIPLIER = 1e-3
LARGEST_NOISE_MULTIPLIER = 1e6
SMALLEST_SAMPLE_RATE = 1e-6
MOST_STEPS = 10**12
ROUNDING_SLACK = 1e-14
"""Added to each step's divergence: covers floating-point cancellation when the true one is near zero."""

_ORDERS = np.array(ORDERS)


TallyKey = tuple[
    tuple[tuple[float, float, int], ...], tuple[tuple[float, int], ...], tuple[tuple[float, int], ...]
]
"""(noise_multiplier, sample_rate, steps), (noise_multiplier, count) and (failure_delta, count), sorted."""


class Tally:
    """A history with equal events merged, in a form that does not depend on their order.

    Full-batch events need no key but their total precision: Gaussian mechanisms compose to one.
    """

    def __init__(self, events: Iterable[PrivacyEvent] = ()) -> None:
        self.sampled: dict[tuple[float, float], int] = {}
        self.full: dict[float, int] = {}
        self.failures: dict[float, int] = {}
        for event in events:
            self.add(event)

    @classmethod
    def from_key(cls, key: TallyKey) -> "Tally":
        """Inverse of `key`."""
        sampled, full, failures = key
        tally = cls()
        tally.sampled = {(sigma, rate): steps for sigma, rate, steps in sampled}
        tally.full, tally.failures = dict(full), dict(failures)
        return tally

    def add(self, event: PrivacyEvent) -> None:
        """Merge one more event."""
        self._shift(event, 1)

    def remove(self, event: PrivacyEvent) -> None:
        """Undo one `add` of an equal event. Counts are whole numbers, so this is exact."""
        self._shift(event, -1)

    def _shift(self, event: PrivacyEvent, sign: int) -> None:
        sigma = event.noise_multiplier
        if isinstance(event, DpSgdEvent):
            if event.sample_rate < 1:
                _count(self.sampled, (sigma, event.sample_rate), sign * event.steps)
            else:
                _count(self.full, sigma, sign * event.steps)
        elif isinstance(event, GaussianThresholdEvent):
            _count(self.full, sigma, sign)
            _count(self.failures, event.failure_delta, sign)
        else:
            _count(self.full, sigma, sign * event.count)

    def copy(self) -> "Tally":
        """An independent tally of the same history."""
        twin = Tally()
        twin.sampled, twin.full, twin.failures = dict(self.sampled), dict(self.full), dict(self.failures)
        return twin

    @property
    def is_empty(self) -> bool:
        """Whether nothing was released."""
        return not self.sampled and not self.full and not self.failures

    @property
    def key(self) -> TallyKey:
        """A hashable form: equal for equal histories in any order."""
        sampled = sorted((sigma, rate, steps) for (sigma, rate), steps in self.sampled.items())
        return tuple(sampled), tuple(sorted(self.full.items())), tuple(sorted(self.failures.items()))

    @property
    def failure_delta(self) -> float:
        """Sum of all threshold events' failure probabilities: the union bound."""
        return math.fsum(failure * count for failure, count in sorted(self.failures.items()))

    def parts(self) -> Iterator[tuple[float, float, int]]:
        """(noise_multiplier, sample_rate, steps) of each distinct event, in a fixed order."""
        sampled, full, _ = self.key
        yield from sampled
        yield from ((sigma, 1.0, count) for sigma, count in full)

    def curve(self) -> Curve:
        """The composed Renyi curve: curves of independent releases add, order by order."""
        total = np.zeros(len(ORDERS))
        for sigma, rate, steps in self.parts():
            total += _repeated(step_curve(sigma, rate), steps)
        return total


def _count(counts: dict[Key, int], key: Key, change: int) -> None:
    """Shift a whole count; a key with none is no key, so that equal histories have equal tallies."""
    counts[key] = counts.get(key, 0) + change
    if not counts[key]:
        del counts[key]


def _repeated(curve: Curve, steps: int) -> Curve:
    """`steps` times the same curve; no finite claim beyond `MOST_STEPS`."""
    return curve * steps if steps <= MOST_STEPS else np.full(len(ORDERS), math.inf)


@lru_cache(maxsize=4096)
def step_curve(noise_multiplier: float, sample_rate: float) -> Curve:
    """Renyi curve of one Poisson-sampled Gaussian step, add or remove one patient.

    Values beyond the range where the formula is computable are moved to the costly side.

    Source: Mironov et al., arXiv 1908.10530, Section 3.3, as computed by dp_accounting.
    """
    if noise_multiplier < SMALLEST_NOISE_MULTIPLIER:
        return _read_only(np.full(len(ORDERS), math.inf))
    sigma = min(noise_multiplier, LARGEST_NOISE_MULTIPLIER)
    if sample_rate >= 1:
        return _read_only(_ORDERS / (2 * sigma**2))
    # Imported here: it takes most of a second, and a ledger of full-batch events never needs it.
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent  # noqa: PLC0415
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    accountant = RdpAccountant(list(ORDERS))
    rate = max(sample_rate, SMALLEST_SAMPLE_RATE)
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)))
    return _read_only(np.maximum(accountant.rdp, 0.0) + ROUNDING_SLACK)


def _read_only(curve: Curve) -> Curve:
    """The same curve, protected because a cache hands it to every caller."""
    curve.flags.writeable = False
    return curve


@lru_cache(maxsize=256)
def conversion_cost(delta: float) -> Curve:
    """What turning RDP into epsilon at `delta` costs at each order: epsilon = divergence + cost."""
    cost: Curve = np.log1p(-1 / _ORDERS) - np.log(delta * _ORDERS) / (_ORDERS - 1)
    return _read_only(cost)


def epsilon_by_order(curve: Curve, delta: float) -> Curve:
    """Epsilon at `delta` that each order certifies on its own, shape (len(ORDERS),)."""
    epsilon = np.maximum(curve + conversion_cost(delta), 0.0)
    # A divergence this small bounds the total variation distance by delta (Bretagnolle and Huber).
    result: Curve = np.where(delta**2 + np.expm1(-curve) >= 0, 0.0, epsilon)
    return result


def renyi_epsilon(tally: Tally, delta: float) -> float:
    """Epsilon of a history that was fixed before its first release: the best order decides.

    It has all of delta but the failures; infinity if they leave none.
    """
    if tally.is_empty:
        return 0.0
    left = delta - tally.failure_delta
    return float(np.min(epsilon_by_order(tally.curve(), left))) if left > 0 else math.inf


@lru_cache(maxsize=256)
def leading_order(reference: PrivacyEvent, budget: Budget) -> int:
    """Index into `ORDERS` of the order under which most copies of `reference` fit the budget."""
    room = budget.epsilon - conversion_cost(LEADING_SHARE * budget.delta)
    curve = np.asarray(Tally([reference]).curve())
    copies = np.where(np.isfinite(curve), room / np.maximum(curve, ROUNDING_SLACK), -math.inf)
    return int(np.argmax(copies)) if np.max(room) > 0 else len(ORDERS) - 1


def has_room_for_failures(tally: Tally, delta: float) -> bool:
    """Whether all failures together stay within their share of `delta`."""
    return tally.failure_delta <= FAILURE_SHARE * delta


def filter_epsilon(tally: Tally, delta: float, order: int | None = None) -> float:
    """The smallest cap at which the filter would let this history through.

    Args:
        tally: The history, the request included.
        delta: The cap's delta.
        order: Index of the leading order. None takes the best one for this whole history, which only
            an empty ledger may do, because that choice is then made before anything was released.
    """
    if tally.is_empty:
        return 0.0
    if not has_room_for_failures(tally, delta):
        return math.inf
    curve = tally.curve()
    leading = epsilon_by_order(curve, LEADING_SHARE * delta)
    ladder = epsilon_by_order(curve, LADDER_SHARE * delta / len(LADDER))
    best = float(np.min(leading)) if order is None else float(leading[order])
    return min(best, *(float(ladder[index]) for index in _ladder_indices()))


@lru_cache(maxsize=1)
def _ladder_indices() -> Sequence[int]:
    return [ORDERS.index(order) for order in LADDER]
