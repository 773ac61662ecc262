"""What a history of events costs one patient, and how much noise a target needs.

Knows events, deltas and caps. Refuses to know the data, the training, or which study asked. Two figures,
never confused:

- `admission_epsilon`: a Renyi filter's figure. It decides, because it stays valid when each event is
  chosen after seeing earlier outputs. See `synthkit.privacy.renyi` for the argument.
- `reported_epsilon`: tight and pessimistic, from privacy loss distributions. It describes a given list
  of events; it admits nothing.

Rules: never below the truth, so every approximation errs upwards; the accountant is named in each spend
and only ours is believed; add-or-remove is the only relation under which Poisson sampling is accounted.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from synthkit.domain.privacy import (
    Adjacency,
    Budget,
    DpSgdEvent,
    GaussianThresholdEvent,
    PrivacyEvent,
    PrivacySpend,
)
from synthkit.errors import BudgetExceededError, InputError
from synthkit.privacy.pld import pld_epsilon
from synthkit.privacy.renyi import (
    FAILURE_SHARE,
    Tally,
    TallyKey,
    filter_epsilon,
    has_room_for_failures,
    leading_order,
    renyi_epsilon,
)

ACCOUNTANT = "pld"
"""Name in every spend: the smaller of the pessimistic PLD figure and the Renyi figure."""

SIGMA_UNITS = 1_000
"""Calibrated noise multipliers are whole thousandths."""

LARGEST_CALIBRATED_SIGMA = 1_000
RECOMPUTED_TOLERANCE = 1e-6


def admission_epsilon(
    events: Iterable[PrivacyEvent], delta: float, *, reference: PrivacyEvent | None = None
) -> float:
    """The cap on epsilon at which the adaptive filter lets these events through, at `delta`.

    With no `reference` the leading order is the best one for these very events: the figure to plan a
    study on a fresh asset. It is at least the Renyi epsilon and at least `reported_epsilon`.

    Args:
        events: The whole history, the request included.
        delta: Within (0, 1).
        reference: The event that fixed the ledger's leading order, if there is a ledger.

    Returns:
        Epsilon; 0.0 for no events, infinity when no finite claim is possible.
    """
    tally = Tally(events)
    _check_probability(delta)
    if reference is None:
        return filter_epsilon(tally, delta)
    # The order depends on the cap, so the figure is read where cap and figure meet, from above.
    cap = filter_epsilon(tally, delta)
    for _ in range(32):
        if not math.isfinite(cap) or cap <= 0:
            return cap
        order = leading_order(reference, Budget(epsilon=cap, delta=delta))
        reached = filter_epsilon(tally, delta, order)
        if reached <= cap:
            return cap
        cap = reached
    return cap


def check_admissible(
    history_events: Iterable[PrivacyEvent],
    new_events: Iterable[PrivacyEvent],
    budget: Budget,
    *,
    reference: PrivacyEvent | None = None,
    where: str = "",
) -> None:
    """Refuse a request that the filter has no room for. Nothing is changed either way.

    Args:
        history_events: Everything spent or reserved so far, oldest first.
        new_events: What is asked now.
        budget: The cap.
        reference: The event that fixes the filter's leading order; None takes the oldest event.
        where: The asset or study, for the message.

    Raises:
        BudgetExceededError: The request would exceed the cap.
        InputError: The events cannot be accounted under the budget's adjacency.
    """
    history, new = tuple(history_events), tuple(new_events)
    check_adjacency((*history, *new), budget.adjacency)
    if not new:
        return
    first = reference if reference is not None else (*history, *new)[0]
    check_tally_admissible(Tally((*history, *new)), budget, reference=first, where=where)


def check_tally_admissible(tally: Tally, budget: Budget, *, reference: PrivacyEvent, where: str) -> None:
    """`check_admissible` for a history that is already merged; adjacency was checked at each event.

    Raises:
        BudgetExceededError: The history, request included, would exceed the cap.
    """
    if not has_room_for_failures(tally, budget.delta):
        raise BudgetExceededError(
            f"failure_delta would reach {tally.failure_delta:.3g} in all, "
            f"its share of delta {budget.delta:g} is {FAILURE_SHARE * budget.delta:g}",
            where=where,
            fix="ask for a smaller failure_delta, which raises the threshold",
        )
    reached = filter_epsilon(tally, budget.delta, leading_order(reference, budget))
    if not reached <= budget.epsilon:
        raise BudgetExceededError(
            f"epsilon would reach {_rounded_up(reached)} of {budget.epsilon:g} at delta {budget.delta:g}",
            where=where,
            fix="ask for fewer steps, a smaller sample_rate or a larger noise_multiplier",
        )


def reported_epsilon(events: Iterable[PrivacyEvent], delta: float) -> float:
    """Tight epsilon of these events at `delta`, never below the truth.

    Valid for a list of events that did not depend on outputs. When it did, the sound statement is the
    filter's cap, and this figure describes what the list would cost if it had been fixed.

    Returns:
        Epsilon; 0.0 for no events, infinity when no finite claim is possible.

    Source: Doroshenko et al., arXiv 2207.04380 (connect the dots), pessimistic, as in dp_accounting.
    """
    _check_probability(delta)
    return _reported(Tally(events).key, delta)


@lru_cache(maxsize=256)
def _reported(key: TallyKey, delta: float) -> float:
    tally = Tally.from_key(key)
    ceiling = renyi_epsilon(tally, delta)
    return min(ceiling, pld_epsilon(tally, delta - tally.failure_delta, ceiling))


def spend_of(
    events: Iterable[PrivacyEvent],
    delta: float,
    adjacency: Adjacency = Adjacency.ADD_OR_REMOVE_ONE_PATIENT,
) -> PrivacySpend:
    """A receipt for these events, at `delta`.

    Raises:
        InputError: No finite epsilon exists, or the adjacency does not fit the events.
    """
    kept = tuple(events)
    check_adjacency(kept, adjacency)
    epsilon = reported_epsilon(kept, delta)
    if not math.isfinite(epsilon):
        raise InputError(
            "the events give no finite epsilon",
            fix="use a larger noise_multiplier, or a smaller failure_delta",
        )
    return PrivacySpend(events=kept, epsilon=epsilon, delta=delta, accountant=ACCOUNTANT, adjacency=adjacency)


def check_spend(spend: PrivacySpend) -> None:
    """Refuse a receipt that states less than its own events cost.

    Raises:
        InputError: Another accountant's figure, an impossible adjacency, or an epsilon that is too low.
    """
    check_accountant(spend.accountant)
    check_adjacency(spend.events, spend.adjacency)
    actual = reported_epsilon(spend.events, spend.delta)
    if not spend.epsilon >= actual * (1 - RECOMPUTED_TOLERANCE):
        raise InputError(
            f"the spend states epsilon {spend.epsilon:g}, its events cost {_rounded_up(actual)}",
            fix="account the events again",
        )


def overlap_epsilon(spends: Sequence[PrivacySpend]) -> float:
    """Epsilon for a patient who is in the data of every one of these sites.

    Raises:
        InputError: The spends differ in delta, or one is not ours.
    """
    delta = _shared_delta(spends)
    return reported_epsilon([event for spend in spends for event in spend.events], delta) if spends else 0.0


def disjoint_epsilon(spends: Sequence[PrivacySpend]) -> float:
    """Epsilon for a patient who is at one of these sites only: the largest, by parallel composition.

    Raises:
        InputError: The spends differ in delta, or one is not ours.
    """
    _shared_delta(spends)
    return max((spend.epsilon for spend in spends), default=0.0)


def _shared_delta(spends: Sequence[PrivacySpend]) -> float:
    """The one delta of all spends, each checked for its accountant and adjacency."""
    for spend in spends:
        check_accountant(spend.accountant)
        check_adjacency(spend.events, spend.adjacency)
    if len({(spend.delta, spend.adjacency) for spend in spends}) > 1:
        raise InputError(
            "spends at different deltas or adjacencies cannot be combined", fix="account them at one delta"
        )
    return spends[0].delta if spends else 0.0


def calibrate_noise_multiplier(
    *,
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    history: Sequence[PrivacyEvent] = (),
    reference: PrivacyEvent | None = None,
) -> float:
    """Smallest noise multiplier, rounded up to 3 decimals, that a budget of `target_epsilon` admits.

    The returned value itself was checked against the filter; nothing is taken from the bisection.

    Args:
        target_epsilon: The cap, over `history` and the new steps together.
        delta: The cap's delta.
        sample_rate: Each patient's public probability of being drawn at a step.
        steps: Number of steps to come.
        history: What the same asset has already spent, oldest first.
        reference: The ledger's reference event, if it has one.

    Raises:
        InputError: No noise multiplier up to 1000 reaches the target.
    """
    budget = Budget(epsilon=target_epsilon, delta=delta)

    def is_admitted(thousandths: int) -> bool:
        sigma = thousandths / SIGMA_UNITS
        new = DpSgdEvent(noise_multiplier=sigma, sample_rate=sample_rate, steps=steps)
        try:
            check_admissible(history, [new], budget, reference=reference)
        except BudgetExceededError:
            return False
        return True

    refused, admitted = 0, LARGEST_CALIBRATED_SIGMA * SIGMA_UNITS
    if not is_admitted(admitted):
        raise InputError(
            f"no noise reaches epsilon {target_epsilon:g} at delta {delta:g}",
            fix="raise epsilon, or take fewer steps or a smaller sample_rate",
        )
    while admitted - refused > 1:
        middle = (admitted + refused) // 2
        if is_admitted(middle):
            admitted = middle
        else:
            refused = middle
    return admitted / SIGMA_UNITS


def check_adjacency(events: Iterable[PrivacyEvent], adjacency: Adjacency) -> None:
    """Refuse under replace-one what clips, samples or thresholds: it costs something else there.

    Raises:
        InputError: An event other than a GaussianEvent stands under REPLACE_ONE_PATIENT.
    """
    refused = DpSgdEvent | GaussianThresholdEvent
    if adjacency is Adjacency.REPLACE_ONE_PATIENT and any(isinstance(e, refused) for e in events):
        raise InputError(
            "Poisson sampling and thresholds are not accounted under replace_one_patient",
            fix="use add_or_remove_one_patient",
        )


def check_accountant(name: str) -> None:
    """Refuse a figure by an accountant other than ours; "gdp", for one, understates.

    Raises:
        InputError: The name is not ours.
    """
    if name != ACCOUNTANT:
        raise InputError(
            f"accountant {name!r} is not accepted", fix=f"account the events with {ACCOUNTANT!r}"
        )


def check_delta(delta: float, declared_size: int) -> None:
    """Refuse a delta that allows publishing one patient in full.

    Args:
        delta: The budget's or the study's delta.
        declared_size: The site's public round figure for its number of patients.

    Raises:
        InputError: delta exceeds 1 / declared_size, or is no probability.
    """
    _check_probability(delta)
    if declared_size < 1:
        raise InputError("declared_size must be at least 1")
    if delta > 1 / declared_size:
        raise InputError(
            f"delta {delta:g} is above 1 / declared_size",
            fix=f"at most {1 / declared_size:g}, better a tenth",
        )


def _check_probability(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError("delta must be within (0, 1)", fix="for example 1e-05")


def _rounded_up(epsilon: float) -> str:
    """Four decimals, never rounded down."""
    return f"{math.ceil(epsilon * 10_000) / 10_000:g}" if math.isfinite(epsilon) else "infinity"
