"""PartialTable and CompletedTable: rows of which some cells were given, before and after they are filled.

A given cell may be a real patient's. Rules: a given cell comes out as it went in, text for text, whatever
bin or category the model saw in its place; neither type shows its rows in a repr or message; neither is a
`SyntheticTable`, so neither has a digest nor can be released.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthkit.data.table import EPOCH, SyntheticTable
from synthkit.domain.schema import Column, Kind, Schema


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PartialTable:
    """Rows with cells to fill, checked against their schema.

    Each frame has the schema's columns in its order. `cells` holds what was given as text, None where
    nothing was; `values` the same typed as `synthkit.data.table` describes and as the schema takes it: of a
    bought column, clamped or grouped. `known` is bool, shape (rows, columns): cells that are not to be
    filled, those known to be missing among them. `dropped` names columns of the source that are carried
    nowhere, the patient id among them.
    """

    schema: Schema
    cells: pd.DataFrame
    values: pd.DataFrame
    known: np.ndarray
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.cells), len(self.schema))
        if not shape == self.cells.shape == self.values.shape == self.known.shape:
            raise ValueError("a partial table's parts are of one shape")

    def __repr__(self) -> str:
        return f"PartialTable(schema={self.schema.name!r}, columns={len(self.schema)}, rows=<private>)"

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def to_fill(self) -> tuple[str, ...]:
        """Names of the columns that have a cell to fill."""
        return tuple(np.array(self.schema.names)[~self.known.all(axis=0)].tolist())

    def fill(self, drawn: pd.DataFrame) -> "CompletedTable":
        """These rows with drawn cells where none was given.

        Args:
            drawn: As many rows in the same order, the schema's columns, typed as `synthkit.data.table`
                describes; a cell in the place of a known one is not looked at.
        """
        texts, frame = SyntheticTable(schema=self.schema, frame=drawn).release_frame(), {}
        for place, column in enumerate(self.schema):
            known, name = self.known[:, place], column.name
            frame[name] = np.where(known, _given(self.cells[name], column), drawn[name].to_numpy())
            texts[name] = np.where(known, self.cells[name].to_numpy(), texts[name].to_numpy())
        return CompletedTable(schema=self.schema, frame=pd.DataFrame(frame), cells=texts, given=self.known)


def _given(cells: pd.Series, column: Column) -> np.ndarray:
    """Typed as `synthkit.data.table` describes, but neither clamped nor grouped nor rounded."""
    if not column.is_numeric:
        return cells.to_numpy(dtype=object)
    codes, levels = pd.factorize(cells)
    numbers = [_number(str(level), column) for level in levels]
    return np.array([*numbers, np.nan], dtype=float)[codes]


def _number(cell: str, column: Column) -> float:
    """A checked cell's number; a date may have a time of day behind it, which a day does not hold."""
    if column.kind is Kind.DATETIME:
        return float((dt.date.fromisoformat(cell[:10]) - EPOCH).days)
    return float(cell)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class CompletedTable:
    """Rows whose cells are partly given and partly drawn: not synthetic, and never to be sealed as such.

    `frame` is typed as `synthkit.data.table` describes; `cells` is the same as text, given cells as they were
    written and drawn ones in their released format; `given` is bool, shape (rows, columns).
    """

    schema: Schema
    frame: pd.DataFrame
    cells: pd.DataFrame
    given: np.ndarray

    def __repr__(self) -> str:
        return f"CompletedTable(schema={self.schema.name!r}, columns={len(self.schema)}, rows=<private>)"

    def __len__(self) -> int:
        return len(self.frame)

    def to_csv_bytes(self) -> bytes:
        """The table as CSV: UTF-8, header, LF line ends, empty cell for missing."""
        text: str = self.cells.to_csv(index=False, lineterminator="\n")
        return text.encode("utf-8")


def stack(tables: Sequence[CompletedTable]) -> CompletedTable:
    """One table after another, all of one schema."""
    return CompletedTable(
        schema=tables[0].schema,
        frame=pd.concat([table.frame for table in tables], ignore_index=True),
        cells=pd.concat([table.cells for table in tables], ignore_index=True),
        given=np.concatenate([table.given for table in tables]),
    )
