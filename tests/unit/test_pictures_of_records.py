"""Figures behind the pictures of records, and the map of latents: by hand, and blind to the real ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from record_ward import SMALL, encoding_of, simulated

from synthkit.data.sequences import SyntheticSequences
from synthkit.domain.utility import Estimate
from synthkit.errors import SchemaError
from synthkit.evaluation import next_visit
from synthkit.evaluation.latent_map import latent_means, principal_axes, spread_between, with_latents
from synthkit.evaluation.record_conditions import parse_record_condition
from synthkit.evaluation.sequence_pictures import (
    MOST_POINTS,
    condition_scatters,
    length_distributions,
    scatters,
)
from synthkit.evaluation.sequence_run import evaluate_sequences
from synthkit.evaluation.sequences import SEEN, pair_counts, sequence_fidelity
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import batch_of
from synthkit.report.sequence_figures import Scatter, SequencePictures
from synthkit.report.sequence_sections import sequence_page
from synthkit.report.sequence_words import lengths, number, text
from synthkit.training.sequence_artefact import SequenceModel

REAL, OTHER = simulated(300), simulated(300, seed=2)
MADE = SyntheticSequences(**{name: value for name, value in vars(OTHER).items() if name != "lots"})
MALE = parse_record_condition("sex = Male", REAL.schema)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    generator = Eva(encoding_of(REAL).layout, SMALL)
    names = {"study": "s", "study_digest": "0" * 64, "site": "north"}
    return SequenceModel(schema=REAL.schema, generator=generator.eval(), spend=None, **names)


def test_scatters_hold_what_the_scores_are_made_of():
    codes, within, across, lifts, _ = scatters(REAL, MADE)
    counts, other = pair_counts(REAL), pair_counts(MADE)
    carried = np.flatnonzero(counts.codes + other.codes)
    assert codes.real.tolist() == (counts.codes[carried] / counts.visits).tolist()
    assert within.real.size == min(MOST_POINTS, int((counts.within.data >= SEEN).sum()))
    assert across.real.min() >= SEEN / counts.steps
    assert not lifts.is_share
    score = sequence_fidelity(REAL, MADE, seed=0).synthetic.within.lift
    assert np.corrcoef(lifts.real, lifts.synthetic)[0, 1] == pytest.approx(score)


def test_shares_of_lengths_sum_to_one_and_long_tails_have_a_bin():
    found = {one.name: one for one in length_distributions(REAL, MADE)}
    assert len(found) == 5
    for one in found.values():
        assert one.real.sum() == pytest.approx(1.0)
        assert one.synthetic.sum() == pytest.approx(1.0)
    assert found["codes a visit"].labels[-1].endswith("+")
    assert found["visits a patient"].real[0] == pytest.approx((REAL.visits_per_patient == 1).mean())


def test_a_conditions_scatter_is_of_its_patients_shares():
    only = condition_scatters(REAL, MADE, (MALE,))[0]
    is_male = REAL.statics["sex"].to_numpy() == "Male"
    has = np.zeros((len(REAL), len(REAL.schema.vocabulary)), dtype=bool)
    has[REAL.patient_of_visit[REAL.visit_of_code], REAL.codes] = True
    assert only.title == "sex = Male"
    assert only.real.tolist() == pytest.approx(has[is_male].mean(axis=0)[has.sum(axis=0) >= 25].tolist())


def test_axes_and_spread_by_hand():
    places = np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    axes, explained = principal_axes(places)
    assert np.abs(axes[:, 0]).tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert axes[0, 0] > 0
    assert explained == pytest.approx(1.0)
    assert spread_between(places, np.array([True, False, False, False])) == pytest.approx((9 + 3 * 1.0) / 20)
    assert np.isnan(spread_between(places, np.ones(4, dtype=bool)))


def test_latents_are_the_models_own_and_in_the_records_order(model):
    found = latent_means(model, REAL)
    states = model.encoding.in_order(REAL)
    for place in (0, 17, 299):
        with torch.no_grad():
            mean, _ = model.generator.posterior(batch_of(states, model.generator.layout, np.array([place])))
        np.testing.assert_allclose(found[place], mean[0].numpy(), atol=1e-5)


def test_the_generated_map_holds_nothing_of_real_records(model):
    empty = SequencePictures(scatters=(), distributions=())
    first, second = (
        with_latents(empty, model, real, MADE, (MALE,), seed=0).latents[0]
        for real in (REAL, simulated(50, seed=9))
    )
    assert (first.generated == second.generated).all()
    assert first.real.shape != second.real.shape
    assert 0 <= first.apart[0] <= 1


def test_records_of_another_schema_have_no_map(model):
    other = replace(MADE, schema=replace(MADE.schema, name="other"))
    with pytest.raises(SchemaError, match="another schema"):
        with_latents(SequencePictures(scatters=(), distributions=()), model, REAL, other, (MALE,), seed=0)


@pytest.mark.parametrize(
    ("private", "words"), [(True, "may leave with the generated"), (False, "neither map")]
)
def test_the_page_says_what_of_the_map_may_leave(model, private, words):
    pictures = SequencePictures(scatters=scatters(REAL, MADE)[:1] if private else (), distributions=())
    pictures = replace(with_latents(pictures, model, REAL, MADE, (MALE,), seed=0), is_private=private)
    report = evaluate_sequences(REAL, MADE, is_quick=True)
    page = sequence_page(report, pictures)
    assert words in page
    assert "The lower map never leaves" in page
    assert page.index("For use inside the site") < page.index("<nav")
    assert "mathdefault" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "").replace(
        "http://www.w3.org", ""
    )


@pytest.mark.parametrize("patients", [2, 3, 4, 6])
def test_next_to_nobody_is_evaluated_without_a_crash_and_drawn(patients, monkeypatch):
    monkeypatch.setattr(next_visit, "STEPS", 20)
    few, made = REAL.take(np.arange(patients)), MADE.take(np.arange(patients))
    report = evaluate_sequences(few, made, repeats=1)
    assert not report.conditions
    assert any("Not asked about" in note for note in report.notes)
    pictures = SequencePictures(scatters=scatters(few, made)[:1], distributions=())
    assert length_distributions(few, made)
    assert "In short" in sequence_page(report, pictures)


def test_empty_pictures_are_drawn_as_such():
    none = Scatter(title="nothing", real=np.zeros(0), synthetic=np.zeros(0))
    report = evaluate_sequences(REAL, MADE, is_quick=True)
    assert "too few to draw" in sequence_page(report, SequencePictures(scatters=(none,), distributions=()))
    with pytest.raises(ValueError, match="differ in length"):
        Scatter(title="odd", real=np.zeros(2), synthetic=np.zeros(1))


def test_figures_in_words():
    assert number(float("nan")) == "none"
    assert number(0.12345) == "0.123"
    assert text(None) == "nothing to say"
    assert text(Estimate(mean=0.5, lower=0.25, upper=0.75)) == "0.500 [0.250, 0.750]"
    assert (lengths(()), lengths((2.5, 1, 2, 4))) == ("no times", "2.50 (1, 2, 4)")
