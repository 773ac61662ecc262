"""A model that never met a condition says so, though its softmax gives the state some mass."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.policy import ConditionRules
from synthkit.domain.policy_check import check_conditions_against_policy
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import PolicyError
from synthkit.generators.base import PATIENTS_ASSUMED, chance_of_any
from synthkit.training.artefact import new_generator
from synthkit.training.loop import close, finish
from synthkit.training.planning import effort_for, plan_for
from synthkit.training.unsafe import UnsafeNoPrivacy

SCHEMA = Schema(
    columns=(
        Column(name="fstat", kind=Kind.EVENT, categories=("0", "1")),
        Column(name="sex", kind=Kind.BINARY, categories=("Female", "Male")),
        Column(name="age", kind=Kind.INTEGER, minimum=20, maximum=99),
    )
)


def rows_of(patients: int, events: int) -> PatientTable:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "fstat": np.array(["1"] * events + ["0"] * (patients - events), dtype=object),
            "sex": np.array(["Female", "Male"], dtype=object)[rng.integers(0, 2, patients)],
            "age": rng.integers(20, 100, patients).astype(float),
        }
    )
    return PatientTable(schema=SCHEMA, frame=frame, patients=np.arange(patients))


def fitted(kind: str, events: int, *, patients: int = 2000, privacy=UnsafeNoPrivacy):
    encoding = fit_encoding(SCHEMA)
    settings = {"fit_steps": 60, **({"sweeps": 10, "chains": 300} if kind == "mcm" else {})}
    generator = new_generator(kind, SCHEMA, settings, seed=0)
    plan = plan_for(kind, effort_for(patients), target_epsilon=3.0, delta=1e-5, hyperparameters=settings)
    close(generator, encoding.encode_patients(rows_of(patients, events)), plan, privacy=privacy)
    finish(generator, plan, [patients], privacy=privacy)
    return generator, encoding


def stated(generator, encoding, *conditions: str) -> tuple[float, float]:
    """Share by the model, and reliability."""
    where = encoding.restrict(parse_conditions(conditions, SCHEMA))
    rng = torch.Generator().manual_seed(0)
    rows, reliability = generator.sample(200, rng=rng, where=where)
    assert (rows[:, 0] == 1).all()
    return generator.mass(where, rng=torch.Generator().manual_seed(0)), reliability


CONDITIONS = (["fstat = 1"], ["fstat = 1", "sex = Female"])


@pytest.mark.parametrize("kind", ["medvae", "mcm"])
def test_an_event_that_nobody_had_is_hardly_known_without_noise(kind):
    generator, encoding = fitted(kind, 0)
    for conditions in CONDITIONS:
        mass, reliability = stated(generator, encoding, *conditions)
        assert 0 < mass < 0.02
        assert 0 < reliability < 0.2


@pytest.mark.parametrize("kind", ["medvae", "mcm"])
def test_an_event_that_nobody_had_is_hardly_known_with_noise(kind):
    """The middle of five purchases: the share of nothing has about half a cell's noise (500 purchases), so
    one comes out above 1.12 times that noise, a reliability of 0.2, with probability below 0.01; three of
    five with probability below 1e-5.
    """
    noisy = [fitted(kind, 0, privacy=None) for _ in range(5)]
    for conditions in CONDITIONS:
        shares, reliabilities = zip(*(stated(*model, *conditions) for model in noisy), strict=True)
        assert 0 < np.median(shares) < 0.02
        assert 0 < np.median(reliabilities) < 0.2


@pytest.mark.parametrize("kind", ["medvae", "mcm"])
def test_a_policy_refuses_an_event_that_nobody_had(kind):
    generator, encoding = fitted(kind, 0)
    mass, reliability = stated(generator, encoding, "fstat = 1")
    statement = ConditionStatement.of(
        parse_conditions(["fstat = 1"], SCHEMA), mass=mass, reliability=reliability
    )
    rules = ConditionRules(floor=1e-12, min_reliability=0.2, max_columns=2, allowed_columns=("fstat",))
    with pytest.raises(PolicyError, match=r"conditions\.min_reliability"):
        check_conditions_against_policy(statement, rules)


@pytest.mark.parametrize("kind", ["medvae", "mcm"])
def test_an_event_that_a_tenth_had_is_as_reliable_as_before(kind):
    generator, encoding = fitted(kind, 200)
    mass, reliability = stated(generator, encoding, "fstat = 1")
    assert mass == pytest.approx(0.1, rel=0.2)
    assert reliability > 0.99


def test_of_a_few_patients_reliability_follows_how_many_there_were():
    found = [stated(*fitted("medvae", events), "fstat = 1")[1] for events in (0, 1, 40)]
    assert found == sorted(found)
    assert found[0] < 0.01
    assert found[1] == pytest.approx(1 - math.exp(-1), abs=0.2)
    assert found[-1] > 0.99


def test_a_model_by_steps_doubts_what_is_rarer_than_one_in_those_it_is_assumed_to_know():
    generator = new_generator("medvae-sgd", SCHEMA, {"hidden_1": 8, "hidden_2": 8, "hidden_3": 8}, seed=0)
    encoding = fit_encoding(SCHEMA)
    with torch.no_grad():
        width = generator.layout.width
        biases = [p for n, p in generator.named_parameters() if n.endswith("bias") and p.numel() == width]
        biases[-1][1] = -30.0
    mass, reliability = stated(generator, encoding, "fstat = 1")
    assert mass < 1e-8
    assert reliability == pytest.approx(chance_of_any(mass), rel=0.5, abs=1e-6)
    assert chance_of_any(10 / PATIENTS_ASSUMED) > 0.9999
    assert chance_of_any(0.0) == 0.0
