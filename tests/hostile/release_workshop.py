"""Two hospitals, their officers, and a small release, with every tool an insider would have to forge one."""

import copy
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import JsonObject, canonical_json, digest_of, sha256_hex
from synthkit.domain.policy import (
    AuditRules,
    ConditionRules,
    EgressRules,
    ReleaseRules,
    SitePolicy,
    StudyRules,
    VaultRules,
)
from synthkit.domain.privacy import Budget, DpSgdEvent, EncoderProvenance, PrivacySpend
from synthkit.domain.release import Approval, Decision, SiteStatement
from synthkit.release.bundle import Candidate, ReleaseFacts, VerifiedRelease, approve, seal, verify
from synthkit.release.framing import encode
from synthkit.release.signing import SigningKey, TrustedKey, TrustStore, generate_key, seal_document

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
TODAY = NOW.date()
EXPIRES = TODAY + dt.timedelta(days=90)
TABLE = b"age,sex\n61,F\n72,M\n,F\n"
SCHEMA = canonical_json({"name": "heart", "columns": [{"name": "age"}, {"name": "sex"}]})
REASON = "The benefit to the registry outweighs it"
OFFICERS = {"north": "ada", "south": "grace"}

RULES = ReleaseRules(
    inconclusive="officer", fail="officer", four_eyes=False, allow_non_private=True, valid_days=180
)

CONDITION_RULES = ConditionRules(
    floor=0.01, min_reliability=0.5, max_columns=2, allowed_columns=("age", "sex")
)


EGRESS_RULES = EgressRules(recipients=("*",), files=("table", "annex"))


def policy_of(site: str, rules: ReleaseRules, egress: EgressRules = EGRESS_RULES) -> SitePolicy:
    return SitePolicy(
        name=site,
        asset="heart",
        budget=Budget(epsilon=3.0, delta=1e-5),
        study=StudyRules(
            max_epsilon=3.0,
            max_delta=1e-5,
            min_noise_multiplier=0.5,
            max_sample_rate=0.1,
            allowed_generators=("medvae-sgd",),
            min_sites=1,
            min_patients=50,
        ),
        conditions=CONDITION_RULES,
        audit=AuditRules(max_advantage=0.1, alpha=0.05, max_attempts=3),
        release=rules,
        vault=VaultRules(required=False, readers=("officer",)),
        egress=egress,
        signed=False,
        expires=EXPIRES,
    )


def spend(epsilon: float, delta: float = 1e-5) -> PrivacySpend:
    event = DpSgdEvent(noise_multiplier=1.1, sample_rate=0.01, steps=100)
    return PrivacySpend(events=(event,), epsilon=epsilon, delta=delta, accountant="prv")


def coarse(verdict: Verdict, table: bytes = TABLE) -> JsonObject:
    return {"verdict": verdict.value, "attacks": [], "table_digest": sha256_hex(table), "attempt": 1}


def statement(
    site: str, *, verdict: Verdict = Verdict.PASS, table: bytes = TABLE, **changes
) -> SiteStatement:
    clean = SiteStatement(
        site=site,
        asset="heart",
        table_digest=sha256_hex(table),
        spend=spend(1.5 if site == "north" else 1.0),
        encoder_provenance=EncoderProvenance.TRAINED,
        ledger_head="ab" * 32,
        ledger_counter=4,
        policy_digest=policy_of(site, RULES).digest,
        verdict=verdict,
        audit=coarse(verdict, table),
    )
    return replace(clean, **changes)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """All the private keys of the story, and the recipient's trust store."""

    keys: dict[str, SigningKey] = field(
        default_factory=lambda: {
            name: generate_key() for name in ("north", "south", "ada", "grace", "edith", "mallory")
        }
    )

    @property
    def trust(self) -> TrustStore:
        roles = {"north": "site", "south": "site", "ada": "officer", "grace": "officer", "edith": "officer"}
        keys = [
            TrustedKey(name=name, role=role, public_key=self.keys[name].public_key_hex)
            for name, role in roles.items()
        ]
        return TrustStore(keys=tuple(keys))

    def trust_with(self, name: str, /, **changes) -> TrustStore:
        keys = [replace(key, **changes) if key.name == name else key for key in self.trust.keys]
        return TrustStore(keys=tuple(keys))

    def sign(self, document: JsonObject, kind: str, name: str) -> JsonObject:
        return seal_document(document, kind, self.keys[name], name)

    def stated(self, one: SiteStatement, by: str | None = None) -> JsonObject:
        return self.sign(one.to_json(), "statement", by or one.site)

    def sealed(
        self,
        *statements: SiteStatement,
        parts: Mapping[str, bytes] | None = None,
        overlap: float | None = 2.2,
        expires: dt.date = EXPIRES,
    ) -> Candidate:
        facts = ReleaseFacts(
            release="heart-2026-03",
            study="heart",
            study_digest="1" * 64,
            generator="medvae-sgd",
            model_digest="2" * 64,
            epsilon_worst_overlap=overlap,
            expires=expires,
            version="0.1.0",
        )
        return seal(
            table_csv=TABLE,
            parts={"schema.json": SCHEMA, **(parts or {})},
            statements=[self.stated(one) for one in statements or (statement("north"), statement("south"))],
            facts=facts,
            key=self.keys["north"],
            signer="north",
            now=NOW,
        )

    def approved(
        self,
        candidate: Candidate,
        site: str,
        officer: str | None = None,
        *,
        rules: ReleaseRules = RULES,
        requested: Decision | None = None,
        reason: str = "",
        now: dt.datetime = NOW,
    ) -> Candidate:
        name = officer or OFFICERS[site]
        return approve(
            candidate,
            statement_site=site,
            officer=name,
            key=self.keys[name],
            rules=rules,
            requested=requested,
            reason=reason,
            now=now,
        )

    def release(self) -> Candidate:
        return self.approved(self.approved(self.sealed(), "north"), "south")

    def approval(self, manifest: JsonObject, site: str, /, *, by: str | None = None, **changes) -> JsonObject:
        """An officer's approval as an insider with her key could sign it, without any gate."""
        name = by or OFFICERS[site]
        clean = Approval(
            manifest_digest=digest_of(manifest),
            site=site,
            officer=name,
            decision=Decision.AUDIT_PASSED,
            reason="",
            approved=NOW,
        )
        return self.sign({**clean.to_json(), **changes}, "approval", name)

    def forged(
        self,
        edit: Callable[[JsonObject], None] | None = None,
        *,
        statements: Sequence[JsonObject] | None = None,
        approvals: Callable[[JsonObject], list[JsonObject]] | None = None,
        parts: Mapping[str, bytes] | None = None,
        drop: str = "",
        by: str = "north",
    ) -> bytes:
        """A bundle whose manifest was edited and signed anew, approvals included: one defect is left."""
        candidate = self.release()
        blobs = {**candidate.parts, **(parts or {})}
        blobs.pop(drop, None)
        document = copy.deepcopy(candidate.envelope["document"])
        if statements is not None:
            document["statements"] = list(statements)
            documents = [one["document"] for one in statements]
            audits = {str(document.get("site")): document.get("audit") for document in documents}
            blobs["audit.json"] = canonical_json(audits)
        document["parts"] = [
            {"name": name, "size_bytes": len(data), "sha256": sha256_hex(data)}
            for name, data in blobs.items()
        ]
        if edit is not None:
            edit(document)
        signed = self.sign(document, "manifest", by)
        if approvals is not None:
            approving = approvals(document)
        else:
            approving = [self.approval(document, site) for site in ("north", "south")]
        return encode({"manifest": signed, "approvals": approving}, list(blobs.values()))

    def verified(
        self, data: bytes | Path, *, trust: TrustStore | None = None, today: dt.date = TODAY
    ) -> VerifiedRelease:
        return verify(data, trust or self.trust, today=today)


def packed(candidate: Candidate) -> bytes:
    return encode(candidate.header(), list(candidate.parts.values()))
