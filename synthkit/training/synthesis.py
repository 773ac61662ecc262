"""From a model to rows, whole ones or partial ones completed. Post-processing: costs no budget, ever."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch

from synthkit.data.encoding import Encoding
from synthkit.data.partial import CompletedTable, PartialTable, stack
from synthkit.data.table import SyntheticTable
from synthkit.domain.conditions import Condition
from synthkit.errors import InputError
from synthkit.generators.base import UNKNOWN
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


@runtime_checkable
class Completer(Protocol):
    """A published system's model that completes rows in a way of its own; see `complete`."""

    def complete(self, partial: PartialTable, *, seed: int, copies: int) -> CompletedTable:
        """The rows `copies` times over, each time filled anew."""
        ...


def completing(model: Model | PaperModel | Completer) -> Model | Completer:
    """The same model, if it can complete rows: to be asked before anything is read.

    Raises:
        InputError: It is the published Med-VAE.
    """
    if isinstance(model, Model | Completer):
        return model
    raise InputError(
        "the published Med-VAE decodes whole rows and cannot complete partial ones",
        where="a model of --mode paper",
        fix="train without --mode paper",
    )


def complete(
    model: Model | PaperModel | Completer, partial: PartialTable, *, seed: int, copies: int = 1
) -> CompletedTable:
    """Fill the unknown cells of partial rows; the same seed gives the same cells from the same model.

    Each row's unknown cells are drawn jointly given its known ones; of a number, the model sees the bin it
    lies in. No row is drawn given another, one patient's several rows neither.

    Args:
        model: What draws.
        partial: Rows read by the model's own schema.
        seed: Of every draw.
        copies: How often the whole table is completed anew; one completion stands after another, the first
            being that of `copies` 1.

    Raises:
        InputError: `copies` is below 1; the model cannot complete rows, or has another schema.
    """
    if copies < 1:
        raise InputError("the number of copies must be at least 1", where="option --copies")
    able = completing(model)
    if isinstance(able, Completer):
        return able.complete(partial, seed=seed, copies=copies)
    if partial.schema.digest != able.schema.digest:
        raise InputError("the partial rows are of another schema", fix="read them by the model's own")
    encoding, noise, rng = able.encoding, torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    seen = [column.encode(partial.values[column.column.name]) for column in encoding.columns]
    states = np.where(partial.known, np.column_stack(seen), UNKNOWN)
    completions = []
    for _ in range(copies):
        filled = able.generator.complete(states, rng=noise)
        completions.append(partial.fill(_drawn_cells(encoding, filled, ~partial.known, rng)))
    return stack(completions)


def _drawn_cells(
    encoding: Encoding, states: np.ndarray, is_drawn: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    """Values of the drawn cells, each column's by itself: given ones have no part in where in its bin a
    drawn number lies. Nothing stands in the others.
    """
    values = {}
    for place, column in enumerate(encoding.columns):
        rows = is_drawn[:, place]
        cells = np.full(len(states), np.nan if column.column.is_numeric else None)
        cells[rows] = column.decode(states[rows, place], rng, ())
        values[column.column.name] = cells
    return pd.DataFrame(values)
