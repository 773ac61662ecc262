"""The published Med-VAE's view of a table: imputed, min-max scaled, coded by what occurs in the rows.

Knows rows, and is fitted on them: ranges and vocabularies are the patients' own, so its provenance is
"data" and nothing made with it is private. The private encoding (`synthkit.data.encoding`) reads no row.

Source: Med-VAE, section 1.2 and supplementary text "Detailed Data Preparation" (page 19). What it leaves
open, and what is done here; "notebook" and "script" are Med-VAE.ipynb and OE_MICE.py of the repository
that section 1.1 names:
  - MICE is one completed table (the paper says multiple): scikit-learn's IterativeImputer, Bayesian ridge
    regressions in ten rounds over all columns at once, categories as their codes, rounded afterwards
    (script). Here it sees the training patients alone (the script: all, before the split), and no
    imputed value leaves the observed range. A table without empty cells is left as it is.
  - Imputation forgets which cells were empty: no synthetic cell is ever empty.
  - Ordinal columns are categorical, as the paper's foot and eye risk are. Event columns are binary.
  - A column of one single value is left out of the network and written back as that value (notebook:
    dropped).
  - "Drugs prescribed at a rate of less than 10%" are an option, for a schema does not know which columns
    are drugs: it drops each column of categories in which all levels but the most frequent stay below it.
  - Infinite values, for which the paper scans, are refused. So is a column without any value.
  - The notebook also clips every numeric column at its 99th percentile; the paper does not say so, and
    it is not done.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - scikit-learn's own switch
from sklearn.impute import IterativeImputer

from synthkit.data.encoding import fit_encoding
from synthkit.data.paper_columns import PROVENANCE, PaperColumn, Role, fit_column, meets
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.canonical import JsonObject
from synthkit.domain.conditions import Condition
from synthkit.domain.mixed import MixedLayout, MixedRows
from synthkit.domain.schema import Column, Schema
from synthkit.errors import InputError

MICE_ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class PaperEncoding:
    """All columns' parameters, in schema order. `schema` lacks the columns that were dropped as rare."""

    schema: Schema
    columns: tuple[PaperColumn, ...]

    def of(self, role: Role) -> tuple[PaperColumn, ...]:
        """The columns of a role, in schema order."""
        return tuple(column for column in self.columns if column.role is role)

    @property
    def layout(self) -> MixedLayout:
        """How many columns of which kind: all the network is told.

        Raises:
            InputError: Every column is constant.
        """
        if all(column.role is Role.CONSTANT for column in self.columns):
            raise InputError(
                "every column has one single value", where="the table", fix="there is nothing to learn"
            )
        return MixedLayout(
            numeric=len(self.of(Role.NUMERIC)),
            binary=len(self.of(Role.BINARY)),
            levels=tuple(len(column.levels) for column in self.of(Role.CATEGORICAL)),
        )

    def decode(self, rows: MixedRows) -> SyntheticTable:
        """Rows as a table: every cell present, numbers within the schema's bounds."""
        groups = {Role.NUMERIC: rows.numeric, Role.BINARY: rows.binary, Role.CATEGORICAL: rows.categories}
        values = {
            column.column.name: column.restore(groups[role][:, place])
            for role in groups
            for place, column in enumerate(self.of(role))
        }
        for column in self.of(Role.CONSTANT):
            values[column.column.name] = column.restore(np.zeros(len(rows)))
        frame = pd.DataFrame(values, columns=list(self.schema.names))
        return SyntheticTable(schema=self.schema, frame=frame)

    def satisfying(self, rows: MixedRows, conditions: Sequence[Condition]) -> np.ndarray:
        """Which rows meet every condition once decoded: bool, shape (rows,)."""
        frame = self.decode(rows).frame
        chosen = np.ones(len(rows), dtype=bool)
        for column in self.schema:
            if any(condition.column == column.name for condition in conditions):
                chosen &= meets(frame[column.name], column, conditions)
        return chosen

    def to_json(self) -> JsonObject:
        """What a model's header records."""
        return {"format": 1, "provenance": PROVENANCE, "columns": [c.to_json() for c in self.columns]}

    @classmethod
    def from_json(cls, document: JsonObject, schema: Schema) -> "PaperEncoding":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when it is no such document."""
        if document["format"] != 1 or [entry["name"] for entry in document["columns"]] != [*schema.names]:
            raise ValueError("the encoding is not the schema's")
        entries = zip(schema, document["columns"], strict=True)
        return cls(
            schema=schema, columns=tuple(PaperColumn.from_json(entry, column) for column, entry in entries)
        )


def prepare(table: PatientTable, *, rare_below: float, seed: int) -> tuple[PaperEncoding, MixedRows]:
    """Impute, fit and encode the training patients.

    Args:
        table: The training patients; every row counts as one.
        rare_below: Share of patients below which a column of categories is dropped; 0 keeps all.
        seed: The imputer's.

    Raises:
        SchemaError: A column cannot be generated as one value a patient.
        InputError: Fewer than two rows, an infinite value, a column without a value, or nothing left.
    """
    if len(table) < 2:
        raise InputError("BatchNorm needs at least two patients", where="the table", fix="use more patients")
    fit_encoding(table.schema)  # refuses code columns, and what is still to be bought
    kept = tuple(c for c in table.schema if not _is_rare(table.frame[c.name], c, rare_below))
    if not kept:
        raise InputError("every column is rarer than this", where="option --drop-rare", fix="lower it")
    dropped = set(table.schema.names) - {column.name for column in kept}
    names = tuple(name for name in table.schema.names if name in dropped)
    known = tuple(name for name in table.schema.quasi_identifiers if name not in names)
    ignored = (*table.schema.ignored, *names)
    schema = replace(table.schema, columns=kept, ignored=ignored, quasi_identifiers=known)
    fitted = [fit_column(table.frame[column.name], column) for column in kept]
    coded = np.column_stack([_code(table.frame[c.column.name], c) for c in fitted])
    coded = _impute(coded, fitted, seed)
    encoding = PaperEncoding(schema=schema, columns=tuple(fitted))
    return encoding, _grouped(coded, encoding)


def _is_rare(values: pd.Series, column: Column, below: float) -> bool:
    """Whether all levels but the most frequent one are held by less than this share of patients."""
    if column.is_numeric or below <= 0:
        return False
    counts = values.value_counts(dropna=True)
    return bool(len(counts)) and bool((counts.sum() - counts.iloc[0]) / counts.sum() < below)


def _code(values: pd.Series, fitted: PaperColumn) -> np.ndarray:
    """Scaled numbers or positions in the vocabulary, float64, shape (rows,); an empty cell is NaN."""
    if fitted.role is Role.CONSTANT:
        return np.zeros(len(values))
    if fitted.role is Role.NUMERIC:
        return fitted.scale(values.to_numpy(dtype=float))
    codes = pd.Categorical(values, categories=list(fitted.levels)).codes
    return np.where(codes < 0, np.nan, codes.astype(float))


def _impute(coded: np.ndarray, fitted: Sequence[PaperColumn], seed: int) -> np.ndarray:
    """The completed matrix, shape (rows, columns): numbers within [0, 1], codes whole and in range."""
    if not np.isnan(coded).any():
        return coded
    with warnings.catch_warnings():
        # Ten rounds are the published number, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        completed = IterativeImputer(max_iter=MICE_ROUNDS, random_state=seed).fit_transform(coded)
    highest: np.ndarray = np.array([max(1, len(column.levels) - 1) for column in fitted], dtype=float)
    is_code = np.array([column.role in (Role.BINARY, Role.CATEGORICAL) for column in fitted])
    within: np.ndarray = np.clip(completed, 0.0, highest)
    return np.where(is_code, np.rint(within), within)


def _grouped(coded: np.ndarray, encoding: PaperEncoding) -> MixedRows:
    def group(role: Role) -> np.ndarray:
        return coded[:, [column.role is role for column in encoding.columns]]

    return MixedRows(
        numeric=group(Role.NUMERIC),
        binary=group(Role.BINARY).astype(np.int64),
        categories=group(Role.CATEGORICAL).astype(np.int64),
    )
