"""How many patients meet conditions on static columns, by a model of records alone.

Knows a model of records. Refuses rows of patients: the share is the model's own, so it is post-processing
and may leave. Rule, as in `condition_mass`: drawn with one fixed seed, so that it is the same number at
generation and at sealing, and nobody can look for the seed by which a rare group comes out less rare.
"""

from collections.abc import Sequence

import numpy as np
import torch

from synthkit.domain.conditions import Condition
from synthkit.training.condition_mass import MASS_SEED
from synthkit.training.sequence_artefact import SequenceModel

MASS_DRAWS = 20_000
"""Draws of patients: at a share of 0.001 the standard error is a fifth of it."""


def record_condition_mass(model: SequenceModel, conditions: Sequence[Condition]) -> float:
    """Share of patients who meet all (checked) conditions, by the model: 0 to 1; 1 without conditions.

    Raises:
        ConditionError: No value of a column satisfies the conditions.
        SchemaError: A condition names the code column.
    """
    where = model.encoding.restrict(conditions)
    if not where:
        return 1.0
    # One visit each: the static columns are drawn before any visit, so the rest of a record adds nothing.
    states, _ = model.generator.sample(
        MASS_DRAWS,
        rng=torch.Generator().manual_seed(MASS_SEED),
        lengths=np.ones(MASS_DRAWS, dtype=np.int64),
    )
    allowed = np.ones(MASS_DRAWS)
    for column, weights in where.items():
        allowed *= weights[states.statics[:, column]]
    return float(allowed.mean())
