"""TrainRequest, TrainReply and Closing: all that ever crosses between the coordinator and a site.

Knows arrays and a handful of named scalars. Refuses everything else: no count of patients, no loss,
no wall time, no message text of the site's. What is not a field here cannot leave.

`witness` is carried as the text of a signed JSON document; what it says and whose signature counts is
for the receiver to judge, not for the wire.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.domain.canonical import sha256_hex
from synthkit.errors import InputError

Weights = dict[str, np.ndarray]
"""Parameter arrays by name, float32."""

Scalar = int | str

MOST_WITNESS_CHARACTERS = 4096
"""A signed witness statement takes less than a fifth of this."""


def digest_weights(weights: Weights) -> str:
    """SHA-256 over names, shapes and bytes, in name order."""
    parts = []
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype=np.float32)
        parts.append(f"{name}:{array.shape}:{sha256_hex(array.tobytes())}".encode())
    return sha256_hex(b"\n".join(parts))


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The coordinator asks one site for one round of private training from these weights.

    It carries no training parameter: those are in the signed study, which `study_digest` names.
    `server_round` counts from 1. `witness` is the coordinator's signed statement on the last reply that
    it accepted from this site; empty before the first one, or from a coordinator that has no key.
    """

    study_digest: str
    server_round: int
    weights: Weights
    witness: str = ""

    def scalars(self) -> dict[str, Scalar]:
        """Everything but the arrays, by wire name."""
        return {
            "study_digest": self.study_digest,
            "server_round": self.server_round,
            "witness": self.witness,
        }

    @classmethod
    def from_wire(cls, weights: Weights, scalars: dict[str, Scalar]) -> "TrainRequest":
        """Rebuild from what arrived.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        expected: dict[str, type] = {"study_digest": str, "server_round": int, "witness": str}
        _check_fields(scalars, expected, "train request")
        return cls(
            study_digest=str(scalars["study_digest"]),
            server_round=int(scalars["server_round"]),
            weights=weights,
            witness=_witness_text(scalars, "train request"),
        )


@dataclass(frozen=True, kw_only=True)
class Closing:
    """The coordinator's last word in a study: its signed statement on the last reply it accepted.

    Asks for nothing: no row is read for it and nothing is spent.
    """

    witness: str

    def scalars(self) -> dict[str, Scalar]:
        """Every field, by wire name."""
        return {"witness": self.witness}

    @classmethod
    def from_wire(cls, scalars: dict[str, Scalar]) -> "Closing":
        """Rebuild from what arrived.

        Raises:
            InputError: A field is missing, unknown, too long or of the wrong type.
        """
        _check_fields(scalars, {"witness": str}, "closing")
        return cls(witness=_witness_text(scalars, "closing"))


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """A site's trained, already private weights, and its ledger's head after the commit.

    `signature` is the site's Ed25519 signature (128 hexadecimal characters) over `signed_text`.
    """

    site: str
    study_digest: str
    server_round: int
    base_digest: str
    weights: Weights
    ledger_head: str
    ledger_counter: int
    signature: str = ""

    def signed_text(self) -> bytes:
        """The bytes that the site signs: every field and the digest of the weights."""
        fields = (
            "synthkit train reply 1",
            self.site,
            self.study_digest,
            str(self.server_round),
            self.base_digest,
            digest_weights(self.weights),
            self.ledger_head,
            str(self.ledger_counter),
        )
        return "\n".join(fields).encode()

    def scalars(self) -> dict[str, Scalar]:
        """Everything but the arrays, by wire name."""
        return {
            "site": self.site,
            "study_digest": self.study_digest,
            "server_round": self.server_round,
            "base_digest": self.base_digest,
            "ledger_head": self.ledger_head,
            "ledger_counter": self.ledger_counter,
            "signature": self.signature,
        }

    @classmethod
    def from_wire(cls, weights: Weights, scalars: dict[str, Scalar]) -> "TrainReply":
        """Rebuild from what arrived.

        Raises:
            InputError: A field is missing, unknown or of the wrong type.
        """
        expected: dict[str, type] = {
            "site": str,
            "study_digest": str,
            "server_round": int,
            "base_digest": str,
            "ledger_head": str,
            "ledger_counter": int,
            "signature": str,
        }
        _check_fields(scalars, expected, "train reply")
        return cls(weights=weights, **scalars)  # type: ignore[arg-type]


def _witness_text(scalars: dict[str, Scalar], what: str) -> str:
    """The witness, refused by its length before anything parses it."""
    text = str(scalars["witness"])
    if len(text) > MOST_WITNESS_CHARACTERS:
        raise InputError("the witness is too long", where=what)
    return text


def _check_fields(scalars: dict[str, Scalar], expected: dict[str, type], what: str) -> None:
    """Refuse a message whose fields are not exactly the expected ones."""
    if set(scalars) != set(expected):
        raise InputError("fields missing or unknown", where=what, fix="both ends need the same version")
    for name, kind in expected.items():
        if not isinstance(scalars[name], kind):
            raise InputError(f"field {name} has the wrong type", where=what)
