"""Buying what a schema leaves open: bounds, bins, spikes, categories and caps of records, with budget.

Knows a draft, its patients' rows and the noise that was reserved. Refuses to look at a row but through
`synthkit.privacy.mechanisms`. Rules: numbers of all columns are bought by one mechanism and names by
another; what a draft states where something is to be bought is ignored; the completed schema is
post-processing of the two releases, and is all that later steps see.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from synthkit.data.checking import category_lookup, clamped
from synthkit.data.grids import (
    Division,
    cap_grid,
    cap_of_most,
    coarse_grid,
    divide,
    fine_grid,
    inhabited_range,
    per_one,
)
from synthkit.data.inference import ordered
from synthkit.data.table import PatientTable, RowsOfCodes
from synthkit.domain.levels import canonical_number
from synthkit.domain.privacy import GaussianEvent, GaussianThresholdEvent, PrivacyEvent
from synthkit.domain.record_caps import LARGEST_VISITS, RecordCaps
from synthkit.domain.record_caps import NAME as CAPS
from synthkit.domain.schema import OTHER, Column, Kind, Provenance, Schema
from synthkit.domain.vocabulary import CodeType, typed_by
from synthkit.errors import SchemaError
from synthkit.privacy.mechanisms import Cells, Names, NoisyCounts, common_names, noisy_counts

MOST_NAMES = 8
"""Names of one column that one patient supports where patients may have several rows; else 1."""

VISIT_OCTAVES, CODE_OCTAVES = 10, 9
"""Caps on a record's visits and on a visit's codes are powers of two, at most these."""

OVER_CAP = 0.01
"""Share of patients whose record may be longer than its bought cap, and so is cut."""

MOST_CODES = 32
"""Codes that one patient supports: the most frequent of the patient's own. Chosen on simulated patients."""


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """The noise that a draft's open columns are bought with. Everything in it is public."""

    draft: Schema
    noise_multiplier: float
    """Of both mechanisms together: their precisions add up to one mechanism of this noise."""

    failure_delta: float

    @property
    def numbers(self) -> tuple[Column, ...]:
        """The columns whose bins, and perhaps bounds, are bought."""
        return tuple(column.blank for column in self.draft if column.is_to_buy and column.is_numeric)

    @property
    def names(self) -> tuple[Column, ...]:
        """The columns whose categories are bought."""
        return tuple(column.blank for column in self.draft if column.is_to_buy and not column.is_numeric)

    @property
    def has_caps(self) -> bool:
        """Whether caps of records are bought."""
        return self.draft.caps is not None and self.draft.caps.is_to_buy

    @property
    def events(self) -> tuple[PrivacyEvent, ...]:
        """What the purchase costs."""
        events: tuple[PrivacyEvent, ...] = ()
        if self._histograms:
            events += (GaussianEvent(noise_multiplier=self.numbers_noise),)
        if self.names:
            events += (
                GaussianThresholdEvent(noise_multiplier=self.names_noise, failure_delta=self.failure_delta),
            )
        return events

    @property
    def numbers_noise(self) -> float:
        """Noise multiplier of the numbers' mechanism: every histogram of either gets the same noise."""
        return self._noise_for(self._histograms)

    @property
    def names_noise(self) -> float:
        """Noise multiplier of the names' mechanism."""
        return self._noise_for(len(self.names))

    @property
    def _histograms(self) -> int:
        return sum(1 if column.minimum is not None else 2 for column in self.numbers) + 2 * self.has_caps

    def _noise_for(self, parts: int) -> float:
        exact = self.noise_multiplier * math.sqrt((self._histograms + len(self.names)) / parts)
        return math.ceil(exact * 100) / 100


def buy(table: PatientTable, purchase: Purchase) -> Schema:
    """Draw what the draft leaves open. Every call is a new release and costs `purchase.events`.

    Args:
        table: Rows read with the draft: where something is to be bought, any number or text.
        purchase: The noise, as it was reserved.

    Returns:
        The completed schema.

    Raises:
        SchemaError: Noise hides a column's range: too few patients hold a value. The cost stands.
    """
    numbers, caps = _buy_numbers(table, purchase)
    bought = {column.name: column for column in (*numbers, *_buy_names(table, purchase))}
    columns = tuple(bought.get(column.name, column) for column in purchase.draft)
    return replace(purchase.draft, columns=columns, caps=caps)


def _buy_numbers(table: PatientTable, purchase: Purchase) -> tuple[list[Column], RecordCaps | None]:
    """Numeric columns and caps: all by one mechanism."""
    wanted = [cells for column in purchase.numbers for cells in _cells(table, column)]
    if purchase.has_caps:
        wanted += _sizes(table)
    if not wanted:
        return [], purchase.draft.caps
    found = iter(noisy_counts(table.patients, wanted, noise_multiplier=purchase.numbers_noise))
    columns = [_divided(column, found) for column in purchase.numbers]
    return columns, _capped(found) if purchase.has_caps else purchase.draft.caps


def _sizes(table: PatientTable) -> Iterator[Cells]:
    """A patient's visits, and codes of the fullest: the same in all of a patient's rows, which count 1."""
    if not isinstance(table, RowsOfCodes):
        raise RuntimeError("caps are bought from rows of codes")
    codes = table.frame[table.schema.code.name]
    rows = pd.DataFrame({"patient": table.patients, "visit": table.visits, "code": pd.factorize(codes)[0]})
    visits = rows.groupby("patient")["visit"].nunique()
    distinct = rows[rows["code"] >= 0].drop_duplicates().groupby(["patient", "visit"]).size()
    fullest = distinct.groupby("patient").max().reindex(visits.index, fill_value=1)
    for sizes, octaves in ((visits, VISIT_OCTAVES), (fullest, CODE_OCTAVES)):
        grid = cap_grid(octaves)
        numbers = sizes.loc[table.patients].to_numpy(dtype=np.float64)
        yield Cells(cells=grid.cells(numbers, 1.0), size=grid.size, is_running=True)


def _capped(found: Iterator[NoisyCounts]) -> RecordCaps:
    caps = [
        cap_of_most(cap_grid(octaves), next(found), over=OVER_CAP)
        for octaves in (VISIT_OCTAVES, CODE_OCTAVES)
    ]
    if None in caps:
        raise SchemaError(
            "noise hides how long records are: too few patients at this epsilon",
            where=CAPS,
            fix="spend more on it, or give public caps",
        )
    return RecordCaps(
        most_visits=min(caps[0] or 1, LARGEST_VISITS), most_codes=caps[1], provenance=Provenance.DP
    )


def _cells(table: PatientTable, column: Column) -> Iterator[Cells]:
    """The rows on the coarse grid, unless the bounds are public, and on the fine one."""
    numbers, units = table.frame[column.name].to_numpy(dtype=float), per_one(column)
    if column.minimum is None:
        coarse = coarse_grid(column)
        yield Cells(cells=coarse.cells(numbers, units), size=coarse.size)
    fine = fine_grid(column)
    yield Cells(cells=fine.cells(numbers, units), size=fine.size, is_running=True)


def _divided(column: Column, found: Iterator[NoisyCounts]) -> Column:
    """The column with bounds and bins read off its one or two noisy histograms."""
    units, grid = per_one(column), fine_grid(column)
    if column.minimum is None:
        bounds = inhabited_range(coarse_grid(column), next(found))
        if bounds is None:
            raise SchemaError(
                "noise hides its range: too few patients hold a value at this epsilon",
                where=f"column {column.name}",
                fix="spend more on it, or give public bounds",
            )
        division = divide(grid, next(found), *bounds, is_whole=column.is_whole)
        low, high = bounds
        return _completed(replace(column, minimum=low / units, maximum=high / units), division, units)
    low, high = int(grid.starts[0]), grid.last
    return _completed(column, divide(grid, next(found), low, high, is_whole=column.is_whole), units)


def _completed(column: Column, division: Division, units: float) -> Column:
    spikes = sorted({*column.spikes, *(spike / units for spike in division.spikes)})
    return replace(column, spikes=tuple(spikes), edges=tuple(edge / units for edge in division.edges))


def _buy_names(table: PatientTable, purchase: Purchase) -> Iterator[Column]:
    if not purchase.names:
        return
    wanted = [
        Names(
            names=_canonical(table.frame[column.name]),
            most_per_patient=_most_per_patient(column, purchase.draft),
        )
        for column in purchase.names
    ]
    found = common_names(
        table.patients,
        wanted,
        noise_multiplier=purchase.names_noise,
        failure_delta=purchase.failure_delta,
    )
    for column, names in zip(purchase.names, found, strict=True):
        levels = ordered([name for name in names if name != OTHER])
        yield _listed(column, (*levels, OTHER))


def _listed(column: Column, levels: tuple[str, ...]) -> Column:
    """The column with its bought list; with a rule for types sorted by them, `OTHER` untyped and last."""
    if not column.prefixes:
        return replace(column, categories=levels)
    kinds = [*dict.fromkeys(kind for _, kind in column.prefixes if kind is not CodeType.UNTYPED)]
    order = [*kinds, CodeType.UNTYPED]
    typed = [(level, typed_by(column.prefixes, level)) for level in levels[:-1]]
    typed = [*sorted(typed, key=lambda one: order.index(one[1])), (OTHER, CodeType.UNTYPED)]
    names, types = zip(*typed, strict=True)
    return replace(column, categories=names, types=types)


def _most_per_patient(column: Column, draft: Schema) -> int:
    """How many different names of a column one patient may support: public."""
    if draft.is_longitudinal:
        return MOST_CODES if column.kind is Kind.CODE else 1
    return MOST_NAMES if draft.patient_id is not None else 1


def _canonical(texts: pd.Series) -> np.ndarray:
    """Texts with numbers in their shortest form, so that 1 and 1.0 support one name."""
    codes, levels = pd.factorize(texts)
    short = [canonical_number(str(level)) or str(level) for level in levels]
    names: np.ndarray = np.array([*short, None], dtype=object)[codes]
    return names


def conform(table: PatientTable, schema: Schema) -> PatientTable:
    """Rows read with a draft, as reading them with its completed schema would give them."""
    frame = pd.DataFrame({column.name: _conformed(table.frame[column.name], column) for column in schema})
    return replace(table, schema=schema, frame=frame)


def _conformed(values: pd.Series, column: Column) -> pd.Series:
    if not column.is_bought:
        return values
    if column.is_numeric:
        return pd.Series([clamped(number, column) for number in values], index=values.index, dtype=float)
    known = category_lookup(column.categories)
    names = _canonical(values)
    texts = [None if name is None else known.get(name, OTHER) for name in names]
    return pd.Series(texts, index=values.index, dtype=object)
