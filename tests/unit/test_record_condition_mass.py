"""How many patients meet conditions, by a model of records: one number, and the model's own."""

import numpy as np
import pytest

from synthkit.data.simulator.process import standard_process
from synthkit.domain.conditions import parse_conditions
from synthkit.errors import SchemaError
from synthkit.training import record_mass
from synthkit.training.record_mass import record_condition_mass
from synthkit.training.sequence_artefact import SequenceModel, new_sequence_generator, synthesize_records

DRAWS = 4000
SMALL = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 4, "most_codes": 3, "dated": 1}


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(record_mass, "MASS_DRAWS", DRAWS)


@pytest.fixture(scope="module")
def model():
    schema = standard_process(visits_mean=2, most_visits=4).schema
    generator = new_sequence_generator("eva", schema, SMALL, seed=1)
    return SequenceModel(
        schema=schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="north"
    )


def mass(model, text):
    return record_condition_mass(model, parse_conditions([text], model.schema))


def test_shares_of_all_values_add_up_to_one(model):
    assert record_condition_mass(model, ()) == 1.0
    women, men = mass(model, "sex = Female"), mass(model, "sex = Male")
    assert women + men == pytest.approx(1.0, abs=1e-12)
    assert 0.2 < women < 0.8
    both = mass(model, "sex = Female and age >= 60")
    assert both == pytest.approx(women - mass(model, "sex = Female and age < 60"), abs=1e-12)


def test_it_is_the_same_number_whenever_it_is_asked_for(model):
    """Nobody can look for the seed by which a rare group comes out less rare."""
    assert mass(model, "age >= 70") == mass(model, "age >= 70")


def test_it_is_the_share_among_whole_records(model):
    """Of 4,000 other draws with all their visits; five standard errors of both: false alarm 1e-6."""
    drawn = synthesize_records(model, 4000, seed=9).records.statics
    for text, met in (("sex = Female", drawn["sex"] == "Female"), ("age >= 70", drawn["age"] >= 70)):
        share = float(np.mean(met))
        error = np.sqrt(share * (1 - share) * (1 / 4000 + 1 / DRAWS))
        assert abs(mass(model, text) - share) < 5 * error


def test_conditions_on_codes_have_no_share(model):
    with pytest.raises(SchemaError, match="columns of a patient"):
        mass(model, "code = I10")
