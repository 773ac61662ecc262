"""Conditional generation, checked: requested against delivered, and resemblance under each condition.

Knows a model's sampler, its schema and real rows. Refuses to trust the model's own check: a delivered
row is compared with the request as text, in the finished table. Rules: every request is counted exactly;
a request that the model refuses is named, not counted as delivered; every distance stands beside a floor
(unconditional synthetic rows) and a ceiling (two halves of the same real rows).

Source: the conditional accuracy matrices of Med-VAE, figures 8 and 9, with their "unconditional" row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.condition_text import Condition, Operator
from synthkit.domain.conditional import FEW_REAL, MISSING, ConditionalReport, Delivery
from synthkit.domain.policy import ConditionRules, SitePolicy
from synthkit.domain.policy_check import check_conditions_against_policy
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import ConditionError, InputError, PolicyError, SchemaError
from synthkit.evaluation.fidelity import one_way_distances
from synthkit.evaluation.states import Levels, levels_of, states_of

MOST_VALUES = 30
"""Columns of more categories are left out unless they are named."""

MOST_REQUESTS = 2000
"""More than this is refused: each request is a table of its own."""

Sampler = Callable[[int, int, Sequence[Condition]], tuple[SyntheticTable, float]]
"""Rows wanted, seed and conditions to a table and the model's stated reliability."""

Mass = Callable[[Sequence[Condition]], float]
"""Conditions to the share of patients who meet them, by the model."""


def evaluate_conditions(
    sampler: Sampler,
    real: PatientTable,
    *,
    columns: tuple[str, ...] | None = None,
    pairs: bool = False,
    rows: int = 1000,
    seed: int = 0,
    mass: Mass | None = None,
    policy: SitePolicy | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ConditionalReport:
    """Request every value of each column, and check what comes.

    Args:
        sampler: The model; it may refuse a request by a ConditionError.
        real: Real rows to compare with; they also say which columns there are.
        columns: Columns of categories; all with at most MOST_VALUES by default.
        pairs: Whether each two values of each two of the columns are requested together as well.
        rows: Rows per request, at least 1.
        seed: Seeds the draws and the halves.
        mass: The model's word on how many patients meet a request; without it nothing is said of that.
        policy: Whose rules for conditions each request is held against; needs `mass`.
        progress: Called with requests done, and all, after each.

    Returns:
        One delivery per request, in the order of columns and categories, pairs last.

    Raises:
        ConditionError: A column is unknown or has no listed categories.
        InputError: There is nothing to request, too much, or `rows` is below 1.
        TypeError: A policy without `mass`.
    """
    if rows < 1:
        raise InputError("the number of rows must be at least 1", where="option -n")
    if policy is not None and mass is None:
        raise TypeError("a policy's floor needs the model's masses")
    wanted, notes = _chosen(real.schema, columns)
    requests = _requests(real.schema, wanted, pairs=pairs)
    free, _ = sampler(rows, _seed(seed, 0), ())
    rules = policy.conditions if policy is not None else None
    checker = _Checker(real=real, free=free.frame, rows=rows, seed=seed, mass=mass, rules=rules)
    deliveries = []
    for place, request in enumerate(requests, start=1):
        deliveries.append(checker.delivery(sampler, request, place))
        if progress is not None:
            progress(place, len(requests))
    return ConditionalReport(
        rows=rows,
        unconditional={name: value_counts(free.frame[name]) for name in wanted},
        deliveries=tuple(deliveries),
        notes=notes,
        policy=policy.name if policy is not None else "",
    )


def check_schemas(model: Schema, given: Schema) -> None:
    """Refuse a schema that is not the model's.

    Raises:
        SchemaError: Their columns differ.
    """
    if model.columns != given.columns:
        raise SchemaError("its columns are not the model's", where="schema", fix="give the model's schema")


def value_counts(cells: pd.Series) -> dict[str, int]:
    """Rows by value, most frequent first; empty cells as MISSING."""
    counts = cells.fillna(MISSING).value_counts()
    return {str(value): int(count) for value, count in counts.items()}


def satisfied(frame: pd.DataFrame, request: Mapping[str, str]) -> np.ndarray:
    """Which rows meet every part of the request: bool, shape (rows,)."""
    parts = [(frame[column] == value).to_numpy(dtype=bool) for column, value in request.items()]
    return np.asarray(np.logical_and.reduce(parts))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Checker:
    """The real rows and the unconditional ones, against which each request is held."""

    real: PatientTable
    free: pd.DataFrame
    rows: int
    seed: int
    mass: Mass | None
    rules: ConditionRules | None

    def delivery(self, sampler: Sampler, request: dict[str, str], place: int) -> Delivery:
        """Draw one request and measure it."""
        alike = self.real.take(np.flatnonzero(satisfied(self.real.frame, request)))
        count = alike.patient_count if len(alike) else 0
        known = len(alike) if count >= FEW_REAL else None
        conditions = [Condition(column=c, operator=Operator.EQUAL, values=(v,)) for c, v in request.items()]
        mass = None if self.mass is None else self.mass(conditions)
        try:
            table, reliability = sampler(self.rows, _seed(self.seed, place), conditions)
        except ConditionError as refusal:
            share, barred = self._stated(conditions, mass, 1.0)
            return Delivery(
                wanted=request,
                rows=0,
                satisfied=0,
                delivered={},
                reliability=None,
                real_rows=known,
                refused=str(refusal),
                mass=share,
                barred=barred,
            )
        share, barred = self._stated(conditions, mass, reliability)
        distance, floor, ceiling = (
            self._distances(table.frame, alike, request, place) if known else [None] * 3
        )
        return Delivery(
            wanted=request,
            rows=len(table),
            satisfied=int(satisfied(table.frame, request).sum()),
            delivered=value_counts(table.frame[next(iter(request))]) if len(request) == 1 else {},
            reliability=reliability,
            real_rows=known,
            distance=distance,
            floor=floor,
            ceiling=ceiling,
            mass=share,
            barred=barred,
        )

    def _stated(
        self, conditions: Sequence[Condition], mass: float | None, reliability: float
    ) -> tuple[float | None, str]:
        """The rounded mass, and the rule by which the policy would keep the table back."""
        if mass is None:
            return None, ""
        statement = ConditionStatement.of(conditions, mass=mass, reliability=reliability)
        if self.rules is None:
            return statement.mass, ""
        try:
            check_conditions_against_policy(statement, self.rules)
        except PolicyError as error:
            return statement.mass, error.rule
        return statement.mass, ""

    def _distances(
        self, made: pd.DataFrame, alike: PatientTable, request: dict[str, str], place: int
    ) -> list[float | None]:
        """Mean distances over the columns not requested: synthetic, floor, ceiling."""
        schema = self.real.schema
        halves = [
            half.frame for half in alike.split((0.5, 0.5), seed=_seed(self.seed, place), purpose="halves")
        ]
        frames = [alike.frame, made, self.free, *halves]
        levels: Levels = levels_of(schema, *frames)
        states = [states_of(frame, schema, levels) for frame in frames]
        others = np.array([column.name not in request for column in schema])
        if not others.any():
            return [None] * 3
        result: list[float | None] = [
            float(one_way_distances(states[0], other)[others].mean()) for other in states[1:3]
        ]
        has_halves = min(len(half) for half in halves) > 0
        ceiling = float(one_way_distances(states[3], states[4])[others].mean()) if has_halves else None
        return [*result, ceiling]


def _chosen(schema: Schema, columns: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns to request values of, and notes on those left out."""
    if columns is not None:
        for name in columns:
            _check_column(schema, name)
        return tuple(dict.fromkeys(columns)), ()
    listed = [column for column in schema if column.categories]
    wanted = tuple(column.name for column in listed if len(column.categories) <= MOST_VALUES)
    long = [column.name for column in listed if column.name not in wanted]
    if not wanted:
        raise InputError(
            f"no column lists at most {MOST_VALUES} categories", where="schema", fix="name one with --column"
        )
    if not long:
        return wanted, ()
    return wanted, (f"Left out, for more than {MOST_VALUES} categories: {', '.join(long)}.",)


def _check_column(schema: Schema, name: str) -> None:
    where = f"column {shown(name)}"
    if name not in schema.names:
        raise ConditionError("unknown column", where=where, fix="see the schema's [columns]")
    if not schema.column(name).categories:
        raise ConditionError("it lists no categories", where=where, fix="name a column of categories")


def _requests(schema: Schema, wanted: tuple[str, ...], *, pairs: bool) -> list[dict[str, str]]:
    """Each value alone, then each two values of two columns."""
    values = {name: schema.column(name).categories for name in wanted}
    requests = [{name: value} for name in wanted for value in values[name]]
    if pairs:
        requests += [
            {first: one, second: other}
            for first, second in combinations(wanted, 2)
            for one, other in product(values[first], values[second])
        ]
    if len(requests) > MOST_REQUESTS:
        raise InputError(
            f"{len(requests)} requests are more than {MOST_REQUESTS}",
            where="option --pairs" if pairs else "option --column",
            fix="name fewer columns with --column",
        )
    return requests


def _seed(seed: int, place: int) -> int:
    """A seed of its own for each request."""
    return int(np.random.default_rng((seed, 7, place)).integers(2**31))
