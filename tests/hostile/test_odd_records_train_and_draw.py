"""Records at the edge of what is allowed, long, of very many codes, empty, alone: never NaN or a crash."""

import numpy as np
import pandas as pd
import pytest
import torch

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences, starts_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.study import TrainingPlan
from synthkit.generators.eva import Eva
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.training.sequence_loop import train_records

SMALL = {"channels": 6, "hidden": 6, "latent": 2, "layers": 2, "dated": 1}


def schema_of(codes, *, time=None):
    names = tuple(f"c{i}" for i in range(codes))
    column = Column(name="code", kind=Kind.CODE, categories=names, missing=True)
    return Schema(columns=(column,), patient_id="patient", visit="visit", time=time)


def records(schema, patients, *, gaps=None):
    flat = [visit for patient in patients for visit in patient]
    return PatientSequences(
        schema=schema,
        codes=np.array([code for visit in flat for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in flat])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame(index=range(len(patients))),
        gaps=gaps,
        first_days=None if gaps is None else np.full(len(patients), -80_000, dtype=np.int32),
    )


def trained(found, *, most_visits, steps=2):
    """Two private steps over everyone; the weights that come out are finite."""
    settings = {**SMALL, "most_visits": most_visits, "most_codes": 50}
    encoding = fit_sequence_encoding(found.schema, {**Eva.defaults, **settings})
    torch.manual_seed(0)
    generator = Eva(encoding.layout, settings)
    plan = TrainingPlan(
        **{"generator": "eva", "rounds": 1, "local_steps": steps, "sample_rate": 1.0, "delta": 1e-5},
        **{"noise_multiplier": 1.0, "prior_noise_multiplier": 5.0, "max_grad_norm": 1.0},
        learning_rate=0.01,
    )
    states = encoding.encode(found)
    train_records(generator, states, plan, declared_size=len(found), privacy=DpSgdStep)
    assert all(np.isfinite(array).all() for array in generator.get_weights().values())
    drawn, _ = generator.sample(5, rng=torch.Generator().manual_seed(0))
    return encoding.decode(drawn, np.random.default_rng(0))


def test_four_hundred_visits_beside_one():
    made = trained(records(schema_of(5), [[[i % 5] for i in range(400)], [[0]]]), most_visits=400)
    assert 1 <= made.visits_per_patient.min() <= made.visits_per_patient.max() <= 400


def test_ten_thousand_codes():
    made = trained(records(schema_of(10_000), [[[0, 5000, 9999], [9999]], [[3]]]), most_visits=3, steps=1)
    assert made.codes.max(initial=0) < 10_000


def test_visits_without_codes_and_a_vocabulary_of_one():
    made = trained(records(schema_of(1), [[[], []], [[]], [[0]]]), most_visits=4)
    assert set(made.codes.tolist()) <= {0}


def test_gaps_of_centuries_and_days_before_all_calendars():
    gaps = np.array([0, 2**31 - 1, 0], dtype=np.int32)
    found = records(schema_of(3, time="day"), [[[0], [1]], [[2]]], gaps=gaps)
    made = trained(found, most_visits=5)
    assert made.gaps is not None
    assert made.gaps.min() >= 0


@pytest.mark.parametrize("patients", [1, 2])
def test_next_to_nobody(patients):
    made = trained(records(schema_of(4), [[[0, 1], [1]]] * patients), most_visits=2)
    assert made.patient_count == 5


def test_every_code_at_every_visit():
    made = trained(records(schema_of(40), [[list(range(40))] * 6] * 3), most_visits=6)
    assert made.codes_per_visit.max() <= 40
