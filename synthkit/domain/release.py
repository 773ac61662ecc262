"""What leaves a site: statements of sites, approvals of officers, and the manifest that binds them."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import JsonObject, digest_of
from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.privacy import EncoderProvenance, PrivacySpend


class Decision(StrEnum):
    """How an officer came to approve: the audit's PASS, or her own recorded decision."""

    AUDIT_PASSED = "audit_passed"
    DP_CLAIM = "dp_claim"
    """The audit was INCONCLUSIVE; she releases on the differential-privacy claim."""
    OVERRIDE = "override"
    """The audit FAILed; she overrides it, in writing."""


@dataclass(frozen=True, kw_only=True)
class SiteStatement:
    """What one hospital states about its part in a table: spend, ledger head, audit.

    Signed with the site's key; binds the table by hash, so it cannot be moved to another release.
    `audit` is the coarse form only (`AuditReport.coarse`).
    """

    site: str
    asset: str
    table_digest: str
    spend: PrivacySpend | None
    """None: the generator was trained without DP."""
    encoder_provenance: EncoderProvenance
    ledger_head: str
    ledger_counter: int
    policy_digest: str
    verdict: Verdict
    audit: JsonObject
    encoder_digest: str = ""
    """SHA-256 of a frozen encoder's weights; empty where none was frozen, and then left out."""

    def to_json(self) -> JsonObject:
        """Canonical form."""
        frozen = {"encoder_digest": self.encoder_digest} if self.encoder_digest else {}
        return {
            **frozen,
            "site": self.site,
            "asset": self.asset,
            "table_digest": self.table_digest,
            "spend": self.spend.to_json() if self.spend else None,
            "encoder_provenance": self.encoder_provenance.value,
            "ledger_head": self.ledger_head,
            "ledger_counter": self.ledger_counter,
            "policy_digest": self.policy_digest,
            "verdict": self.verdict.value,
            "audit": self.audit,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "SiteStatement":
        """Inverse of `to_json`."""
        spend = document["spend"]
        return cls(
            site=document["site"],
            asset=document["asset"],
            table_digest=document["table_digest"],
            spend=PrivacySpend.from_json(spend) if spend is not None else None,
            encoder_provenance=EncoderProvenance(document["encoder_provenance"]),
            ledger_head=document["ledger_head"],
            ledger_counter=document["ledger_counter"],
            policy_digest=document["policy_digest"],
            verdict=Verdict(document["verdict"]),
            audit=document["audit"],
            encoder_digest=document.get("encoder_digest", ""),
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file inside a bundle."""

    name: str
    size_bytes: int
    sha256: str

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class BundleManifest:
    """Everything a recipient must be able to check; sealed with the sealing site's key.

    `table_digest` and `rows` are of the table, or of records of visits over both files and of the visits'.
    `epsilon_disjoint` holds when no patient is at two hospitals, `epsilon_worst_overlap` when one
    patient is at all of them. Both None: the generator was trained without DP.
    """

    release: str
    study: str
    study_digest: str
    generator: str
    model_digest: str
    schema_digest: str
    table_digest: str
    rows: int
    epsilon_disjoint: float | None
    epsilon_worst_overlap: float | None
    delta: float | None
    statements: tuple[JsonObject, ...]
    """Signed `SiteStatement` envelopes."""
    parts: tuple[Part, ...]
    created: dt.datetime
    expires: dt.date
    version: str
    conditions: ConditionStatement | None = None
    """The public conditions the rows were generated under; None, and then left out: none."""
    recipient: str = ""
    """Who it is for; empty, and then left out: whoever is given it."""
    visits: int | None = None
    """Every record's number of visits, where one was asked for; None, and then left out: as they ended."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical manifest: what the approvals name."""
        return digest_of(self.to_json())

    def to_json(self) -> JsonObject:
        """Canonical form."""
        conditional = {"conditions": self.conditions.to_json()} if self.conditions else {}
        return {
            **conditional,
            **({"recipient": self.recipient} if self.recipient else {}),
            **({"visits": self.visits} if self.visits is not None else {}),
            "format": 1,
            "release": self.release,
            "study": self.study,
            "study_digest": self.study_digest,
            "generator": self.generator,
            "model_digest": self.model_digest,
            "schema_digest": self.schema_digest,
            "table_digest": self.table_digest,
            "rows": self.rows,
            "epsilon_disjoint": self.epsilon_disjoint,
            "epsilon_worst_overlap": self.epsilon_worst_overlap,
            "delta": self.delta,
            "statements": list(self.statements),
            "parts": [part.to_json() for part in self.parts],
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat(),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "BundleManifest":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        if document["format"] != 1:
            raise ValueError("unknown manifest format")
        fields = {key: value for key, value in document.items() if key != "format"}
        fields["statements"] = tuple(fields["statements"])
        fields["parts"] = tuple(Part(**entry) for entry in fields["parts"])
        fields["created"] = dt.datetime.fromisoformat(fields["created"])
        fields["expires"] = dt.date.fromisoformat(fields["expires"])
        if "conditions" in fields:
            fields["conditions"] = ConditionStatement.from_json(fields["conditions"])
        if "visits" in fields and (type(fields["visits"]) is not int or fields["visits"] < 1):
            raise ValueError("visits is not a number of visits")
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """An officer's decision on one sealed manifest. Signed with her own key."""

    manifest_digest: str
    site: str
    officer: str
    decision: Decision
    reason: str
    approved: dt.datetime

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return {
            "manifest_digest": self.manifest_digest,
            "site": self.site,
            "officer": self.officer,
            "decision": self.decision.value,
            "reason": self.reason,
            "approved": self.approved.isoformat(),
        }

    @classmethod
    def from_json(cls, document: JsonObject) -> "Approval":
        """Inverse of `to_json`; KeyError, TypeError or ValueError when malformed."""
        return cls(
            manifest_digest=document["manifest_digest"],
            site=document["site"],
            officer=document["officer"],
            decision=Decision(document["decision"]),
            reason=document["reason"],
            approved=dt.datetime.fromisoformat(document["approved"]),
        )
