"""The published MCM's view of a table: Box-Cox, rescaled to [0, 1], an empty cell masked.

Knows rows, and is fitted on them: powers, ranges and vocabularies are the patients' own, so its provenance
is "data" and nothing made with it is private. The private encoding (`synthkit.data.encoding`) reads no row.

Two forms of a row: *values*, float64, shape (rows, columns), a number in the column's unit or the position
of a level, an empty cell NaN; and *features*, float64, shape (rows, features), each within [0, 1].

Source: Kuo, Gallego and Jorm, Masked Clinical Modelling, section 2.2. What it leaves open, and what is done
here; "notebook" is the authors' WHAS500 notebook:
  - Box-Cox needs positive numbers: 1 is added first (notebook), and in a column with values below zero as
    much as makes the smallest one 1. The power is the likelihood's best within -5 to 5; on WHAS500 the six
    powers agree with those that the notebook has as constants to five digits.
  - Empty cells (the paper's data have none): masked, whatever is masked besides, and without a part in the
    loss. So MCM itself fills them, and no synthetic cell is ever empty.
  - Columns of more than two levels (the paper's data have none): an ordinal one is its position, rescaled;
    a categorical one has a feature a level, masked together, of which the largest is taken.
  - Back again: a number is rounded to the schema's decimals and kept within its bounds, and of two levels
    the nearer one is taken (notebook: above 0.5).
  - A column of one single value is no feature and is written back as that value.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import boxcox, inv_boxcox
from scipy.stats import boxcox_llf

from synthkit.data.encoding import fit_encoding
from synthkit.data.paper_columns import PROVENANCE, PaperColumn, Role, fit_column
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import JsonObject
from synthkit.domain.schema import Kind, Schema
from synthkit.errors import InputError

POWERS = (-5.0, 5.0)
"""Least and greatest power that is tried."""


@dataclass(frozen=True, kw_only=True)
class BoxCoxColumn:
    """A column's range or vocabulary with its Box-Cox power; `centre` is the geometric mean of the rows.

    Dividing by the centre changes neither the best power nor the rescaled values; without it a power of a
    large number loses its digits.
    """

    fitted: PaperColumn
    power: float = 1.0
    centre: float = 1.0

    @property
    def width(self) -> int:
        """How many features the column has."""
        if self.fitted.role is Role.CONSTANT:
            return 0
        return len(self.fitted.levels) if self._is_nominal else 1

    @property
    def _is_nominal(self) -> bool:
        return self.fitted.role is Role.CATEGORICAL and self.fitted.column.kind is not Kind.ORDINAL

    def code(self, cells: pd.Series) -> np.ndarray:
        """Values, float64, shape (rows,); NaN where empty, or a level that no training patient has."""
        if self.fitted.column.is_numeric:
            numbers: np.ndarray = cells.to_numpy(dtype=float)
            return numbers
        positions = pd.Categorical(cells, categories=list(self.fitted.levels)).codes
        return np.where(positions < 0, np.nan, positions.astype(float))

    def features(self, values: np.ndarray) -> np.ndarray:
        """Features of values, float64, shape (rows, width), 0 where empty."""
        present = ~np.isnan(values)
        filled = np.where(present, values, self.fitted.minimum)
        coded: np.ndarray
        if self._is_nominal:
            coded = np.eye(self.width)[filled.astype(np.int64)]
        elif self.fitted.role is Role.NUMERIC:
            low, high = self._ends
            coded = ((self._transformed(filled) - low) / (high - low)).clip(0, 1)[:, None]
        else:
            coded = (filled / (len(self.fitted.levels) - 1))[:, None]
        return np.where(present[:, None], coded, 0.0)

    def values(self, features: np.ndarray) -> np.ndarray:
        """Values of features, float64, shape (rows,), as the schema writes them; none is empty."""
        if self.fitted.role is Role.NUMERIC:
            low, high = self._ends
            scaled: np.ndarray = inv_boxcox(low + features[:, 0] * (high - low), self.power)
            return self.fitted.rounded(scaled * self.centre - self._shift)
        if self._is_nominal:
            best: np.ndarray = features.argmax(axis=1).astype(float)
            return best
        whole: np.ndarray = np.rint(features[:, 0] * (len(self.fitted.levels) - 1))
        return whole

    def cells(self, values: np.ndarray) -> np.ndarray:
        """Cells of values; an empty one is NaN, or None in a column of categories."""
        if self.fitted.column.is_numeric:
            return values
        levels = np.array([*self.fitted.levels, None], dtype=object)
        cells: np.ndarray = levels[np.where(np.isnan(values), len(levels) - 1, values).astype(np.int64)]
        return cells

    @property
    def _shift(self) -> float:
        return 1.0 - min(0.0, self.fitted.minimum)

    @property
    def _ends(self) -> tuple[float, float]:
        """The smallest and the largest patient's value, transformed."""
        low, high = self._transformed(np.array([self.fitted.minimum, self.fitted.maximum]))
        return float(low), float(high)

    def _transformed(self, numbers: np.ndarray) -> np.ndarray:
        within = numbers.clip(self.fitted.minimum, self.fitted.maximum)
        transformed: np.ndarray = boxcox((within + self._shift) / self.centre, self.power)
        return transformed

    def to_json(self) -> JsonObject:
        """For a model's header."""
        return {**self.fitted.to_json(), "power": self.power, "centre": self.centre}


@dataclass(frozen=True, kw_only=True)
class BoxCoxEncoding:
    """All columns' parameters, in schema order."""

    schema: Schema
    columns: tuple[BoxCoxColumn, ...]

    @cached_property
    def owners(self) -> np.ndarray:
        """The column of each feature, int64, shape (features,)."""
        widths = [column.width for column in self.columns]
        return np.repeat(np.arange(len(widths), dtype=np.int64), widths)

    @property
    def varied(self) -> np.ndarray:
        """The columns that have a feature, int64, ascending: the paper's N features."""
        return np.unique(self.owners)

    def code(self, frame: pd.DataFrame) -> np.ndarray:
        """A table's cells as values; see the module docstring."""
        return np.column_stack([c.code(frame[c.fitted.column.name]) for c in self.columns])

    def features(self, values: np.ndarray) -> np.ndarray:
        """Values as features, 0 where a cell is empty."""
        parts = [c.features(values[:, place]) for place, c in enumerate(self.columns) if c.width]
        return np.concatenate(parts, axis=1)

    def values(self, features: np.ndarray) -> np.ndarray:
        """Features as values, every cell present."""
        made = np.zeros((len(features), len(self.columns)))
        for place, column in enumerate(self.columns):
            own = features[:, self.owners == place]
            made[:, place] = column.values(own) if column.width else column.fitted.minimum
        return made

    def table(self, values: np.ndarray) -> SyntheticTable:
        """Values as a table."""
        cells = {c.fitted.column.name: c.cells(values[:, place]) for place, c in enumerate(self.columns)}
        return SyntheticTable(schema=self.schema, frame=pd.DataFrame(cells, columns=list(self.schema.names)))

    def to_json(self) -> JsonObject:
        """What a model's header records."""
        return {"format": 1, "provenance": PROVENANCE, "columns": [c.to_json() for c in self.columns]}

    @classmethod
    def from_json(cls, document: JsonObject, schema: Schema) -> "BoxCoxEncoding":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when it is no such document."""
        if document["format"] != 1 or [entry["name"] for entry in document["columns"]] != [*schema.names]:
            raise ValueError("the encoding is not the schema's")
        entries = zip(schema, document["columns"], strict=True)
        columns = tuple(
            BoxCoxColumn(
                fitted=PaperColumn.from_json(entry, column),
                power=float(entry["power"]),
                centre=float(entry["centre"]),
            )
            for column, entry in entries
        )
        if any(not (POWERS[0] <= c.power <= POWERS[1] and 0 < c.centre < np.inf) for c in columns):
            raise ValueError("a power or a centre is out of range")
        return cls(schema=schema, columns=columns)


def fit_boxcox(table: PatientTable) -> BoxCoxEncoding:
    """Read powers, ranges and vocabularies off the training patients; every row counts as one.

    Raises:
        SchemaError: A column cannot be generated as one value a patient.
        InputError: No row, an infinite value, a column without a value, or every column constant.
    """
    if not len(table):
        raise InputError("there is no patient to learn from", where="the table", fix="use more patients")
    fit_encoding(table.schema)  # refuses code columns, and what is still to be bought
    columns = tuple(_fitted(table.frame[c.name], fit_column(table.frame[c.name], c)) for c in table.schema)
    if not any(column.width for column in columns):
        raise InputError(
            "every column has one single value", where="the table", fix="there is nothing to learn"
        )
    return BoxCoxEncoding(schema=table.schema, columns=columns)


def _fitted(cells: pd.Series, fitted: PaperColumn) -> BoxCoxColumn:
    """The column with the power of greatest likelihood."""
    if fitted.role is not Role.NUMERIC:
        return BoxCoxColumn(fitted=fitted)
    shifted = cells.dropna().to_numpy(dtype=float) + BoxCoxColumn(fitted=fitted)._shift
    centre = float(np.exp(np.log(shifted).mean()))
    return BoxCoxColumn(fitted=fitted, power=_power(shifted / centre), centre=centre)


def _power(numbers: np.ndarray) -> float:
    """The power of greatest likelihood; 1 where two values leave every power the same."""
    if np.unique(numbers).size < 3:
        return 1.0
    found = minimize_scalar(lambda power: -boxcox_llf(power, numbers), bounds=POWERS, method="bounded")
    return float(found.x)


def masks(counts: np.ndarray, columns: int, rng: np.random.Generator) -> np.ndarray:
    """That many random columns of each row: bool, shape (rows, columns), True where masked.

    Args:
        counts: How many to mask in each row, int64, shape (rows,).
        columns: Among how many.
        rng: Decides which.
    """
    ranks = rng.random((len(counts), columns)).argsort(axis=1).argsort(axis=1)
    chosen: np.ndarray = ranks < counts[:, None]
    return chosen
