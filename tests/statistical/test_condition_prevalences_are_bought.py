"""How frequent a condition is, is bought with the shares of a record, and is what a generator starts from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequences import PatientSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind
from synthkit.privacy.mechanisms import gaussian_sum
from synthkit.training.sequence_artefact import new_sequence_generator

SMALL = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 6, "most_codes": 20}
PATIENTS, NOISE, DRAWS = 3000, 3.0, 6000
CONDITION = Column(name="heart failure", kind=Kind.BINARY, categories=("no", "yes"))


@pytest.mark.parametrize(("kind", "share"), [("eva", 0.1), ("eva-c", 0.1), ("eva-c", 0.6)])
def test_a_fresh_generator_draws_a_condition_as_often_as_was_bought(kind, share):
    """Noise of 3 in a block of norm at most 1 moves a share of 3,000 patients by 0.005 (one standard
    deviation); 6,000 draws by 0.006; untrained weights of the head by up to 0.03. False alarm below 1e-4.
    """
    process = standard_process(visits_mean=2, most_visits=6)
    records = PatientSequences(**vars(simulate(process, PATIENTS, seed=8)))
    has = np.arange(PATIENTS) < share * PATIENTS
    schema = replace(process.schema, columns=(*process.schema.columns, CONDITION))
    named = np.array(CONDITION.categories, dtype=object)[has.astype(int)]
    records = replace(records, schema=schema, statics=records.statics.assign(**{CONDITION.name: named}))
    generator = new_sequence_generator(kind, schema, SMALL, seed=0)
    states = fit_sequence_encoding(schema, generator.hyperparameters).encode(records)
    bought = gaussian_sum(generator.statistics(states), noise_multiplier=NOISE)
    generator.set_shares(bought, noise=NOISE)
    generator.eval()
    lengths = np.ones(DRAWS, dtype=np.int64)
    drawn, _ = generator.sample(DRAWS, rng=torch.Generator().manual_seed(1), lengths=lengths)
    column = generator.layout.statics.names.index(CONDITION.name)
    assert drawn.statics[:, column].mean() == pytest.approx(share, abs=0.06)
