"""Singling out: does the table tell how to describe one person and nobody else?

Attacker: holds the released table alone, and looks in it for descriptions that fit one row: a value that
stands there once, the largest or smallest of a column (univariate), or a few cells of one row together,
each number as "at least" or "at most" (multivariate). Success: the description fits exactly one patient
of a group of real ones. A description that fits one person in a hundred fits exactly one of a hundred
quite often by luck, whoever they are; so members and holdout are taken in groups of equal size, each
member in a group of as many members as the holdout has patients, and the share of patients singled out
is compared.

Baseline: the share of holdout patients singled out by descriptions of the same form whose cells come from
a row of their own each. Source: the criterion of Article 29 Working Party, Opinion 05/2014; the attack after
Anonymeter (Giomi et al., PoPETs 2023), with the patient instead of the description as what is counted.
Knows evidence; refuses to know verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.distance import MISSING_NUMBER, Rows
from synthkit.audit.evidence import Evidence, RealRows
from synthkit.audit.people import counted_in, equal_groups

NAME = "singling out"
PURPOSE = 4
DESCRIPTIONS = 600
"""Largest number of each form."""
CELLS = (2, 8)
"""Fewest and most cells of a multivariate description."""

EQUAL, AT_LEAST, AT_MOST = 0, 1, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One condition: a column in the encoded order, a comparison and a value (a number or a code)."""

    column: int
    comparison: int
    value: float


Description = tuple[Cell, ...]
Columns = list[np.ndarray]
"""Rows column by column, in the encoded order: numbers, then codes, each contiguous."""


def single_out(evidence: Evidence) -> tuple[Claims, ...]:
    """One statistic for each form of description."""
    rng = evidence.rng(PURPOSE)
    made, middles = columns_of(evidence.synthetic.rows), _middles(evidence.real.reference.rows)
    forms = {
        "univariate": _extremes_and_rarities(made, middles.size, rng),
        "multivariate": _of_one_row(made, middles, rng),
    }
    size = min(len(evidence.real.members.people), len(evidence.real.holdout.people))
    return tuple(
        Claims(
            name=NAME,
            statistic=form,
            members=_singled_out(evidence.real.members, aimed, size, rng),
            holdout=_singled_out(evidence.real.holdout, aimed, size, rng),
            baseline_rate=float(
                _singled_out(evidence.real.holdout, _scrambled(aimed, made, rng), size, rng).mean()
            ),
            holds=False,
        )
        for form, aimed in forms.items()
    )


def columns_of(rows: Rows) -> Columns:
    """Encoded rows, column by column."""
    return [*np.ascontiguousarray(rows.numbers.T), *np.ascontiguousarray(rows.codes.T)]


def fits(columns: Columns, description: Description, among: np.ndarray | None = None) -> np.ndarray:
    """Positions of the rows (all, or those `among`) that a description fits.

    A missing number is neither large nor small.
    """
    found = np.arange(columns[0].size) if among is None else among
    for cell in description:
        values = columns[cell.column] if found.size == columns[0].size else columns[cell.column][found]
        if cell.comparison == EQUAL:
            found = found[values == cell.value]
        elif cell.comparison == AT_LEAST:
            found = found[(values >= cell.value) & (values < MISSING_NUMBER)]
        else:
            found = found[values <= cell.value]
    return found


def _middles(reference: Rows) -> np.ndarray:
    """(numeric columns,) medians; from there on "at least", below "at most"."""
    present = np.where(reference.numbers < MISSING_NUMBER, reference.numbers, np.nan)
    return np.array([np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else 0.0 for c in present.T])


def _cell(columns: Columns, row: int, column: int, middles: np.ndarray) -> Cell:
    value = float(columns[column][row])
    if column >= middles.size or value >= MISSING_NUMBER:
        return Cell(column=column, comparison=EQUAL, value=value)
    comparison = AT_LEAST if value >= middles[column] else AT_MOST
    return Cell(column=column, comparison=comparison, value=value)


def _extremes_and_rarities(made: Columns, numeric: int, rng: np.random.Generator) -> list[Description]:
    """Univariate: each column's ends, and each value that stands in the table once."""
    found: list[Description] = []
    for column, values in enumerate(made):
        levels, counts = np.unique(values, return_counts=True)
        once = levels[counts == 1].astype(float)
        found += [(Cell(column=column, comparison=EQUAL, value=value),) for value in once.tolist()]
        present = levels[levels < MISSING_NUMBER]
        if column < numeric and present.size:
            found.append((Cell(column=column, comparison=AT_MOST, value=float(present[0])),))
            found.append((Cell(column=column, comparison=AT_LEAST, value=float(present[-1])),))
    return [found[i] for i in rng.permutation(len(found))[:DESCRIPTIONS]]


def _of_one_row(made: Columns, middles: np.ndarray, rng: np.random.Generator) -> list[Description]:
    """Multivariate: cells of one row, as many as it takes that no other synthetic row fits."""
    found: list[Description] = []
    for row in rng.permutation(made[0].size)[: 2 * DESCRIPTIONS].tolist():
        if len(found) == DESCRIPTIONS:
            break
        columns = rng.permutation(len(made))[: CELLS[1]].tolist()
        description: Description = ()
        fitting = np.arange(made[0].size)
        for column in columns:
            description += (_cell(made, row, column, middles),)
            fitting = fits(made, description[-1:], fitting)
            if fitting.size == 1:
                break
        if fitting.size == 1 and len(description) >= CELLS[0]:
            found.append(description)
    return found


def _scrambled(
    descriptions: Sequence[Description], made: Columns, rng: np.random.Generator
) -> list[Description]:
    """As many descriptions of the same columns, each cell's value from a random row of its own."""

    def other(cell: Cell) -> Cell:
        value = float(made[cell.column][rng.integers(made[0].size)])
        return Cell(column=cell.column, comparison=cell.comparison, value=value)

    return [tuple(other(cell) for cell in description) for description in descriptions]


def _singled_out(
    part: RealRows, descriptions: Sequence[Description], size: int, rng: np.random.Generator
) -> np.ndarray:
    """(people,) whether some description fits this patient and nobody else of their group of `size`."""
    people = len(part.people)
    groups = equal_groups(people, size, rng)
    inside = np.zeros((len(groups), people), dtype=bool)
    counted = np.full(people, -1)
    for index, group in enumerate(groups):
        inside[index, group] = True
        counted[group[: counted_in(people, size, index)]] = index
    result, columns = np.zeros(people, dtype=bool), columns_of(part.rows)
    for description in descriptions:
        owners = np.unique(part.people.owner[fits(columns, description)])
        alone = inside[:, owners].sum(axis=1) == 1
        result[owners[alone[counted[owners]]]] = True
    return result
