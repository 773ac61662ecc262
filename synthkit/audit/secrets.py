"""Which columns an attacker would like to learn, and how well the best guess does without the table.

Knows a schema and the reference's bins; refuses to see a member. Secret are the schema's targets and
events. A schema that names none gets the columns that are hardest to guess: the choice depends on the
reference alone, so it favours neither members nor holdout. What others know anyhow, the quasi-identifiers,
is no secret.
"""

import numpy as np

from synthkit.domain.schema import Kind, Schema

MAX_SECRETS = 3


def secret_columns(schema: Schema, reference: np.ndarray) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the columns in the encoded order, and positions of the secret ones among them.

    Args:
        schema: The tables' schema.
        reference: (rows, columns) bins of the reference, in the encoded order.
    """
    columns = sorted(schema, key=lambda column: not column.is_numeric)
    most = min(MAX_SECRETS, len(columns) // 2)
    hidden = [j for j, column in enumerate(columns) if column.name not in schema.quasi_identifiers]
    named = [j for j in hidden if columns[j].target or columns[j].kind is Kind.EVENT]
    if not named:
        hardest = np.argsort([modal_rate(reference[:, j]) for j in hidden], kind="stable")
        named = sorted(hidden[place] for place in hardest[:most])
    return tuple(column.name for column in columns), tuple(named[:most])


def modal_rate(bins: np.ndarray) -> float:
    """How often guessing the most frequent bin is right."""
    return float(np.bincount(bins).max() / bins.size)
