"""From a table to times, events and covariates.

Knows frames of one schema. Refuses to fill a cell: rows with a missing time, event or covariate are left
out (complete cases), because an indicator of missingness would make hazard ratios mean something else; a
covariate that is missing more often than present leaves instead of the rows. Rules: a column of
categories becomes one term per level after the first, an ordinal one whose levels are numbers stays a
number; the terms are those of the schema, so that all tables have the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.domain.levels import to_decimal
from synthkit.domain.schema import Column, Kind
from synthkit.evaluation.survival_task import SurvivalTask

MOST_MISSING = 0.5
"""A covariate with a larger share of empty cells in any table is no covariate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SurvivalRows:
    """Complete cases: `time` float64 (rows,) above 0, `event` bool (rows,), `x` float64 (rows, terms).

    `source`: int64 (rows,), each row's position in the table it came from.
    """

    terms: tuple[str, ...]
    time: np.ndarray
    event: np.ndarray
    x: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return int(self.time.size)

    def take(self, rows: np.ndarray) -> "SurvivalRows":
        """Some of the rows, by position or mask."""
        return SurvivalRows(
            terms=self.terms,
            time=self.time[rows],
            event=self.event[rows],
            x=self.x[rows],
            source=self.source[rows],
        )


def survival_rows(frame: pd.DataFrame, task: SurvivalTask, covariates: tuple[Column, ...]) -> SurvivalRows:
    """The complete cases of a table; only rows with a time above 0."""
    columns = [(name, values) for column in covariates for name, values in _terms(frame, column)]
    x = np.column_stack([values for _, values in columns]) if columns else np.empty((len(frame), 0))
    time = frame[task.duration.name].to_numpy(dtype=float)
    known = ~np.isnan(x).any(axis=1) & frame[task.event.name].notna().to_numpy() & (time > 0)
    event = (frame[task.event.name] == task.event_level).to_numpy(dtype=bool)
    return SurvivalRows(
        terms=tuple(name for name, _ in columns),
        time=time[known],
        event=event[known],
        x=x[known],
        source=np.flatnonzero(known),
    )


def mostly_missing(frames: Iterable[pd.DataFrame], covariates: tuple[Column, ...]) -> tuple[str, ...]:
    """Names of the covariates that are missing more often than present in one of the tables."""
    tables = list(frames)
    return tuple(
        column.name
        for column in covariates
        if any(frame[column.name].isna().mean() > MOST_MISSING for frame in tables)
    )


def references(covariates: tuple[Column, ...]) -> dict[str, str]:
    """By column of categories: its first level, with which the others are compared."""
    return {c.name: c.categories[0] for c in covariates if not c.is_numeric and _scores(c) is None}


def _terms(frame: pd.DataFrame, column: Column) -> list[tuple[str, np.ndarray]]:
    cells = frame[column.name]
    if column.is_numeric:
        return [(column.name, cells.to_numpy(dtype=float))]
    scores = _scores(column)
    if scores is not None:
        return [(column.name, cells.map(scores).to_numpy(dtype=float))]
    missing = cells.isna().to_numpy()
    return [
        (f"{column.name} = {level}", np.where(missing, np.nan, (cells == level).to_numpy(dtype=float)))
        for level in column.categories[1:]
    ]


def _scores(column: Column) -> dict[str, float] | None:
    """The numbers that an ordinal column's levels are, if all of them are."""
    if column.kind is not Kind.ORDINAL:
        return None
    numbers = {level: to_decimal(level) for level in column.categories}
    scores = {level: float(number) for level, number in numbers.items() if number is not None}
    return scores if len(scores) == len(numbers) else None
