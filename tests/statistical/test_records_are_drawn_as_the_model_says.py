"""Draws of records against the model's own exact probabilities, and a model against a known process."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences, starts_of
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.study import TrainingPlan
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import batch_of
from synthkit.training.sequence_loop import train_records
from synthkit.training.unsafe import UnsafeNoPrivacy

SETTINGS = {
    "channels": 12,
    "hidden": 12,
    "latent": 0,
    "layers": 2,
    "most_visits": 3,
    "most_codes": 4,
    "dated": 0,
}
CODES = 4
SETS = [tuple(some) for size in range(CODES + 1) for some in combinations(range(CODES), size)]


def schema():
    column = Column(
        name="code", kind=Kind.CODE, categories=tuple(f"c{i}" for i in range(CODES)), missing=True
    )
    return Schema(columns=(column,), patient_id="patient", visit="visit")


def records_of(patients):
    flat = [visit for patient in patients for visit in patient]
    return PatientSequences(
        schema=schema(),
        codes=np.array([code for visit in flat for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in flat])),
        patient_starts=starts_of(np.array([len(patient) for patient in patients])),
        statics=pd.DataFrame(index=range(len(patients))),
    )


def as_lists(states):
    """Patients as tuples of visits, visits as tuples of codes."""
    visits = [tuple(part.tolist()) for part in np.split(states.codes, states.visit_starts[1:-1])]
    return [
        tuple(visits[a:b]) for a, b in zip(states.patient_starts[:-1], states.patient_starts[1:], strict=True)
    ]


def wild_model(**others):
    """Weights at random and large: no symmetry that could hide a mistake."""
    settings = {**SETTINGS, **others}
    encoding = fit_sequence_encoding(schema(), {**Eva.defaults, **settings})
    torch.manual_seed(11)
    generator = Eva(encoding.layout, settings)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return encoding, generator.eval()


def probabilities(encoding, generator, patients):
    """Exact probability of each whole record, its end included."""
    states = encoding.in_order(records_of(patients))
    with torch.no_grad():
        batch = batch_of(states, encoding.layout, np.arange(len(patients)))
        return (-generator.bound(batch, noise=torch.zeros(len(patients), 1)).misfit).double().exp().numpy()


@pytest.mark.parametrize("pairs", [0, 1])
def test_records_come_as_often_as_their_probability(pairs):
    """All records of one visit, and of two, each a cell of its own: chi-square, 16 + 256 + 1 cells.

    False alarm: 0.001 over seeds; the seed is fixed.
    """
    encoding, generator = wild_model(pairs=pairs)
    one, two = [(a,) for a in SETS], [(a, b) for a in SETS for b in SETS]
    mass = np.concatenate([probabilities(encoding, generator, part) for part in (one, two)])
    assert 0 < mass.sum() < 1  # the rest has three visits, the cap
    count = 20_000
    states, _ = generator.sample(count, rng=torch.Generator().manual_seed(3))
    seen = Counter(as_lists(states))
    found = np.array([*(seen[record] for record in (*one, *two)), 0.0])
    found[-1] = count - found.sum()
    expected = count * np.append(mass, 1 - mass.sum())
    rare = expected < 5
    found = np.append(found[~rare], found[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert stats.chisquare(found, expected).pvalue > 0.001


@pytest.mark.parametrize("pairs", [0, 1])
def test_a_continued_record_is_drawn_given_its_history(pairs):
    """Second visits after one history, against the exact conditional; false alarm 0.001, seed fixed."""
    encoding, generator = wild_model(pairs=pairs)
    past = (1, 2)
    count = 8_000
    history = encoding.in_order(records_of([(past,)] * count))
    states, _ = generator.sample(
        count, rng=torch.Generator().manual_seed(5), history=history, lengths=np.full(count, 2)
    )
    drawn = as_lists(states)
    assert {record[0] for record in drawn} == {past}
    joint = probabilities(encoding, generator, [(past, after) for after in SETS])
    seen = Counter(record[1] for record in drawn)
    # The end after the second visit is as likely as its context says: compare sets with it divided out.
    batch = batch_of(
        encoding.in_order(records_of([(past, after) for after in SETS])), encoding.layout, np.arange(16)
    )
    with torch.no_grad():
        codes = (-generator.bound(batch, noise=torch.zeros(16, 1)).codes).double().exp().numpy()
    assert joint.sum() < codes.sum()
    expected = count * codes / codes.sum()
    found = np.array([seen[after] for after in SETS], dtype=float)
    assert stats.chisquare(found, expected).pvalue > 0.001


def test_lengths_and_caps_are_kept():
    _, generator = wild_model()
    lengths = np.array([1, 2, 3, 9])
    states, _ = generator.sample(4, rng=torch.Generator().manual_seed(1), lengths=lengths)
    assert np.diff(states.patient_starts).tolist() == [1, 2, 3, 3]
    states, _ = generator.sample(500, rng=torch.Generator().manual_seed(1))
    assert np.diff(states.patient_starts).max() == 3


@pytest.fixture(scope="module")
def learnt():
    """A model of patients who have code 0 or code 1, keep it at 90 % of visits, and end at 40 %."""
    rng = np.random.default_rng(0)
    patients = []
    for _ in range(1500):
        own, patient = int(rng.random() < 0.3), []
        while len(patient) < 6:
            codes = {own} if rng.random() < 0.9 else set()
            codes |= {2} if rng.random() < (0.8 if own else 0.1) else set()
            patient.append(tuple(sorted(codes)))
            if rng.random() < 0.4:
                break
        patients.append(tuple(patient))
    settings = {**SETTINGS, "most_visits": 6, "latent": 2}
    encoding = fit_sequence_encoding(schema(), {**Eva.defaults, **settings})
    torch.manual_seed(0)
    generator = Eva(encoding.layout, settings)
    plan = TrainingPlan(
        generator="eva",
        rounds=1,
        local_steps=200,
        sample_rate=64 / 1500,
        noise_multiplier=1.0,
        prior_noise_multiplier=1.0,
        max_grad_norm=1.0,
        delta=1e-5,
        learning_rate=0.01,
    )
    states = encoding.encode(records_of(patients))
    train_records(generator, states, plan, declared_size=1500, privacy=UnsafeNoPrivacy)
    drawn, _ = generator.sample(4000, rng=torch.Generator().manual_seed(2))
    return as_lists(drawn)


def test_a_known_process_is_learnt(learnt):
    """Shares within 0.05 of the process's: some ten standard errors of 4,000 draws, the rest is training."""
    first = [record[0] for record in learnt]
    assert np.mean([0 in codes for codes in first]) == pytest.approx(0.63, abs=0.05)
    assert np.mean([2 in codes for codes in first if 1 in codes]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([2 in codes for codes in first if 0 in codes]) == pytest.approx(0.1, abs=0.05)
    assert np.mean([len(record) == 1 for record in learnt]) == pytest.approx(0.4, abs=0.05)
    pairs = [pair for record in learnt for pair in pairwise(record)]
    for code, other in ((0, 1), (1, 0)):
        after = [two for one, two in pairs if code in one]
        assert np.mean([code in two for two in after]) == pytest.approx(0.9, abs=0.05)
        assert np.mean([other in two for two in after]) < 0.05
    assert np.mean([3 in codes for record in learnt for codes in record]) < 0.01
