"""The published MCM's network, loss and training: the attention filter, what it ignores, what it learns."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_ward import WARD, ward_table
from torch.nn import functional

from synthkit.data.paper_boxcox import BoxCoxEncoding, fit_boxcox
from synthkit.data.table import PatientTable
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import InputError
from synthkit.generators.base import Generator
from synthkit.generators.mcm_paper import PaperMcm
from synthkit.training.paper_mcm import McmSettings, _network, _training_masks, train_mcm

torch.set_num_threads(1)


def make_network(features: int = 6, *, seed: int = 0) -> PaperMcm:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PaperMcm(features)


def make_rows(rows: int = 8, features: int = 6, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.random((rows, features), dtype=np.float32))
    return values, torch.from_numpy(rng.random((rows, features)) < 0.6)


def test_attention_sums_to_one_over_what_is_seen_and_is_zero_elsewhere():
    network = make_network()
    features, seen = make_rows()
    attention = network.filter(features, seen)
    assert (attention[~seen] == 0).all()
    assert (attention[seen] > 0).all()
    torch.testing.assert_close(attention.sum(dim=1), seen.any(dim=1).float())


def test_the_completion_is_the_published_formula():
    network = make_network()
    features, seen = make_rows()
    seen[:, 0] = True
    shown = features * seen
    scores = (shown @ network.attention.weight.T).masked_fill(~seen, -torch.inf)
    hidden = functional.relu(network.first(torch.softmax(scores, dim=1) * shown))
    torch.testing.assert_close(network(features, seen), torch.sigmoid(network.second(hidden)))
    assert network.attention.bias is None
    assert (network.first.out_features, network.second.in_features) == (64, 64)


def test_what_is_masked_has_no_influence():
    """In the authors' notebook it has: there the unmasked row makes the attention scores."""
    network = make_network()
    features, seen = make_rows()
    other = torch.where(
        seen, features, torch.rand(features.shape, generator=torch.Generator().manual_seed(9))
    )
    assert not torch.equal(features, other)
    assert torch.equal(network(features, seen), network(other, seen))


def test_a_row_of_which_nothing_is_seen_is_completed_and_trained_on():
    network = make_network()
    features, seen = make_rows()
    nothing = torch.zeros_like(seen)
    assert torch.isfinite(network(features, nothing)).all()
    torch.autograd.backward(network.loss(features, nothing, torch.ones_like(seen)))
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_loss_is_the_mean_over_present_features_seen_or_not():
    network = make_network()
    features, seen = make_rows()
    present = seen.clone()
    present[:, :3] = True
    completed = network(features, seen)
    expected = functional.mse_loss(completed[present], features[present])
    torch.testing.assert_close(network.loss(features, seen, present), expected)
    moved = torch.where(present, features, features + 1)
    torch.testing.assert_close(network.loss(moved, seen, present), expected)


def test_the_published_network_is_no_private_generator():
    assert not issubclass(PaperMcm, Generator)


def test_training_masks_whole_columns_and_between_a_tenth_and_nineteen_twentieths_of_them():
    encoding = fit_boxcox(ward_table(60))
    hidden = _training_masks(encoding, 2000, np.random.default_rng(0))
    columns = hidden[:, encoding.owners == WARD.names.index("unit")]
    assert columns.shape == (2000, 3)
    assert (columns.all(axis=1) == columns.any(axis=1)).all()
    firsts = [np.flatnonzero(encoding.owners == place)[0] for place in encoding.varied]
    counts = hidden[:, firsts].sum(axis=1)
    assert (counts.min(), counts.max()) == (1, int(0.95 * len(WARD.names)))


RELATED = Schema(
    name="related",
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=120),
        Column(name="pressure", kind=Kind.INTEGER, minimum=0, maximum=400),
        Column(name="filtration", kind=Kind.INTEGER, minimum=0, maximum=300),
        Column(name="event", kind=Kind.EVENT, categories=("alive", "dead")),
    ),
)


def related_table(patients: int, *, seed: int) -> PatientTable:
    """Pressure rises with age, filtration falls, and the old die."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.rint(rng.normal(60, 15, patients)), 0, 120)
    frame = pd.DataFrame(
        {
            "age": age,
            "pressure": np.rint(90 + age + rng.normal(0, 5, patients)),
            "filtration": np.rint(160 - age + rng.normal(0, 5, patients)),
            "event": np.where(age + rng.normal(0, 5, patients) > 60, "dead", "alive").astype(object),
        }
    )
    return PatientTable(schema=RELATED, frame=frame, patients=np.arange(patients))


def error_of_masked_cells(network: PaperMcm, encoding: BoxCoxEncoding, rows: np.ndarray) -> float:
    features = torch.from_numpy(encoding.features(rows).astype(np.float32))
    hidden = torch.from_numpy(_training_masks(encoding, len(rows), np.random.default_rng(7)))
    with torch.no_grad():
        errors = (network(features, ~hidden) - features).square()
    return float(errors[hidden].mean())


def test_the_error_of_masked_cells_falls_on_rows_that_were_not_trained_on():
    """Below the untrained network's and what each column's mean would leave. Fixed seeds."""
    table, unseen = related_table(400, seed=1), related_table(400, seed=2)
    model = train_mcm(table, McmSettings(epochs=80), seed=0, study="s", site="x")
    rows = model.encoding.code(unseen.frame)
    errors = [
        error_of_masked_cells(network, model.encoding, rows)
        for network in (_network(model.encoding, seed=0), model.network)
    ]
    assert errors[1] < 0.7 * min(errors[0], float(model.encoding.features(rows).var(axis=0).mean()))
    given = rows.copy()
    given[:, 1] = np.nan
    assert np.corrcoef(model._completed(given)[:, 1], rows[:, 1])[0, 1] > 0.75


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate"])
def test_settings_out_of_range_are_refused(name):
    for value in (-1, float("nan")):
        with pytest.raises(InputError, match=name):
            McmSettings(**{name: value})
