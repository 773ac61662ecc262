"""Linkage: how much of made rows is real patients', and how many lead back to the one they were made from.

Knows three shares, and no row. It is measured where the rows are (`synthkit.training.paper_linkage`), stands
in a model's header, and is the reason for which what the published MCM makes is not released.
"""

from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject

PUBLISHED_MASK = 0.75
"""Share of each real row's columns that the published MCM masks."""


@dataclass(frozen=True, kw_only=True)
class Linkage:
    """What masking this share of each real row leaves; each a share, 0 to 1.

    `kept_cells` is the share of cells that are the source patient's, unaltered; `linked_rows` the share of
    rows for which somebody with the patients' table names the patient they were made from.
    """

    mask_share: float
    kept_cells: float
    linked_rows: float

    @property
    def words(self) -> str:
        """What it means, in one line."""
        masked, kept, linked = (
            f"{100 * share:.0f} %" for share in (self.mask_share, self.kept_cells, self.linked_rows)
        )
        return (
            f"with {masked} of each real row masked, {kept} of all cells are a real patient's and "
            f"{linked} of the rows lead back to theirs"
        )

    def to_json(self) -> JsonObject:
        """For a model's header; to three decimals."""
        return {name: round(float(value), 3) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, document: JsonObject) -> "Linkage":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when it is no such document."""
        found = cls(**{name: float(document[name]) for name in cls.__dataclass_fields__})
        if any(not 0 <= value <= 1 for value in vars(found).values()):
            raise ValueError("a share is not within 0 to 1")
        return found
