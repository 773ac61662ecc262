"""How many patients meet conditions, by the model: a probability, and the share that its own draws show."""

import numpy as np
import pytest
import torch

from synthkit.domain.conditions import parse_conditions
from synthkit.domain.layout import Layout
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.generators.base import MASS_DRAWS, Generator
from synthkit.generators.registry import build
from synthkit.training.artefact import Model, new_generator
from synthkit.training.condition_mass import _satisfying, condition_mass, reliability_text
from synthkit.training.synthesis import synthesize

torch.set_num_threads(1)

LAYOUT = Layout(names=("a", "b", "c"), states=(3, 4, 5))
SMALL = {"hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "latent": 6}
WHERE = {0: np.array([1.0, 0.0, 0.5]), 2: np.array([0.0, 0.0, 1.0, 1.0, 0.0])}

SCHEMA = Schema(
    columns=(
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=("A", "B", "C"), missing=True),
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=99, missing=True),
        Column(name="creatinine", kind=Kind.NUMERIC, minimum=0, maximum=20, decimals=2),
    )
)


def generator(kind):
    """Untrained, of uneven shares: enough for a probability."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = build(kind, LAYOUT, {**SMALL, **({"codes": 60} if kind == "medvae" else {})})
    weights = made.get_weights()
    made.set_weights({name: 2.0 * value if "linear" in name else value for name, value in weights.items()})
    return made


def model(kind="medvae"):
    return Model(
        schema=SCHEMA,
        generator=new_generator(
            kind, SCHEMA, {**SMALL, **({"codes": 60} if kind == "medvae" else {})}, seed=1
        ),
        spend=None,
        encoder_provenance=EncoderProvenance.TRAINED,
        study="s",
        study_digest="0" * 64,
        site="north",
    )


def rng(seed):
    return torch.Generator().manual_seed(seed)


def within_five_errors(exact, estimate, draws):
    return abs(exact - estimate) <= 5 * np.sqrt(exact * (1 - exact) / draws) + 1e-9


@pytest.mark.parametrize("kind", ["medvae", "medvae-sgd"])
def test_the_models_own_way_agrees_with_counting_its_draws(kind):
    """Five standard errors of a count: a false alarm in less than one of a million runs, per kind."""
    made = generator(kind)
    exact, counted = made.mass(WHERE, rng=rng(0)), Generator.mass(made, WHERE, rng=rng(1))
    assert 0.005 < exact < 0.5
    assert within_five_errors(exact, counted, MASS_DRAWS)


def test_the_exact_mass_draws_nothing():
    made = generator("medvae")
    before, seeded = made.mass(WHERE, rng=rng(0)), rng(5)
    state = seeded.get_state()
    assert made.mass(WHERE, rng=seeded) == before
    assert torch.equal(seeded.get_state(), state)


@pytest.mark.parametrize("kind", ["medvae", "medvae-sgd"])
def test_masses_add_up_and_shrink_with_each_condition(kind):
    made = generator(kind)
    parts = [made.mass({1: np.eye(4)[state]}, rng=rng(0)) for state in range(4)]
    assert sum(parts) == pytest.approx(1.0, abs=1e-5)
    assert made.mass({}, rng=rng(0)) == pytest.approx(1.0)
    both = made.mass({1: np.eye(4)[0], 0: np.eye(3)[0]}, rng=rng(0))
    assert 0 < both < min(parts[0], made.mass({0: np.eye(3)[0]}, rng=rng(0)))


TEXTS = [
    "sex = F",
    "sex = F and ward in [A, B]",
    "ward is missing and age >= 50",
    "age > 20 and age < 40 and age != 30",
    "age is not missing and creatinine <= 2.5",
    "creatinine > 1.25 and ward != C",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_share_of_unconditional_rows_that_meet_a_condition_is_the_mass(text):
    """Rows as a reader would count them, 20,000; five standard errors plus half a percent for rounding to
    the columns' decimals: a false alarm in less than one of a million runs.
    """
    made = model()
    conditions = parse_conditions([text], SCHEMA)
    rows = synthesize(made, 20_000, seed=9).table
    mass, found = condition_mass(made, conditions), _satisfying(rows, conditions).mean()
    assert abs(mass - found) <= 5 * np.sqrt(mass * (1 - mass) / 20_000) + 0.005


@pytest.mark.parametrize("text", TEXTS)
def test_conditional_rows_all_count_as_meeting_their_condition(text):
    made = model()
    conditions = parse_conditions([text], SCHEMA)
    assert _satisfying(synthesize(made, 300, seed=2, conditions=conditions).table, conditions).all()


def test_nobody_can_choose_the_seed_of_a_share():
    made = model("medvae-sgd")
    conditions = parse_conditions(["sex = F and age >= 90"], SCHEMA)
    torch.manual_seed(1)
    first = condition_mass(made, conditions)
    torch.manual_seed(2)
    assert condition_mass(made, conditions) == first
    assert condition_mass(made, ()) == 1.0


def test_reliability_is_said_in_the_models_own_words():
    assert "about 83 % of the signal in these conditions is the patients'" in reliability_text(model(), 0.83)
    assert reliability_text(model("medvae-sgd"), 0.5).startswith("reliability 0.50: the rows vary as if 50 %")
