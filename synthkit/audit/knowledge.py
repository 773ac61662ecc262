"""What an attacker may know of a target, column by column: quasi-identifiers, half of the rest, all.

Knows a schema, the reference's bins and a seed; refuses to see a member. Rules: a quasi-identifier is never
a secret; where the schema declares none, the partial attacker's columns are drawn; parts are disjoint, so
that distances in every view are sums of theirs.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.audit.distance import Rows, Space, View, public_space
from synthkit.audit.secrets import secret_columns
from synthkit.domain.schema import Schema

DRAWN_VIEWS = (View(parts=(0, 1, 2, 3), k=2), View(parts=(0, 2)), View(parts=(1, 3)), View(parts=(0, 1)))
"""All columns; the known half; the other half; all but the secrets. Parts, in order: known and open, unknown
and open, known and secret, unknown and secret."""
DECLARED_VIEWS = (
    View(parts=(0, 1, 2, 3, 4), k=2),
    View(parts=(0, 2, 4)),
    View(parts=(1, 3)),
    View(parts=(0, 1, 4)),
    View(parts=(4,)),
    View(parts=(0, 4)),
)
"""The same with the quasi-identifiers as part 4; then these alone, and these with the known open columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Knowledge:
    """Columns in the encoded order, numeric ones first.

    `secrets` are positions; `quasi` (columns,) marks the declared quasi-identifiers, nothing where none is;
    `known` (columns,) marks what the partial attacker knows: the quasi-identifiers and half of the others.
    """

    names: tuple[str, ...]
    secrets: tuple[int, ...]
    quasi: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, schema: Schema, reference: np.ndarray, rng: np.random.Generator) -> "Knowledge":
        """Draw the half; `reference` (rows, columns) are bins, in the encoded order."""
        names, secrets = secret_columns(schema, reference)
        quasi = np.isin(names, schema.quasi_identifiers)
        others = np.flatnonzero(~quasi)
        known = quasi.copy()
        known[others[rng.permutation(others.size)[: (others.size + 1) // 2]]] = True
        return cls(names=names, secrets=secrets, quasi=quasi, known=known)

    @property
    def is_declared(self) -> bool:
        """Whether the schema says what others know."""
        return bool(self.quasi.any())

    @property
    def views(self) -> tuple[View, ...]:
        """What every attack looks up; two more where quasi-identifiers are declared."""
        return DECLARED_VIEWS if self.is_declared else DRAWN_VIEWS

    def parts(self, rows: Rows) -> tuple[Space, ...]:
        """Gower's distance over each part of the columns that the views name."""
        secret = np.isin(np.arange(len(self.names)), self.secrets)
        rest = ~self.quasi
        masks = [kind & known & rest for kind in (~secret, secret) for known in (self.known, ~self.known)]
        masks += [self.quasi] * self.is_declared
        return tuple(public_space(rows, mask) for mask in masks)
