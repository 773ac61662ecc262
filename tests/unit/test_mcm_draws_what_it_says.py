"""MCM: a known joint is drawn as enumerated, from nothing, from conditions, and from half-known rows."""

import itertools

import numpy as np
import pytest
import torch
from small_ward import WARD

from synthkit.domain.layout import Layout, PatientStates
from synthkit.domain.privacy import EncoderProvenance
from synthkit.errors import InputError
from synthkit.generators.base import UNKNOWN
from synthkit.generators.registry import build, is_stepped
from synthkit.privacy.mechanisms import table_noise, tables_statistic
from synthkit.training.artefact import Model, load_model, new_generator, save_model
from synthkit.training.planning import effort_without_privacy, hyperparameters_without_privacy

LAYOUT = Layout(names=("a", "b", "c"), states=(3, 4, 2), bins=(0, 4, 0))
QUICK = {"hidden": 8}
TABLES = {**QUICK, "chains": 2000, "sweeps": 60, "fit_steps": 60}
KINDS = {"mcm": TABLES, "mcm-sgd": QUICK}
FAR = 7.0
"""Standard errors; a binomial share leaves them with probability below 1e-10 where 20 are expected."""


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(kind="mcm-sgd", layout=LAYOUT, scale=0.7, **changes):
    """Weights as drawn, stretched: columns that hang together, without a training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build(kind, layout, {**KINDS[kind], **changes})
        with torch.no_grad():
            for layer in (model.first, model.out, model.linear):
                layer.weight.normal_(std=scale)
            model.shares.copy_(torch.cat([torch.softmax(torch.randn(size), 0) for size in layout.states]))
    return model


def conditional(model, row, column):
    """What the trained path (`_logits`, not the incremental one of the draws) says of one column."""
    if all(state == UNKNOWN for state in row):
        return torch.split(model.shares, list(LAYOUT.states))[column].numpy().astype(float)
    hot = torch.zeros(1, LAYOUT.width)
    known = torch.tensor([[float(state != UNKNOWN) for state in row]])
    for place, state in enumerate(row):
        if state != UNKNOWN:
            hot[0, LAYOUT.offsets[place] + state] = 1.0
    with torch.no_grad():
        logits = torch.split(model._logits(hot, known)[0].double(), list(LAYOUT.states))[column]
    return torch.softmax(logits, 0).numpy()


def joint_in_order(model, row, order):
    """Distribution over whole rows given the known cells, the others filled in this order."""
    found = np.zeros(LAYOUT.states)

    def go(cells, mass, left):
        if not left:
            found[tuple(cells)] += mass
            return
        shares = conditional(model, cells, left[0])
        for state, share in enumerate(shares / shares.sum()):
            go([*cells[: left[0]], state, *cells[left[0] + 1 :]], mass * share, left[1:])

    go(list(row), 1.0, [column for column in order if row[column] == UNKNOWN])
    return found


def joint(model, row=(UNKNOWN,) * 3):
    """The mean over all orders: each chunk of rows takes a random one."""
    orders = list(itertools.permutations(range(3)))
    return sum(joint_in_order(model, row, order) for order in orders) / len(orders)


def shares_of(states):
    flat = np.ravel_multi_index(tuple(states.T), LAYOUT.states)
    return (np.bincount(flat, minlength=int(np.prod(LAYOUT.states))) / len(states)).reshape(LAYOUT.states)


def far_cells(states, expected):
    """Cells farther from what is expected than chance, where at least 20 rows are."""
    limit = FAR * np.sqrt(expected * (1 - expected) / len(states)) + 1 / len(states)
    return (np.abs(shares_of(states) - expected) > limit) & (expected * len(states) >= 20)


@pytest.fixture
def own_order(monkeypatch):
    """A random order for every 40 rows: the mean over orders is then met, not six chances' luck."""
    monkeypatch.setattr("synthkit.generators.masked.CHUNK", 40)


@pytest.mark.usefixtures("own_order")
@pytest.mark.parametrize("blur", [0.0, 0.3])
def test_rows_follow_the_joint_that_enumeration_gives(blur):
    """40,000 rows in 1,000 orders, 24 cells.

    Within an order rows are independent, between orders cells vary too: the limit of seven binomial errors
    is at least five with both. False alarm below 1e-5.
    """
    model = model_of(blur=blur)
    states, reliability = model.sample(40_000, rng=rng())
    assert reliability == 1.0
    assert not far_cells(states, joint(model)).any()
    assert far_cells(np.random.default_rng(0).permuted(states, axis=0), joint(model)).any()


@pytest.mark.usefixtures("own_order")
@pytest.mark.parametrize("row", [(1, UNKNOWN, UNKNOWN), (UNKNOWN, 3, UNKNOWN), (2, UNKNOWN, 0)])
def test_unknown_cells_follow_the_conditional_given_the_known_ones(row):
    """False alarm below 1e-5, as above."""
    model = model_of()
    states = model.complete(np.tile(row, (40_000, 1)), rng=rng())
    assert not far_cells(states, joint(model, row)).any()


def test_conditions_on_two_columns_are_met_and_weighed_by_their_masses():
    """The conditions' columns first, in their order, restricted: importance makes that the conditional.

    30,000 of 163,840 starts or more are kept, with repetition: limits are doubled. False alarm below 1e-5.
    """
    model = model_of()
    where = {1: np.array([0.0, 1.0, 0.25, 0.0]), 0: np.array([1.0, 0.0, 1.0])}
    states, reliability = model.sample(30_000, rng=rng(), where=where)
    weights = where[0][:, None, None] * where[1][None, :, None]
    expected = joint_in_order(model, (UNKNOWN,) * 3, (1, 0, 2)) * weights
    mass = expected.sum()
    limit = 2 * FAR * np.sqrt(expected / mass / 30_000) + 1e-3
    assert (np.abs(shares_of(states) - expected / mass) <= limit).all()
    assert not shares_of(states)[weights[..., 0] == 0].any()
    assert 0 < reliability <= 1
    assert model.mass(where, rng=rng(1)) == pytest.approx(mass, rel=0.1)


def test_a_condition_on_one_column_is_exact_and_holds_where_the_model_has_no_mass():
    model = model_of()
    only = {1: np.array([0.0, 0.0, 0.0, 1.0])}
    assert model.mass(only, rng=rng()) == pytest.approx(float(model.shares[3 + 3]), rel=1e-6)
    with torch.no_grad():
        model.linear.weight.mul_(1e4)
        model.shares[3 + 3] = 0.0
    states, reliability = model.sample(500, rng=rng(), where={**only, 2: np.array([0.0, 1.0])})
    assert set(states[:, 1]) == {3}
    assert set(states[:, 2]) == {1}
    assert 0 < reliability <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_known_cells_are_untouched_and_the_seed_decides_the_rest(kind):
    model = model_of(kind)
    states = np.column_stack(
        [np.random.default_rng(i).integers(-1, n, 1500) for i, n in enumerate((3, 4, 2))]
    )
    before = states.copy()
    filled = model.complete(states, rng=rng(5))
    assert np.array_equal(states, before)
    assert (filled[before != UNKNOWN] == before[before != UNKNOWN]).all()
    assert (filled >= 0).all()
    assert (filled < np.array(LAYOUT.states)).all()
    assert np.array_equal(filled, model.complete(states, rng=rng(5)))
    assert not np.array_equal(filled, model.complete(states, rng=rng(6)))
    assert np.array_equal(model.sample(700, rng=rng(1))[0], model.sample(700, rng=rng(1))[0])


def test_likelihood_of_two_columns_is_the_mean_over_both_orders():
    """Of two columns the loss has three masks, in equal parts: its mean is known.

    40,000 views of one row, six standard errors: false alarm below 2e-9.
    """
    layout = Layout(names=("a", "b"), states=(3, 2))
    model = model_of(layout=layout)
    noise = torch.randn(1, 40_000, 3, generator=rng())
    states = torch.tensor([2, 1]).expand(1, 40_000, 2)
    with torch.no_grad():
        losses = model.loss_per_view(states, progress=0.0, noise=noise)[0].double()

    def miss(known):
        hot = torch.zeros(1, 5)
        for place, at in ((0, 2), (1, 4)):
            hot[0, at] = float(known[place])
        with torch.no_grad():
            parts = torch.split(model._logits(hot, torch.tensor([known], dtype=torch.float32))[0], [3, 2])
        return [-float(torch.log_softmax(part, 0)[s]) for part, s in zip(parts, (2, 1), strict=True)]

    nothing, first, second = miss((0, 0)), miss((1, 0)), miss((0, 1))
    expected = 0.5 * (nothing[0] + nothing[1]) + 0.5 * (first[1] + second[0])
    assert abs(float(losses.mean()) - expected) < 6 * float(losses.std()) / 200


def test_couplings_learnt_from_tables_come_back_in_rows():
    """12,000 patients of a chain a-b-c; rows drawn after the fit, cell by cell of the three-way table.

    The fit has errors of its own: a cell may be off by 0.02, where independent columns are off by 0.1.
    """
    draw = np.random.default_rng(0)
    a = draw.integers(0, 3, 12_000)
    b = np.where(draw.random(12_000) < 0.8, a + 1, draw.integers(0, 4, 12_000))
    c = (draw.random(12_000) < np.array([0.1, 0.2, 0.7, 0.9])[b]).astype(int)
    real = np.column_stack([a, b, c])
    torch.manual_seed(0)
    model = build("mcm", LAYOUT, {"hidden": 32, "chains": 4000, "sweeps": 120, "fit_steps": 400})
    model.set_tables(tables_statistic(PatientStates.one_row_each(real), LAYOUT))
    pair, single = table_noise(LAYOUT, noise_multiplier=0.0)
    done = []
    model.fit(sites=1.0, pair_noise=pair, single_noise=single, progress=lambda at, of: done.append((at, of)))
    assert done[0] == (1, 520)
    assert done[-1] == (520, 520)
    off = np.abs(shares_of(model.sample(20_000, rng=rng())[0]) - shares_of(real)).max()
    blind = shares_of(np.random.default_rng(1).permuted(real, axis=0))
    assert off < 0.02 < np.abs(blind - shares_of(real)).max()


def test_the_same_tables_give_the_same_weights():
    def fitted(seed):
        torch.manual_seed(0)
        model = build("mcm", LAYOUT, {**TABLES, "chains": 200, "sweeps": 5, "fit_steps": 5})
        torch.manual_seed(seed)
        rows = np.random.default_rng(0).integers(0, 2, (40, 3))
        model.set_tables(tables_statistic(PatientStates.one_row_each(rows), LAYOUT))
        model.fit(sites=1.0, pair_noise=3.0, single_noise=1.5)
        return model.get_weights()

    one, other = fitted(1), fitted(2)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("states", [(4,), (1, 1), (1, 3, 1)])
def test_one_column_and_columns_of_one_state(kind, states):
    layout = Layout(names=tuple(f"c{i}" for i in range(len(states))), states=states)
    rows = np.column_stack([np.arange(12) % size for size in states])
    torch.manual_seed(0)
    model = build(kind, layout, {**KINDS[kind], **({"sweeps": 3, "fit_steps": 3} if kind == "mcm" else {})})
    if kind == "mcm":
        model.set_tables(tables_statistic(PatientStates.one_row_each(rows), layout))
        model.fit(sites=1.0, pair_noise=20.0, single_noise=10.0)
    else:
        noise = torch.randn(12, 2, model.noise_size, generator=rng())
        views = torch.from_numpy(rows)[:, None].expand(-1, 2, -1)
        assert torch.isfinite(model.loss_per_view(views, progress=0.5, noise=noise)).all()
        vectors = model.statistics(torch.from_numpy(rows), noise=noise[:, 0])
        assert torch.allclose(vectors.norm(dim=1), torch.ones(12, dtype=torch.float64))
        model.fit_prior(vectors.sum(dim=0).numpy())
    drawn, _ = model.sample(30, rng=rng())
    assert drawn.shape == (30, len(states))
    assert (drawn >= 0).all()
    assert (drawn < np.array(states)).all()
    assert np.isfinite(model.log_likelihood(rows)).all()
    assert model.sample(0, rng=rng())[0].shape == (0, len(states))


def test_hyperparameters_are_all_there_and_wrong_ones_refused():
    assert model_of("mcm-sgd").hyperparameters == {"hidden": 8, "masks": 2, "blur": 0.15}
    assert is_stepped("mcm-sgd")
    assert not is_stepped("mcm")
    with pytest.raises(InputError, match="unknown hyperparameter depth"):
        build("mcm", LAYOUT, {"depth": 3})
    with pytest.raises(InputError, match="masks is out of range"):
        build("mcm-sgd", LAYOUT, {"masks": 0})
    wide = Layout(names=("a", "b"), states=(3000, 3001))
    with pytest.raises(InputError, match="more than 6000 states"):
        build("mcm", wide, QUICK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_draws_the_same_rows(kind, tmp_path):
    """Also what is not a parameter, the mixing of bins, is there again."""
    generator = new_generator(kind, WARD, {"hidden": 8}, seed=1)
    model = Model(
        schema=WARD,
        generator=generator,
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="s",
        study_digest="0" * 64,
        site="h",
    )
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model").generator
    assert again.hyperparameters == generator.hyperparameters
    assert np.array_equal(again.sample(64, rng=rng())[0], generator.sample(64, rng=rng())[0])


def test_without_privacy_effort_grows_with_the_root_of_the_patients():
    small, large = (effort_without_privacy(size, "mcm-sgd") for size in (500, 50_000))
    assert (small.local_steps, large.local_steps) == (300, 3000)
    assert [effort_without_privacy(size, "mcm-sgd").local_steps for size in (125, 2)] == [150, 50]
    assert (small.sample_rate, large.sample_rate) == (1.0, 0.01)
    assert hyperparameters_without_privacy("mcm-sgd", 500) == {}
    assert hyperparameters_without_privacy("mcm-sgd", 50_000) == {"blur": 0.0, "masks": 4}
