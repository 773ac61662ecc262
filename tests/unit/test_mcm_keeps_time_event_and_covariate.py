"""MCM on a survival table: time, event and a covariate together, which no pair of columns holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthkit.data.encoding import fit_encoding
from synthkit.domain.crossing import crossings
from synthkit.domain.layout import Layout, PatientStates
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.generators.base import MOST_STATES, UNKNOWN
from synthkit.generators.registry import build
from synthkit.privacy.mechanisms import pair_tables, table_noise, tables_statistic

torch.set_num_threads(1)

LAYOUT = Layout(names=("x", "y", "time", "event"), states=(2, 3, 12, 2), bins=(0, 0, 12, 0), timed=((2, 3),))
QUICK = {"hidden": 48, "chains": 2048, "sweeps": 90, "fit_steps": 300}
PATIENTS = 12_000
PLANTED = 0.6
"""How much likelier x = 1 makes an event that is late, and unlikelier one that is early."""


def crossing_hazards(patients=PATIENTS, *, seed=0):
    """x moves events from early to late times and changes neither how many there are nor any time.

    Every pair of columns is independent: hazard ratios of x cross 1, and no proportional hazards hold.
    """
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 2, patients), rng.integers(0, 3, patients)
    time = rng.integers(0, 12, patients)
    is_late = time >= 6
    chance = 0.5 + PLANTED / 2 * np.where(is_late == (x == 1), 1.0, -1.0)
    return np.column_stack([x, y, time, (rng.random(patients) < chance).astype(int)])


def planted_part(rows):
    """The planted figure in rows: late minus early, x = 1 minus x = 0; 2 * PLANTED where it is kept."""
    x, late, event = rows[:, 0] == 1, rows[:, 2] >= 6, rows[:, 3]
    share = {(a, b): event[(x == a) & (late == b)].mean() for a in (False, True) for b in (False, True)}
    return share[True, True] - share[True, False] - share[False, True] + share[False, False]


def fitted(rows, *, noise_multiplier=0.0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build("mcm", LAYOUT, {**QUICK, **changes})
    patients = model.to_buy(PatientStates.one_row_each(rows))
    if noise_multiplier:
        model.set_tables(pair_tables(patients, model.bought, noise_multiplier=noise_multiplier))
    else:
        model.set_tables(tables_statistic(patients, model.bought))
    pair, single = table_noise(model.bought, noise_multiplier=noise_multiplier)
    model.fit(sites=1.0, pair_noise=pair, single_noise=single)
    return model.eval()


@pytest.fixture(scope="module")
def crossed():
    return fitted(crossing_hazards())


def drawn(model, count=20_000, where=None):
    return model.sample(count, rng=torch.Generator().manual_seed(0), where=where)[0]


def test_crossing_hazards_are_kept(crossed):
    """20,000 rows leave the figure a standard error of 0.014; what is lacking beyond that is the fit's."""
    assert planted_part(crossing_hazards()) == pytest.approx(2 * PLANTED, abs=0.07)
    assert planted_part(drawn(crossed)) > 1.6 * PLANTED


def test_tables_of_single_columns_lose_them():
    """The measurement can fail: without crossed columns nothing is left but chance, 0.014 a deviation."""
    assert abs(planted_part(drawn(fitted(crossing_hazards(), time_groups=0)))) < 0.1


def test_noise_leaves_what_is_far_above_it():
    """Noise of 12 patients a cell, where the planted relation moves 225 in each of eight groups by event."""
    assert planted_part(drawn(fitted(crossing_hazards(), noise_multiplier=2.0))) > 1.4 * PLANTED


LATE, EVENT = np.repeat([0.0, 1.0], 6), np.array([0.0, 1.0])


@pytest.mark.parametrize(
    "where", [{2: LATE}, {3: EVENT}, {2: LATE, 3: EVENT}, {3: 1 - EVENT, 2: np.eye(12)[0]}]
)
def test_conditions_on_time_event_or_both_are_met_by_every_row(crossed, where):
    rows, reliability = crossed.sample(2000, rng=torch.Generator().manual_seed(0), where=where)
    assert all((shares[rows[:, column]] > 0).all() for column, shares in where.items())
    assert 0 < reliability <= 1


def test_conditions_on_time_and_event_bring_the_covariate_along(crossed):
    """Of late events 80 in 100 have x = 1, of early ones 20; 4,000 rows: a standard error of 0.006."""
    late = drawn(crossed, 4000, {2: LATE, 3: EVENT})
    early = drawn(crossed, 4000, {2: 1 - LATE, 3: EVENT})
    assert late[:, 0].mean() == pytest.approx(0.8, abs=0.05)
    assert early[:, 0].mean() == pytest.approx(0.2, abs=0.05)


def test_the_mass_of_time_and_event_together_is_the_patients(crossed):
    """A quarter of all: late and with the event; of those with x = 1 four in ten."""
    rng = torch.Generator().manual_seed(0)
    assert crossed.mass({2: LATE, 3: EVENT}, rng=rng) == pytest.approx(0.25, abs=0.02)
    assert crossed.mass({0: EVENT, 2: LATE, 3: EVENT}, rng=rng) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("known", [(2,), (3,), (0, 2), (0, 3), (0, 2, 3)])
def test_rows_of_which_time_or_event_alone_is_known_are_completed_from_it(crossed, known):
    rows = crossing_hazards(6000, seed=1)
    partial = np.full_like(rows, UNKNOWN)
    partial[:, known] = rows[:, known]
    filled = crossed.complete(partial, rng=torch.Generator().manual_seed(0))
    assert np.array_equal(filled[:, known], rows[:, known])
    assert (filled != UNKNOWN).all()
    # What is drawn stands in the planted relation to what is known: 0.03 is its standard error.
    assert planted_part(filled) > 1.6 * PLANTED


def test_a_rows_likelihood_knows_the_relation(crossed):
    """A late event is likelier with x = 1; without the crossed column either is as likely."""
    rows = np.array([[1, 0, 9, 1], [0, 0, 9, 1], [1, 0, 2, 1], [0, 0, 2, 1]])
    found = crossed.log_likelihood(rows)
    assert found[0] - found[1] > 0.3
    assert found[3] - found[2] > 0.3


def test_two_sites_averaged_are_their_patients_pooled():
    """Which columns are crossed, and how, follows from the layout: nothing has to be agreed."""
    rows = crossing_hazards()
    parts = rows[rows[:, 0] == 0], rows[rows[:, 0] == 1]
    models = [build("mcm", LAYOUT, QUICK) for _ in range(3)]
    for model, own in zip(models, (*parts, rows), strict=True):
        patients = model.to_buy(PatientStates.one_row_each(own))
        model.set_tables(tables_statistic(patients, model.bought))
    weights = [model.get_weights()["tables"] for model in models]
    sizes = np.array([len(part) for part in parts]) / len(rows)
    np.testing.assert_allclose(sizes[0] * weights[0] + sizes[1] * weights[1], weights[2], atol=1e-7)


def test_a_table_that_would_be_too_wide_is_bought_without_crossed_columns():
    code = 4000
    wide = Layout(names=("x", "time", "event", "code"), states=(2, 5, 2, code), timed=((1, 2),))
    settings = {**QUICK, "hidden": 1, "time_groups": 5}
    assert build("mcm", wide, settings).bought.width == wide.width + 10
    full = replace(wide, states=(2, 5, 2, MOST_STATES - 9))
    assert build("mcm", full, settings).bought == full


def test_a_table_without_times_and_events_is_bought_as_it_is():
    plain = replace(LAYOUT, timed=())
    model = build("mcm", plain, QUICK)
    rows = PatientStates.one_row_each(crossing_hazards(50))
    assert model.bought is plain
    assert model.to_buy(rows) is rows


YES_NO = ("0", "1")


def schema_of(*kinds):
    columns = [Column(name="sex", kind=Kind.BINARY, categories=YES_NO)]
    for number, kind in enumerate(kinds):
        is_time = kind is Kind.DURATION
        given = {"minimum": 1, "maximum": 900, "missing": True} if is_time else {"categories": YES_NO}
        columns.append(Column(name=f"c{number}", kind=kind, **given))
    return Schema(columns=tuple(columns))


@pytest.mark.parametrize(
    ("kinds", "timed"),
    [
        ((), ()),
        ((Kind.DURATION,), ()),
        ((Kind.EVENT,), ()),
        ((Kind.DURATION, Kind.EVENT), ((1, 2),)),
        ((Kind.EVENT, Kind.DURATION), ((2, 1),)),
        # Two endpoints with one follow-up: each is crossed with it.
        ((Kind.DURATION, Kind.EVENT, Kind.EVENT), ((1, 2), (1, 3))),
        # As many times as events: in the schema's order.
        ((Kind.DURATION, Kind.EVENT, Kind.DURATION, Kind.EVENT), ((1, 2), (3, 4))),
        # Nothing says which time is whose.
        ((Kind.DURATION, Kind.DURATION, Kind.EVENT), ()),
    ],
)
def test_which_time_is_whose_event_follows_from_the_schema(kinds, timed):
    layout = fit_encoding(schema_of(*kinds)).layout
    assert layout.timed == timed
    assert [(one.first, one.second) for one in crossings(layout, 8)] == list(timed)


@pytest.mark.slow
def test_two_endpoints_of_one_time_are_both_fitted():
    """The second crossed column shares its time with the first: both have to follow every draw of it."""
    rows = crossing_hazards()
    twice = np.column_stack([rows, rows[:, 3]])
    layout = Layout(names=(*LAYOUT.names, "again"), states=(*LAYOUT.states, 2), timed=((2, 3), (2, 4)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build("mcm", layout, QUICK)
    model.set_tables(tables_statistic(model.to_buy(PatientStates.one_row_each(twice)), model.bought))
    model.fit(sites=1.0, pair_noise=0.0, single_noise=0.0)
    found = drawn(model)
    assert planted_part(found) > 1.5 * PLANTED
    assert planted_part(found[:, [0, 1, 2, 4]]) > 1.5 * PLANTED
