"""What the coordinator states about a site's ledger: where it stood when a reply was accepted.

Knows a number and a hash; no spend, no asset, no row. The hash is of one entry of the ledger's chain,
whose first entry names the asset and the site, so that no other ledger can contain it.

Compatibility promise: a statement carries `format`; a reader refuses another one.
"""

import re
from dataclasses import dataclass

from synthkit.domain.canonical import JsonObject
from synthkit.errors import InputError

FORMAT = 1

_DIGEST = re.compile("[0-9a-f]{64}")
_FIELDS: dict[str, type] = {
    "format": int,
    "study_digest": str,
    "server_round": int,
    "site": str,
    "ledger_counter": int,
    "ledger_head": str,
}


@dataclass(frozen=True, kw_only=True)
class WitnessStatement:
    """The head of `site`'s ledger right after it committed its reply to `server_round` (from 1).

    Signed by the coordinator as a document of kind `witness`.
    """

    study_digest: str
    server_round: int
    site: str
    ledger_counter: int
    ledger_head: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.study_digest) or not _DIGEST.fullmatch(self.ledger_head):
            raise InputError("study and ledger head are SHA-256 digests", where="witness statement")
        if self.server_round < 1 or self.ledger_counter < 1:
            raise InputError("round and ledger counter are at least 1", where="witness statement")

    @property
    def mark(self) -> tuple[int, str]:
        """(number, hash) of the entry that the ledger has to contain."""
        return self.ledger_counter, self.ledger_head

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"format": FORMAT, **vars(self)}

    @classmethod
    def from_json(cls, document: JsonObject) -> "WitnessStatement":
        """Inverse of `to_json`.

        Raises:
            InputError: A field is missing, unknown or of the wrong type, or the format is another.
        """
        if document.keys() != _FIELDS.keys():
            raise InputError("fields missing or unknown", where="witness statement")
        for name, kind in _FIELDS.items():
            if type(document[name]) is not kind:
                raise InputError(f"field {name} has the wrong type", where="witness statement")
        if document["format"] != FORMAT:
            raise InputError(
                "unknown format", where="witness statement", fix="read it with the version that wrote it"
            )
        return cls(**{name: value for name, value in document.items() if name != "format"})
