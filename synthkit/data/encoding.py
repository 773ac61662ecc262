"""Encoding: from a table to states and back. A function of the schema alone.

Knows bins, categories and the missing state. Refuses to look at a row when it is made: every
parameter comes from the schema's bounds and categories, public or bought, so it may leave with a model.
Fitting on any two sets of patients gives the same bytes.

Every column becomes one categorical variable. A numeric column's states are its declared spikes, then
its bins; a whole-number column of few values has one state a value. The likelihood then is a
histogram's, which keeps skew, gaps and heaps that a squared error smooths away. A value is decoded
within its bin, leaning towards the fuller neighbour (see `within_bins`), or uniformly under a condition
on its column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.data.within_bins import places
from synthkit.domain.canonical import JsonObject
from synthkit.domain.conditions import Allowed, Condition, allowed
from synthkit.domain.layout import Layout, PatientStates, StateWeights
from synthkit.domain.schema import Column, Kind, Scale, Schema
from synthkit.errors import ConditionError, SchemaError

BINS = 32
"""Bins of a numeric column. More bins follow a shape more closely and cost private training more noise."""

MOST_ROWS = 50
"""Rows of one patient that are trained on: bounds memory. Privacy does not rest on it."""

MAX_SINGLE_VALUES = 48
"""A whole-number column with at most this many possible values gets one state per value."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnEncoding:
    """One column's states: `spikes`, then bins between `edges`, or the categories; then missing.

    Bin i holds edges[i] <= x < edges[i + 1] (the last bin includes its upper edge). For whole numbers
    the edges lie on half numbers.
    """

    column: Column
    edges: np.ndarray

    @property
    def spikes(self) -> tuple[float, ...]:
        """Values with a state of their own."""
        return self.column.spikes

    @property
    def present_states(self) -> int:
        """Number of states that mean a value."""
        if self.column.is_numeric:
            return len(self.spikes) + self.edges.size - 1
        return len(self.column.categories)

    @property
    def states(self) -> int:
        """Number of states, missing included where allowed."""
        return self.present_states + int(self.column.missing)

    def encode(self, values: pd.Series) -> np.ndarray:
        """States of a column's values, int64, shape (rows,)."""
        if self.column.is_numeric:
            return self._encode_numbers(values.to_numpy(dtype=float))
        codes = pd.Categorical(values, categories=list(self.column.categories)).codes.astype(np.int64)
        return np.where(codes < 0, self.present_states, codes)

    def _encode_numbers(self, numbers: np.ndarray) -> np.ndarray:
        bins = np.searchsorted(self.edges, numbers, side="right") - 1
        states = np.clip(bins, 0, self.edges.size - 2) + len(self.spikes)
        for state, spike in enumerate(self.spikes):
            states[numbers == spike] = state
        states[np.isnan(numbers)] = self.present_states
        return states.astype(np.int64)

    @property
    def unit(self) -> float:
        """Distance between neighbouring released values: 1 for whole numbers."""
        return 1.0 if self.column.is_whole else 10.0**-self.column.decimals

    def weights(self, conditions: Sequence[Condition]) -> np.ndarray:
        """Share of each state that the conditions allow, float64, shape (states,)."""
        rule = allowed(self.column, conditions)
        weights = np.zeros(self.states)
        if not self.column.is_numeric:
            weights[list(rule.categories)] = 1.0
        else:
            values = [rule.permits(spike) for spike in self.spikes]
            bins = [self._bin_share(low, high, rule) for low, high in pairwise(self.edges)]
            weights[: self.present_states] = [*values, *bins]
        if self.column.missing:
            weights[-1] = float(rule.missing)
        return weights

    def _bin_share(self, low: float, high: float, rule: Allowed) -> float:
        """Share of a bin's released values that the rule permits."""
        if rule.points is not None:
            return _count(rule.points, low, high) / max(1, self._values_between(low, high))
        inside = self._values_between(max(low, rule.low), min(high, rule.high))
        permitted = inside - _count(rule.excluded, max(low, rule.low), min(high, rule.high))
        return max(0, permitted) / max(1, self._values_between(low, high))

    def _values_between(self, low: float, high: float) -> int:
        """Number of released values in [low, high]."""
        first, last = np.ceil(low / self.unit - 1e-6), np.floor(high / self.unit + 1e-6)
        return max(0, int(last - first) + 1)

    def decode(
        self, states: np.ndarray, rng: np.random.Generator, conditions: Sequence[Condition]
    ) -> np.ndarray:
        """Values of the states: float64 (missing: NaN), or object text (missing: None)."""
        if not self.column.is_numeric:
            levels = np.array([*self.column.categories, None], dtype=object)
            texts: np.ndarray = levels[states]
            return texts
        rule = allowed(self.column, conditions)
        is_spike, is_missing = states < len(self.spikes), states == self.present_states
        bins = np.clip(states - len(self.spikes), 0, self.edges.size - 2)
        is_free = all(condition.column != self.column.name for condition in conditions)
        present = ~(is_spike | is_missing)
        values = np.zeros(states.size)
        values[present] = self._draw(bins[present], rng, rule, is_free=is_free)
        values[is_spike] = np.array([*self.spikes, 0.0])[np.where(is_spike, states, -1)][is_spike]
        values[is_missing] = np.nan
        return values

    def _draw(
        self, bins: np.ndarray, rng: np.random.Generator, rule: Allowed, *, is_free: bool
    ) -> np.ndarray:
        """A released value within each bin that the rule permits.

        Uniformly unless the column is free of conditions: under one, the bins next to those allowed are
        empty whatever the density.
        """
        if rule.points is not None:
            return self._draw_points(bins, rng, rule.points)
        margin = self.unit / 2
        low = np.maximum(self.edges[bins], rule.low - margin)
        high = np.maximum(low, np.minimum(self.edges[bins + 1], rule.high + margin))
        # A whole number of units divided by a power of ten is the float that the released text means.
        per_one = 1.0 if self.column.is_whole else 10.0**self.column.decimals
        place = places(bins, self.edges, rng) if is_free else rng.random(bins.size)
        drawn = np.rint((low + (high - low) * place) * per_one) / per_one
        values: np.ndarray = np.clip(drawn, rule.low, rule.high)
        for _ in rule.excluded:  # each pass moves on from one excluded value; the highest is never excluded
            hit = np.isin(values, rule.excluded)
            values = np.where(hit, np.rint(values * per_one + 1.0) / per_one, values)
        return values

    def _draw_points(
        self, bins: np.ndarray, rng: np.random.Generator, points: tuple[float, ...]
    ) -> np.ndarray:
        """One of the listed values within each bin."""
        values = np.full(bins.size, np.nan)
        for index in np.unique(bins):
            low, high = self.edges[index], self.edges[index + 1]
            inside = [point for point in points if low <= point <= high]
            rows = bins == index
            if inside:
                values[rows] = rng.choice(inside, size=int(rows.sum()))
        return values


def _count(values: Sequence[float], low: float, high: float) -> int:
    return sum(low <= value <= high for value in values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """All columns' encodings, in schema order."""

    schema: Schema
    columns: tuple[ColumnEncoding, ...]

    @property
    def layout(self) -> Layout:
        """Number of states per column: all a generator is told."""
        return Layout(
            names=self.schema.names,
            states=tuple(c.states for c in self.columns),
            missing=tuple(c.column.missing for c in self.columns),
            spikes=tuple(len(c.spikes) for c in self.columns),
            bins=tuple(c.edges.size - 1 if c.column.is_numeric else 0 for c in self.columns),
            timed=_timed(self.schema),
        )

    def encode(self, table: PatientTable) -> np.ndarray:
        """States of every row, int64, shape (rows, columns)."""
        return np.column_stack([c.encode(table.frame[c.column.name]) for c in self.columns])

    def encode_patients(self, table: PatientTable) -> PatientStates:
        """States of every row, patient by patient; at most `MOST_ROWS` of one, spread over their rows."""
        order = np.argsort(table.patients, kind="stable")
        counts = np.unique(table.patients, return_counts=True)[1]
        states = self.encode(table)[order]
        if counts.max(initial=0) > MOST_ROWS:
            ends = np.cumsum(counts)
            kept = [
                np.unique(np.linspace(e - n, e - 1, min(n, MOST_ROWS)).astype(int))
                for e, n in zip(ends, counts, strict=True)
            ]
            states, counts = states[np.concatenate(kept)], np.array([rows.size for rows in kept])
        return PatientStates(states=states, starts=np.concatenate([[0], np.cumsum(counts)]))

    def decode(
        self, states: np.ndarray, rng: np.random.Generator, conditions: Sequence[Condition] = ()
    ) -> SyntheticTable:
        """Rows of the states, shape (rows, columns), every condition honoured exactly."""
        values = {
            c.column.name: c.decode(states[:, index], rng, conditions) for index, c in enumerate(self.columns)
        }
        # The arrays are new and nobody else's: merging them into one block would only cost a copy.
        frame = pd.DataFrame(values, columns=list(self.schema.names), copy=False)
        return SyntheticTable(schema=self.schema, frame=frame)

    def restrict(self, conditions: Sequence[Condition]) -> StateWeights:
        """The conditions as allowed shares of states, for the generator.

        Raises:
            ConditionError: No value of a column satisfies them.
        """
        named = {condition.column for condition in conditions}
        weights = {i: c.weights(conditions) for i, c in enumerate(self.columns) if c.column.name in named}
        for index, shares in weights.items():
            if not shares.any():
                raise ConditionError(
                    "no value satisfies the conditions", where=f"column {self.schema.names[index]}"
                )
        return weights

    def to_json(self) -> JsonObject:
        """What a model's header records. The edges follow from the schema and are not repeated."""
        return {"format": 1, "bins": BINS, "max_single_values": MAX_SINGLE_VALUES, "provenance": "schema"}


def _timed(schema: Schema) -> tuple[tuple[int, int], ...]:
    """Places of a duration and its event. One duration is every event's; several go with as many events,
    in the schema's order; otherwise nothing says which belong together, and none do.
    """
    durations = [place for place, column in enumerate(schema) if column.kind is Kind.DURATION]
    events = [place for place, column in enumerate(schema) if column.kind is Kind.EVENT]
    if len(durations) == 1:
        durations *= len(events)
    return tuple(zip(durations, events, strict=True)) if len(durations) == len(events) else ()


def fit_encoding(schema: Schema) -> Encoding:
    """The encoding of a schema. Reads no row, costs no budget.

    Raises:
        SchemaError: A column's kind cannot be generated as one value a patient, or something is still to
            be bought.
    """
    return Encoding(schema=schema, columns=tuple(_fit_column(column) for column in schema))


def _fit_column(column: Column) -> ColumnEncoding:
    if column.kind is Kind.CODE:
        raise SchemaError(
            "a code column belongs to a longitudinal table",
            where=f"column {column.name}",
            fix="use a longitudinal generator, or declare its levels as categories",
        )
    if column.is_to_buy:
        raise SchemaError(
            "its bounds, bins or categories are still to be bought",
            where=f"column {column.name}",
            fix="buy them with `schema buy`, or give public ones",
        )
    edges = _edges(column) if column.is_numeric else np.zeros(0)
    return ColumnEncoding(column=column, edges=edges)


def _edges(column: Column) -> np.ndarray:
    """Bin edges, given or from the bounds; strictly increasing, first and last enclose the range."""
    low, high = float(column.minimum or 0.0), float(column.maximum or 0.0)
    if column.is_whole:
        low, high = float(np.ceil(low)) - 0.5, float(np.floor(high)) + 0.5
    if column.edges:
        # Half a unit below a bin's first value: rounding then never moves a value across.
        inner = np.array(column.edges) - (0.5 if column.is_whole else 0.5 * 10.0**-column.decimals)
        return np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]])
    if column.is_whole and high - low <= MAX_SINGLE_VALUES:
        return np.arange(low, high + 0.25)
    if column.scale is Scale.LOG:
        edges = low + np.expm1(np.linspace(0.0, np.log1p(high - low), BINS + 1))
    else:
        edges = np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    if column.is_whole:
        edges = np.unique(np.floor(edges) + 0.5)
        edges = np.unique(np.concatenate([[low], edges[(edges > low) & (edges < high)], [high]]))
    return edges
