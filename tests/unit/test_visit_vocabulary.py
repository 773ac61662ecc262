"""Algorithm 2: the most frequent visits are the words, and every other visit becomes the nearest."""

from itertools import pairwise

import numpy as np
import pytest
from record_ward import records_of, simulated, tiny_schema

from synthkit.data.visit_vocabulary import (
    VisitVocabulary,
    fit_visit_vocabulary,
    record_keys,
    visit_keys,
)
from synthkit.errors import InputError

SCHEMA = tiny_schema(6)
RECORDS = records_of(
    [[[0, 1], [0, 1], [2]], [[0, 1], [2], [3, 4, 5]], [[2], [0, 1, 2], []], [[5], [3, 4, 5]]], SCHEMA
)


def words_of(vocabulary: VisitVocabulary) -> list[list[int]]:
    codes, starts = vocabulary.spelt(np.arange(len(vocabulary)))
    return [codes[begin:end].tolist() for begin, end in pairwise(starts)]


def test_words_are_the_visits_by_frequency_then_by_first_appearance():
    everything = fit_visit_vocabulary(RECORDS)
    assert words_of(everything) == [[0, 1], [2], [3, 4, 5], [0, 1, 2], [], [5]]
    assert words_of(fit_visit_vocabulary(RECORDS, size=3)) == [[0, 1], [2], [3, 4, 5]]


def test_with_all_words_nothing_is_replaced_and_records_come_back_code_for_code():
    records = simulated(60)
    vocabulary = fit_visit_vocabulary(records)
    found = vocabulary.words(records)
    assert (found.replaced_share, found.unknown_share) == (0.0, 0.0)
    codes, starts = vocabulary.spelt(found.words)
    assert np.array_equal(codes, records.codes)
    assert np.array_equal(starts, records.visit_starts)


def test_a_visit_that_is_no_word_becomes_the_one_that_shares_most():
    """Of two that share as much the one with fewer codes besides; of these the more frequent."""
    vocabulary = fit_visit_vocabulary(records_of([[[0], [0], [1], [0, 1, 2], [3, 4]]], SCHEMA))
    found = vocabulary.words(records_of([[[0, 1], [1, 2], [3], [0, 3], [5], []]], SCHEMA))
    assert [words_of(vocabulary)[w] for w in found.words[:4]] == [[0, 1, 2], [0, 1, 2], [3, 4], [0]]
    assert found.words[4:].tolist() == [vocabulary.unknown] * 2
    assert found.replaced.tolist() == [True] * 4 + [False] * 2
    assert found.unknown.tolist() == [False] * 4 + [True] * 2
    assert found.replaced_share == 1.0
    assert found.unknown_share == pytest.approx(2 / 6)


def test_the_nearest_is_the_one_that_a_plain_search_finds(monkeypatch):
    """On simulated visits, some words at a time and all at once."""
    records = simulated(80)
    vocabulary = fit_visit_vocabulary(records, size=40)
    found = vocabulary.words(records)
    known = [set(word) for word in words_of(vocabulary)]
    starts, codes = records.visit_starts, records.codes
    for visit in np.flatnonzero(found.replaced):
        own = set(codes[starts[visit] : starts[visit + 1]].tolist())
        best = max(range(len(known)), key=lambda w: (len(own & known[w]), -len(known[w]), -w))
        assert found.words[visit] == best
    assert 0.1 < found.replaced_share < 0.9
    monkeypatch.setattr("synthkit.data.visit_vocabulary.CELLS", 100)
    assert np.array_equal(vocabulary.words(records).words, found.words)


def test_keys_tell_visits_and_records_apart():
    one = records_of([[[0, 1], [2]], [[0], [1, 2]], [[0, 1], [2]]], SCHEMA)
    visits, records = visit_keys(one), record_keys(one)
    assert len(set(visits)) == 4
    assert records[0] == records[2] != records[1]


def test_what_is_no_vocabulary_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        fit_visit_vocabulary(RECORDS, size=0)
    for codes, starts in (([0], [0]), ([0, 1], [0, 1]), ([9], [0, 1]), ([-1], [0, 1]), ([1, 1], [0, 1, 2])):
        with pytest.raises(ValueError, match="word"):
            VisitVocabulary(codes=np.array(codes, dtype=np.int32), starts=np.array(starts), size=6)
