"""PatientTable and SyntheticTable: real rows and made rows, which the types keep apart.

Both hold one pandas frame whose columns are exactly the schema's, in its order: numbers as float64
(missing: NaN; a datetime is days since 1970-01-01), everything else as text (object dtype,
missing: None). Rules: a PatientTable never shows its rows in a repr or message, and cannot be
released; only a SyntheticTable has a digest and can leave.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from synthkit.domain.canonical import sha256_hex
from synthkit.domain.schema import Column, Kind, Schema

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PatientTable:
    """Real patients' rows, checked against their schema.

    `patients` holds one integer per row, equal for rows of one patient; never an identifier. `lots`
    holds one uint64 per row that depends on that patient alone (`synthkit.data.checking`), by which a
    split decides; None: made in memory, where the patient's number stands for it.
    """

    schema: Schema
    frame: pd.DataFrame
    patients: np.ndarray
    lots: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"PatientTable(schema={self.schema.name!r}, columns={len(self.schema)}, rows=<private>)"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def patient_count(self) -> int:
        """Number of distinct patients: private, for use inside the site only."""
        return int(np.unique(self.patients).size)

    def take(self, rows: np.ndarray) -> "PatientTable":
        """The given rows (integer positions or a boolean mask), in that order."""
        return PatientTable(
            schema=self.schema,
            frame=self.frame.iloc[rows].reset_index(drop=True)
            if rows.dtype != np.bool_
            else self.frame.loc[rows].reset_index(drop=True),
            patients=self.patients[rows],
            lots=None if self.lots is None else self.lots[rows],
        )

    def split(
        self, shares: tuple[float, ...], *, seed: int, purpose: str = "sets"
    ) -> tuple["PatientTable", ...]:
        """Split by patient into disjoint tables of about these shares (which sum to at most 1).

        Each patient's part follows from the seed and that patient alone. Were it drawn from a
        permutation of all, one patient more or less would move others between the parts, and a
        generator trained on one part would not protect a patient of the whole table, however much
        noise it adds. So the parts' sizes vary by chance. `purpose` keeps splits of different kinds
        independent: a part of one split, split again with the same seed, is divided evenly.

        The seed makes the split reproducible; it may be known, and has no part in any privacy noise.
        """
        return tuple(self.take(mask) for mask in self.split_masks(shares, seed=seed, purpose=purpose))

    def split_masks(
        self, shares: tuple[float, ...], *, seed: int, purpose: str = "sets"
    ) -> tuple[np.ndarray, ...]:
        """The same split as boolean masks over the rows, one a share."""
        lots = self.patients if self.lots is None else self.lots
        levels, rows = np.unique(lots, return_inverse=True)
        named = (f"{purpose}:{seed}:{lot}".encode() for lot in levels.tolist())
        digests = b"".join(hashlib.sha256(name).digest()[:8] for name in named)
        places = np.frombuffer(digests, dtype="<u8") / 2.0**64
        parts = np.searchsorted(np.cumsum(shares), places, side="right")[rows]
        return tuple(parts == part for part in range(len(shares)))


def pool(tables: Sequence[PatientTable]) -> PatientTable:
    """One table of several tables' rows, all of one schema; their patients stay distinct."""
    starts = np.cumsum([0, *(int(table.patients.max()) + 1 for table in tables[:-1])])
    patients = [table.patients + start for table, start in zip(tables, starts, strict=True)]
    return PatientTable(
        schema=tables[0].schema,
        frame=pd.concat([table.frame for table in tables], ignore_index=True),
        patients=np.concatenate(patients),
    )


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class RowsOfCodes(PatientTable):
    """Real patients' records as rows of codes. `visits` holds one integer per row, equal for a patient's rows
    of one visit, int32, shape (rows,).
    """

    visits: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticTable:
    """Generated rows; `frame` as in the module docstring."""

    schema: Schema
    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical CSV bytes: what an audit judges and a release seals."""
        return sha256_hex(self.to_csv_bytes())

    def to_csv_bytes(self) -> bytes:
        """The table as CSV: UTF-8, header, LF line ends, empty cell for missing, released decimals."""
        text: str = self.release_frame().to_csv(index=False, lineterminator="\n")
        return text.encode("utf-8")

    def release_frame(self) -> pd.DataFrame:
        """The table as it is released: each column as text in its declared format."""
        return pd.DataFrame({c.name: _released(self.frame[c.name], c) for c in self.schema})


def _released(values: pd.Series, column: Column) -> pd.Series:
    """One column as released text; missing stays None."""
    if not column.is_numeric:
        return values.astype(object)
    numbers = values.to_numpy(dtype=float)
    present = ~np.isnan(numbers)
    text = np.full(numbers.size, None, dtype=object)
    if column.kind is Kind.DATETIME:
        text[present] = [(EPOCH + timedelta(days=int(day))).isoformat() for day in numbers[present]]
    elif column.is_whole:
        text[present] = np.rint(numbers[present]).astype(np.int64).astype(str)
    else:
        released = np.char.mod(f"%.{column.decimals}f", numbers[present])
        zero = f"{0.0:.{column.decimals}f}"
        # A minus before zero would be lost in Parquet, and with it the digest.
        text[present] = np.where(released == f"-{zero}", zero, released)
    return pd.Series(text, index=values.index, dtype=object)
