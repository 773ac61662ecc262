"""What a release holds as drawn: a table, or records of visits with a table of their patients.

Knows the parts' names, CSV and, of records, the schema's roles; knows no model and no pandas. Rules kept
here: a release holds one of the two, the one that its schema describes; records come in the only form in
which they are sealed, patients and visits counted from 1 without a gap, so that neither file names a
patient whom the other does not know.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.record_files import PATIENTS, RECORDS, RecordFiles
from synthkit.domain.schema import Schema
from synthkit.errors import BundleError, SynthkitError

TABLE = "table.csv"

DRAWN = (TABLE, RECORDS, PATIENTS)
"""Names that are kept for what was drawn."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Digest and number of rows; of records, the long table's rows.

    `visits` are the fewest and the most that a patient of the records has; None: a table, or nobody.
    """

    digest: str
    rows: int
    visits: tuple[int, int] | None = None


def parts_of(drawn: bytes | RecordFiles) -> dict[str, bytes]:
    """What was drawn, as parts of a release."""
    return drawn.parts if isinstance(drawn, RecordFiles) else {TABLE: drawn}


def names_of(parts: Mapping[str, bytes]) -> tuple[str, ...]:
    """The parts that were drawn, in a release's order.

    Raises:
        BundleError: Neither a table nor records, or both.
    """
    names = tuple(name for name in DRAWN if name in parts)
    if names not in ((TABLE,), (RECORDS,), (RECORDS, PATIENTS)):
        raise BundleError("the parts are not those of a release", where="manifest")
    return names


def read_drawn(parts: Mapping[str, bytes], schema: JsonObject) -> Drawn:
    """Digest and size of what was drawn, after a look at its form.

    Raises:
        BundleError: Not what the schema describes, not CSV in UTF-8, or not in the form that is sealed.
    """
    if names_of(parts) == (TABLE,):
        if _is_longitudinal(schema):
            raise BundleError("holds a table where its schema is of records of visits", where=TABLE)
        return Drawn(digest=sha256_hex(parts[TABLE]), rows=_count(parts[TABLE], TABLE))
    roles = _roles(schema)
    files = RecordFiles(records=parts[RECORDS], patients=parts.get(PATIENTS))
    lengths, rows = _count_records(files.records, roles)
    _check_patients(files.patients, roles, len(lengths))
    visits = (min(lengths), max(lengths)) if lengths else None
    return Drawn(digest=files.digest, rows=rows, visits=visits)


def _is_longitudinal(schema: JsonObject) -> bool:
    columns = schema.get("columns")
    return (
        schema.get("visit") is not None
        and isinstance(columns, list)
        and any(isinstance(column, dict) and column.get("kind") == "code" for column in columns)
    )


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """The columns of the two files, in order."""

    records: list[str]
    patients: list[str] | None


def _roles(schema: JsonObject) -> _Roles:
    try:
        read = Schema.from_json(schema)
        times = [] if read.time is None else [read.time]
        long = [str(read.patient_id), str(read.visit), *times, read.code.name]
        statics = read.statics
    except (KeyError, TypeError, ValueError, SynthkitError) as error:
        raise BundleError("holds records where its schema is of none", where=RECORDS) from error
    return _Roles(records=long, patients=None if statics is None else [str(read.patient_id), *statics.names])


def _count_records(data: bytes, roles: _Roles) -> tuple[list[int], int]:
    """Each patient's number of visits, and rows of the long table."""
    lengths: list[int] = []
    rows = 0
    for row in _rows(data, RECORDS, roles.records):
        rows += 1
        patient, place = len(lengths), (row[0], row[1])
        if lengths and place == (str(patient), str(lengths[-1])):
            continue
        if lengths and place == (str(patient), str(lengths[-1] + 1)):
            lengths[-1] += 1
        elif place == (str(patient + 1), "1"):
            lengths.append(1)
        else:
            raise BundleError("patients or visits are not counted from 1 in order", where=RECORDS)
    return lengths, rows


def _check_patients(data: bytes | None, roles: _Roles, patients: int) -> None:
    """The static columns are there if the schema has any, for these patients and no other."""
    if (data is None) != (roles.patients is None):
        raise BundleError("static columns are missing or superfluous", where=PATIENTS)
    if data is None or roles.patients is None:
        return
    count = 0
    for count, row in enumerate(_rows(data, PATIENTS, roles.patients), start=1):
        if row[0] != str(count):
            raise BundleError("patients are not counted from 1 in order", where=PATIENTS)
    if count != patients:
        raise BundleError("its patients are not those of the records", where=PATIENTS)


def _count(table: bytes, where: str) -> int:
    return sum(1 for _ in _rows(table, where, None))


def _rows(table: bytes, where: str, header: list[str] | None) -> Iterator[list[str]]:
    """The rows of a CSV table, without its header.

    Raises:
        BundleError: Not CSV in UTF-8, another header than the given one, or rows of different widths.
    """
    lines = io.TextIOWrapper(io.BytesIO(table), encoding="utf-8", newline="")
    try:
        reader = csv.reader(lines, strict=True)
        first = next(reader, [])
        width = len(first)
        if header is not None and first != header:
            raise BundleError("its columns are not the schema's", where=where)
        for row in reader:
            if len(row) != width and (row or width != 1):
                raise BundleError("rows of different widths", where=where)
            yield row
    except (csv.Error, ValueError) as error:
        raise BundleError("not a CSV table in UTF-8", where=where) from error
    if width == 0:
        raise BundleError("has no columns", where=where)
