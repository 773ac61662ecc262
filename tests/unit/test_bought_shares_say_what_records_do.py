"""What is bought before a record model's first step: against a count by hand, its norm, its noise."""

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, records_of, simulated, tiny_schema

from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import batch_of
from synthkit.generators.sequence_layers import MEMORY, NEVER, SHARES, states_before
from synthkit.generators.sequence_pairs import cells_of, log_lifts, pair_shares
from synthkit.generators.sequence_shares import Shares, _memory_blocks, share_statistics
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


def test_memory_is_counted_as_the_network_remembers():
    some = np.array([3, 50, 200, 399])
    batch, blocks = batch_of(STATES, LAYOUT, some), _memory_blocks(STATES.take(some), LAYOUT)
    remembered, width = states_before(batch.present), (1 + max(LAYOUT.types)) * (MEMORY - NEVER)
    for row in range(len(some)):
        visits = int(batch.is_visit[row].sum())
        expected = [np.zeros(LAYOUT.codes), np.zeros(LAYOUT.codes), np.zeros(width), np.zeros(width)]
        for visit in range(visits):
            for code in range(LAYOUT.codes):
                state = int(remembered[row, visit, code])
                if state < NEVER:
                    continue
                place = state - NEVER + LAYOUT.types[code] * (MEMORY - NEVER)
                hit = float(batch.present[row, visit, code])
                for block, where, add in zip(
                    expected, (code, code, place, place), (1, hit, 1, hit), strict=True
                ):
                    block[where] += add / visits
        for block, by_hand in zip(blocks, expected, strict=True):
            np.testing.assert_allclose(block[row], by_hand, atol=1e-12)


def test_pairs_are_counted_visit_by_visit():
    some = np.array([0, 7, 250, 399])
    found, present = pair_shares(STATES.take(some), LAYOUT), batch_of(STATES, LAYOUT, some)
    rows, columns = np.triu_indices(LAYOUT.codes, k=1)
    for row in range(len(some)):
        visits = present.present[row][present.is_visit[row] > 0].double().numpy()
        together = visits.T @ visits / len(visits)
        np.testing.assert_allclose(found[row], together[rows, columns], atol=1e-12)


def test_long_code_lists_buy_no_pairs():
    layout = encoding_of(records_of([[[0]]], tiny_schema(500)), {**SMALL, "dated": 0}).layout
    generator = Eva(layout, {**SMALL, "dated": 0, "pairs": 1})
    assert cells_of(layout) == 0
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


def test_lifts_of_planted_pairs_stand_out_and_noise_alone_leaves_none():
    size, rng = 40, np.random.default_rng(2)
    codes = np.full(size, 0.05)
    together = np.outer(codes, codes)
    together[:8, :8] = 0.03  # eight codes of one disease
    rows, columns = np.triu_indices(size, k=1)
    noise = 0.002 * rng.standard_normal(rows.size)
    lifts = log_lifts(together[rows, columns] + noise, codes, std=0.002)
    inside = lifts[:8, :8][~np.eye(8, dtype=bool)]
    assert inside.min() > 1.0
    assert np.abs(lifts[8:, 8:]).max() < 0.5
    alone = log_lifts(0.05**2 + noise, codes, std=0.002)
    assert np.abs(alone).mean() < 0.1


def test_a_network_starts_from_the_bought_lifts():
    """Without noise: codes that go together in the records are likelier beside one another from the start."""
    torch.manual_seed(0)
    generator = Eva(LAYOUT, {**SMALL, "hidden": 64, "pairs": 1})
    generator.set_shares(generator.statistics(STATES).sum(dim=0).numpy(), noise=0.0)
    rows, columns = np.triu_indices(LAYOUT.codes, k=1)
    pairs = pair_shares(STATES, LAYOUT).mean(axis=0)
    often = np.argsort(-pairs)[:200]
    hidden = generator.beside.embedding_dim
    effect = generator.beside.weight[:-1].detach() @ generator.out.weight[:, hidden:].detach().T
    codes = np.zeros(LAYOUT.codes)
    np.add.at(codes, rows, pairs)
    found = effect.numpy()[rows, columns]
    assert found[often].mean() > found.mean() + 0.3
