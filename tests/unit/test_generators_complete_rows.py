"""`Generator.complete`: the model's own conditional distribution, row by row; known cells never touched."""

import time

import numpy as np
import pytest
import torch

from synthkit.domain.layout import Layout
from synthkit.generators.base import UNKNOWN
from synthkit.generators.registry import build

torch.set_num_threads(1)

LAYOUT = Layout(names=("a", "b", "c", "d"), states=(3, 4, 2, 5))
SMALL = {"hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "latent": 6}
KINDS = {"medvae": {**SMALL, "codes": 40}, "medvae-sgd": SMALL}
FAR = 7.0
"""Standard errors; a binomial share leaves them with probability below 1e-10 where 20 are expected."""


def model_of(kind="medvae", layout=LAYOUT, **changes):
    """Weights as drawn, with the logits stretched: columns that hang together, without a training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build(kind, layout, {**KINDS[kind], **changes})
        linear = model.linear if kind == "medvae" else model.decoder.linear
        with torch.no_grad():
            linear.weight.normal_(std=1.2)
    return model


def completed(model, states, *, seed=0):
    return model.complete(np.array(states), rng=torch.Generator().manual_seed(seed))


def joint_of(model):
    """The model's distribution over whole rows, by enumeration of its codes; float64, one axis a column."""
    with torch.no_grad():
        masses = [torch.softmax(part.double(), dim=1).numpy() for part in model._blocks()]
    return np.einsum("za,zb,zc,zd->abcd", *masses) / len(masses[0])


def given(joint, row):
    """The distribution over whole rows, given a row's known cells."""
    place = tuple(slice(None) if state == UNKNOWN else slice(state, state + 1) for state in row)
    kept = np.zeros_like(joint)
    kept[place] = joint[place]
    return kept / kept.sum()


def assert_drawn_from(states, expected):
    flat = np.ravel_multi_index(tuple(states.T), LAYOUT.states)
    shares = (np.bincount(flat, minlength=expected.size) / len(states)).reshape(expected.shape)
    likely = expected * len(states) >= 20
    assert likely.any()
    limit = FAR * np.sqrt(expected * (1 - expected) / len(states)) + 1 / len(states)
    assert (np.abs(shares - expected)[likely] <= limit[likely]).all()


ROWS = {
    "nothing known": (-1, -1, -1, -1),
    "one known": (-1, 2, -1, -1),
    "two known": (0, -1, -1, 3),
    "one unknown": (1, 1, 1, -1),
    "all known": (2, 0, 1, 4),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_medvae_completes_as_enumeration_over_its_codes_says(row):
    """30,000 rows, up to a hundred cells each: false alarm below 1e-8."""
    model = model_of()
    states = completed(model, np.tile(row, (30_000, 1)))
    assert_drawn_from(states, given(joint_of(model), row))


def test_rows_with_different_gaps_in_one_table_each_follow_their_own(monkeypatch):
    """The five patterns interleaved, over many chunks: false alarm below 1e-8."""
    monkeypatch.setattr("synthkit.generators.completion.CHUNK_CELLS", 40 * 777)
    model = model_of()
    states = completed(model, np.tile(list(ROWS.values()), (20_000, 1)))
    for place, row in enumerate(ROWS.values()):
        assert_drawn_from(states[place :: len(ROWS)], given(joint_of(model), row))


def test_completion_that_ignores_the_known_cells_would_be_noticed():
    """The checks above can fail: the model's one-way shares are not what it says given two cells."""
    model, row = model_of(), ROWS["two known"]
    free = completed(model, np.tile(ROWS["nothing known"], (30_000, 1)))
    blind = np.where(np.array(row) == UNKNOWN, free, row)
    with pytest.raises(AssertionError):
        assert_drawn_from(blind, given(joint_of(model), row))


def test_unknown_cells_of_a_row_are_drawn_jointly():
    """And not each on its own given the known ones: shuffled within the same pattern they are found out."""
    model, row = model_of(), ROWS["one known"]
    states = completed(model, np.tile(row, (30_000, 1)))
    shuffled = np.column_stack([np.random.default_rng(i).permutation(states[:, i]) for i in range(4)])
    with pytest.raises(AssertionError):
        assert_drawn_from(shuffled, given(joint_of(model), row))


@pytest.mark.parametrize("row", [ROWS["nothing known"], ROWS["one known"], ROWS["two known"]])
def test_medvae_sgd_completes_as_its_prior_and_decoder_say(row, monkeypatch):
    """Against 100,000 codes of its prior, enumerated; every 300 rows have candidates of their own.

    Those codes and 100 pools of 2,048 candidates vary about as much as the 30,000 rows: limits are
    widened by half. False alarm below 1e-8.
    """
    monkeypatch.setattr("synthkit.generators.medvae_sgd.COMPLETION_CHUNK", 300)
    model = model_of("medvae-sgd")
    with torch.no_grad():
        codes = model._draw_prior(100_000, torch.Generator().manual_seed(9))
        blocks = torch.split(model.decoder(codes).double(), list(LAYOUT.states), dim=1)
        masses = [torch.softmax(block, dim=1).numpy() for block in blocks]
    parts = [np.einsum("za,zb,zc,zd->abcd", *(m[i::8] for m in masses)) for i in range(8)]
    states = completed(model, np.tile(row, (30_000, 1)))
    expected = given(sum(parts), row)
    flat = np.ravel_multi_index(tuple(states.T), LAYOUT.states)
    shares = (np.bincount(flat, minlength=expected.size) / len(states)).reshape(expected.shape)
    likely = expected * len(states) >= 20
    limit = 1.5 * FAR * np.sqrt(expected * (1 - expected) / len(states))
    assert (np.abs(shares - expected)[likely] <= limit[likely]).all()


def gappy(layout, rows, *, seed=0):
    rng = np.random.default_rng(seed)
    states = np.column_stack([rng.integers(0, most, rows) for most in layout.states])
    states[rng.random(states.shape) < 0.5] = UNKNOWN
    return states


@pytest.mark.parametrize("kind", KINDS)
def test_known_cells_are_untouched_and_every_gap_is_filled(kind):
    states = gappy(LAYOUT, 3000)
    before = states.copy()
    filled = model_of(kind).complete(states, rng=torch.Generator().manual_seed(0))
    assert np.array_equal(states, before), "the caller's array is not written to"
    assert (filled.dtype, filled.shape) == (np.int64, states.shape)
    assert (filled[before != UNKNOWN] == before[before != UNKNOWN]).all()
    assert (filled >= 0).all()
    assert (filled < np.array(LAYOUT.states)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_and_no_row(kind):
    model = model_of(kind)
    assert completed(model, [[-1, 1, -1, 2]])[0, [1, 3]].tolist() == [1, 2]
    assert completed(model, np.zeros((0, 4), dtype=np.int64)).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_fills_the_same_whatever_the_global_state(kind):
    model, states = model_of(kind), gappy(LAYOUT, 2000)
    torch.manual_seed(1)
    one = completed(model, states, seed=3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert np.array_equal(one, completed(model, states, seed=3))
    assert not np.array_equal(one, completed(model, states, seed=4))


def test_a_known_state_that_no_code_holds_for_possible_still_leaves_rows():
    """Its mass is zero to the last bit in every code; the codes then differ by nothing it says."""
    model = model_of()
    with torch.no_grad():
        model.linear.bias[:3] = torch.tensor([5000.0, -5000.0, -5000.0])
    states = completed(model, np.tile((1, -1, 1, -1), (500, 1)))
    assert (states[:, 0] == 1).all()
    assert (states[:, 1] >= 0).all()
    assert (states[:, 1] < 4).all()


def test_fifty_thousand_rows_of_thirty_columns_in_seconds():
    """Processor time of one core; about 3 seconds are usual, half of the cells unknown."""
    sizes = tuple(np.random.default_rng(0).integers(2, 40, 30).tolist())
    layout = Layout(names=tuple(f"c{place}" for place in range(30)), states=sizes)
    model, states = model_of(layout=layout, codes=1000), gappy(layout, 50_000)
    began = time.process_time()
    completed(model, states)
    assert time.process_time() - began < 10
