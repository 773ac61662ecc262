"""Hyperparameters: named numbers with defaults and ranges, refused before anything is built."""

from collections.abc import Mapping

from synthkit.errors import InputError


def checked_settings(
    kind: str,
    given: Mapping[str, float] | None,
    defaults: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """The defaults, overridden by what is given: what could only fail once budget is reserved fails here.

    Raises:
        InputError: Names the first hyperparameter that is unknown or out of range.
    """
    where = f"generator {kind}"
    unknown = set(given or {}) - set(defaults)
    if unknown:
        raise InputError(
            f"unknown hyperparameter {min(unknown)}", where=where, fix=f"one of {', '.join(defaults)}"
        )
    settings = {**defaults, **(given or {})}
    for name, value in settings.items():
        low, high = ranges[name]
        if not low <= value <= high:
            raise InputError(
                f"hyperparameter {name} is out of range", where=where, fix=f"{low:g} to {high:g}"
            )
    return settings
