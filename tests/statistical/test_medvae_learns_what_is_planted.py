"""A relation between two columns is learnt, none is invented, missing cells come at their rate."""

import numpy as np
import pytest
import torch
from scipy import stats
from small_ward import make_plan

from synthkit.domain.layout import Layout, PatientStates
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.training.loop import LoopState, close, train
from synthkit.training.planning import hyperparameters_without_privacy
from synthkit.training.unsafe import UnsafeNoPrivacy

PATIENTS, DRAWN = 3000, 6000
MISSING = 5


@pytest.fixture(scope="module")
def generated():
    """Columns a and b are tied (b copies a in 80 %), c is on its own, d is missing (5) in 15 %."""
    rng = np.random.default_rng(4)
    a = rng.choice(4, PATIENTS, p=[0.4, 0.3, 0.2, 0.1])
    b = np.where(rng.random(PATIENTS) < 0.8, a, rng.integers(0, 4, PATIENTS))
    c = rng.choice(3, PATIENTS, p=[0.5, 0.3, 0.2])
    d = np.where(rng.random(PATIENTS) < 0.15, MISSING, rng.choice(5, PATIENTS))
    states = np.column_stack([a, b, c, d])
    torch.manual_seed(4)
    model = MedVaeSgd(
        Layout(names=("a", "b", "c", "d"), states=(4, 4, 3, 6)), hyperparameters_without_privacy("medvae-sgd")
    )
    plan = make_plan(local_steps=600, sample_rate=0.1, learning_rate=0.01)
    patients = PatientStates.one_row_each(states)
    train(
        model, patients, plan, steps=600, declared_size=PATIENTS, state=LoopState(), privacy=UnsafeNoPrivacy
    )
    close(model, patients, plan, privacy=UnsafeNoPrivacy)
    return states, model.sample(DRAWN, rng=torch.Generator().manual_seed(1))[0], model


def cramer(one, other):
    table = np.histogram2d(one, other, bins=(one.max() + 1, other.max() + 1))[0]
    return stats.contingency.association(table.astype(int), method="cramer")


def test_shares_of_every_column_are_learnt(generated):
    """Within 0.05: training noise (0.02) and 6,000 draws (0.006). Training and draws are seeded."""
    real, made, _ = generated
    for column in range(4):
        shares = [np.bincount(rows[:, column], minlength=6) / len(rows) for rows in (real, made)]
        assert np.abs(shares[0] - shares[1]).max() < 0.05


def test_the_planted_relation_is_learnt(generated):
    """The real table has Cramer's V 0.78, independent columns would give 0.03. The Gaussian prior and
    the code's noise blur the relation (0.52 measured over several trainings): at least half is kept.
    """
    real, made, _ = generated
    assert cramer(real[:, 0], real[:, 1]) > 0.75
    assert cramer(made[:, 0], made[:, 1]) > 0.39
    by_chance = sum((made[:, 0] == k).mean() * (made[:, 1] == k).mean() for k in range(4))
    assert (made[:, 0] == made[:, 1]).mean() > by_chance + 0.2


def test_independent_columns_stay_independent(generated):
    made = generated[1]
    assert cramer(made[:, 0], made[:, 2]) < 0.1
    assert cramer(made[:, 1], made[:, 3]) < 0.1


def test_missing_values_come_at_about_the_trained_rate(generated):
    real, made, _ = generated
    assert abs((made[:, 3] == MISSING).mean() - (real[:, 3] == MISSING).mean()) < 0.04


def test_conditional_rows_follow_the_learnt_relation(generated):
    """Given a = 3, b is 3 about four times as often as without the condition (0.55 against 0.13)."""
    _, made, model = generated
    only = {0: np.array([0.0, 0.0, 0.0, 1.0])}
    drawn, share = model.sample(3000, rng=torch.Generator().manual_seed(2), where=only)
    assert (drawn[:, 0] == 3).all()
    assert (drawn[:, 1] == 3).mean() > 2.5 * (made[:, 1] == 3).mean()
    assert 0 < share <= 1
