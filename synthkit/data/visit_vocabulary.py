"""Algorithm 2 of EVA: whole visits as words, and the nearest word for a visit that is none.

Knows records, and keeps their visits: a vocabulary is a list of combinations of codes that patients had,
each as that patient had it, so whatever is made with it repeats patients' visits. Nothing here is private
or can be made so; the private mode decodes code by code instead. Refuses to know a network.

Source: Biswal et al., EVA, 2020, section 7.1 and Algorithm 2. What it leaves open, and what is done here:
  - "Best matching intersection": the word that shares the most codes; of several the one with the fewest
    codes besides, and of these the most frequent.
  - A visit that shares no code with any word has no nearest one: it is the unknown word, which the network
    may read and never writes. Visits without codes are a word like any other.
  - Words of one frequency stand in the order of their first appearance.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import sparse

from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences, ranges, starts_of
from synthkit.errors import InputError

PUBLISHED_SIZE = 50_000
"""How many combinations of codes are words."""

CELLS = 8_000_000
"""Words times visits that are compared at once: bounds memory."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class VisitWords:
    """Records as words: int64 (visits,) each, and how they came to be.

    `replaced` are the visits that stand for another word, `unknown` those that no word is near.
    """

    words: np.ndarray
    replaced: np.ndarray
    unknown: np.ndarray

    @property
    def replaced_share(self) -> float:
        """Of all visits, those that are not a word as they were."""
        return float((self.replaced | self.unknown).mean()) if self.words.size else 0.0

    @property
    def unknown_share(self) -> float:
        """Of all visits, those that have no code in common with any word."""
        return float(self.unknown.mean()) if self.words.size else 0.0


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class VisitVocabulary:
    """The words, most frequent first: word w holds `codes[starts[w]:starts[w + 1]]`, ascending.

    `codes` int32 (entries,), `starts` int64 (words + 1,), `size` the number of different codes there are.
    """

    codes: np.ndarray
    starts: np.ndarray
    size: int

    def __post_init__(self) -> None:
        if len(self) < 1 or self.starts[0] != 0 or self.starts[-1] != self.codes.size:
            raise ValueError("a vocabulary needs a word")
        if (np.diff(self.starts) < 0).any() or (self.codes < 0).any() or (self.codes >= self.size).any():
            raise ValueError("a word has a code that there is not")
        if len(self.places) != len(self):
            raise ValueError("a word stands twice")

    def __len__(self) -> int:
        return int(self.starts.size - 1)

    @property
    def unknown(self) -> int:
        """The number of the word that stands for none."""
        return len(self)

    @cached_property
    def places(self) -> dict[bytes, int]:
        """Each word's number, by its key."""
        return {key: place for place, key in enumerate(_keys(self.codes, self.starts))}

    def words(self, records: Sequences) -> VisitWords:
        """Every visit's word."""
        keys = visit_keys(records)
        places = np.array([self.places.get(key, -1) for key in keys], dtype=np.int64)
        missing = np.flatnonzero(places < 0)
        if missing.size:
            distinct = {keys[visit]: visit for visit in missing}
            nearest = dict(zip(distinct, self._nearest(records, np.array([*distinct.values()])), strict=True))
            places[missing] = [nearest[keys[visit]] for visit in missing]
        replaced = np.zeros(places.size, dtype=bool)
        replaced[missing] = True
        unknown = places == self.unknown
        return VisitWords(words=places, replaced=replaced & ~unknown, unknown=unknown)

    def spelt(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int32 (entries,) and starts int64 (visits + 1,) of these words, none of them unknown."""
        entries = ranges(self.starts[words], self.starts[words + 1])
        return self.codes[entries], starts_of(np.diff(self.starts)[words])

    def _nearest(self, records: Sequences, visits: np.ndarray) -> np.ndarray:
        """The nearest word of each of these visits, int64 (visits,)."""
        ones = np.ones(self.codes.size, dtype=np.float32)
        words = sparse.csr_array((ones, self.codes, self.starts), shape=(len(self), self.size))
        lengths = np.diff(self.starts)
        beside = (lengths / (lengths.max() + 1.0)).astype(np.float32)
        found = []
        for chunk in np.split(visits, range(step := max(1, CELLS // len(self)), visits.size, step)):
            wanted = np.zeros((self.size, chunk.size), dtype=np.float32)
            counts = records.visit_starts[chunk + 1] - records.visit_starts[chunk]
            entries = ranges(records.visit_starts[chunk], records.visit_starts[chunk + 1])
            wanted[records.codes[entries], np.repeat(np.arange(chunk.size), counts)] = 1.0
            shared = words @ wanted  # (words, chunk)
            best = np.argmax(shared - beside[:, None], axis=0)
            found.append(np.where(shared.max(axis=0) > 0, best, self.unknown))
        return np.concatenate(found)


def fit_visit_vocabulary(records: PatientSequences, *, size: int = PUBLISHED_SIZE) -> VisitVocabulary:
    """The most frequent visits of these patients, as many as there are or `size`.

    Raises:
        InputError: `size` is below 1.
    """
    if size < 1:
        raise InputError("must be at least 1", where="option --visit-vocabulary", fix=f"{PUBLISHED_SIZE}")
    keys = visit_keys(records)
    kept = [key for key, _ in Counter(keys).most_common(size)]
    words = [np.frombuffer(key, dtype=np.int32) for key in kept]
    return VisitVocabulary(
        codes=np.concatenate(words).astype(np.int32),
        starts=starts_of(np.array([word.size for word in words])),
        size=len(records.schema.vocabulary),
    )


def visit_keys(records: Sequences) -> list[bytes]:
    """One key a visit; visits of the same codes have the same one, and no others do."""
    return _keys(records.codes, records.visit_starts)


def record_keys(records: PatientSequences | SyntheticSequences) -> list[tuple[bytes, ...]]:
    """One key a record: its visits in their order."""
    keys, cuts = visit_keys(records), records.patient_starts.tolist()
    return [tuple(keys[begin:end]) for begin, end in pairwise(cuts)]


def _keys(codes: np.ndarray, starts: np.ndarray) -> list[bytes]:
    """The bytes of each run of codes, int32 in every key."""
    data = np.ascontiguousarray(codes, dtype=np.int32).tobytes()
    cuts = (np.asarray(starts) * np.dtype(np.int32).itemsize).tolist()
    return [data[begin:end] for begin, end in pairwise(cuts)]
