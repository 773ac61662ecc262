"""When two texts mean the same number, and the same category.

Knows decimal notation. Refuses to guess: a leading zero makes a text a code, never a number.
"""

import re
from collections.abc import Sequence
from decimal import Decimal


def match_category(text: str, categories: Sequence[str]) -> str | None:
    """The category a text means: itself, or the one that is the same number (1.0 means 1)."""
    if text in categories:
        return text
    number = canonical_number(text)
    same = [level for level in categories if number is not None and canonical_number(level) == number]
    return same[0] if len(same) == 1 else None


def canonical_number(text: str) -> str | None:
    """The shortest form of a plain decimal number (1.50 -> 1.5), or None for anything else.

    A leading zero makes a text a code (01), not a number.
    """
    found = re.fullmatch(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?", text)
    if not found:
        return None
    fraction = (found[3] or "").rstrip("0")
    digits = f"{found[2]}.{fraction}" if fraction else found[2]
    return digits if digits == "0" else found[1] + digits


def to_decimal(text: str) -> Decimal | None:
    """The exact number a text writes (spaces around it allowed), or None; no inf, no nan, no 1_000."""
    is_number = re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*", text)
    return Decimal(text.strip()) if is_number else None
