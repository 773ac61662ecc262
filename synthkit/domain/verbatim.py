"""Verbatim: how much of made records is, visit by visit or as a whole, a training patient's own.

Knows shares, and no record. It is measured where the records are (`synthkit.training.paper_copies`), stands
in a model's header, and is the reason for which what the published EVA makes is not released.
"""

from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject


@dataclass(frozen=True, kw_only=True)
class Verbatim:
    """Shares of what was made, 0 to 1.

    `visits` of the visits are some training patient's, with exactly these codes; `lone_visits` are those
    that one training patient alone had. Of equally many patients who were trained on and who were not,
    `known_visits` are one of the former's and `unseen_visits` one of the latter's. Likewise of whole
    records of at least two visits, in their order: `known_records` and `unseen_records`.
    """

    visits: float
    lone_visits: float
    known_visits: float
    unseen_visits: float
    known_records: float
    unseen_records: float

    @property
    def words(self) -> str:
        """What it means, in one line."""
        shares = {name: f"{100 * share:.1f} %" for name, share in vars(self).items()}
        return (
            f"{shares['visits']} of the visits it makes are a training patient's, code for code, "
            f"{shares['lone_visits']} those of one patient alone; among equally many patients "
            f"{shares['known_visits']} are a trained one's and {shares['unseen_visits']} an unseen one's; "
            f"of its whole records {shares['known_records']} and {shares['unseen_records']}"
        )

    def to_json(self) -> JsonObject:
        """For a model's header; to four decimals."""
        return {name: round(float(value), 4) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, document: JsonObject) -> "Verbatim":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when it is no such document."""
        found = cls(**{name: float(document[name]) for name in cls.__dataclass_fields__})
        if any(not 0 <= value <= 1 for value in vars(found).values()):
            raise ValueError("a share is not within 0 to 1")
        return found
