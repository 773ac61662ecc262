"""Records of visits in the forms that attacks compare: keys of whole records, tokens of visits and codes.

Knows codes, visits and days; refuses to know which records are real. Rules: a visit is the set of its
codes; visits without codes are dropped on all sides, for an empty visit put in or left out would hide a
copy; a record is the multiset of its visits, so their order counts only where a key says `ordered`; all
sets are numbered together, so equal numbers are equal visits.

Keys are sums of 64-bit mixtures: two different records of ten million share one with probability 3e-6.
Gaps between visits are known by the public calendar's kinds, a day at first and months later, for a generator
may round them; exact days and static columns are part of `whole` alone.

Source: EVA (Biswal et al. 2021), section on presence disclosure, for the record as a multiset of visits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from synthkit.data.sequences import Sequences, starts_of
from synthkit.domain.calendar import Calendar

LEVELS = 16
"""A code's count is known by its power of two; more than 2^15 visits count as 2^15."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Records:
    """One set of records.

    Attributes:
        visit_counts: int64 (patients,), visits with codes.
        visits: CSR of ones, float32 (patients, visit tokens): token (v, j) says that visit v occurs more
            than j times, so the overlap of two rows is the sum of the smaller multiplicities.
        codes: CSR of ones, float32 (patients, codes x LEVELS): token (c, l) says that code c occurs in at
            least 2^l visits.
        presence: CSR of ones, float32 (patients, codes): the union of a record's codes.
        multiset: uint64 (patients,), equal where the multisets of visits are; as all keys below, it says
            nothing of a record without codes.
        ordered: uint64 (patients,), the visits in their order.
        code_bag: uint64 (patients,), each code with the number of visits it occurs in.
        code_set: uint64 (patients,), the union of codes.
        gaps: uint64 (patients,), the calendar's kinds of the gaps between visits; None without times.
        whole: uint64 (patients,), all there is: visits in order, exact days, static columns.
    """

    visit_counts: np.ndarray
    visits: Any
    codes: Any
    presence: Any
    multiset: np.ndarray
    ordered: np.ndarray
    code_bag: np.ndarray
    code_set: np.ndarray
    gaps: np.ndarray | None
    whole: np.ndarray

    def __len__(self) -> int:
        return int(self.visit_counts.size)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Numbering:
    """What visit tokens stand for: `keys` (tokens,) ascending, visit + occurrence * `visits`."""

    keys: np.ndarray
    visits: int

    def information(self, reference: Any) -> np.ndarray:  # noqa: ANN401
        """What each visit token says beyond the same visit's occurrence before it, in nats: float32.

        The tokens of a visit that occurs c times add up to minus the logarithm of the share of reference
        records with at least c: a visit repeated for years says little more than the visit alone.
        """
        found = np.bincount(reference.indices, minlength=self.keys.size) + 0.5
        before = np.searchsorted(self.keys, self.keys - self.visits)
        is_first = self.keys < self.visits
        more = np.where(is_first, reference.shape[0] + 1.0, found[before])
        return np.asarray(np.log(more / found), dtype=np.float32)

    def part(self, matrix: Any, chosen: np.ndarray) -> Any:  # noqa: ANN401 - scipy's matrices carry no types
        """The rows of a visit matrix with the chosen entries alone, as multisets of their own.

        Two chosen occurrences of a visit are its first and second, whichever they were in the record.
        """
        owners = _owners(matrix)[chosen]
        visits = self.keys[matrix.indices[chosen]] % self.visits
        order, occurrences = _occurrences(owners * self.visits + visits)
        tokens = np.searchsorted(self.keys, visits[order] + occurrences * self.visits)
        return _ones(owners[order], tokens, matrix.shape)


def canonical(parts: Sequence[Sequences]) -> tuple[list[Records], Numbering]:
    """The records of several sets of one schema, numbered together."""
    visits = [_visits(part) for part in parts]
    numbering, matrices = _numbered([keys for keys, _ in visits], [owners for _, owners in visits], parts)
    found = [
        _records(part, keys, owners, matrix)
        for part, (keys, owners), matrix in zip(parts, visits, matrices, strict=True)
    ]
    return found, numbering


def _mixed(values: np.ndarray, salt: int) -> np.ndarray:
    """Every value's own 64 bits. Source: Steele, Lea and Flood, OOPSLA 2014, SplitMix64."""
    mixed = values.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums modulo 2^64 of the runs between `starts`: uint64 (runs,)."""
    totals = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values, dtype=np.uint64)])
    return np.asarray(totals[starts[1:]] - totals[starts[:-1]])


def _visits(part: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """The key of every visit that has codes, and its patient."""
    keys = _sums(_mixed(part.codes, 1), part.visit_starts)
    kept = part.codes_per_visit > 0
    return keys[kept], part.patient_of_visit[kept]


def _numbered(
    keys: list[np.ndarray], owners: list[np.ndarray], parts: Sequence[Sequences]
) -> tuple[Numbering, list[Any]]:
    """All sets' visits as tokens: the numbering, and one matrix a set."""
    names, numbers = np.unique(np.concatenate(keys), return_inverse=True)
    cuts = starts_of(np.array([one.size for one in keys]))
    rows, tokens = [], []
    for (start, end), who in zip(pairwise(cuts), owners, strict=True):
        order, occurrences = _occurrences(who * names.size + numbers[start:end])
        rows.append(who[order])
        tokens.append(numbers[start:end][order] + occurrences * names.size)
    known, places = np.unique(np.concatenate(tokens), return_inverse=True)
    matrices = [
        _ones(who, places[start:end], (part.patient_count, known.size))
        for (start, end), who, part in zip(pairwise(cuts), rows, parts, strict=True)
    ]
    return Numbering(keys=known, visits=max(1, names.size)), matrices


def _occurrences(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order that sorts the keys, and in it how many equal ones came before each."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    places = np.arange(keys.size)
    is_new = np.append(True, ordered[1:] != ordered[:-1])[: keys.size]
    return order, places - np.maximum.accumulate(np.where(is_new, places, 0))


def _ones(owners: np.ndarray, tokens: np.ndarray, shape: tuple[int, int]) -> Any:  # noqa: ANN401
    """A CSR matrix of ones from rows that ascend."""
    starts = starts_of(np.bincount(owners, minlength=shape[0]))
    data = np.ones(tokens.size, dtype=np.float32)
    return sparse.csr_array((data, tokens.astype(np.int32), starts), shape=shape)


def _owners(matrix: Any) -> np.ndarray:  # noqa: ANN401
    """Each entry's row, int64."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _records(part: Sequences, keys: np.ndarray, owners: np.ndarray, visits: Any) -> Records:  # noqa: ANN401
    counts = np.bincount(owners, minlength=part.patient_count)
    starts = starts_of(counts)
    places = np.arange(keys.size) - starts[owners]
    entries = part.patient_starts
    codes, presence, code_bag, code_set = _codes(part)
    ordered = _sums(_mixed(keys + _mixed(places, 3), 4), starts)
    kinds, days = _times(part, owners, starts, places)
    return Records(
        visit_counts=counts,
        visits=visits,
        codes=codes,
        presence=presence,
        multiset=_sums(_mixed(keys, 2), starts),
        ordered=ordered,
        code_bag=code_bag,
        code_set=code_set,
        gaps=kinds,
        whole=_whole(part, ordered, days, entries.size - 1),
    )


def _codes(part: Sequences) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Code tokens, presence, and the keys of the bag and of the set."""
    size = len(part.schema.code.categories)
    owners = np.repeat(part.patient_of_visit, part.codes_per_visit)
    pairs, counts = np.unique(owners * size + part.codes, return_counts=True)
    people, codes = np.divmod(pairs, size)
    levels = np.minimum(np.log2(counts).astype(np.int64), LEVELS - 1) + 1
    level = np.arange(int(levels.sum())) - np.repeat(starts_of(levels)[:-1], levels)
    tokens = np.repeat(codes, levels) * LEVELS + level
    starts = starts_of(np.bincount(people, minlength=part.patient_count))
    return (
        _ones(np.repeat(people, levels), tokens, (part.patient_count, size * LEVELS)),
        _ones(people, codes, (part.patient_count, size)),
        _sums(_mixed(codes + counts * size, 5), starts),
        _sums(_mixed(codes, 6), starts),
    )


def _times(
    part: Sequences, owners: np.ndarray, starts: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Keys of the visits with codes: the kinds of their gaps, and their days since the first of them."""
    if part.days is None:
        return None, None
    days = part.days[part.codes_per_visit > 0]
    gaps = np.where(places > 0, np.diff(days, prepend=days[:1]), 0)
    since = days - days[np.minimum(starts[:-1], max(0, days.size - 1))][owners]
    kinds = Calendar(is_timed=True, is_dated=part.is_dated).kind_of(gaps)
    salted = _mixed(places, 7)
    return (
        _sums(_mixed(kinds.astype(np.uint64) + salted, 8), starts),
        _sums(_mixed(since.astype(np.uint64) + salted, 8), starts),
    )


def _whole(part: Sequences, ordered: np.ndarray, days: np.ndarray | None, patients: int) -> np.ndarray:
    key = ordered.copy()
    if days is not None and part.first_days is not None:
        key += _mixed(days, 9) + _mixed(part.first_days.astype(np.int64), 10)
    if part.statics.shape[1]:
        key += pd.util.hash_pandas_object(part.statics, index=False).to_numpy()
    return key[:patients]
