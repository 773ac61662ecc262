"""One patient is one unit, however many rows they have: in the batch, in the loss and in the prior."""

import numpy as np
import pytest
import torch
from small_ward import WARD, make_plan, ward_model, ward_states, ward_table

from synthkit.data.encoding import MOST_ROWS, fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.layout import PatientStates
from synthkit.training import loop

STATES = ward_states(8)
PATIENTS = PatientStates(states=STATES, starts=np.array([0, 1, 4, 8]))


def test_views_are_a_patients_own_rows_and_weigh_one():
    views, weights = PATIENTS.views(np.array([2, 0]), draws=2)
    assert views.shape == (2, 8, STATES.shape[1])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(views[0], np.repeat(STATES[4:8], 2, axis=0))
    np.testing.assert_array_equal(views[1, :2], STATES[[0, 0]])
    assert not weights[1, 2:].any()


def test_an_empty_sample_has_no_views():
    views, weights = PATIENTS.views(np.array([], dtype=int), draws=3)
    assert len(views) == len(weights) == 0


@pytest.mark.parametrize("starts", [[0, 2, 2, 8], [1, 8], [0, 7], [0, 9]])
def test_a_patient_without_rows_or_a_row_without_patient_is_a_bug(starts):
    with pytest.raises(ValueError, match="at least one row"):
        PatientStates(states=STATES, starts=np.array(starts))


def test_rows_are_grouped_by_patient_wherever_they_stand():
    table = ward_table(6, seed=1)
    mixed = PatientTable(schema=WARD, frame=table.frame, patients=np.array([7, 2, 7, 2, 5, 7]))
    encoding = fit_encoding(WARD)
    grouped, plain = encoding.encode_patients(mixed), encoding.encode(mixed)
    np.testing.assert_array_equal(grouped.starts, [0, 2, 3, 6])
    np.testing.assert_array_equal(grouped.states, plain[[1, 3, 4, 0, 2, 5]])


def test_at_most_fifty_rows_of_a_patient_are_trained_on_first_and_last_among_them():
    table = ward_table(400, seed=1)
    patients = np.array([0] * 397 + [1] * 3)
    grouped = fit_encoding(WARD).encode_patients(
        PatientTable(schema=WARD, frame=table.frame, patients=patients)
    )
    np.testing.assert_array_equal(grouped.starts, [0, MOST_ROWS, MOST_ROWS + 3])
    plain = fit_encoding(WARD).encode(table)
    np.testing.assert_array_equal(grouped.states[[0, MOST_ROWS - 1]], plain[[0, 396]])


def test_a_row_said_five_times_changes_no_loss():
    model = ward_model()
    noise = torch.randn(1, model.noise_size, generator=torch.Generator().manual_seed(2))
    losses = []
    for times in (1, 5):
        patient = PatientStates(states=np.repeat(STATES[:1], times, axis=0), starts=np.array([0, times]))
        views, weights = (torch.from_numpy(array) for array in patient.views(np.array([0]), draws=1))
        spread = noise.expand(1, times, -1)
        losses.append(model.loss_per_patient(views, weights, progress=0.0, noise=spread))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("rows", [1, 50])
def test_the_priors_sum_moves_by_at_most_one_when_a_patient_comes(rows, monkeypatch):
    """The vectors as they reach the Gaussian mechanism, with the patient and without."""
    seen = []

    def keep(vectors, *, noise_multiplier):
        seen.append(vectors.double())
        return vectors.sum(dim=0).numpy() + noise_multiplier

    monkeypatch.setattr(loop, "gaussian_sum", keep)
    model, others = ward_model(), ward_states(20)
    arrival = np.concatenate([others, ward_states(rows, seed=9)])
    for states, starts in ((others, np.arange(21)), (arrival, np.append(np.arange(21), 20 + rows))):
        loop.close(model, PatientStates(states=states, starts=starts), make_plan())
    without, with_patient = seen
    assert len(with_patient) == len(without) + 1
    assert with_patient[-1].norm() <= 1 + 1e-12
