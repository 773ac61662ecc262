"""Marks that occur in a site's files alone, and a search that finds them however they are written.

A mark is a text (searched as it is, in base64 and in UTF-16), a number (searched as text, and in the bytes
of every width and byte order), or a count of patients (searched as a whole number on its own, so that four
digits inside a digest are no alarm).
"""

import base64
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthkit.domain.schema import Column, Kind, Schema

PATIENTS = 1237
"""Neither a bound, a year, a size or a step anywhere in these tests."""

SPLIT = ("--shares", "0.816", "0.12", "0.064", "--seed", "2")
"""About 1,009 members; how many exactly, the split decides."""
MARK = "QX7731"
FOLDER_MARK = f"{MARK}-folder"
FILE_MARK = f"{MARK}-file"
TEXTS = (f"{MARK}-mrn", f"{MARK}-note", f"{MARK}-insurer", f"{MARK}-cell", FOLDER_MARK, "Quillfeather")
NUMBERS = (87.172365, 31.827549)
"""Cells with more decimals than the schema releases: no generated row can hold one."""

CHARTS = Schema(
    name="charts",
    patient_id="mrn",
    ignored=("note", "insurer"),
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=18, maximum=100),
        Column(name="bmi", kind=Kind.NUMERIC, minimum=10, maximum=90, decimals=1),
        Column(name="crp", kind=Kind.NUMERIC, minimum=0, maximum=300, decimals=1, missing=True),
        Column(name="sex", kind=Kind.BINARY, categories=("Female", "Male")),
        Column(name="stage", kind=Kind.ORDINAL, categories=("I", "II", "III"), missing=True),
        Column(name="died", kind=Kind.EVENT, categories=("0", "1")),
    ),
)


def charts(patients: int = PATIENTS, *, seed: int = 0) -> pd.DataFrame:
    """A source table as a hospital exports it, with the marks in every place that must not leave."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.rint(rng.normal(60, 15, patients)), 18, 100).astype(int)
    frame = pd.DataFrame(
        {
            "mrn": [f"{MARK}-mrn-{7_000_000 + 13 * row}" for row in range(patients)],
            "note": [f"{MARK}-note: Quillfeather, bed {row}" for row in range(patients)],
            "age": age,
            "bmi": np.round(rng.normal(27, 4, patients).clip(10, 90), 1),
            "crp": np.where(rng.random(patients) < 0.1, np.nan, np.round(rng.gamma(2, 10, patients), 1)),
            "sex": rng.choice(["Female", "Male"], patients),
            "stage": rng.choice(["I", "II", "III"], patients, p=[0.5, 0.3, 0.2]),
            "died": (rng.random(patients) < 0.2).astype(int),
            "insurer": f"{MARK}-insurer",
        }
    )
    frame.loc[3::50, "bmi"] = NUMBERS[0]
    frame.loc[7::50, "crp"] = NUMBERS[1]
    return frame


def write_charts(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")


BROKEN_CELLS = {
    "a text where a number belongs": ("bmi", f"{MARK}-cell"),
    "a number beyond the bounds": ("age", "87172365"),
    "an unknown category": ("sex", f"{MARK}-cell Quillfeather"),
}


def broken(frame: pd.DataFrame, fault: str) -> pd.DataFrame:
    """The table with one cell in one row that does not fit the schema."""
    column, cell = BROKEN_CELLS[fault]
    result = frame.astype({column: object})
    result.loc[17, column] = cell
    return result


def torn_csv(frame: pd.DataFrame) -> bytes:
    """The table's CSV with a quote that opens in a marked cell and never closes."""
    text = frame.head(40).to_csv(index=False, lineterminator="\n")
    return text.replace(f"{MARK}-note: Quillfeather, bed 9", f'{MARK}-cell "Quillfeather', 1).encode()


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What to search for. `numbers` in all their encodings; `counts` as whole numbers on their own."""

    texts: tuple[str, ...] = TEXTS
    numbers: tuple[float, ...] = NUMBERS
    counts: tuple[int, ...] = (PATIENTS,)


def _spellings(text: str) -> Iterable[bytes]:
    yield text.encode()
    yield text.encode("utf-16-le")
    # The middle of a text's base64 is the same at each of three offsets, whatever stands around it.
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + text.encode())
        yield coded[4 if offset else 0 : -4]


def _binary(number: float, *, kinds: tuple[str, ...]) -> Iterable[bytes]:
    for kind in kinds:
        yield np.array([number]).astype(kind).tobytes()


def _number_patterns(number: float) -> Iterable[bytes]:
    yield f"{number}"[:7].encode()
    yield from _binary(number, kinds=("<f8", ">f8", "<f4", ">f4"))


def _count_pattern(count: int) -> re.Pattern[bytes]:
    """The count as a number of its own, with or without a thousands separator or a zero fraction."""
    digits = f"{count}"
    spelled = rf"{digits[:-3]}[,_' ]?{digits[-3:]}(?:\.0+)?"
    return re.compile(rf"(?<![0-9A-Za-z.+_-]){spelled}(?![0-9A-Za-z.]*[0-9A-Za-z_])".encode())


PRINTABLE = re.compile(rb"[\s!-~]*")


def _is_told(count: int, blob: bytes) -> bool:
    """Whether the count stands in a text of eight characters: four bytes alone are chance among weights."""
    for match in _count_pattern(count).finditer(blob):
        before = blob[max(0, match.start() - 8) : match.start()][::-1]
        after = blob[match.end() : match.end() + 8]
        around = sum(found.end() for one in (before, after) if (found := PRINTABLE.match(one)))
        if around + len(match[0]) >= 8:
            return True
    return False


def _unpacked(data: bytes) -> Iterable[bytes]:
    """The bytes, and what is inside if they are an archive or compressed."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield zlib.decompress(data, wbits=31)
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def found_in(data: bytes, marks: Marks) -> list[str]:
    """Every mark that these bytes hold, in words."""
    hits: list[str] = []
    for blob in _unpacked(data):
        hits += [text for text in marks.texts if any(one in blob for one in _spellings(text))]
        hits += [f"{n}" for n in marks.numbers if any(one in blob for one in _number_patterns(n))]
        hits += [f"count {n}" for n in marks.counts if _is_told(n, blob)]
        wide = {n: _binary(n, kinds=("<i8", ">i8", "<f8", ">f8")) for n in marks.counts}
        hits += [f"count {n} in binary" for n, forms in wide.items() if any(one in blob for one in forms)]
    return hits


def search(artefacts: Mapping[str, bytes], marks: Marks) -> dict[str, list[str]]:
    """Hits by artefact; empty when nothing leaked. Also searches the artefacts' own names."""
    hits = {name: found_in(name.encode() + b"\n" + data, marks) for name, data in artefacts.items()}
    return {name: found for name, found in hits.items() if found}


def files_below(root: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Content by relative path of every file below a folder."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if p.name not in but}
