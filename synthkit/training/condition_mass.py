"""How many patients meet conditions, by the model alone; and what its reliability under them means.

Knows models of either mode. Refuses rows of patients: the share is the model's own, so it is
post-processing and may leave. Rule: it is the same number at generation, at sealing and in any report;
where the model tells it by drawing, it draws with one fixed seed, so that nobody can look for the seed
by which a rare group comes out less rare.
"""

from collections.abc import Sequence

import numpy as np
import torch

from synthkit.data.table import SyntheticTable
from synthkit.domain.conditions import Condition, allowed
from synthkit.training.artefact import Model
from synthkit.training.paper import PaperModel

MASS_SEED = 0

PAPER_DRAWS = 20_000
"""Draws of a published system: at a share of 0.001 the standard error is a fifth of it."""


def condition_mass(model: Model | PaperModel, conditions: Sequence[Condition]) -> float:
    """Share of patients who meet all (checked) conditions, by the model: 0 to 1; 1 without conditions.

    Raises:
        ConditionError: No value satisfies the conditions.
    """
    if not conditions:
        return 1.0
    if isinstance(model, PaperModel):
        table, _ = model.draw(PAPER_DRAWS, seed=MASS_SEED)
        return float(_satisfying(table, conditions).mean())
    where = model.encoding.restrict(conditions)
    return model.generator.mass(where, rng=torch.Generator().manual_seed(MASS_SEED))


def reliability_text(model: Model | PaperModel, reliability: float) -> str:
    """A reliability and what it means in this model: `reliability 0.83: about 83 % of ...`."""
    words = model.reliability_words if isinstance(model, PaperModel) else model.generator.reliability_words
    return f"reliability {reliability:.2f}: {words.format(share=f'{100 * reliability:.0f} %')}"


def _satisfying(table: SyntheticTable, conditions: Sequence[Condition]) -> np.ndarray:
    """Which rows meet all conditions: bool, shape (rows,)."""
    met = np.ones(len(table), dtype=bool)
    for name in dict.fromkeys(condition.column for condition in conditions):
        column, cells = table.schema.column(name), table.frame[name]
        rule = allowed(column, conditions)
        if column.is_numeric:
            permitted = np.array([rule.permits(value) for value in cells.to_numpy(dtype=float)])
        else:
            permitted = cells.isin([column.categories[place] for place in rule.categories]).to_numpy()
        met &= permitted | (cells.isna().to_numpy() & rule.missing)
    return met
