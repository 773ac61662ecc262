"""One-way shares from tables with noise: all that was bought counts, and tails neither grow nor vanish."""

import numpy as np
import pytest
import torch

from synthkit.domain.layout import Layout
from synthkit.generators.tables import one_way_shares, share_of_each_state, shrunk_to_independence
from synthkit.generators.tails import tail_shares

LAYOUT = Layout(names=("a", "b", "c", "d"), states=(3, 4, 2, 12))
BLOCK = np.repeat(np.arange(4), LAYOUT.states)
OWN = BLOCK[:, None] == BLOCK[None, :]
PAIR, SINGLE = 0.004, 0.002


def independent_tables(layout=LAYOUT, *, seed=0):
    """Exact shares of independent columns: pairs' cells, the states' own on the diagonal."""
    rng = np.random.default_rng(seed)
    shares = np.concatenate([rng.dirichlet(np.full(states, 3.0)) for states in layout.states])
    tables = np.where(OWN, 0.0, np.outer(shares, shares))
    np.fill_diagonal(tables, shares)
    return tables


def bought(tables, rng):
    """With the noise of the purchase, none of it within a column's own block off the diagonal."""
    above = np.triu(np.where(OWN, 0.0, rng.normal(0, PAIR, tables.shape)), 1)
    return torch.from_numpy(tables + above + above.T + np.diag(rng.normal(0, SINGLE, len(tables))))


def read(noisy, layout, noise):
    """Shares of a vector of noisy ones, float64."""
    return share_of_each_state(noisy, layout, noise=torch.full((len(layout.states),), noise))[0].numpy()


def test_pairs_margins_sharpen_the_shares_by_as_much_as_is_stated():
    """400 purchases. A column's sample std over 800 draws or more lies within 15 % of the truth, and the
    mean of a state within 6 standard errors: false alarm below 1e-7 in all.
    """
    tables, rng = independent_tables(), np.random.default_rng(1)
    errors = []
    for _ in range(400):
        shares, noise = one_way_shares(bought(tables, rng), LAYOUT, pair_noise=PAIR, single_noise=SINGLE)
        errors.append(shares.numpy() - np.diag(tables))
    scaled = np.array(errors) / noise.numpy()[BLOCK]
    for column in range(4):
        assert scaled[:, column == BLOCK].std() == pytest.approx(1.0, abs=0.15)
    assert np.abs(scaled.mean(axis=0)).max() < 6 / np.sqrt(400)
    assert (noise.numpy() < 0.96 * SINGLE).all(), "sharper than what a state's own count alone says"


def test_stated_noise_is_the_inverse_of_the_summed_trust():
    """Column a: its own count 4 times a cell's trust, and tables with 4, 2 and 12 columns."""
    _, noise = one_way_shares(torch.zeros(21, 21).double(), LAYOUT, pair_noise=1.0, single_noise=0.5)
    assert float(noise[0]) == pytest.approx((4 + 1 / 4 + 1 / 2 + 1 / 12) ** -0.5)


def test_one_column_has_only_its_own_counts():
    layout, counts = Layout(names=("a",), states=(3,)), torch.tensor([0.5, 0.3, 0.2]).double()
    shares, noise = one_way_shares(torch.diag(counts), layout, pair_noise=2.0, single_noise=1.0)
    assert torch.allclose(shares, counts)
    assert float(noise) == pytest.approx(1.0)


def test_without_noise_the_shares_are_the_diagonal():
    tables = torch.from_numpy(independent_tables())
    noisy, noise = one_way_shares(tables, LAYOUT, pair_noise=0.0, single_noise=0.0)
    shares, told = share_of_each_state(noisy, LAYOUT, noise=noise)
    np.testing.assert_allclose(shares.numpy(), np.diag(tables), atol=1e-7)
    assert told.all()


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.1, 10.0, 1e6])
def test_shares_lie_on_the_simplex_whatever_the_noise(noise):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        noisy = np.diag(independent_tables(seed=seed)) + rng.normal(0, 2 * noise, LAYOUT.width)
        shares = read(torch.from_numpy(noisy), LAYOUT, noise)
        assert (shares > 0).all()
        for block in np.split(shares, np.cumsum(LAYOUT.states)[:-1]):
            assert block.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_shrunk_table_has_the_columns_shares_as_margins():
    """A departure from independence has none: what a noisy table shows of one is noise, and is not kept."""
    tables = bought(independent_tables(), np.random.default_rng(2))
    noisy, noise = one_way_shares(tables, LAYOUT, pair_noise=PAIR, single_noise=SINGLE)
    shares, told = share_of_each_state(noisy, LAYOUT, noise=noise)
    shrunk = shrunk_to_independence(tables, shares, told, LAYOUT, noise=PAIR / 10)  # so that much is kept
    parts = [slice(start, start + size) for start, size in zip(LAYOUT.offsets, LAYOUT.states, strict=True)]
    kept = shrunk - torch.where(torch.from_numpy(OWN), 0.0, torch.outer(shares, shares))
    assert kept.abs().max() > PAIR
    for one in parts:
        for two in parts:
            assert float(kept[one, two].sum(dim=0).abs().max()) < 1e-12


def test_no_bin_is_a_spikes_neighbour():
    """A spike at the first state and values in the middle: the bin after the spike is far from both."""
    block = np.zeros(34)
    block[0], block[14:20] = 0.4, 0.1
    layout = Layout(names=("a",), states=(34,), spikes=(1,))
    noise = 0.005
    for seed in range(20):
        noisy = block + np.random.default_rng(seed).normal(0, noise, 34)
        shares = read(torch.from_numpy(noisy), layout, noise)
        assert shares[1:8].sum() < noise
        assert shares[0] == pytest.approx(0.4, abs=5 * noise)


def test_a_layout_needs_spikes_of_each_column_or_of_none():
    assert LAYOUT.spikes == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="how many spikes"):
        Layout(names=("a", "b"), states=(3, 4), spikes=(1,))


def test_absent_states_get_next_to_nothing():
    """200 states of which 4 are held: clipping at zero alone would give the absent half of the mass."""
    layout = Layout(names=("a", "b"), states=(200, 3))
    block = np.zeros(200)
    block[[3, 50, 51, 199]] = [0.4, 0.3, 0.2, 0.1]
    noise = 0.005
    for seed in range(5):
        noisy = block + np.random.default_rng(seed).normal(0, noise, 200)
        diagonal = torch.from_numpy(np.concatenate([noisy, [0.5, 0.25, 0.25]]))
        shares = read(diagonal, layout, noise)[:200]
        absent = shares[block == 0]
        clipped = noisy.clip(min=0)
        assert absent.sum() < 0.1 < (clipped / clipped.sum())[block == 0].sum()
        assert absent.max() < 3 * noise
        np.testing.assert_allclose(shares[block > 0], block[block > 0], atol=5 * noise)


def tail_spread(missing, *, seed):
    """Standard deviation of a geometric count in 0 to 60, read off noisy tables, over the true one."""
    places = np.arange(61)
    true = 0.5**places / (0.5**places).sum()
    states = (61 + missing, 2)
    layout = Layout(names=("count", "other"), states=states, missing=(bool(missing), False))
    block = np.append(0.8 * true, 0.2) if missing else true
    noise = 0.002
    noisy = block + np.random.default_rng(seed).normal(0, noise, block.size)
    diagonal = torch.from_numpy(np.concatenate([noisy, [0.5, 0.5]]))
    shares = read(diagonal, layout, noise)
    clipped = noisy[:61].clip(min=0)

    def spread(mass):
        mass = mass / mass.sum()
        return np.sqrt(mass @ places**2 - (mass @ places) ** 2)

    return spread(shares[:61]) / spread(true), spread(clipped) / spread(true)


@pytest.mark.parametrize("missing", [0, 1], ids=["no missing", "a fifth missing, beside the highest bin"])
def test_noise_does_not_become_a_long_tail(missing):
    """A lone bin has to exceed five deviations: one of 50 does in 0.002 % of tables. Seeds are fixed."""
    for seed in range(20):
        ours, clipped = tail_spread(missing, seed=seed)
        assert 0.7 < ours < 1.5
        assert clipped > 2, "what clipping at zero alone would do"


NOISE = 0.001


def tail_of(rate, *, level, seed, length=20):
    """True and estimated shares of a tail that starts at `level` times the noise."""
    true = level * NOISE * rate ** np.arange(length)
    noisy = true + np.random.default_rng(seed).normal(0, NOISE, length)
    steps = torch.arange(1, length + 1)
    edge = max(true[0] / rate, 2 * NOISE)
    return true, tail_shares(torch.from_numpy(noisy), steps, edge=edge, noise=NOISE).numpy()


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_a_tails_mass_and_reach_are_about_right(rate):
    """Over 40 draws of noise the mean mass within a quarter, the mean distance within one state. Seeds
    are fixed.
    """
    found = [tail_of(rate, level=5.0, seed=seed) for seed in range(40)]
    true = found[0][0]
    masses = np.array([shares.sum() for _, shares in found])
    places = np.arange(len(true))
    reach = np.array([shares @ places / shares.sum() for _, shares in found])
    assert masses.mean() == pytest.approx(true.sum(), rel=0.25)
    assert reach.mean() == pytest.approx(true @ places / true.sum(), abs=1.0)


def test_a_sudden_stop_gets_less_than_the_noise_of_its_states():
    """Nothing behind a state of 20 noises: an empty tail of 20 states keeps about a noise in all, where
    clipping at zero alone keeps eight.
    """
    steps, kept, clipped = torch.arange(1, 21), [], []
    for seed in range(40):
        noisy = torch.from_numpy(np.random.default_rng(seed).normal(0, NOISE, 20))
        kept.append(float(tail_shares(noisy, steps, edge=20 * NOISE, noise=NOISE).sum()))
        clipped.append(float(noisy.clamp(min=0).sum()))
    assert np.mean(kept) < 1.5 * NOISE
    assert np.mean(clipped) > 6 * NOISE


def test_a_tail_falls_off_and_stays_below_its_edge():
    for seed in range(20):
        _, shares = tail_of(0.6, level=4.0, seed=seed)
        assert (np.diff(shares) < 0).all()
        assert (shares > 0).all()
        assert shares[0] <= 4.0 * NOISE / 0.6
