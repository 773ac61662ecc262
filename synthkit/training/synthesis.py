"""From a model to synthetic rows. Post-processing: costs no budget, however often it is done."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from synthkit.data.table import SyntheticTable
from synthkit.domain.conditions import Condition
from synthkit.errors import InputError
from synthkit.training.artefact import Model
from synthkit.training.paper import PaperModel


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Generated rows; `reliability` in (0, 1] is what the generator says of its conditional draw.

    1.0: as good as unconditional rows. Near 0: the model has next to no mass for the conditions, and the
    rows lean on few latent draws or on privacy noise. Of a model in the paper's mode it is the share of
    its draws that met the conditions.
    """

    table: SyntheticTable
    reliability: float


def synthesize(
    model: Model | PaperModel, count: int, *, seed: int, conditions: Sequence[Condition] = ()
) -> Synthesis:
    """Generate rows; the same seed gives the same rows from the same model.

    Raises:
        InputError: `count` is below 1.
        ConditionError: No value satisfies the conditions.
    """
    if count < 1:
        raise InputError("the number of rows must be at least 1", where="option -n")
    if isinstance(model, PaperModel):
        table, met = model.draw(count, seed=seed, conditions=conditions)
        return Synthesis(table=table, reliability=met)
    encoding = model.encoding
    where = encoding.restrict(conditions)
    states, reliability = model.generator.sample(
        count, rng=torch.Generator().manual_seed(seed), where=where or None
    )
    table = encoding.decode(states, np.random.default_rng(seed), conditions)
    return Synthesis(table=table, reliability=reliability)
