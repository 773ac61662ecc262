"""What is asked of a survival table: which columns, which level is the event, which covariates and strata.

Knows the schema. Refuses to guess what an event is: a column of kind "event" has its event as second
category, any other two categories have to say it in a word that everybody reads the same way, or the
caller says it. Rules: times of zero or less are refused by the schema, before any row is read; so is
every name and level that the schema does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.domain.condition_text import Condition
from synthkit.domain.conditions import allowed, parse_conditions
from synthkit.domain.levels import match_category
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError, SchemaError

OPTION = "option --survival"
ALL = "all"
"""The stratum of everyone."""

MOST_LEVELS = 20
"""A column with more categories is no covariate unless it is named."""

EVENT_WORDS = frozenset({"1", "true", "yes", "event", "dead", "died", "death", "deceased", "failed"})
CENSORED_WORDS = frozenset({"0", "false", "no", "none", "censored", "alive", "living", "survived"})


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Rows that meet all conditions; `label` is how it was asked for."""

    label: str
    conditions: tuple[Condition, ...] = ()

    def rows(self, frame: pd.DataFrame, schema: Schema) -> np.ndarray:
        """Which rows belong to it: bool, shape (rows,). A missing cell meets no comparison."""
        meets = np.ones(len(frame), dtype=bool)
        for name in dict.fromkeys(condition.column for condition in self.conditions):
            meets &= _permitted(frame[name], schema.column(name), self.conditions)
        return meets


@dataclass(frozen=True, kw_only=True)
class SurvivalTask:
    """Checked against the schema; `covariates` enter the Cox models, `left_out` are named in the report.

    `is_event_assumed`: nobody said which level is the event, and no word does; its place as second did.
    """

    duration: Column
    event: Column
    event_level: str
    covariates: tuple[Column, ...]
    strata: tuple[Stratum, ...]
    left_out: tuple[str, ...] = ()
    is_event_assumed: bool = False


def survival_task(
    text: str,
    schema: Schema,
    *,
    event_level: str | None = None,
    strata: Sequence[str] = (),
    covariates: Sequence[str] = (),
) -> SurvivalTask:
    """Read what `--survival`, `--event-level`, `--stratum` and `--covariate` say.

    Args:
        text: `DURATION,EVENT`, two column names.
        schema: Of all tables.
        event_level: The category of the event column that is the event.
        strata: Conditions as `generate --where` takes them, one stratum each.
        covariates: Column names; by default all columns but dates, code lists without categories, those
            with more than MOST_LEVELS categories, and the two above.

    Raises:
        InputError: The text does not name two columns, or no covariate is left.
        SchemaError: A column is unknown or of a kind that cannot serve, times of zero or less are allowed,
            or nothing says which level is the event.
        ConditionError: A stratum cannot be read or contradicts the schema.
    """
    duration, event = _two_columns(text, schema)
    _check_duration(duration)
    level = _event_level(event, event_level)
    others = [column for column in schema if column.name not in (duration.name, event.name)]
    chosen, left_out = _covariates(others, schema, covariates)
    if not chosen:
        raise InputError("no covariate is left for a Cox model", where=OPTION, fix="name them by --covariate")
    return SurvivalTask(
        duration=duration,
        event=event,
        event_level=level,
        covariates=chosen,
        strata=(Stratum(label=ALL), *(_stratum(one, schema) for one in dict.fromkeys(strata))),
        left_out=left_out,
        is_event_assumed=event_level is None and _event_place(event) is None,
    )


def _two_columns(text: str, schema: Schema) -> tuple[Column, Column]:
    """The column names around a comma; names may hold commas themselves."""
    parts = text.split(",")
    pairs = [(",".join(parts[:i]).strip(), ",".join(parts[i:]).strip()) for i in range(1, len(parts))]
    if not pairs:
        raise InputError("it takes two column names", where=OPTION, fix="write DURATION,EVENT")
    known = [pair for pair in pairs if pair[0] in schema.names and pair[1] in schema.names]
    if not known:
        missing = next(name for name in pairs[0] if name not in schema.names)
        raise SchemaError(f"no such column: {shown(missing)}", where=OPTION, fix="write DURATION,EVENT")
    first, second = known[0]
    if first == second:
        raise InputError("time and event are the same column", where=OPTION, fix="write DURATION,EVENT")
    return schema.column(first), schema.column(second)


def _check_duration(column: Column) -> None:
    where = f"column {shown(column.name)}"
    if not column.is_numeric or column.kind is Kind.DATETIME:
        raise SchemaError(
            f"a {column.kind.value} column holds no time to an event", where=where, fix='kind = "duration"'
        )
    if column.minimum is not None and column.minimum <= 0:
        raise SchemaError(
            "its minimum allows a time of zero or less",
            where=where,
            fix="set a minimum above 0; a same-day event is commonly written as 0.5 or 1 day",
        )


def _event_level(column: Column, wanted: str | None) -> str:
    where = f"column {shown(column.name)}"
    if column.kind not in (Kind.EVENT, Kind.BINARY):
        raise SchemaError(
            f"a {column.kind.value} column does not say whether the event was seen",
            where=where,
            fix='kind = "event" with two categories, the event second',
        )
    if wanted is not None:
        level = match_category(wanted, column.categories)
        if level is None:
            raise SchemaError("it has no such category", where=where, fix="--event-level takes one it has")
        return level
    said = _event_place(column)
    if said == 0 and column.kind is Kind.EVENT:
        raise SchemaError(
            "its second category, which is the event, reads like its absence",
            where=where,
            fix="list the event second, or say --event-level",
        )
    if said is not None:
        return column.categories[said]
    if column.kind is Kind.EVENT:
        return column.categories[1]
    raise SchemaError(
        "its categories do not say which one is the event",
        where=where,
        fix='say --event-level, or kind = "event" with the event second',
    )


def _event_place(column: Column) -> int | None:
    """Which of two categories is the event in a word that everybody reads the same way; None: neither is."""
    first, second = (level.strip().lower() for level in column.categories)
    if first in CENSORED_WORDS and second in EVENT_WORDS:
        return 1
    return 0 if first in EVENT_WORDS and second in CENSORED_WORDS else None


def _covariates(
    columns: list[Column], schema: Schema, wanted: Sequence[str]
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Those that enter a Cox model, and the names of those left out unasked."""
    if wanted:
        named = [schema.column(name.strip()) for name in dict.fromkeys(wanted)]
        for column in named:
            if column not in columns or not _can_serve(column):
                raise SchemaError(
                    "it cannot be a covariate", where=f"column {shown(column.name)}", fix="leave it out"
                )
        return tuple(named), ()
    fit = [c for c in columns if _can_serve(c) and (c.is_numeric or len(c.categories) <= MOST_LEVELS)]
    return tuple(fit), tuple(c.name for c in columns if c not in fit)


def _can_serve(column: Column) -> bool:
    return column.kind is not Kind.DATETIME and (column.is_numeric or len(column.categories) > 1)


def _stratum(text: str, schema: Schema) -> Stratum:
    return Stratum(label=" ".join(text.split()), conditions=parse_conditions([text], schema))


def _permitted(cells: pd.Series, column: Column, conditions: Sequence[Condition]) -> np.ndarray:
    """Which cells the conditions allow; a number counts as it would be released, in its decimals."""
    rule, missing = allowed(column, conditions), cells.isna().to_numpy()
    if not column.is_numeric:
        levels = {column.categories[i] for i in rule.categories}
        return np.where(missing, rule.missing, cells.isin(levels).to_numpy())
    numbers = np.where(missing, 0.0, cells.to_numpy(dtype=float))
    distinct, places = np.unique(np.round(numbers, column.decimals), return_inverse=True)
    meets = np.array([rule.permits(float(value)) for value in distinct], dtype=bool)
    return np.where(missing, rule.missing, meets[places])
