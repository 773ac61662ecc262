"""Med-VAE fitted to tables: it learns what they say, draws what it learnt, and says where it knows little."""

import itertools

import numpy as np
import pytest
import torch
from small_ward import make_plan

from synthkit.domain.layout import Layout, PatientStates
from synthkit.errors import InputError
from synthkit.generators.base import MOST_STATES, chance_of_any
from synthkit.generators.medvae import MedVae
from synthkit.generators.registry import build
from synthkit.generators.tables import one_way_shares, share_of_each_state, shrunk_to_independence
from synthkit.privacy.mechanisms import tables_statistic
from synthkit.training.loop import close, finish
from synthkit.training.unsafe import UnsafeNoPrivacy
from synthkit_server.aggregation import weighted_average

torch.set_num_threads(1)

LAYOUT = Layout(names=("a", "b", "c", "d"), states=(3, 4, 2, 5))
QUICK = {"hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "latent": 6, "codes": 60, "fit_steps": 300}


def planted(patients, *, seed=0):
    """Column b follows a, c follows b, d is on its own; int64, shape (patients, 4)."""
    rng = np.random.default_rng(seed)
    a = rng.choice(3, patients, p=[0.5, 0.3, 0.2])
    b = np.where(rng.random(patients) < 0.8, a, 3)
    c = (rng.random(patients) < np.array([0.1, 0.5, 0.9, 0.2])[b]).astype(int)
    d = rng.choice(5, patients, p=[0.4, 0.3, 0.2, 0.07, 0.03])
    return np.column_stack([a, b, c, d])


def model_of(layout=LAYOUT, *, seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build("medvae", layout, {**QUICK, **changes})


def fitted(states=None, layout=LAYOUT, *, noise=0.0, **changes):
    """Fitted to the exact tables of rows, or as if to tables with noise of this width."""
    states = planted(4000) if states is None else states
    model = model_of(layout, **changes)
    model.set_tables(tables_statistic(PatientStates.one_row_each(states), layout))
    model.fit(sites=1, pair_noise=noise, single_noise=noise / 2)
    return model


@pytest.fixture(scope="module")
def learnt():
    return fitted(fit_steps=800)


def drawn(model, count, *, seed=0, where=None):
    return model.sample(count, rng=torch.Generator().manual_seed(seed), where=where)


def joint_of(model):
    """The model's own distribution over all rows, by enumeration; float64, one axis a column."""
    with torch.no_grad():
        masses = [torch.softmax(part.double(), dim=1).numpy() for part in model._blocks()]
    letters = "abcdefgh"[: len(masses)]
    product = ",".join(f"z{letter}" for letter in letters)
    return np.einsum(f"{product}->{letters}", *masses) / len(masses[0])


def counted(states, layout=LAYOUT):
    """Shares of rows, one axis a column."""
    flat = np.ravel_multi_index(tuple(states.T), layout.states)
    shares = np.bincount(flat, minlength=int(np.prod(layout.states))) / len(states)
    return shares.reshape(layout.states)


def two_way(joint, first, second):
    return joint.sum(axis=tuple(i for i in range(joint.ndim) if i not in (first, second)))


def worst_distance(joint, other):
    """Largest total variation distance between two-way tables."""
    pairs = itertools.combinations(range(joint.ndim), 2)
    return max(np.abs(two_way(joint, *p) - two_way(other, *p)).sum() / 2 for p in pairs)


def test_planted_tables_are_learnt_and_independence_would_not_do(learnt):
    rows = counted(planted(4000))
    assert worst_distance(joint_of(learnt), rows) < 0.01
    alone = np.einsum(
        "a,b,c,d->abcd",
        *(rows.sum(axis=tuple(i for i in range(4) if i != column)) for column in range(4)),
    )
    assert worst_distance(alone, rows) > 0.3


def test_the_fits_one_way_shares_are_those_it_was_given_however_short_the_fit():
    """Relative error below a thousandth in every state, also after four steps of the fit."""
    states = planted(4000)
    model = fitted(states, fit_steps=4)
    joint, rows = joint_of(model), counted(states)
    for column in range(4):
        others = tuple(i for i in range(4) if i != column)
        assert np.allclose(joint.sum(axis=others), rows.sum(axis=others), rtol=1e-3)
    assert worst_distance(joint, rows) > 0.1


def test_an_unfitted_model_has_not_learnt_them():
    """The distance above can be large: it is the fit that makes it small."""
    assert worst_distance(joint_of(model_of()), counted(planted(4000))) > 0.3


FAR = 7.0
"""Standard errors; a binomial share leaves them with probability below 1e-10 where 20 are expected."""


def assert_drawn_from(states, expected):
    """Every cell of `expected` with 20 rows or more is met within FAR standard errors, +1 row."""
    shares, count = counted(states), len(states)
    likely = expected * count >= 20
    limit = FAR * np.sqrt(expected * (1 - expected) / count) + 1 / count
    assert likely.any()
    assert (np.abs(shares - expected)[likely] <= limit[likely]).all()


CONDITIONS = {
    "none": None,
    "one state": {1: np.array([0.0, 0.0, 1.0, 0.0])},
    "several columns": {0: np.array([1.0, 0.0, 1.0]), 2: np.array([0.0, 1.0])},
    "part of a state": {3: np.array([0.25, 0.5, 0.0, 1.0, 0.0]), 0: np.array([0.5, 1.0, 1.0])},
    "all columns": {c: np.eye(1, n, n - 1)[0] for c, n in enumerate(LAYOUT.states)},
}


@pytest.mark.parametrize("where", CONDITIONS.values(), ids=CONDITIONS)
def test_rows_follow_the_models_own_conditional_distribution(learnt, where):
    """40,000 rows against enumeration over codes: a hundred cells, false alarm below 1e-8."""
    expected = joint_of(learnt)
    for column, allowed in (where or {}).items():
        expected = expected * allowed.reshape([-1 if i == column else 1 for i in range(4)])
    states, share = drawn(learnt, 40_000, where=where)
    assert states.dtype == np.int64
    # Tables without noise: only how many of so many patients met it is left to doubt.
    patients = learnt.patients(1.0)
    met = learnt.mass(where, rng=torch.Generator().manual_seed(0)) if where else 1.0
    assert share == pytest.approx(chance_of_any(met, patients) if where else 1.0, abs=1e-9)
    assert_drawn_from(states, expected / expected.sum())
    for column, allowed in (where or {}).items():
        assert (allowed[states[:, column]] > 0).all()


def test_rows_drawn_column_by_column_would_be_noticed(learnt):
    """The check above can fail: the same one-way shares without the relations are not the model."""
    states, _ = drawn(learnt, 40_000)
    shuffled = np.column_stack([np.random.default_rng(i).permutation(states[:, i]) for i in range(4)])
    with pytest.raises(AssertionError):
        assert_drawn_from(shuffled, joint_of(learnt))


def test_conditions_the_model_has_no_mass_for_are_honoured_all_the_same():
    """Even where every code's mass is zero to the last bit."""
    model = fitted(fit_steps=1)
    with torch.no_grad():
        model.linear.bias[:2] = torch.tensor([5000.0, -5000.0])
    for allowed in ([0.0, 1.0, 0.0], [0.0, 0.3, 0.0]):
        states, share = drawn(model, 300, where={0: np.array(allowed)})
        assert (states[:, 0] == 1).all()
        assert 0 < share <= 1


def test_reliability_falls_as_conditions_get_rare_under_noise():
    """By the mass of the condition and the noise of one cell: near 1 for half, nothing below the noise."""
    model = fitted(noise=20.0)
    conditions = (
        {0: np.array([1.0, 0.0, 0.0])},
        {0: np.array([0.0, 0.0, 1.0])},
        {3: np.array([0.0, 0.0, 0.0, 0.0, 1.0])},
        {3: np.array([0.0, 0.0, 0.0, 0.0, 1.0]), 0: np.array([0.0, 0.0, 1.0])},
        {3: np.array([0.0, 0.0, 0.0, 0.0, 1e-9])},
    )
    shares = [1.0, *(drawn(model, 10, where=where)[1] for where in conditions)]
    assert all(0 < less < more <= 1 for more, less in itertools.pairwise(shares))
    assert shares[1] > 0.99
    assert shares[-2] < 0.5
    assert shares[-1] < 1e-6
    barely = drawn(fitted(noise=60.0), 10, where=conditions[-2])[1]
    assert 0 < barely < 1e-6, "the same condition, now below the noise"
    assert drawn(model, 10)[1] == 1.0, "without conditions nothing is asked"


def test_more_noise_means_less_reliability():
    rare = {3: np.array([0.0, 0.0, 0.0, 0.0, 1.0])}
    shares = [drawn(fitted(noise=noise), 10, where=rare)[1] for noise in (0.0, 20.0, 80.0, 400.0)]
    assert all(more > less for more, less in itertools.pairwise(shares))


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(learnt):
    torch.manual_seed(1)
    one, _ = drawn(learnt, 2000, seed=3)
    torch.manual_seed(2)
    assert np.array_equal(one, drawn(learnt, 2000, seed=3)[0])
    assert not np.array_equal(one, drawn(learnt, 2000, seed=4)[0])


def test_rows_of_several_chunks_are_all_drawn(learnt, monkeypatch):
    """A small chunk leaves the distribution alone; 20,000 rows, false alarm below 1e-8."""
    monkeypatch.setattr("synthkit.generators.medvae.SAMPLE_CHUNK", 777)
    assert_drawn_from(drawn(learnt, 20_000)[0], joint_of(learnt))
    assert drawn(learnt, 0)[0].shape == (0, 4)


def test_the_fit_is_a_function_of_weights_and_tables():
    """Whatever torch's and numpy's global state are."""
    torch.manual_seed(5)
    one = fitted(fit_steps=40, noise=5.0).get_weights()
    torch.manual_seed(6)
    np.random.seed(6)
    other = fitted(fit_steps=40, noise=5.0).get_weights()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    elsewhere = fitted(fit_steps=40, noise=5.0, seed=1).get_weights()
    assert not np.array_equal(one["codes"], elsewhere["codes"])


def test_progress_counts_every_step_of_the_fit():
    seen = []
    model = model_of(fit_steps=5)
    model.fit(sites=1, pair_noise=1, single_noise=1, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(step, 5) for step in range(1, 6)]


def test_weights_round_trip_draw_the_same_rows(learnt):
    copy = model_of(seed=9)
    copy.set_weights(learnt.get_weights())
    where = {1: np.array([1.0, 1.0, 0.0, 0.0])}
    for given in (None, where):
        one, share = drawn(learnt, 500, where=given)
        assert np.array_equal(one, drawn(copy, 500, where=given)[0])
        assert share == drawn(copy, 500, where=given)[1]
    weights = learnt.get_weights()
    assert {array.dtype for array in weights.values()} == {np.dtype("float32")}
    for spoil in ({**weights, "more": weights["codes"]}, {**weights, "codes": weights["codes"][1:]}):
        with pytest.raises(ValueError, match="do not fit"):
            copy.set_weights(spoil)


def noisy_tables(exact, std, *, seed):
    """Symmetric noise of this width on every pair's cell, half of it on the diagonal."""
    rng = np.random.default_rng(seed)
    above = np.triu(rng.normal(0, std, exact.shape), 1)
    return torch.from_numpy(exact + above + above.T + np.diag(rng.normal(0, std / 2, len(exact))))


def read_shares(tables, *, noise):
    """One-way shares, told states; the noise of a pair's cell given."""
    noisy, std = one_way_shares(tables, LAYOUT, pair_noise=noise, single_noise=noise / 2)
    return share_of_each_state(noisy, LAYOUT, noise=std)


def departures(tables, *, noise):
    """Root of each pair's squared distance from independence after shrinking, by pair of columns."""
    shares, told = read_shares(tables, noise=noise)
    shrunk = shrunk_to_independence(tables, shares, told, LAYOUT, noise=noise)
    away = (shrunk - torch.outer(shares, shares)).square()
    blocks = [torch.split(part, list(LAYOUT.states), dim=1) for part in away.split(list(LAYOUT.states))]
    pairs = itertools.combinations(range(4), 2)
    return {pair: float(blocks[pair[0]][pair[1]].sum().sqrt()) for pair in pairs}


def test_what_is_only_noise_shrinks_to_independence_and_relations_stay():
    """4,000 patients, noise of 40: relations are many times as wide, what else departs is noise.

    Noise's largest singular value lies about its edge, beyond which little is kept at first, and below
    which nothing is: of about half of the tables. The seeds are fixed.
    """
    exact = tables_statistic(PatientStates.one_row_each(planted(4000)), LAYOUT) / 4000
    raw = departures(torch.from_numpy(exact), noise=0.0)
    unrelated, zeros = ((0, 3), (1, 3), (2, 3)), 0
    for seed in range(20):
        tables = noisy_tables(exact, 0.01, seed=seed)
        noisy, kept = departures(tables, noise=0.0), departures(tables, noise=0.01)
        for pair in ((0, 1), (1, 2), (0, 2)):
            assert kept[pair] > 0.9 * raw[pair]
        for pair in unrelated:
            assert kept[pair] < 0.75 * noisy[pair]
        zeros += sum(kept[pair] == 0 for pair in unrelated)
    assert zeros >= 15, "a quarter of the sixty"


def test_tables_of_nothing_but_noise_say_nothing():
    """Noise stated three times as wide: kept only where chi squared of 6 exceeds 52, below 1e-8 a table.

    A table of 3 by 2 states has a departure in two directions only, of which both are small at times.
    """
    uniform = torch.cat([torch.full((n,), 1 / n, dtype=torch.float64) for n in LAYOUT.states])
    exact = torch.outer(uniform, uniform).fill_diagonal_(0) + torch.diag(uniform)
    kept = 0
    for seed in range(10):
        tables = noisy_tables(exact.numpy(), 0.01, seed=seed)
        assert not any(departures(tables, noise=0.03).values())
        kept += np.count_nonzero(list(departures(tables, noise=0.003).values()))
    assert kept >= 50, "of sixty: and stated too small it would be kept"


def test_shrunk_tables_are_symmetric_and_say_nothing_of_a_columns_own_block():
    exact = tables_statistic(PatientStates.one_row_each(planted(500)), LAYOUT) / 500
    tables = noisy_tables(exact, 0.01, seed=0)
    shares, told = read_shares(tables, noise=0.01)
    shrunk = shrunk_to_independence(tables, shares, told, LAYOUT, noise=0.01)
    torch.testing.assert_close(shrunk, shrunk.T, rtol=0, atol=1e-15)
    own = torch.block_diag(*(torch.ones(n, n) for n in LAYOUT.states)).bool()
    assert not shrunk[own].any()
    assert shrunk[~own].any()


NARROW = {
    "one column": ((4,), lambda rng: rng.choice(4, (300, 1), p=[0.7, 0.2, 0.1, 0.0])),
    "one state": ((1,), lambda rng: rng.integers(0, 1, (300, 1))),
    "a constant column": ((3, 1, 2), lambda rng: rng.integers(0, (3, 1, 2), (300, 3))),
    "one category held": ((3, 4), lambda rng: np.column_stack([rng.integers(0, 3, 300), np.full(300, 2)])),
}


@pytest.mark.parametrize("case", NARROW)
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_narrow_tables_are_learnt_too(case, noise):
    sizes, make = NARROW[case]
    layout = Layout(names=tuple("abc"[: len(sizes)]), states=sizes)
    rows = make(np.random.default_rng(0))
    model = fitted(rows, layout, noise=noise, fit_steps=150)
    assert all(np.isfinite(array).all() for array in model.get_weights().values())
    joint, expected = joint_of(model), counted(rows, layout)
    assert np.abs(joint - expected).sum() / 2 < 0.08
    states, share = drawn(model, 50, where={0: np.eye(1, sizes[0])[0]})
    assert (states[:, 0] == 0).all()
    assert 0 < share <= 1


@pytest.mark.parametrize("patients", [0.0, -40.0])
def test_tables_drowned_in_noise_still_give_a_model(patients):
    """Counts whose noise outweighs the patients are still tables to fit to."""
    rng = np.random.default_rng(0)
    above = np.triu(rng.normal(0, 300, (LAYOUT.width,) * 2), 1)
    model = model_of(fit_steps=20)
    model.set_tables(above + above.T + np.diag(rng.normal(0, 150, LAYOUT.width) + patients))
    model.fit(sites=1, pair_noise=300, single_noise=150)
    states, _ = drawn(model, 50)
    assert states.shape == (50, 4)
    assert all(np.isfinite(array).all() for array in model.get_weights().values())


BAD = {
    "unknown": ({"noise_floor": 1.0}, "unknown hyperparameter noise_floor"),
    "another generator's": ({"kl_weight": 0.5}, "unknown hyperparameter kl_weight"),
    "no codes": ({"codes": 0}, "hyperparameter codes is out of range"),
    "too many codes": ({"codes": 1e9}, "hyperparameter codes is out of range"),
    "no step": ({"fit_steps": 0}, "hyperparameter fit_steps is out of range"),
    "not a number": ({"latent": float("nan")}, "hyperparameter latent is out of range"),
    "negative": ({"hidden_2": -3}, "hyperparameter hidden_2 is out of range"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_hyperparameters_are_refused_in_one_line(case):
    given, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        MedVae(LAYOUT, given)
    assert "\n" not in str(caught.value)
    assert "generator medvae" in str(caught.value)


def test_too_many_states_are_refused_in_one_line_and_before_any_memory_is_taken():
    layout = Layout(names=("a", "b"), states=(10**9, 2))
    with pytest.raises(InputError, match=f"more than {MOST_STATES} states") as caught:
        MedVae(layout, QUICK)
    assert "\n" not in str(caught.value)
    assert MedVae(Layout(names=("a",), states=(50,)), QUICK).hyperparameters == QUICK


def test_all_hyperparameters_are_told_so_that_the_same_can_be_built_again():
    model = MedVae(LAYOUT, {"codes": 7})
    again = MedVae(LAYOUT, model.hyperparameters)
    assert {n: a.shape for n, a in again.get_weights().items()} == {
        n: a.shape for n, a in model.get_weights().items()
    }
    assert len(model.codes) == 7


def test_the_number_of_patients_is_read_off_the_narrow_columns():
    """Four columns of 2 states tell more than one of 500, whose states' noise alone adds up to 112.

    40 draws, std within 60 % of 3.5: five standard errors; the seeds are fixed.
    """
    layout = Layout(names=tuple("abcde"), states=(500, 2, 2, 2, 2))
    rows = np.random.default_rng(0).integers(0, layout.states, (400, 5))
    exact, told = tables_statistic(PatientStates.one_row_each(rows), layout), []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 5.0, layout.width)
        model = model_of(layout)
        model.set_tables(exact + np.diag(noise))
        told.append(1e6 * float(model.millions))
    assert np.mean(told) == pytest.approx(400, abs=5 * 3.5 / np.sqrt(40))
    assert np.std(told) == pytest.approx(3.5, rel=0.6)


PLAN = make_plan(
    generator="medvae", rounds=0, local_steps=0, prior_noise_multiplier=0.5, hyperparameters=QUICK
)
SIZES = (3000, 1000)


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


def test_two_unequal_sites_averaged_are_their_patients_pooled():
    """The tables to float32, and so what is learnt from them; no two sites have the same kind of patients."""
    rows = planted(sum(SIZES))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    parts = np.split(rows, [SIZES[0]])
    averaged = weighted_average([bought_at(part) for part in parts], SIZES)
    pooled = bought_at(rows)
    np.testing.assert_allclose(averaged["tables"], pooled["tables"], atol=1e-7)
    federated = finished(averaged, SIZES, privacy=UnsafeNoPrivacy)
    whole = finished(pooled, [sum(SIZES)], privacy=UnsafeNoPrivacy)
    assert worst_distance(joint_of(federated), joint_of(whole)) < 0.005
    assert worst_distance(joint_of(federated), counted(rows)) < 0.03
    alone = finished(bought_at(parts[0]), [SIZES[0]], privacy=UnsafeNoPrivacy)
    assert worst_distance(joint_of(alone), counted(rows)) > 0.1, "one site has not what both have"


def test_the_noise_a_federation_states_is_that_of_its_average():
    """k sites' noise, weighted by size, as a share of all patients; 60 federations.

    Sample std of 60 x 71 draws within 7 %: 6.4 standard errors, false alarm below 1e-9.
    """
    rows = planted(sum(SIZES))
    parts = [PatientStates.one_row_each(part) for part in np.split(rows, [SIZES[0]])]
    exact = tables_statistic(PatientStates.one_row_each(rows), LAYOUT) / sum(SIZES)
    block = np.repeat(np.arange(4), LAYOUT.states)
    pairs = np.triu(block[:, None] != block[None, :])
    errors = []
    for _ in range(60):
        replies = []
        for part in parts:
            model = model_of(fit_steps=1)
            close(model, part, PLAN)
            replies.append(model.get_weights())
        averaged = weighted_average(replies, SIZES)
        errors.append((averaged["tables"] - exact)[pairs])
    stated = float(finished(averaged, SIZES).table_noise)
    assert np.std(errors) == pytest.approx(stated, rel=0.07)
