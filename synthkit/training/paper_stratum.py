"""Augmentation in the published MCM: the cells of a stratum, drawn evenly from what its conditions leave.

Knows the patients' ranges and vocabularies, and no row. Rule: what no training patient is like is refused,
for the network was never shown it.

Source: Kuo, Gallego and Jorm, Masked Clinical Modelling, section 2.2: "sample the desired values from
uniform distributions, and pass the incomplete data to MCM for completion".
"""

from collections.abc import Sequence

import numpy as np

from synthkit.data.paper_boxcox import BoxCoxColumn, BoxCoxEncoding
from synthkit.domain.conditions import Allowed, Condition, allowed
from synthkit.errors import ConditionError

REDRAWS = 100
"""Draws of a conditioned cell before excluded values are held to be all there is."""


def stratum(
    encoding: BoxCoxEncoding, count: int, conditions: Sequence[Condition], rng: np.random.Generator
) -> np.ndarray:
    """Rows of which nothing but the conditioned cells is known.

    Args:
        encoding: Of the training patients.
        count: How many rows.
        conditions: What every row meets.
        rng: Draws the cells.

    Returns:
        Values, float64, shape (count, columns), NaN where to be completed.

    Raises:
        ConditionError: No training patient has a level, or lies in a range, that the conditions allow.
    """
    asked = {one.column for one in conditions}
    given = np.full((count, len(encoding.columns)), np.nan)
    for place, column in enumerate(encoding.columns):
        name = column.fitted.column.name
        if name in asked:
            found = _drawn(column, allowed(column.fitted.column, conditions), count, rng)
            if found is None:
                raise ConditionError(
                    "no training patient is like this, and the network was never shown one",
                    where=f"condition on {name}",
                    fix="widen it, or use the private mode",
                )
            given[:, place] = found
    return given


def _drawn(column: BoxCoxColumn, rule: Allowed, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Values of a column, evenly from what rule and patients have in common, shape (count,); or None."""
    fitted = column.fitted
    if not fitted.column.is_numeric:
        wanted = {fitted.column.categories[index] for index in rule.categories}
        positions = [place for place, level in enumerate(fitted.levels) if level in wanted]
        return rng.choice(positions, size=count).astype(float) if positions else None
    low, high = max(rule.low, fitted.minimum), min(rule.high, fitted.maximum)
    if rule.points is not None:
        points = [point for point in rule.points if low <= point <= high]
        return rng.choice(points, size=count) if points else None
    per_one = 1.0 if fitted.column.is_whole else 10.0**fitted.column.decimals
    # Bounds and patients' values stand on the schema's grid, so that rounding finds the step they are.
    first, last = round(low * per_one), round(high * per_one)
    if first > last:
        return None
    numbers = rng.integers(first, last + 1, size=count) / per_one
    for _ in range(REDRAWS):
        again = np.isin(numbers, rule.excluded)
        if not again.any():
            return numbers
        numbers[again] = rng.integers(first, last + 1, size=int(again.sum())) / per_one
    return None
