"""MCM fitted to bought tables: chains that draw what they say, federations, and a fit that is a function."""

import numpy as np
import pytest
import torch
from small_ward import make_plan

from synthkit.domain.layout import Layout, PatientStates
from synthkit.errors import InputError
from synthkit.generators.base import MOST_STATES
from synthkit.generators.maxent import Chains, Pairwise, fit_pairwise
from synthkit.generators.mcm import Mcm
from synthkit.generators.registry import build
from synthkit.privacy.mechanisms import tables_statistic
from synthkit.training.loop import close, finish
from synthkit.training.unsafe import UnsafeNoPrivacy
from synthkit_server.aggregation import weighted_average

torch.set_num_threads(1)

LAYOUT = Layout(names=("a", "b", "c", "d"), states=(3, 4, 2, 5))
QUICK = {"hidden": 16, "chains": 2048, "sweeps": 120, "fit_steps": 400}
SIZES = (3000, 1000)
PLAN = make_plan(generator="mcm", rounds=0, local_steps=0, prior_noise_multiplier=0.5, hyperparameters=QUICK)
FAR = 7.0
"""Standard errors; a binomial share leaves them with probability below 1e-10 where 20 are expected."""


def planted(patients, *, seed=0):
    """Column b follows a, c follows b, d is on its own; int64, shape (patients, 4)."""
    rng = np.random.default_rng(seed)
    a = rng.choice(3, patients, p=[0.5, 0.3, 0.2])
    b = np.where(rng.random(patients) < 0.8, a, 3)
    c = (rng.random(patients) < np.array([0.1, 0.5, 0.9, 0.2])[b]).astype(int)
    d = rng.choice(5, patients, p=[0.4, 0.3, 0.2, 0.07, 0.03])
    return np.column_stack([a, b, c, d])


def model_of(*, seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build("mcm", LAYOUT, {**QUICK, **changes})


def counted(states):
    """Shares of rows, one axis a column."""
    flat = np.ravel_multi_index(tuple(np.asarray(states).T), LAYOUT.states)
    return np.bincount(flat, minlength=int(np.prod(LAYOUT.states))).reshape(LAYOUT.states) / len(states)


def coupled():
    """Couplings and fields that make columns hang together."""
    rng, width = torch.Generator().manual_seed(1), LAYOUT.width
    own = torch.block_diag(*(torch.ones(size, size) for size in LAYOUT.states)).bool()
    drawn = torch.randn(width, width, generator=rng).triu()
    couplings = torch.where(own, 0.0, drawn + drawn.T)
    return Pairwise(layout=LAYOUT, couplings=couplings, fields=0.5 * torch.randn(width, generator=rng))


def joint_of(pairwise):
    """p(row) by its definition, one axis a column."""
    rows = np.indices(LAYOUT.states).reshape(4, -1).T
    hot = np.zeros((len(rows), LAYOUT.width))
    np.put_along_axis(hot, rows + np.array(LAYOUT.offsets), 1.0, axis=1)
    couplings, fields = pairwise.couplings.double().numpy(), pairwise.fields.double().numpy()
    energy = hot @ fields + 0.5 * np.einsum("ri,ij,rj->r", hot, couplings, hot)
    return (np.exp(energy) / np.exp(energy).sum()).reshape(LAYOUT.states)


def test_chains_come_to_draw_what_the_couplings_say():
    """40,000 chains from independent columns, 200 sweeps: 120 cells, false alarm below 1e-8."""
    model = coupled()
    equal = torch.cat([torch.full((size,), 1 / size) for size in LAYOUT.states])
    chains = Chains.of_shares(LAYOUT, equal, chains=40_000, seed=0)
    expected, limit = joint_of(model), FAR * np.sqrt(joint_of(model) / 40_000) + 20 / 40_000
    assert (np.abs(counted(chains.states()) - expected) > limit).any(), "not yet"
    for _ in range(200):
        chains.sweep(model)
    assert (np.abs(counted(chains.states()) - expected) <= limit).all()
    tables = tables_statistic(PatientStates.one_row_each(chains.states().numpy()), LAYOUT) / 40_000
    np.testing.assert_allclose(chains.tables().numpy(), tables, atol=1e-6)


def test_couplings_are_a_function_of_the_tables():
    tables = torch.from_numpy(
        tables_statistic(PatientStates.one_row_each(planted(500)), LAYOUT) / 500
    ).float()

    def learnt(seed, given=tables):
        torch.manual_seed(seed)
        np.random.seed(seed)
        model, chains = fit_pairwise(
            given.clamp(min=1e-9),
            LAYOUT,
            variance=0.1,
            chains=300,
            sweeps=8,
            progress=lambda _: None,
        )
        return torch.cat([model.couplings, model.fields[None], chains.tables()])

    assert torch.equal(learnt(1), learnt(2))
    assert not torch.equal(learnt(1), learnt(1, tables.roll(1)))


def test_cells_that_noise_pushed_below_zero_do_not_run_away():
    """Their own negative weight would turn a step towards them into one away from them, ever larger."""
    shares = torch.tensor([0.6, 0.38, 0.02, 0.5, 0.5])
    layout = Layout(names=("a", "b"), states=(3, 2))
    tables = torch.outer(shares, shares)
    tables[2, 3] = tables[3, 2] = -0.004  # of 0.01: less than nobody
    tables[2, 4] = tables[4, 2] = 0.024
    tables.diagonal().copy_(shares)
    model, chains = fit_pairwise(
        tables, layout, variance=0.01, chains=4000, sweeps=300, progress=lambda _: None
    )
    assert model.couplings.isfinite().all()
    assert model.couplings[2, 3] < model.couplings[2, 4]
    assert (model.couplings.abs() < 6).all()
    found = counted_pairs(chains)
    assert found[2, 3] < 0.004
    assert found[2, 4] == pytest.approx(0.02, abs=0.006)


def counted_pairs(chains):
    return chains.tables().numpy()


def test_the_fit_is_a_function_of_weights_and_tables():
    """Whatever torch's and numpy's global state are."""

    def fitted(*, at, seed=0, patients=400):
        torch.manual_seed(at)
        np.random.seed(at)
        model = model_of(seed=seed, chains=600, sweeps=6, fit_steps=8)
        model.set_tables(tables_statistic(PatientStates.one_row_each(planted(patients)), LAYOUT))
        model.fit(sites=1, pair_noise=5.0, single_noise=2.5)
        return model.get_weights()

    one, again = fitted(at=5), fitted(at=6)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    for other in (fitted(at=5, seed=1), fitted(at=5, patients=300)):
        assert not np.array_equal(one["out.weight"], other["out.weight"])


def bought_at(rows):
    """A site's weights after the closing round, without noise."""
    model = model_of()
    close(model, PatientStates.one_row_each(rows), PLAN, privacy=UnsafeNoPrivacy)
    return model.get_weights()


def finished(weights, sizes, *, privacy=None):
    model = model_of(seed=9)
    model.set_weights(weights)
    finish(model, PLAN, sizes, privacy=privacy)
    return model


def drawn(model):
    """Shares of 20,000 rows, one axis a column."""
    return counted(model.sample(20_000, rng=torch.Generator().manual_seed(0))[0])


def two_way(shares, one, other):
    return shares.sum(axis=tuple(i for i in range(4) if i not in (one, other)))


def distance(shares, other):
    """Largest total variation distance between two-way tables."""
    pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    return max(np.abs(two_way(shares, *p) - two_way(other, *p)).sum() / 2 for p in pairs)


def test_two_unequal_sites_averaged_are_their_patients_pooled():
    """The tables to float32, and so what is learnt from them; no two sites have the same kind of patients.

    20,000 rows' two-way tables of 20 cells are off by chance by 0.01, the quick fit by as much again.
    """
    rows = planted(sum(SIZES))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    parts = np.split(rows, [SIZES[0]])
    averaged = weighted_average([bought_at(part) for part in parts], SIZES)
    pooled = bought_at(rows)
    np.testing.assert_allclose(averaged["tables"], pooled["tables"], atol=1e-7)
    together = finished(averaged, SIZES, privacy=UnsafeNoPrivacy)
    assert together.patients(sum(SIZES) ** 2 / sum(size**2 for size in SIZES)) == pytest.approx(sum(SIZES))
    federated = drawn(together)
    whole = drawn(finished(pooled, [sum(SIZES)], privacy=UnsafeNoPrivacy))
    assert distance(federated, whole) < 0.02
    assert distance(federated, counted(rows)) < 0.04
    alone = drawn(finished(bought_at(parts[0]), [SIZES[0]], privacy=UnsafeNoPrivacy))
    assert distance(alone, counted(rows)) > 0.1, "one site has not what both have"


def test_a_federation_knows_its_noise_and_how_many_patients_it_is_worth():
    """Two sites' noise, weighted by size, as a share of all patients; equal sites: twice one site's."""
    sites = [bought_at(planted(2000, seed=seed)) for seed in (0, 1)]
    both = finished(weighted_average(sites, [2000, 2000]), [2000, 2000])
    one = finished(sites[0], [2000])
    assert both.patients(2.0) == pytest.approx(4000)
    assert float(both.table_noise) == pytest.approx(float(one.table_noise) / np.sqrt(2), rel=1e-5)
    rare = {3: np.array([0.0, 0.0, 0.0, 0.0, 1.0]), 0: np.array([0.0, 0.0, 1.0])}
    reliable = [
        model.signal_share(model.mass(rare, rng=torch.Generator().manual_seed(0))) for model in (one, both)
    ]
    assert 0 < reliable[0] < reliable[1] < 1


def test_too_many_states_are_refused_before_any_memory_is_taken():
    layout = Layout(names=("a", "b"), states=(10**9, 2))
    with pytest.raises(InputError, match=f"more than {MOST_STATES} states") as caught:
        Mcm(layout, QUICK)
    assert "\n" not in str(caught.value)
    assert "generator mcm" in str(caught.value)
