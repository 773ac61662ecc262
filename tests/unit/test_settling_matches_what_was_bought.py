"""Settling: brings a bent model's records back to what was bought, moves biases alone, sees no patient."""

import inspect

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, records_of, simulated, tiny_schema

from synthkit.domain.sequence_layout import RecordStates, SequenceLayout
from synthkit.evaluation.sequences import shape_of
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.generators.sequence_counts import Counts
from synthkit.generators.sequence_pairs import follow_counts, odds_missing, pair_counts
from synthkit.generators.sequence_shares import Shares, share_statistics
from synthkit.training.record_settling import settle, visits_for

RECORDS = simulated(400)
ENCODING = encoding_of(RECORDS)
STATES = ENCODING.encode(RECORDS)
MOVED = {"out.bias", "leave.bias", "memory_of_type.weight", "memory_of_code.weight"}


def built(**settings: float) -> tuple[Eva, np.ndarray]:
    """A network that starts from the exact sum, and the sum."""
    torch.manual_seed(0)
    generator = Eva(ENCODING.layout, {**SMALL, **settings})
    total = generator.statistics(STATES).sum(dim=0).numpy()
    generator.set_shares(total, noise=0.0)
    return generator, total


def shape(generator: SequenceGenerator) -> tuple[float, float, float]:
    """Visits a patient, codes a visit and Jaccard similarity of 800 records."""
    drawn, _ = generator.sample(800, rng=torch.Generator().manual_seed(4))
    found = shape_of(ENCODING.decode(drawn, np.random.default_rng(0)))
    return found.visits[0], found.codes[0], found.jaccard


@pytest.mark.parametrize("settings", [{}, {"memory": 0.0, "layers": 0.0}])
def test_a_bent_model_comes_back(settings):
    """Seeds are fixed. Of 800 records the standard errors are about 0.15 visits, 0.03 codes and 0.003."""
    generator, total = built(**settings)
    with torch.no_grad():
        generator.leave.bias[-1] += 1.0
        generator.out.bias += 0.5
        if generator.memory:
            generator.memory_of_type.weight.view(-1, 36)[:, 6:] -= 1.0
    real = shape_of(RECORDS)
    bent = shape(generator)
    assert bent[0] < real.visits[0] - 1.5
    settle(generator, total, noise=0.0, rng=torch.Generator().manual_seed(1), visits=2500)
    settled = shape(generator)
    assert settled[0] == pytest.approx(real.visits[0], abs=0.7)
    assert settled[1] == pytest.approx(real.codes[0], abs=0.3)
    if generator.memory:
        assert abs(settled[2] - real.jaccard) < 0.5 * abs(bent[2] - real.jaccard)
        assert settled[2] == pytest.approx(real.jaccard, abs=0.03)


def _planted(patients: int) -> list[list[list[int]]]:
    """Codes 0 and 1 go together; 3 comes at three of ten visits after one with 2, else at one of 30."""
    rng, found = np.random.default_rng(6), []
    for _ in range(patients):
        record: list[list[int]] = []
        for place in range(4):
            both, lone = rng.random() < 0.08, rng.random(2) < 0.05
            led = rng.random() < (0.3 if place and 2 in record[-1] else 0.03)
            has = {0: both or lone[0], 1: both or lone[1], 2: rng.random() < 0.3, 3: led}
            record.append([code for code in range(4) if has[code]])
        found.append(record)
    return found


def _shares(states: RecordStates, layout: SequenceLayout) -> np.ndarray:
    """Of visits with 0 and 1, and of visits after a visit, with 3 after 2."""
    return np.array(
        [
            pair_counts(states, layout).sum(axis=0)[0] / states.gap_days.size,
            follow_counts(states, layout).sum(axis=0)[4 * 2 + 3] / (states.gap_days.size - len(states)),
        ]
    )


def test_pairs_come_back_within_a_visit_and_across():
    """From independence most of the way to the planted shares; 8,000 drawn visits have errors of 0.003."""
    records = records_of(_planted(1500), tiny_schema(4))
    encoding = encoding_of(records, {**SMALL, "dated": 0})
    states = encoding.in_order(records)
    real = _shares(states, encoding.layout)
    np.testing.assert_allclose(real, [0.09, 0.3 * 0.3], atol=0.015)
    total = Eva(encoding.layout, {**SMALL, "dated": 0, "pairs": 1}).statistics(states).sum(dim=0).numpy()
    found = {}
    for rounds in (1, None):
        torch.manual_seed(0)
        generator = Eva(encoding.layout, {**SMALL, "dated": 0, "pairs": 1})
        generator.set_shares(total, noise=0.0)
        rng = torch.Generator().manual_seed(1)
        settle(generator, total, noise=0.0, rng=rng, visits=8000, rounds=rounds)
        drawn, _ = generator.sample(2000, rng=torch.Generator().manual_seed(4))
        found[rounds] = _shares(drawn, encoding.layout)
    assert (found[1] < real - 0.025).all(), "one correction is not enough: the others are seen at work"
    assert (np.abs(real - found[None]) < 0.45 * (real - found[1])).all(), "what noise could make stays away"


def test_noise_alone_makes_hardly_a_pair():
    """Shares that differ by nothing but noise of 4,000 cells: 2 deviations leave 182, each by little.

    More than 260 stand out with probability below 1e-8.
    """
    rng = np.random.default_rng(8)
    own = np.full(4000, 0.01)
    missing = odds_missing(own + 0.001 * rng.standard_normal(own.size), own, std=0.001)
    assert 0 < np.count_nonzero(missing) < 260
    assert np.abs(missing).max() < 0.2
    planted = odds_missing(own + 0.02, own, std=0.001)
    assert planted.min() > 0.8
    assert odds_missing(own, own + 0.02, std=0.001).max() < -0.7


@pytest.mark.parametrize("pairs", [0.0, 1.0])
def test_nothing_moves_but_the_biases_that_were_bought(pairs):
    generator, total = built(pairs=pairs)
    before = generator.get_weights()
    settle(generator, total, noise=0.2, rng=torch.Generator().manual_seed(1), rounds=2, visits=500)
    after = generator.get_weights()
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    heads = {name for name in after if name.startswith("static_heads.") and name.endswith(".bias")}
    moved = MOVED | ({"together", "follow"} if pairs else set())
    assert changed <= moved | heads
    assert changed >= moved
    assert all(np.isfinite(array).all() for array in after.values())


def test_a_sum_that_is_all_noise_moves_nothing_far():
    """Noise of a hundred times all patients: two corrections move no log odds by more than two."""
    generator, total = built()
    noise = 100.0 * len(STATES)
    noisy = total + noise * np.random.default_rng(2).standard_normal(total.size)
    before = generator.get_weights()
    settle(generator, noisy, noise=noise, rng=torch.Generator().manual_seed(1), rounds=2, visits=500)
    after = generator.get_weights()
    assert all(np.abs(after[name] - before[name]).max() <= 2.0 + 1e-5 for name in after)
    visits, codes, _ = shape(generator)
    assert 1.0 <= visits <= ENCODING.layout.most_visits
    assert 0.0 <= codes <= ENCODING.layout.most_codes


@pytest.mark.parametrize("times", [0.05, 1.0, 30.0])
def test_the_same_records_differ_in_nothing_however_many_were_drawn(times):
    """Codes and states that neither side has stand on one floor; noise is believed alike on both."""
    layout = ENCODING.layout
    total = share_statistics(STATES, layout, has_pairs=True).sum(dim=0).numpy()
    own = times * share_statistics(STATES, layout).sum(dim=0).numpy()
    bought = Counts.read(total, layout, noise=3.0, has_pairs=True)
    wanted, found = Shares.compared(bought, Counts.read(own, layout, noise=0.0, has_pairs=False), layout)
    for name in ("new_log_odds", "memory_of_type", "memory_of_code", "leave_logs"):
        np.testing.assert_allclose(getattr(wanted, name), getattr(found, name), atol=1e-4, err_msg=name)
    for one, other in zip(wanted.static_logs, found.static_logs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_few_patients_and_long_code_lists_draw_less():
    generator, _ = built()
    assert visits_for(generator, 50) == 300
    assert visits_for(generator, 5_000) == 10_000
    assert visits_for(generator, 10**6) == 20_000
    layout = encoding_of(records_of([[[0]]], tiny_schema(4_000)), {**SMALL, "dated": 0}).layout
    assert visits_for(Eva(layout, {**SMALL, "dated": 0}), 10**6) == 5_000


def test_it_takes_no_record_and_follows_from_weights_sum_and_seed():
    hints = inspect.get_annotations(settle, eval_str=True)
    assert set(hints) == {"generator", "total", "noise", "rng", "rounds", "visits", "return"}
    assert RecordStates not in hints.values()
    ends = []
    for _ in range(2):
        generator, total = built()
        settle(generator, total, noise=1.0, rng=torch.Generator().manual_seed(5), rounds=1, visits=500)
        ends.append(generator.get_weights())
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])
