"""One column as the published systems take it: its role, and a range or a vocabulary read off the rows.

Knows rows, and is fitted on them: what is kept here are the patients' own smallest and largest values and
the categories that occur, so nothing made with it is private. Knows no network: Med-VAE
(`synthkit.data.paper_encoding`) and MCM (`synthkit.data.paper_boxcox`) each add their own scaling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from synthkit.domain.canonical import JsonObject
from synthkit.domain.conditions import Condition, allowed
from synthkit.domain.schema import Column, Kind
from synthkit.errors import InputError

PROVENANCE = "data"
"""Where every parameter here comes from."""


class Role(StrEnum):
    """How the network sees a column."""

    NUMERIC = "numeric"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    CONSTANT = "constant"


@dataclass(frozen=True, kw_only=True)
class PaperColumn:
    """One column's parameters, read off the rows.

    `minimum` and `maximum` belong to a numeric column, `levels` (those that occur, in the schema's
    order) to one of categories; a constant has an equal minimum and maximum, or one level.
    """

    column: Column
    role: Role
    minimum: float = 0.0
    maximum: float = 0.0
    levels: tuple[str, ...] = ()

    def scale(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers in the column's unit to the range [0, 1]."""
        scaled: np.ndarray = (numbers - self.minimum) / (self.maximum - self.minimum)
        return scaled

    def restore(self, codes: np.ndarray) -> np.ndarray:
        """Inverse of scaling and coding, within the schema's bounds and at its decimals.

        The linear head knows no bounds; a released table has to keep the schema's.
        """
        if not self.column.is_numeric:
            texts: np.ndarray = np.array(self.levels, dtype=object)[codes.astype(np.int64)]
            return texts
        return self.rounded(self.minimum + codes * (self.maximum - self.minimum))

    def rounded(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers in the column's unit, within the schema's bounds and at its decimals."""
        low, high = float(self.column.minimum or 0.0), float(self.column.maximum or 0.0)
        per_one = 1.0 if self.column.is_whole else 10.0**self.column.decimals
        values: np.ndarray = np.clip(np.rint(np.clip(numbers, low, high) * per_one) / per_one, low, high)
        return values

    def to_json(self) -> JsonObject:
        """For a model's header."""
        return {
            "name": self.column.name,
            "role": self.role.value,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "levels": list(self.levels),
        }

    @classmethod
    def from_json(cls, document: JsonObject, column: Column) -> "PaperColumn":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when it is no such document."""
        role, levels = Role(document["role"]), tuple(document["levels"])
        low, high = float(document["minimum"]), float(document["maximum"])
        if role is not _role(column, len(levels) > 1 or low < high) or not {*levels} <= {*column.categories}:
            raise ValueError("the encoding is not the column's")
        return cls(column=column, role=role, minimum=low, maximum=high, levels=levels)


def fit_column(values: pd.Series, column: Column) -> PaperColumn:
    """A column's range or vocabulary.

    Raises:
        InputError: It holds an infinite value, or none at all.
    """
    where = f"column {column.name}"
    if values.isna().all():
        raise InputError("every cell is empty: nothing to impute from", where=where, fix="leave it out")
    if column.is_numeric:
        numbers = values.to_numpy(dtype=float)
        if np.isinf(numbers).any():
            raise InputError("holds an infinite value", where=where, fix="correct the cell")
        low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
        return PaperColumn(column=column, role=_role(column, low < high), minimum=low, maximum=high)
    levels = tuple(level for level in column.categories if (values == level).any())
    return PaperColumn(column=column, role=_role(column, len(levels) > 1), levels=levels)


def _role(column: Column, is_varied: bool) -> Role:
    if not is_varied:
        return Role.CONSTANT
    if column.is_numeric:
        return Role.NUMERIC
    return Role.BINARY if column.kind in (Kind.BINARY, Kind.EVENT) else Role.CATEGORICAL


def meets(values: pd.Series, column: Column, conditions: Sequence[Condition]) -> np.ndarray:
    """Which present cells meet the conditions on this column: bool, shape (rows,)."""
    rule = allowed(column, conditions)
    if not column.is_numeric:
        return np.asarray(values.isin([column.categories[index] for index in rule.categories]))
    numbers = values.to_numpy(dtype=float)
    inside: np.ndarray = (numbers >= rule.low) & (numbers <= rule.high) & ~np.isin(numbers, rule.excluded)
    return inside if rule.points is None else inside & np.isin(numbers, rule.points)
