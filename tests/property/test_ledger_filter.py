"""Adversarial adaptive schedules: whoever chooses the next request, the cap holds."""

import math
from functools import cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.pld_pmf import create_pmf_pessimistic_connect_dots_fixed_gap
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from synthkit.domain.privacy import Budget, DpSgdEvent, GaussianEvent, GaussianThresholdEvent
from synthkit.errors import BudgetExceededError
from synthkit.privacy.accounting import check_admissible, check_tally_admissible, reported_epsilon
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.renyi import Tally

SAMPLED = [
    DpSgdEvent(noise_multiplier=sigma, sample_rate=rate, steps=1)
    for sigma, rate in [(0.7, 0.004), (1.0, 0.03), (1.5, 0.1), (3.0, 0.3), (10.0, 0.5)]
]
"""Five kinds of step; their curves are cached, so that thousands of histories stay quick."""


def event_strategy():
    gaussian = st.builds(GaussianEvent, noise_multiplier=st.floats(0.5, 100), count=st.integers(1, 20))
    sampled = st.builds(
        lambda event, steps: DpSgdEvent(
            noise_multiplier=event.noise_multiplier, sample_rate=event.sample_rate, steps=steps
        ),
        st.sampled_from(SAMPLED),
        st.integers(1, 400),
    )
    names = st.builds(
        GaussianThresholdEvent, noise_multiplier=st.floats(0.5, 100), failure_delta=st.floats(1e-10, 1.5e-8)
    )
    return st.one_of(gaussian, sampled, names)


def gaussian_delta(precision, epsilon):
    """Exact delta of composed full-batch Gaussians (Balle and Wang, arXiv 1805.06530, Theorem 8)."""
    mu = math.sqrt(precision)
    tail = math.exp(epsilon) * math.erfc((epsilon / mu + mu / 2) / math.sqrt(2)) / 2
    return math.erfc((epsilon / mu - mu / 2) / math.sqrt(2)) / 2 - tail


def test_greedy_gaussian_schedules_never_pass_the_exact_cap():
    """2,000 schedules that halve their ask at each refusal until nothing fits; checked in closed form."""
    rng = np.random.default_rng(20_250_101)
    for _ in range(2000):
        budget = Budget(epsilon=rng.uniform(0.1, 10), delta=10 ** -rng.uniform(4, 9))
        history = []
        sigma = 10 ** rng.uniform(-0.5, 1.5)
        while sigma < 100:
            ask = GaussianEvent(noise_multiplier=sigma, count=int(rng.integers(1, 4)))
            try:
                check_admissible(history, [ask], budget)
                history.append(ask)
                if len(history) > 15:
                    break
            except BudgetExceededError:
                sigma *= rng.uniform(1.2, 2)
        if history:
            precision = sum(event.count / event.noise_multiplier**2 for event in history)
            assert gaussian_delta(precision, budget.epsilon) <= budget.delta


ORDERS = [
    2.0,
    *(quarter / 4 for quarter in range(11, 80)),
    *range(20, 128, 4),
    *range(128, 512, 8),
    *range(512, 1025, 32),
]


@cache
def opacus_curve(sigma, rate):
    return np.array(compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=ORDERS))


def opacus_epsilon(history, delta):
    """Renyi epsilon by an implementation that shares no code with the filter; failures by a plain sum."""
    total = np.zeros(len(ORDERS))
    for event in history:
        if isinstance(event, DpSgdEvent):
            total += event.steps * opacus_curve(event.noise_multiplier, event.sample_rate)
        elif isinstance(event, GaussianThresholdEvent):
            total += np.array(ORDERS) / (2 * event.noise_multiplier**2)
            delta -= event.failure_delta
        else:
            total += event.count * np.array(ORDERS) / (2 * event.noise_multiplier**2)
    return get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)[0]


class Adversary:
    """Asks for one asset in the name of three studies, and sees every answer before the next ask.

    What it asks is steered by what was admitted: after a refusal it asks for less, or for the kind of
    event whose best order is farthest from what was admitted so far; now and then a reservation under
    which nothing was drawn is given back, and its room is asked for again. The asset is the ledger's
    filter without the file, which keeps thousands of histories quick.
    """

    def __init__(self, rng):
        self.rng = rng
        self.cap = Budget(epsilon=rng.uniform(0.3, 8), delta=10 ** -rng.uniform(5, 7))
        self.quotas = [Budget(epsilon=self.cap.epsilon * rng.uniform(0.3, 1.2), delta=self.cap.delta)] * 3
        self.whole, self.tallies = Tally(), [Tally() for _ in range(3)]
        self.first, self.firsts, self.held = None, [None] * 3, []
        self.size = 1.0

    def ask(self):
        """One more request, its size shrinking with every refusal."""
        scale = math.sqrt(self.size) * self.cap.epsilon
        match self.rng.integers(3):
            case 0:
                return GaussianEvent(noise_multiplier=4 / scale * self.rng.uniform(0.5, 3))
            case 1:
                kind = SAMPLED[self.rng.integers(len(SAMPLED))]
                count = max(1, int(400 * self.size * self.rng.uniform()))
                return DpSgdEvent(
                    noise_multiplier=kind.noise_multiplier, sample_rate=kind.sample_rate, steps=count
                )
            case _:
                failure = self.cap.delta * self.rng.uniform(0, 0.01)
                return GaussianThresholdEvent(noise_multiplier=8 / scale, failure_delta=failure)

    def reserve(self, study, event):
        """What `Ledger.reserve` does before it writes."""
        first, own = self.first or event, self.firsts[study] or event
        whole, tally = self.whole.copy(), self.tallies[study].copy()
        whole.add(event), tally.add(event)
        check_tally_admissible(whole, self.cap, reference=first, where="asset")
        check_tally_admissible(tally, self.quotas[study], reference=own, where="quota")
        self.whole, self.tallies[study] = whole, tally
        self.first, self.firsts[study] = first, own
        self.held.append((study, event))

    def refund(self):
        """Give back one reservation under which nothing was drawn."""
        study, event = self.held.pop(self.rng.integers(len(self.held)))
        self.whole.remove(event)
        self.tallies[study].remove(event)

    def play(self):
        refusals = 0
        while refusals < 4 and len(self.held) < 12:
            try:
                self.reserve(self.rng.integers(3), self.ask())
            except BudgetExceededError:
                refusals += 1
                self.size *= self.rng.uniform(0.1, 0.7)
                if self.held and self.rng.uniform() < 0.3:
                    self.refund()
        return [event for _, event in self.held]


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_ten_thousand_adaptive_schedules_never_pass_the_cap_or_a_quota():
    """Judged by Opacus' curves, which share no code with the filter; each 500th also by the PLD."""
    used = 0
    for seed in range(10_000):
        adversary = Adversary(np.random.default_rng(seed))
        history = adversary.play()
        if not history:
            continue
        cap = adversary.cap
        epsilon = opacus_epsilon(history, cap.delta)
        assert epsilon <= cap.epsilon
        used += epsilon > 0.8 * cap.epsilon
        for study, quota in enumerate(adversary.quotas):
            own = [event for name, event in adversary.held if name == study]
            assert not own or opacus_epsilon(own, quota.delta) <= quota.epsilon
        if seed % 500 == 0:
            assert reported_epsilon(history, cap.delta) <= cap.epsilon
    assert used > 2_000, "an adversary that never comes near the cap shows nothing"


def admitted(asks, budget):
    """What a filter lets through of these asks, each asked once in this order."""
    history = []
    for ask in asks:
        try:
            check_admissible(history, [ask], budget)
        except BudgetExceededError:
            continue
        history.append(ask)
    return history


@pytest.mark.filterwarnings("ignore:Optimal order")
@given(asks=st.lists(event_strategy(), min_size=1, max_size=12), epsilon=st.floats(0.3, 8))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_admitted_mixtures_are_within_the_cap_by_opacus(asks, epsilon):
    history = admitted(asks, Budget(epsilon=epsilon, delta=1e-6))
    if history:
        assert opacus_epsilon(history, 1e-6) <= epsilon


@given(asks=st.lists(event_strategy(), min_size=1, max_size=6), epsilon=st.floats(0.5, 8))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_admitted_mixtures_are_within_the_cap_by_the_tight_accountant(asks, epsilon):
    history = admitted(asks, Budget(epsilon=epsilon, delta=1e-6))
    assert reported_epsilon(history, 1e-6) <= epsilon


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "commit", "abandon", "refund", "reopen", "tear", "audit"]),
        st.integers(0, 2),
        event_strategy(),
    ),
    max_size=15,
)


@given(operations=OPERATIONS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_sequence_of_operations_counts_every_drawn_event(operations, tmp_path_factory):
    """A model beside the ledger counts what must be spent; both agree, live and from the file."""
    path = tmp_path_factory.mktemp("l") / "ledger.jsonl"
    budget, quota = Budget(epsilon=4.0, delta=1e-6), Budget(epsilon=2.0, delta=1e-6)
    ledger = Ledger.create(path, asset="a", site="s", budget=budget)
    spent, waiting = [], []
    for verb, study, event in operations:
        if verb == "reserve":
            try:
                taken = ledger.reserve(
                    study=f"s{study}", server_round=1, base_digest="b", events=[event], study_budget=quota
                )
                spent.append((taken.number, taken.study, event))
                waiting.append(taken)
            except BudgetExceededError:
                pass
        elif verb in ("commit", "abandon", "refund") and waiting:
            taken = waiting.pop(study % len(waiting))
            if verb == "commit":
                ledger.commit(taken, reply_digest="r")
            else:
                ledger.abandon(taken, "code", nothing_was_drawn=verb == "refund")
            if verb == "refund":
                spent = [entry for entry in spent if entry[0] != taken.number]
        elif verb == "reopen":
            ledger = Ledger.open(path, witness=ledger.head)
        elif verb == "tear":
            with path.open("ab") as handle:
                handle.write(b'{"torn')
    assert ledger.history() == tuple(event for _, _, event in spent)
    for study in ("s0", "s1", "s2"):
        assert ledger.history(study) == tuple(event for _, name, event in spent if name == study)
    assert ledger.open_reservations() == tuple(sorted(waiting, key=lambda taken: taken.number))
    assert verify_ledger(path, witness=ledger.head).events == ledger.history()


GRID = 0.02
"""Width of the privacy loss grid on which the strongest adversary is computed, in nats."""
REACH = 700
"""Grid points either side of zero: losses up to 14 nats."""


def loss_distributions(event):
    """Pessimistic privacy loss of one event, for a patient removed and for one added, on the grid.

    Composed on a fine grid first: a single step's losses would be lost between the points of this one.
    """
    count = getattr(event, "steps", 1)
    rate = event.sample_rate if isinstance(event, DpSgdEvent) else 1.0
    whole = privacy_loss_distribution.from_gaussian_mechanism(event.noise_multiplier, sampling_prob=rate)
    fine = whole.self_compose(count)
    points = np.arange(-REACH // 2, REACH // 2 + 1)
    for pmf in (fine._pmf_remove, fine._pmf_add):
        deltas = np.minimum.accumulate(np.clip(pmf.get_delta_for_epsilon(points * GRID), 0, 1))
        coarse = create_pmf_pessimistic_connect_dots_fixed_gap(GRID, points[0], points[-1], deltas)
        dense = coarse.to_dense_pmf()
        yield np.asarray(dense._probs), dense._lower_loss, dense._infinity_mass


def expected(value, distribution):
    """Mean of `value` after one more event; `value` is indexed by loss, and 1 beyond the top."""
    probabilities, lowest, infinity = distribution
    ahead = lowest + len(probabilities) - 1
    padded = np.concatenate([np.full(max(0, -lowest), value[0]), value, np.ones(max(0, ahead))])
    start = max(0, -lowest) + lowest
    windows = np.lib.stride_tricks.sliding_window_view(padded[start:], len(probabilities))[: len(value)]
    return windows @ probabilities + infinity


def strongest_adversary(kinds, budget, direction):
    """Largest hockey-stick divergence of any adaptive schedule of these events that the filter admits.

    Dynamic programming over (events admitted, privacy loss so far): at each point the adversary stops, or
    takes whichever admitted event promises more. It sees the loss itself, which is more than any output.
    """
    losses = np.arange(-REACH, REACH + 1) * GRID
    stop = np.maximum(0.0, 1 - np.exp(budget.epsilon - losses))
    laws = [list(loss_distributions(kind))[direction] for kind in kinds]

    @cache
    def value(counts):
        best = stop
        for place, law in enumerate(laws):
            more = tuple(count + (place == index) for index, count in enumerate(counts))
            history = [kind for kind, count in zip(kinds, more, strict=True) for _ in range(count)]
            try:
                check_admissible(history[:-1], history[-1:], budget, reference=kinds[0])
            except BudgetExceededError:
                continue
            best = np.maximum(best, expected(value(more), law))
        return best

    return float(value((0,) * len(kinds))[REACH])


RARE = DpSgdEvent(noise_multiplier=0.7, sample_rate=0.004, steps=400)
USUAL = DpSgdEvent(noise_multiplier=1.0, sample_rate=0.02, steps=60)


@pytest.mark.parametrize("direction", [0, 1], ids=["removed", "added"])
@pytest.mark.parametrize(
    ("epsilon", "kinds"),
    [
        (6.0, [RARE, GaussianEvent(noise_multiplier=4.0)]),
        (4.0, [GaussianEvent(noise_multiplier=6.0), USUAL]),
        (4.0, [USUAL, GaussianEvent(noise_multiplier=5.0)]),
    ],
)
def test_the_strongest_adaptive_adversary_stays_within_delta(epsilon, kinds, direction):
    """Not a sample of schedules but the best of them all, computed; two kinds of unlike best orders.

    At least as strong as the best schedule of one kind alone, so that a broken computation is noticed.
    """
    budget = Budget(epsilon=epsilon, delta=1e-5)
    strongest = strongest_adversary(kinds, budget, direction)
    alone = max(strongest_adversary(kinds[:1], budget, direction), gaussian_alone(kinds, budget))
    assert alone * (1 - 1e-6) <= strongest <= budget.delta


def gaussian_alone(kinds, budget):
    """Exact delta of as many of the Gaussian events as are admitted."""
    event = next(kind for kind in kinds if isinstance(kind, GaussianEvent))
    history = []
    while True:
        try:
            check_admissible(history, [event], budget, reference=kinds[0])
        except BudgetExceededError:
            return (
                gaussian_delta(len(history) / event.noise_multiplier**2, budget.epsilon) if history else 0.0
            )
        history.append(event)
