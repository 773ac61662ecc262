"""Are members, holdout and reference disjoint, as far as rows can tell?

Knows identical rows; refuses to compare patient numbers, which two files may use for different people.
Identical patients occur by chance in small tables, so the question is whether they fall *across* two sets
more often than a random split of the same patients would place them.
"""

import hashlib
from itertools import combinations

import numpy as np
from scipy import stats

from synthkit.audit.distance import encode
from synthkit.data.table import PatientTable

LEVEL = 1e-4


def overlapping_sets(sets: dict[str, PatientTable], *, seed: int) -> tuple[str, ...]:
    """In words, each pair of sets that share patients far beyond chance.

    Of every group of identical patients two are drawn; a random split puts them into different sets with
    a known probability, so the number of split pairs is binomial. False alarms: 1 in 10,000 per pair.
    """
    tables = list(sets.values())
    encoded = encode(tables[0].schema, [table.frame for table in tables])
    prints = {
        name: _fingerprints(rows.keys, table.patients)
        for (name, table), rows in zip(sets.items(), encoded, strict=True)
    }
    rng = np.random.default_rng(seed)
    return tuple(
        f"{first} and {second} share patients: identical records far beyond chance"
        for first, second in combinations(prints, 2)
        if chance_of_split(prints[first], prints[second], rng) < LEVEL
    )


def _fingerprints(keys: np.ndarray, patients: np.ndarray) -> list[bytes]:
    """One digest per patient over the sorted keys of all their rows."""
    order = np.lexsort((keys, patients))
    starts = np.unique(patients[order], return_index=True)[1]
    return [hashlib.sha256(group.tobytes()).digest() for group in np.split(keys[order], starts[1:])]


def chance_of_split(first: list[bytes], second: list[bytes], rng: np.random.Generator) -> float:
    """Probability that a random split separates at least as many identical pairs."""
    n, m = len(first), len(second)
    shuffled = rng.permutation(n + m)
    seen: dict[bytes, int] = {}
    pairs: dict[bytes, bool] = {}
    for position in shuffled:
        mark = first[position] if position < n else second[position - n]
        if mark not in seen:
            seen[mark] = int(position)
        elif mark not in pairs:
            pairs[mark] = (seen[mark] < n) != (position < n)
    apart = 2.0 * n * m / ((n + m) * (n + m - 1.0))
    return float(stats.binom.sf(sum(pairs.values()) - 1, len(pairs), apart))
