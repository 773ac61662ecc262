"""Survival figures against published ones, against lifelines, and against sums done by hand."""

import numpy as np
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_gbsg2, load_lung, load_rossi
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index, restricted_mean_survival_time
from scipy.stats import norm, t

from synthkit.data.bundled import example
from synthkit.data.connectors import read_table
from synthkit.domain.survival import Calibration, HazardRatio, Term
from synthkit.errors import InputError
from synthkit.evaluation.calibration import calibrate, pseudo_observations, times_of
from synthkit.evaluation.concordance import count_pairs, error_of
from synthkit.evaluation.cox import fit_cox
from synthkit.evaluation.curves import curve_distance, kaplan_meier, survival_curve
from synthkit.evaluation.rubin import Rule, pool
from synthkit.evaluation.survival_rows import survival_rows
from synthkit.evaluation.survival_task import survival_task


def rows_of(name, text, covariates=()):
    bundled = example(name)
    table = read_table(next(iter(bundled.sites.values())), bundled.schema)
    task = survival_task(text, bundled.schema, covariates=covariates)
    return survival_rows(table.frame, task, task.covariates)


def ratios(rows):
    fit, remarks = fit_cox(rows, "real")
    assert remarks == ()
    return dict(zip(fit.terms, np.exp(fit.coefficient), strict=True)), fit


@pytest.fixture(scope="module")
def rossi():
    return rows_of("rossi", "week,arrest")


def test_rossi_has_its_published_hazard_ratios(rossi):
    """Fox and Weisberg, Appendix to An R Companion to Applied Regression (2002), table of the Cox model."""
    found, fit = ratios(rossi)
    published = {
        "fin = yes": 0.684,
        "age": 0.944,
        "race = black": 1.369,
        "wexp = yes": 0.861,
        "mar = yes": 0.648,
        "paro = yes": 0.919,
        "prio": 1.096,
    }
    assert {name: round(float(value), 3) for name, value in found.items()} == published
    assert fit.standard_error[0] == pytest.approx(0.1914, abs=5e-5)
    assert count_pairs(rossi.time, rossi.event, fit.risk(rossi.x)).c_index == pytest.approx(0.640, abs=5e-4)


def test_lung_has_its_published_hazard_ratios():
    """R's survival: coxph(Surv(time, status) ~ sex) gives 0.588, ~ age + sex gives 1.017 and 0.599."""
    assert ratios(rows_of("lung", "time,status", ["sex"]))[0]["sex = Female"] == pytest.approx(
        0.588, abs=5e-4
    )
    both, _ = ratios(rows_of("lung", "time,status", ["age", "sex"]))
    assert both["age"] == pytest.approx(1.017, abs=5e-4)
    assert both["sex = Female"] == pytest.approx(0.599, abs=5e-4)


def test_lung_with_ecog_leaves_out_the_one_patient_without_it():
    rows = rows_of("lung", "time,status", ["age", "sex", "ph_ecog"])
    found, _ = ratios(rows)
    assert len(rows) == 227
    assert [round(float(value), 3) for value in found.values()] == [1.011, 0.575, 1.590]


def test_gbsg2_agrees_with_lifelines_on_the_original_table():
    found, _ = ratios(rows_of("gbsg2", "time,recurrence"))
    original = load_gbsg2()
    for column, level in (("horTh", "yes"), ("menostat", "Post"), ("tgrade", "II"), ("tgrade", "III")):
        original[f"{column} {level}"] = (original[column] == level).astype(int)
    direct = CoxPHFitter().fit(
        original.drop(columns=["horTh", "menostat", "tgrade"]), duration_col="time", event_col="cens"
    )
    published = np.exp(direct.params_)
    assert found["horTh = yes"] == pytest.approx(published["horTh yes"])
    assert found["tgrade = III"] == pytest.approx(published["tgrade III"])
    assert found["pnodes"] == pytest.approx(published["pnodes"])


@pytest.mark.parametrize(
    ("name", "load", "time", "event", "pair"),
    [
        ("gbsg2", load_gbsg2, "time", "cens", "time,recurrence"),
        ("rossi", load_rossi, "week", "arrest", "week,arrest"),
        ("lung", load_lung, "time", "status", "time,status"),
    ],
)
def test_the_bundled_rows_are_lifelines_rows(name, load, time, event, pair):
    original, rows = load(), rows_of(name, pair, ["age"])
    assert rows.time.tolist() == original[time].tolist()
    assert rows.event.tolist() == (original[event] == 1).tolist()
    assert rows.x[:, 0].tolist() == original["age"].tolist()


def test_event_probabilities_are_lifelines_own(rossi):
    fit, _ = fit_cox(rossi, "real")
    original = load_rossi()
    direct = CoxPHFitter().fit(original, "week", "arrest")
    at = float(original["week"][original["arrest"] == 1].iloc[0])
    expected = 1 - direct.predict_survival_function(original, times=[at]).iloc[0].to_numpy()
    # lifelines' columns stand in another order than the bundled table's; the rows do not.
    assert fit.event_probability(rossi.x, at) == pytest.approx(expected, abs=1e-6)


def test_c_is_lifelines_own_with_ties_of_every_kind():
    rng = np.random.default_rng(0)
    time, event = rng.integers(1, 12, 300).astype(float), rng.random(300) < 0.5
    risk = rng.integers(0, 9, 300).astype(float)
    assert count_pairs(time, event, risk).c_index == pytest.approx(concordance_index(time, -risk, event))


def test_c_of_four_rows_by_hand():
    time, event = np.array([1.0, 2.0, 2.0, 3.0]), np.array([True, True, False, True])
    counts = count_pairs(time, event, np.array([4.0, 1.0, 1.0, 2.0]))
    # (1, 2), (1, 2+), (1, 3) right; (2, 2+) a tie in risk; (2, 3) wrong.
    assert counts.c_index == pytest.approx(3.5 / 5)
    assert counts.pairs.tolist() == [3, 3, 2, 2]
    assert count_pairs(time, np.zeros(4, dtype=bool), time).c_index is None


def test_the_standard_error_of_c_is_that_of_leaving_one_out():
    """The infinitesimal jackknife and the jackknife agree to first order: within 2 % at 400 rows."""
    rng = np.random.default_rng(1)
    risk = rng.normal(size=400)
    time = rng.exponential(np.exp(-risk))
    event = rng.random(400) < 0.7
    counts = count_pairs(time, event, risk)
    keep = ~np.eye(400, dtype=bool)
    left = np.array([count_pairs(time[k], event[k], risk[k]).c_index for k in keep[:200]])
    direct = np.sqrt(((left - counts.c_index) ** 2).sum() * 2)
    assert error_of(counts.influence) == pytest.approx(direct, rel=0.15)
    first_half = error_of(counts.influence[:200])
    assert first_half == pytest.approx(np.sqrt(((left - counts.c_index) ** 2).sum()), rel=0.02)


def test_pseudo_observations_are_kaplan_meier_with_and_without_each_row(rossi):
    time, event = rossi.time[:40], rossi.event[:40]
    for at in (20.0, 52.0):

        def happened(keep, at=at):
            return 1 - kaplan_meier((time[keep], event[keep]), np.array([at]))[0]

        everyone = np.ones(40, dtype=bool)
        expected = []
        for row in range(40):
            others = everyone.copy()
            others[row] = False
            expected.append(40 * happened(everyone) - 39 * happened(others))
        assert pseudo_observations(time, event, at) == pytest.approx(np.array(expected), abs=1e-9)


def test_without_censoring_a_pseudo_observation_is_what_happened():
    time = np.arange(1.0, 31.0)
    event = np.ones(30, dtype=bool)
    assert pseudo_observations(time, event, 10.0) == pytest.approx((time <= 10).astype(float))
    assert pseudo_observations(time, event, 30.0) == pytest.approx(np.ones(30))


def test_calibration_without_censoring_is_a_straight_line_through_what_happened():
    time, event = np.arange(1.0, 41.0), np.ones(40, dtype=bool)
    predicted = np.linspace(0.9, 0.1, 40) ** 2
    found = calibrate(predicted, time, event, 20.0)
    slope, _ = np.polyfit(predicted, (time <= 20).astype(float), 1)
    assert found.slope == pytest.approx(slope)
    assert found.deviation == pytest.approx(abs(slope - 1))
    assert (found.observed, found.predicted) == (pytest.approx(0.5), pytest.approx(predicted.mean()))
    assert times_of(time, event) == {25: 10.75, 75: 30.25}
    assert calibrate(np.full(40, 0.5), time, event, 20.0) is None
    assert calibrate(predicted[:15], time[:15], event[:15], 10.0) is None


def test_curves_and_distances_are_lifelines_own(rossi):
    one = rossi.time[rossi.x[:, 0] == 1], rossi.event[rossi.x[:, 0] == 1]
    two = rossi.time[rossi.x[:, 0] == 0], rossi.event[rossi.x[:, 0] == 0]
    first, second = (KaplanMeierFitter().fit(*sample) for sample in (one, two))
    found = curve_distance(one, two)
    test = logrank_test(one[0], two[0], one[1], two[1])
    assert (found.log_rank, found.p_value) == (
        pytest.approx(test.test_statistic),
        pytest.approx(test.p_value),
    )
    means = [restricted_mean_survival_time(fitter, t=found.horizon) for fitter in (first, second)]
    assert found.mean_difference == pytest.approx(means[1] - means[0])
    moments = np.arange(0.0, 53.0)
    gap = np.abs(first.predict(moments).to_numpy() - second.predict(moments).to_numpy()).max()
    assert found.largest_gap == pytest.approx(gap)
    assert kaplan_meier(one, moments) == pytest.approx(first.predict(moments).to_numpy())
    curve = survival_curve(one, 52.0)
    assert np.array(curve.survival) == pytest.approx(first.predict(np.array(curve.times)).to_numpy())
    assert curve.at_risk[0] == 216
    assert curve.at_risk == tuple(int((one[0] >= tick).sum()) for tick in curve.ticks)


def test_the_three_pooling_rules_by_hand():
    estimates, variances = np.array([[1.0], [2.0], [3.0]]), np.array([[0.4], [0.5], [0.6]])
    partial = pool(estimates, variances)
    assert partial.estimate[0] == pytest.approx(2.0)
    assert (partial.between[0], partial.within[0]) == (pytest.approx(1.0), pytest.approx(0.5))
    assert partial.variance[0] == pytest.approx(0.5 + 1 / 3)
    assert partial.degrees_of_freedom[0] == pytest.approx(2 * (1 + 0.5 * 3) ** 2)
    assert partial.interval[1][0] == pytest.approx(2 + t.ppf(0.975, 12.5) * np.sqrt(5 / 6))
    full = pool(estimates, variances, rule=Rule.FULL)
    assert full.variance[0] == pytest.approx(4 / 3 - 0.5)
    assert full.degrees_of_freedom[0] == pytest.approx(max(1.0, 2 * (1 - 0.5 / (4 / 3)) ** 2))
    simple = pool(estimates, variances, rule=Rule.SIMPLE, ratio=2.0)
    assert simple.variance[0] == pytest.approx(0.5 * (2 + 1 / 3))
    assert simple.quantile[0] == pytest.approx(norm.ppf(0.975), abs=1e-6)
    alike = pool(np.ones((3, 1)), variances)
    assert alike.variance[0] == pytest.approx(0.5)
    assert pool(np.ones((3, 1)), variances, rule=Rule.FULL).variance[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("estimates", "variances", "options"),
    [
        ([[1.0]], [[1.0]], {}),
        ([[1.0], [2.0]], [[1.0], [0.0]], {}),
        ([[1.0], [np.nan]], [[1.0], [1.0]], {}),
        ([[1.0], [2.0]], [[1.0, 1.0], [1.0, 1.0]], {}),
        ([[1.0], [2.0]], [[1.0], [1.0]], {"ratio": 0.0}),
        ([[1.0], [2.0]], [[1.0], [1.0]], {"confidence": 1.0}),
    ],
)
def test_pooling_refuses_what_it_cannot_pool(estimates, variances, options):
    with pytest.raises(InputError, match="pooling"):
        pool(np.array(estimates), np.array(variances), **options)


def test_overlap_and_signs_of_two_terms():
    one = HazardRatio(
        name="x",
        real=Term(coefficient=0.0, standard_error=1.0, quantile=1.0),
        synthetic=Term(coefficient=1.0, standard_error=1.0, quantile=1.0),
    )
    assert one.overlap == pytest.approx(0.5)
    assert one.is_inside is True
    assert one.log_error == pytest.approx(1.0)
    far = HazardRatio(name="x", real=one.real, synthetic=Term(coefficient=-5.0, standard_error=0.1))
    assert (far.overlap, far.is_inside) == (0.0, False)
    assert HazardRatio(name="x", real=one.real, synthetic=None).overlap is None
    assert Term(coefficient=np.log(2), standard_error=0.01).interval == (
        pytest.approx(1.9612, abs=1e-4),
        pytest.approx(2.0396, abs=1e-4),
    )
    sure = Calibration(slope=0.4, standard_error=0.1, relative_slope=None, observed=0.2, predicted=0.3)
    assert sure.deviation == pytest.approx(0.6)
