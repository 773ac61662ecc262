"""Quasi-identifiers: columns that others may know of a patient and by which a patient could be looked up.

Knows names of columns, never a row. An audit gives its attackers these columns first; where none is
declared it draws columns instead. The guess is a draft for a person to correct: what neighbours, employers
and registries know depends on the place, and no program can look it up.
"""

import re
from collections.abc import Collection, Sequence

from synthkit.errors import SchemaError

USUAL = re.compile(
    r"aged?|sex|gender|race|ethnic(ity)?|nationality|marital|language|religion|education|occupation|job"
    r"|profession|country|county|state|region|district|city|town|village|zip(code)?|post(al|code)|residence"
    r"|address|birth(day|date)?|born|dob|yob|admi(t|tted|ssion)|discharged?|death|deceased|insurance|payer"
    r"|hospital"
)
"""Words in a column's name by which the guess takes it; measured nowhere, written down from the identifiers
of HIPAA's safe harbour (45 CFR 164.514(b)(2)) and the demographic items of hospital registries."""

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def check_quasi_identifiers(named: Sequence[str], columns: Collection[str]) -> None:
    """Refuse what cannot be looked up.

    Args:
        named: What the schema declares.
        columns: The columns that hold one value a patient.

    Raises:
        SchemaError: A name is none of the columns, or is there twice.
    """
    for name in named:
        if name not in columns:
            raise SchemaError(
                "a quasi-identifier is no column of one value a patient",
                where="quasi_identifiers",
                fix="name columns of the table; a code column and the patient id are none",
            )
    if len(set(named)) != len(named):
        raise SchemaError("a column is named twice", where="quasi_identifiers", fix="name each once")


def likely_quasi_identifiers(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns whose name has a usual word in it, in the order given: a draft, to be reviewed."""
    return tuple(
        name for name in columns if any(USUAL.fullmatch(word.lower()) for word in WORD.findall(name))
    )
