"""What is bought before a record model's first step: against a count by hand, its norm, its noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from memory_by_hand import states_before
from record_ward import SMALL, encoding_of, records_of, simulated, tiny_schema

from synthkit.domain.sequence_layout import RecordStates
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import batch_of
from synthkit.generators.sequence_counts import Counts, count_sum, length_groups, memory_counts
from synthkit.generators.sequence_layers import MEMORY, NEVER, SHARES
from synthkit.generators.sequence_pairs import follow_cells, follow_counts, pair_cells, pair_counts
from synthkit.generators.sequence_shares import Shares, share_statistics
from synthkit.privacy.mechanisms import gaussian_sum

RECORDS = simulated(400)
ENCODING = encoding_of(RECORDS)
STATES = ENCODING.encode(RECORDS)
LAYOUT = ENCODING.layout


@pytest.mark.parametrize("has_pairs", [False, True])
def test_every_vector_has_a_norm_of_at_most_one(has_pairs):
    norms = share_statistics(STATES, LAYOUT, has_pairs=has_pairs).norm(dim=1)
    assert norms.max().item() <= 1.0
    assert norms.min().item() > 0.3


def _record(visits: int, codes_at: list[list[int]], rng: np.random.Generator) -> RecordStates:
    """One patient of so many visits, whose codes are given in turn, over and over."""
    given = [codes_at[place % len(codes_at)] for place in range(visits)]
    sizes = np.array([len(visit) for visit in given])
    states = np.array([rng.integers(0, count) for count in LAYOUT.statics.states])
    return RecordStates(
        codes=np.array([code for visit in given for code in visit], dtype=np.int64),
        visit_starts=np.concatenate([[0], np.cumsum(sizes)]),
        patient_starts=np.array([0, visits]),
        statics=states[None, :],
        gap_days=np.where(np.arange(visits) > 0, 90, 0),
        first_days=np.zeros(1, dtype=np.int64),
    )


@pytest.mark.parametrize("has_pairs", [False, True])
@pytest.mark.parametrize("visits", [1, 2, 5, LAYOUT.most_visits, 200])
def test_no_record_however_odd_has_a_norm_above_one(visits, has_pairs):
    """One visit or 200, no code at all, the same one always, or all of the list at every visit."""
    rng, everything = np.random.default_rng(7), list(range(LAYOUT.codes))
    for codes_at in ([[]], [[0]], [[0], []], [everything], [everything, []], [[5, 9], [9, 200]]):
        vector = share_statistics(_record(visits, codes_at, rng), LAYOUT, has_pairs=has_pairs)
        assert vector.norm(dim=1).max().item() <= 1.0
        assert vector.isfinite().all()


def test_a_patient_of_ten_thousand_codes_has_a_norm_of_at_most_one():
    layout = encoding_of(records_of([[[0]]], tiny_schema(10_000)), {**SMALL, "dated": 0}).layout
    records = records_of([[list(range(10_000))] * 3, [[0]]], tiny_schema(10_000))
    states = encoding_of(records, {**SMALL, "dated": 0, "most_codes": 10_000}).in_order(records)
    assert states.codes.size == 30_001
    assert share_statistics(states, layout).norm(dim=1).max().item() <= 1.0


def test_nobody_gives_a_sum_of_the_same_width():
    none = share_statistics(STATES.take(np.arange(0)), LAYOUT, has_pairs=True)
    assert none.shape == (0, share_statistics(STATES.take(np.arange(3)), LAYOUT, has_pairs=True).shape[1])


def test_a_sum_without_noise_reads_back_as_counts():
    """Of short records, which no cap scales down."""
    few = STATES.take(np.flatnonzero(np.diff(STATES.patient_starts) <= 2)[:40])
    total = share_statistics(few, LAYOUT, has_pairs=True).sum(dim=0).numpy()
    counts = Counts.read(total, LAYOUT, noise=2.0, has_pairs=True)
    codes = np.bincount(few.codes, minlength=LAYOUT.codes)
    np.testing.assert_allclose(counts.sums["codes"], codes, atol=1e-6)
    np.testing.assert_allclose(counts.sums["pairs"], pair_counts(few, LAYOUT).sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(counts.sums["follows"], follow_counts(few, LAYOUT).sum(axis=0), atol=1e-6)
    assert counts.sums["follow visits"][0] == pytest.approx(few.gap_days.size - len(few), abs=1e-6)
    assert counts.sums["code visits"][0] == pytest.approx(few.gap_days.size, abs=1e-6)
    assert counts.sums["lengths"][:2].sum() == pytest.approx(40, abs=1e-6)
    assert counts.stds["codes"] > 2.0
    with pytest.raises(ValueError, match="another layout"):
        Counts.read(total[:-1], LAYOUT, noise=2.0, has_pairs=True)


@pytest.mark.parametrize("has_pairs", [False, True])
def test_the_sum_of_all_vectors_is_the_same_without_them(has_pairs):
    vectors = share_statistics(STATES, LAYOUT, has_pairs=has_pairs)
    whole = count_sum(STATES, LAYOUT, has_pairs=has_pairs)
    np.testing.assert_allclose(whole, vectors.sum(dim=0).numpy(), atol=1e-9)
    assert not count_sum(STATES.take(np.arange(0)), LAYOUT, has_pairs=has_pairs).any()


@pytest.mark.parametrize("most", [1, 2, 16, 17, 20, 200, 1000])
def test_groups_of_lengths_ascend_to_the_cap(most):
    starts = length_groups(replace(LAYOUT, most_visits=most))
    assert starts[0] == 1
    assert starts[-1] == most
    assert (np.diff(starts) > 0).all()


def test_memory_is_counted_as_the_network_remembers():
    some = np.array([3, 50, 200, 399])
    batch, found = batch_of(STATES, LAYOUT, some), memory_counts(STATES.take(some), LAYOUT)
    remembered, width = states_before(batch.present), 1 + max(LAYOUT.types)
    for row in range(len(some)):
        expected = {
            "seen": np.zeros(LAYOUT.codes),
            "again": np.zeros(LAYOUT.codes),
            "state seen": np.zeros((width, MEMORY - NEVER)),
            "state hits": np.zeros((width, MEMORY)),
        }
        for visit in range(int(batch.is_visit[row].sum())):
            for code in range(LAYOUT.codes):
                state, hit = int(remembered[row, visit, code]), float(batch.present[row, visit, code])
                expected["state hits"][LAYOUT.types[code], state] += hit
                if state >= NEVER:
                    expected["seen"][code] += 1
                    expected["again"][code] += hit
                    expected["state seen"][LAYOUT.types[code], state - NEVER] += 1
        for name, by_hand in expected.items():
            np.testing.assert_array_equal(found[name][row], by_hand.ravel(), err_msg=name)


def test_pairs_are_counted_visit_by_visit():
    some = np.array([0, 7, 250, 399])
    batch = batch_of(STATES, LAYOUT, some)
    together = pair_counts(STATES.take(some), LAYOUT).toarray()
    follow = follow_counts(STATES.take(some), LAYOUT).toarray()
    rows, columns = np.triu_indices(LAYOUT.codes, k=1)
    for row in range(len(some)):
        visits = batch.present[row][batch.is_visit[row] > 0].double().numpy()
        np.testing.assert_array_equal(together[row], (visits.T @ visits)[rows, columns])
        np.testing.assert_array_equal(follow[row], (visits[:-1].T @ visits[1:]).ravel())


def test_an_end_is_as_likely_as_ends_are_among_visits():
    """Half of the records have one visit and half nine: an end at 1 visit in 5, and not (1 + 1/9) / 2."""
    records = records_of([[[0]], [[0]] * 9] * 200, tiny_schema(4))
    encoding = encoding_of(records, {**SMALL, "dated": 0})
    total = share_statistics(encoding.in_order(records), encoding.layout).sum(dim=0).numpy()
    shares = Shares.read(total, encoding.layout, noise=0.0)
    assert np.exp(shares.leave_logs[-1]) == pytest.approx(0.2, abs=1e-6)


def test_noise_does_not_bring_patients_into_empty_states():
    """200 years of a first visit, of which three are in use: with flooring a tenth would be elsewhere."""
    total = share_statistics(STATES, LAYOUT).sum(dim=0).numpy()
    noisy = 40 * total + 1.5 * np.random.default_rng(3).standard_normal(total.size)
    logs = Shares.read(noisy, LAYOUT, noise=1.5).static_logs[-1]
    used = np.bincount(STATES.statics[:, -1], minlength=logs.size) > 0
    assert np.exp(logs)[~used].sum() < 0.02


def test_long_code_lists_buy_no_pairs():
    layout = encoding_of(records_of([[[0]]], tiny_schema(900)), {**SMALL, "dated": 0}).layout
    generator = Eva(layout, {**SMALL, "dated": 0, "pairs": 1})
    assert pair_cells(layout) == follow_cells(layout) == 0
    assert not generator.has_pairs


def test_noise_is_added_once_however_many_parts_are_summed():
    """20,000 variates: their standard deviation is within 3 % of the claim, but for a chance of 1e-9."""
    parts = [torch.zeros(3, 20_000, dtype=torch.float64) for _ in range(6)]
    for vectors in (iter(parts), torch.cat(parts)):
        assert np.std(gaussian_sum(vectors, noise_multiplier=2.0)) == pytest.approx(2.0, rel=0.03)


def test_parts_are_clipped_patient_by_patient():
    parts = [torch.full((2, 4), 5.0, dtype=torch.float64), torch.full((1, 4), float("nan"))]
    total = gaussian_sum(iter(parts), noise_multiplier=0.0)
    np.testing.assert_allclose(total, np.full(4, 2 * 0.5))


def test_without_noise_new_and_repeated_codes_get_their_own_odds():
    """A drug that always comes again, and one that never does, among 300 patients of four visits."""
    rng, visits = np.random.default_rng(1), []
    for _ in range(300):
        chronic, record = rng.random() < 0.5, []
        for _ in range(4):
            acute = rng.random() < 0.3 and not any(3 in visit for visit in record)
            record.append([code for code, has in ((2, chronic), (3, acute)) if has])
        visits.append(record)
    encoding = encoding_of(records_of(visits, tiny_schema(4)), {**SMALL, "dated": 0})
    states = encoding.in_order(records_of(visits, tiny_schema(4)))
    total = share_statistics(states, encoding.layout).sum(dim=0).numpy()
    shares = Shares.read(total, encoding.layout, noise=0.0)
    again = shares.new_log_odds[:, None] + shares.memory_of_code
    again += shares.memory_of_type[list(encoding.layout.types)]
    always = NEVER + SHARES - 1  # seen in the visit before, and in all before that
    assert again[2, always] > 3.0
    assert again[3, always] < again[2, always] - 2.0
    seen = np.array([np.mean([code in v for r in visits for v in r]) for code in range(4)])
    np.testing.assert_allclose(1 / (1 + np.exp(-shares.code_log_odds[2:])), seen[2:], atol=0.01)
