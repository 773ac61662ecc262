"""Membership from shared cells: does some synthetic row agree with this person in cells that few share?

Attacker: holds the released table, the full record of a target and a sample of the population (the
reference). Adds up, for each synthetic row, how surprising each cell is in which it equals the target's:
minus the logarithm of the value's frequency. Success: names members more often than people of the
holdout, by the row that agrees most. A row that was made from a patient's by replacing some cells, many of
them at random, is far from that patient by any distance and still carries the cells that were kept.

Thresholds are the reference's top 1 % and 10 %. Source: agreement weights of Fellegi and Sunter, JASA
1969, 64:1183, with the chance of agreement alone. Knows evidence; refuses to know verdicts.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.distance import MAX_ONE_HOT, POINT_ROWS, QUERY_ROWS, Rows, in_parallel
from synthkit.audit.evidence import Evidence

NAME = "membership by shared rare cells"


def scores(evidence: Evidence) -> Scores:
    """The largest sum of surprises of every patient."""
    real = evidence.real
    parts = (real.members, real.holdout, real.reference)
    *codes, made = _codes([*(part.rows for part in parts), evidence.synthetic.rows])
    levels = np.max([table.max(axis=0) for table in (*codes, made)], axis=0) + 1
    best = []
    for part, table in zip(parts, codes, strict=True):
        surprise = _surprise(table, codes[2], made, levels, is_own=table is codes[2])
        best.append(part.people.largest(_most_shared(table, surprise, made, levels)))
    return Scores(
        members=best[0],
        holdout=best[1],
        reference=best[2],
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )


def most_shared(queries: Rows, reference: Rows, made: Rows) -> np.ndarray:
    """(queries,) the largest sum of surprises over the cells that a row shares with one synthetic row.

    All three encoded together; surprise is by the reference and the table.
    """
    rows, people, points = _codes([queries, reference, made])
    levels = np.max([table.max(axis=0) for table in (rows, people, points)], axis=0) + 1
    return _most_shared(rows, _surprise(rows, people, points, levels, is_own=False), points, levels)


def _codes(tables: Sequence[Rows]) -> list[np.ndarray]:
    """(rows, columns) int32: equal value, equal code, from 0; a number counts to its last digit."""
    columns = [[table.codes[:, j] + 1 for table in tables] for j in range(tables[0].codes.shape[1])]
    cuts = np.cumsum([len(table) for table in tables])[:-1]
    for j in range(tables[0].numbers.shape[1]):
        joint = np.concatenate([table.numbers[:, j] for table in tables])
        columns.append(np.split(np.unique(joint, return_inverse=True)[1], cuts))
    return [np.stack([column[t] for column in columns], axis=1).astype(np.int32) for t in range(len(tables))]


def _surprise(
    table: np.ndarray, reference: np.ndarray, made: np.ndarray, levels: np.ndarray, *, is_own: bool
) -> np.ndarray:
    """(rows, columns) float32: minus the log frequency of each cell's value among reference and table.

    A reference row does not count for itself.
    """
    total = len(reference) + len(made) + 1.0
    surprise = np.empty(table.shape, dtype=np.float32)
    for j, size in enumerate(levels):
        counts = np.bincount(reference[:, j], minlength=size) + np.bincount(made[:, j], minlength=size)
        surprise[:, j] = -np.log((counts[table[:, j]] - float(is_own) + 0.5) / total)
    return np.maximum(surprise, 0.0)


def _most_shared(table: np.ndarray, surprise: np.ndarray, made: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(rows,) the largest sum of surprises over the cells shared with one synthetic row."""
    narrow, wide = np.flatnonzero(levels <= MAX_ONE_HOT), np.flatnonzero(levels > MAX_ONE_HOT)
    starts = np.concatenate(([0], np.cumsum(levels[narrow]))).astype(np.int64)

    def indicators(cells: np.ndarray, values: np.ndarray) -> np.ndarray:
        one_hot = np.zeros((len(cells), int(starts[-1])), dtype=np.float32)
        rows = np.arange(len(cells))[:, None]
        one_hot[rows, starts[:-1] + cells[:, narrow]] = values
        return one_hot

    best = np.zeros(len(table), dtype=np.float32)
    lock = Lock()

    def compare(part: slice) -> None:
        points = made[part]
        right = indicators(points, np.ones(1, dtype=np.float32)).T
        columns = np.ascontiguousarray(points[:, wide].T)
        for q in range(0, len(table), QUERY_ROWS):
            rows = slice(q, q + QUERY_ROWS)
            total = indicators(table[rows], surprise[rows][:, narrow]) @ right
            for j, column in zip(wide, columns, strict=True):
                total += (table[rows, j, None] == column) * surprise[rows, j, None]
            most = total.max(axis=1)
            with lock:
                np.maximum(best[rows], most, out=best[rows])

    slices = [slice(p, min(p + POINT_ROWS, len(made))) for p in range(0, len(made), POINT_ROWS)]
    in_parallel(compare, slices, len(table))
    return best


def share(evidence: Evidence) -> tuple[Claims, ...]:
    """Claims at the two lower rates; they can fail a table, and their best estimates hold back a PASS."""
    score = scores(evidence)
    return tuple(score.claims_at(rate, name=NAME) for rate in RATES[:2])
