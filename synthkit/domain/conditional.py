"""ConditionalReport: were the requested conditions delivered, and do the rows resemble real ones under them?

Knows counts of generated rows, distances and reliabilities. Refuses a small count of real patients: below
FEW_REAL it is None, and so is every figure that would rest on so few.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import JsonObject

FEW_REAL = 10
"""Fewer real rows than this are not counted and not compared with."""

MISSING = "(missing)"
"""What an empty cell is called among a column's values."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One requested conjunction of column = value, and what came.

    `wanted` maps column to value. `rows` were asked for, `satisfied` of them meet every part; `delivered`
    counts, for a request of one column, the rows by value of that column. `refused` is the model's reason
    where it delivered none. `distance` is the mean total variation distance, over all other columns,
    from the real rows that meet the request; `floor` is that of unconditional synthetic rows, and
    `ceiling` that of two halves of those real rows from each other. `mass` is the share of patients who
    meet the request by the model, rounded; `barred` names the policy's rule that keeps such a table back.
    """

    wanted: Mapping[str, str]
    rows: int
    satisfied: int
    delivered: Mapping[str, int]
    reliability: float | None
    real_rows: int | None
    distance: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    refused: str = ""
    mass: float | None = None
    barred: str = ""

    @property
    def label(self) -> str:
        """The request in words."""
        return " and ".join(f"{column} = {value}" for column, value in self.wanted.items())

    @property
    def is_exact(self) -> bool:
        """Whether every row that came meets the request; a refusal delivers no wrong row."""
        return bool(self.refused) or self.satisfied == self.rows

    def to_json(self) -> JsonObject:
        """Canonical form."""
        names = ("rows", "satisfied", "mass", "reliability", "real_rows", "distance", "floor", "ceiling")
        return {
            "wanted": dict(self.wanted),
            "delivered": dict(self.delivered),
            "exact": self.is_exact,
            "refused": self.refused or None,
            "barred": self.barred or None,
        } | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class ConditionalReport:
    """What `synthkit evaluate-conditions` measured.

    `unconditional` counts, by column and value, the rows drawn without any condition. `policy` is the name
    of the policy by whose rules requests are `barred`; empty: none was asked.
    """

    rows: int
    unconditional: Mapping[str, Mapping[str, int]]
    deliveries: tuple[Delivery, ...]
    notes: tuple[str, ...] = ()
    policy: str = ""

    @property
    def barred(self) -> int:
        """Requests whose table the policy would keep back."""
        return sum(bool(delivery.barred) for delivery in self.deliveries)

    @property
    def refused(self) -> int:
        """Requests for which the model drew no row."""
        return sum(bool(delivery.refused) for delivery in self.deliveries)

    @property
    def is_exact(self) -> bool:
        """Whether every delivered row meets its request: all matrices are diagonal."""
        return all(delivery.is_exact for delivery in self.deliveries)

    @property
    def verdict(self) -> Verdict:
        """FAIL on one wrong row; INCONCLUSIVE where the model refused every request; else PASS."""
        if not self.is_exact:
            return Verdict.FAIL
        return Verdict.INCONCLUSIVE if self.refused == len(self.deliveries) else Verdict.PASS

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "verdict": self.verdict.value,
            "exact": self.is_exact,
            "rows": self.rows,
            "unconditional": {name: dict(counts) for name, counts in self.unconditional.items()},
            "requests": [delivery.to_json() for delivery in self.deliveries],
            "notes": list(self.notes),
            "policy": self.policy or None,
            "barred": self.barred if self.policy else None,
        }
