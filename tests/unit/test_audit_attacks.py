"""The parts attacks are made of: groups of equal size, bins, descriptions, secrets, likelihoods, words."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from synthkit.audit import attribute, presence, shadow
from synthkit.audit.bins import MAX_LEVELS, binned
from synthkit.audit.distance import encode
from synthkit.audit.people import Grouping, counted_in, equal_groups
from synthkit.audit.releases import LEAST, MEAN
from synthkit.audit.run import ATTACKS
from synthkit.audit.secrets import secret_columns
from synthkit.audit.singling_out import AT_LEAST, AT_MOST, EQUAL, Cell, columns_of, fits
from synthkit.audit.statistics import holm
from synthkit.audit.white_box import CALIBRATED
from synthkit.domain.layout import Layout
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.generators.medvae import MedVae
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.report.attack_words import ATTACKERS, attacker

SCHEMA = Schema(
    columns=(
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("Crohn's", "O'Neill"), missing=True),
        Column(name="admitted", kind=Kind.DATETIME, minimum=0, maximum=20000),
        Column(name="dose", kind=Kind.NUMERIC, minimum=0, maximum=10, decimals=1, missing=True),
    )
)
FRAME = pd.DataFrame(
    {
        "ward": pd.Series(["Crohn's", "O'Neill", None, "Crohn's", "unseen"], dtype=object),
        "admitted": [1.0, 2.0, 3.0, 4.0, 4.0],
        "dose": [0.0, 2.5, np.nan, 9.0, 1.0],
    }
)


@pytest.mark.parametrize(("people", "size"), [(10, 3), (9, 3), (3, 5), (7, 7), (100, 99)])
def test_everyone_is_counted_once_in_a_group_of_equal_size(people: int, size: int) -> None:
    groups = equal_groups(people, size, np.random.default_rng(0))
    assert all(len(set(group)) == group.size == min(size, people) for group in groups)
    counted = [group[: counted_in(people, size, index)] for index, group in enumerate(groups)]
    assert sorted(np.concatenate(counted)) == list(range(people))


def test_a_patients_rows_are_taken_together() -> None:
    people = Grouping.of(np.array([7, 3, 7, 3, 5]))
    values = np.array([1.0, 2.0, 0.5, 9.0, 4.0])
    assert people.owner.tolist() == [2, 0, 2, 0, 1]
    assert people.largest(values).tolist() == [9.0, 4.0, 1.0]
    assert people.smallest(values).tolist() == [2.0, 4.0, 0.5]
    assert people.row_of_smallest(values).tolist() == [1, 4, 2]


def test_bins_come_from_the_reference_and_missing_is_one_of_them() -> None:
    many = Schema(
        columns=(
            Column(name="x", kind=Kind.INTEGER, minimum=0, maximum=1000, missing=True),
            Column(name="c", kind=Kind.CATEGORICAL, categories=tuple(f"v{i}" for i in range(60))),
        )
    )
    reference = pd.DataFrame({"x": np.arange(60.0), "c": [f"v{i % 50}" for i in range(60)]}).astype(
        {"c": object}
    )
    other = pd.DataFrame({"x": [np.nan, 0.0, 59.0, 1000.0], "c": ["v0", "v49", "v59", "v1"]}).astype(
        {"c": object}
    )
    first, second = encode(many, [reference, other])
    bins, others = binned([first, second], first)
    assert len(np.unique(bins[:, 0])) == 10
    assert others[:, 0].tolist() == [0, 1, 10, 10]
    assert bins[:, 1].max() == MAX_LEVELS - 1
    assert others[2, 1] == MAX_LEVELS - 1, "a level the reference does not have is among the rare"
    assert others[0, 1] != others[3, 1]


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ((Cell(column=2, comparison=EQUAL, value=0),), [0, 3]),
        ((Cell(column=2, comparison=EQUAL, value=-1),), [2]),
        ((Cell(column=0, comparison=AT_LEAST, value=4 / 20000),), [3, 4]),
        ((Cell(column=1, comparison=AT_LEAST, value=0.25),), [1, 3]),
        ((Cell(column=1, comparison=AT_MOST, value=0.1),), [0, 4]),
        ((Cell(column=1, comparison=EQUAL, value=2.0),), [2]),
        ((Cell(column=2, comparison=EQUAL, value=0), Cell(column=1, comparison=AT_LEAST, value=0.5)), [3]),
    ],
    ids=["apostrophe", "missing_level", "date", "at_least_skips_missing", "at_most", "missing_number", "two"],
)
def test_a_description_fits_the_rows_it_says(description: tuple[Cell, ...], found: list[int]) -> None:
    """Columns in the encoded order: admitted, dose, ward."""
    rows = columns_of(encode(SCHEMA, [FRAME])[0])
    rounded = tuple(
        Cell(column=c.column, comparison=c.comparison, value=float(np.float32(c.value))) for c in description
    )
    assert fits(rows, rounded).tolist() == found


def test_secrets_are_the_schemas_targets_and_events_or_the_hardest_to_guess() -> None:
    columns = [Column(name=f"b{i}", kind=Kind.BINARY, categories=("0", "1")) for i in range(4)]
    number = Column(name="x", kind=Kind.INTEGER, minimum=0, maximum=9)
    event = Column(name="died", kind=Kind.EVENT, categories=("0", "1"))
    reference = np.array([[0, 0, 0, 0, 1], [1, 0, 0, 1, 0], [2, 0, 0, 1, 0], [3, 0, 0, 0, 0]])
    plain = secret_columns(Schema(columns=(*columns, number)), reference)
    assert plain == (("x", "b0", "b1", "b2", "b3"), (0, 3))
    named = secret_columns(Schema(columns=(*columns, event)), reference)
    assert named[1] == (4,)
    assert secret_columns(Schema(columns=(number,)), reference[:, :1])[1] == ()


def test_weights_of_holm_are_the_shares_of_the_level() -> None:
    assert holm([0.01, 0.04], [0.5, 0.5]) == pytest.approx(holm([0.01, 0.04]))
    assert holm([0.01, 0.02, 0.5], [0.8, 0.1, 0.1]) == pytest.approx((0.0125, 0.04, 0.5))


def test_the_likelihood_of_all_possible_rows_is_one_and_that_of_draws_is_the_models() -> None:
    layout = Layout(names=("a", "b", "c"), states=(2, 3, 4))
    model = MedVae(layout, {"codes": 7, "latent": 4, "hidden_1": 5, "hidden_2": 5, "hidden_3": 5})
    rows = np.array(list(product(range(2), range(3), range(4))))
    mass = np.exp(model.log_likelihood(rows))
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)
    drawn, _ = model.sample(20_000, rng=torch.Generator().manual_seed(1))
    shares = np.array([(drawn == row).all(axis=1).mean() for row in rows])
    # Five standard errors of each of 24 shares: exceeded with probability 1e-5.
    assert (np.abs(shares - mass) < 5 * np.sqrt(mass / 20_000)).all()


def test_a_model_trained_by_steps_bounds_its_likelihood_the_same_way_each_time() -> None:
    layout = Layout(names=("a", "b"), states=(2, 3))
    model = MedVaeSgd(layout, {"latent": 4, "hidden_1": 5, "hidden_2": 5, "hidden_3": 5})
    rows = np.array(list(product(range(2), range(3))))
    first, second = model.log_likelihood(rows), model.log_likelihood(rows)
    assert first.shape == (6,)
    assert np.isfinite(first).all()
    assert (first == second).all()


@pytest.mark.parametrize("name", [*ATTACKS, MEAN, LEAST, CALIBRATED])
def test_every_attack_has_its_attacker_in_words(name: str) -> None:
    words = attacker(name)
    assert words is not None
    assert min(len(words.who), len(words.holds), len(words.success)) > 10


def test_no_words_stand_for_an_attack_that_is_not_made() -> None:
    known = {presence.BY_QUASI, presence.BY_QUASI_AND_HALF, *attribute.BY_QUASI, shadow.NAME, shadow.CANARIES}
    assert set(ATTACKERS) == {*ATTACKS, *known, CALIBRATED.partition(",")[0]}
