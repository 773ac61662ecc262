"""What a round and a federation end with.

Knows weights, names of sites, codes and ledger heads. Refuses to hold anything a site did not sign or
the study does not say. Compatibility: `result.json` carries `format`; a reader refuses another one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.errors import InputError
from synthkit.federation.messages import Weights, digest_weights
from synthkit.federation.refusal import RefusalCode
from synthkit_server.storage import read_weights, write_atomically, write_weights

RESULT_WEIGHTS = "result.safetensors"
RESULT_JSON = "result.json"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A site without a usable reply. `detail` is the coordinator's own finding, never a site's text."""

    site: str
    code: RefusalCode
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.site}: {self.code.value}" + (f" ({self.detail})" if self.detail else "")

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {"site": self.site, "code": self.code.value, "detail": self.detail}


@dataclass(frozen=True, kw_only=True)
class RoundSummary:
    """Who took part in a round, who did not and why, and the digest of what came out of it."""

    server_round: int
    sites: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    weights_digest: str

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "server_round": self.server_round,
            "sites": list(self.sites),
            "refusals": [refusal.to_json() for refusal in self.refusals],
            "weights_digest": self.weights_digest,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "RoundSummary":
        """Inverse of `to_json`."""
        return cls(
            server_round=document["server_round"],
            sites=tuple(document["sites"]),
            refusals=tuple(
                Refusal(site=entry["site"], code=RefusalCode(entry["code"]), detail=entry["detail"])
                for entry in document["refusals"]
            ),
            weights_digest=document["weights_digest"],
        )


@dataclass(frozen=True, kw_only=True)
class LedgerMark:
    """Where a site's ledger stood when its last reply was accepted."""

    counter: int
    head: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FederationResult:
    """The final weights (float32) of a study, and how they came about."""

    study_digest: str
    weights: Weights
    rounds: tuple[RoundSummary, ...]
    ledgers: dict[str, LedgerMark]
    """By site; only sites that took part."""

    def to_json(self) -> JsonObject:
        """Canonical form, with the weights' digest in place of the weights."""
        return {
            "format": 1,
            "study_digest": self.study_digest,
            "weights_digest": digest_weights(self.weights),
            "rounds": [entry.to_json() for entry in self.rounds],
            "ledgers": {site: dict(vars(mark)) for site, mark in self.ledgers.items()},
        }

    def save(self, directory: Path) -> None:
        """Write `result.safetensors`, then `result.json`: the second file says that both are whole."""
        write_weights(directory / RESULT_WEIGHTS, self.weights)
        write_atomically(directory / RESULT_JSON, canonical_json(self.to_json()))

    @classmethod
    def load(cls, directory: Path) -> "FederationResult":
        """Read what `save` wrote.

        Raises:
            InputError: A file is missing or malformed, or the weights are not the recorded ones.
        """
        try:
            document = json.loads((directory / RESULT_JSON).read_bytes())
            weights = read_weights(directory / RESULT_WEIGHTS)
            if document["format"] != 1 or document["weights_digest"] != digest_weights(weights):
                raise InputError("weights and record do not belong together", where=RESULT_JSON)
            return cls(
                study_digest=document["study_digest"],
                weights=weights,
                rounds=tuple(RoundSummary.from_json(entry) for entry in document["rounds"]),
                ledgers={site: LedgerMark(**mark) for site, mark in document["ledgers"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError("no readable result", where=RESULT_JSON, fix="run the study again") from None
