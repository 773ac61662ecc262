"""From one value of a typed source (Parquet, a database) to the one text that a CSV cell would hold.

Knows Python's plain values. Refuses to know columns and schemas. Rule: equal values have equal texts (whole
floats without .0, ISO dates, true/false), and a value that means nothing was measured has none.
"""

import datetime as dt
from decimal import Decimal

PLAIN = (str, bool, int, float, Decimal, dt.date, dt.time)
"""What a cell may be; anything else is a structure or bytes."""


def text_of(value: object) -> str | None:
    """The one text of a value; None, an empty text and a float that is no number are missing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124 - only NaN differs from itself
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, Decimal):
        return _text_of_decimal(value)
    if isinstance(value, dt.date):
        return _text_of_date(value)
    return str(value) if value not in (None, "") else None


def _text_of_decimal(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _text_of_date(value: dt.date) -> str:
    """An ISO date; with its time of day, where it has one."""
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(sep=" ")
    return value.isoformat()
