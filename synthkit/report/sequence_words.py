"""How figures of records are written: estimates, scores, lengths, and the names of floor and ceiling."""

import math

from synthkit.domain.utility import Estimate

FLOOR, CEILING = "Floor: codes dealt out at random", "Ceiling: other real records"


def text(estimate: Estimate | None) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return "nothing to say"
    return f"{estimate.mean:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"


def number(value: float) -> str:
    """Three decimals; a word where nothing can be said."""
    return "none" if math.isnan(value) else f"{value:.3f}"


def lengths(values: tuple[float, ...]) -> str:
    """Mean, and in brackets the quantiles."""
    if not values:
        return "no times"
    return f"{values[0]:.2f} ({', '.join(f'{value:g}' for value in values[1:])})"
