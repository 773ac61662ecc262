"""RecordCaps: how long a record may be, and how many codes a visit may hold, as the schema of records says.

Knows two numbers and where they come from. Refuses to know any record. Rules: both are public, or both are
bought with budget; what a draft says where they are to be bought is not believed; what is kept of a longer
record depends on that patient alone (`data.sequence_encoding`).
"""

from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.domain.kinds import Provenance
from synthkit.domain.toml_reading import Section
from synthkit.errors import SchemaError

NAME = "[table.caps]"
"""What messages and lists of columns call the caps."""

LARGEST_VISITS, LARGEST_CODES = 1000, 10_000
"""No generator of records takes larger ones."""


@dataclass(frozen=True, kw_only=True)
class RecordCaps:
    """`most_visits` of a patient and `most_codes` of a visit; None of both: still to be bought."""

    most_visits: int | None = None
    most_codes: int | None = None
    provenance: Provenance = Provenance.PUBLIC

    def __post_init__(self) -> None:
        numbers = (self.most_visits, self.most_codes)
        if self.provenance is Provenance.DATA:
            raise SchemaError('provenance is "public" or "dp"', where=NAME, fix="correct it")
        if (None in numbers) and (numbers != (None, None) or self.provenance is Provenance.PUBLIC):
            raise SchemaError(
                "most_visits and most_codes come together",
                where=NAME,
                fix='give both, or neither with provenance = "dp"',
            )
        for number, largest in zip(numbers, (LARGEST_VISITS, LARGEST_CODES), strict=True):
            if number is not None and not 1 <= number <= largest:
                raise SchemaError("a cap is out of range", where=NAME, fix=f"1 to {largest}")

    @property
    def is_to_buy(self) -> bool:
        """Whether they ask to be bought and are not there yet."""
        return self.most_visits is None

    @property
    def is_bought(self) -> bool:
        """Whether they claim to have been bought; only a ledger can tell whether they were."""
        return self.provenance is Provenance.DP and not self.is_to_buy

    def hyperparameters(self) -> dict[str, float]:
        """The caps as a plan of training states them.

        Raises:
            SchemaError: They are still to be bought.
        """
        if self.most_visits is None or self.most_codes is None:
            raise SchemaError("still to be bought", where=NAME, fix="buy them with `schema buy`")
        return {"most_visits": float(self.most_visits), "most_codes": float(self.most_codes)}

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "most_visits": self.most_visits,
            "most_codes": self.most_codes,
            "provenance": self.provenance.value,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "RecordCaps":
        """Inverse of `to_json`."""
        return cls(
            most_visits=document["most_visits"],
            most_codes=document["most_codes"],
            provenance=Provenance(document["provenance"]),
        )


def caps_from_toml(section: Section) -> RecordCaps:
    """Read `[table.caps]`.

    Raises:
        SchemaError: A key is unknown, of the wrong type or out of range, or one of two is missing.
    """
    section.check_keys(optional=("most_visits", "most_codes", "provenance"))
    numbers = {name: section.whole(name, 0) for name in ("most_visits", "most_codes") if section.has(name)}
    provenance = Provenance(section.choice("provenance", ("public", "dp"), "public"))
    return RecordCaps(provenance=provenance, **numbers)


def caps_to_toml(caps: RecordCaps) -> str:
    """The table `[table.caps]`."""
    lines = ["[table.caps]", f'provenance = "{caps.provenance.value}"']
    if not caps.is_to_buy:
        lines += [f"most_visits = {caps.most_visits}", f"most_codes = {caps.most_codes}"]
    return "\n".join(lines)
