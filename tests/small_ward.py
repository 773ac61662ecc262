"""A small hospital for training tests: a schema with every kind, rows with a planted relation, a plan."""

import datetime as dt

import numpy as np
import pandas as pd
import torch

from synthkit.data.encoding import fit_encoding
from synthkit.data.table import EPOCH, PatientTable
from synthkit.domain.schema import Column, Kind, Scale, Schema
from synthkit.domain.study import TrainingPlan
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.training.artefact import new_generator

torch.set_num_threads(1)

SMALL = {"hidden_1": 12, "hidden_2": 10, "hidden_3": 8, "latent": 6}
"""Hyperparameters of a quick Med-VAE."""

SEXES, STAGES, OUTCOMES = ("Female", "Male"), ("I", "II", "III", "IV"), ("alive", "dead")
FIRST_DAY, LAST_DAY = dt.date(2020, 1, 1), dt.date(2023, 12, 31)


def days(date: dt.date) -> float:
    return float((date - EPOCH).days)


WARD = Schema(
    name="ward",
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=18, maximum=100),
        Column(name="visits", kind=Kind.INTEGER, minimum=0, maximum=12),
        Column(name="creatinine", kind=Kind.NUMERIC, minimum=0.2, maximum=12.0, decimals=2, missing=True),
        Column(name="dose", kind=Kind.NUMERIC, minimum=0, maximum=400, decimals=1, spikes=(0.0, 50.0, 100.0)),
        Column(name="troponin", kind=Kind.NUMERIC, minimum=0, maximum=50_000, decimals=1, scale=Scale.LOG),
        Column(name="sex", kind=Kind.BINARY, categories=SEXES),
        Column(name="stage", kind=Kind.ORDINAL, categories=STAGES, missing=True),
        Column(name="unit", kind=Kind.CATEGORICAL, categories=("icu", "ward", "day clinic")),
        Column(name="admitted", kind=Kind.DATETIME, minimum=days(FIRST_DAY), maximum=days(LAST_DAY)),
        Column(name="follow_up", kind=Kind.DURATION, minimum=0, maximum=2000),
        Column(name="outcome", kind=Kind.EVENT, categories=OUTCOMES),
    ),
)


def ward_table(patients: int, *, seed: int = 0) -> PatientTable:
    """Rows of WARD; stage rises with age, a tenth of creatinine and of stage is missing."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.rint(rng.normal(62, 14, patients)), 18, 100)
    stage = np.clip(((age - 30) / 18 + rng.normal(0, 0.5, patients)).astype(int), 0, 3)
    dose = np.where(rng.random(patients) < 0.6, rng.choice([0.0, 50.0, 100.0], patients), np.nan)
    dose = np.where(np.isnan(dose), np.round(rng.uniform(0, 400, patients), 1), dose)
    creatinine = np.round(np.clip(rng.lognormal(0.1, 0.4, patients), 0.2, 12), 2)
    stages = np.array(STAGES, dtype=object)[stage]
    frame = pd.DataFrame(
        {
            "age": age,
            "visits": np.minimum(rng.poisson(2, patients), 12).astype(float),
            "creatinine": np.where(rng.random(patients) < 0.1, np.nan, creatinine),
            "dose": dose,
            "troponin": np.round(np.clip(rng.lognormal(3, 2, patients), 0, 50_000), 1),
            "sex": rng.choice(np.array(SEXES, dtype=object), patients),
            "stage": np.where(rng.random(patients) < 0.1, None, stages),
            "unit": rng.choice(np.array(["icu", "ward", "day clinic"], dtype=object), patients),
            "admitted": days(FIRST_DAY) + rng.integers(0, 1400, patients).astype(float),
            "follow_up": np.rint(rng.uniform(0, 2000, patients)),
            "outcome": rng.choice(np.array(OUTCOMES, dtype=object), patients),
        }
    )
    return PatientTable(schema=WARD, frame=frame, patients=np.arange(patients))


def ward_states(patients: int, *, seed: int = 0) -> np.ndarray:
    """The same rows, encoded: int64, shape (patients, columns)."""
    return fit_encoding(WARD).encode(ward_table(patients, seed=seed))


def ward_model(hyperparameters: dict[str, float] | None = None, *, seed: int = 0) -> MedVaeSgd:
    model = new_generator(
        "medvae-sgd", WARD, SMALL if hyperparameters is None else hyperparameters, seed=seed
    )
    assert isinstance(model, MedVaeSgd)
    return model


def make_plan(**changes) -> TrainingPlan:
    """A quick, noisy plan; any field may be changed."""
    fields = {
        "generator": "medvae-sgd",
        "rounds": 1,
        "local_steps": 4,
        "sample_rate": 0.3,
        "noise_multiplier": 1.0,
        "prior_noise_multiplier": 4.0,
        "max_grad_norm": 1.0,
        "delta": 1e-5,
        "learning_rate": 0.01,
        "hyperparameters": SMALL,
    }
    return TrainingPlan(**{**fields, **changes})
