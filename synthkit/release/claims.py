"""What a manifest claims has to follow from what its sites state.

Knows manifests, statements, approvals and parts after they were read; knows no keys. Rules kept here:
the writer runs the same checks before sealing that the reader runs on arrival; no figure of the
manifest is believed that a statement, a hash or a count could contradict.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence

from synthkit.domain.audit import Verdict
from synthkit.domain.canonical import JsonObject, canonical_json, digest_of, sha256_hex
from synthkit.domain.policy import ConditionRules, ReleaseRules
from synthkit.domain.release import Approval, BundleManifest, Decision, SiteStatement
from synthkit.errors import BundleError, ReleaseRefusedError
from synthkit.release.contents import names_of, read_drawn
from synthkit.release.documents import quoted
from synthkit.release.gate import DECISION_FOR, check_conditions, decide, is_written_reason

SCHEMA, AUDIT, README = "schema.json", "audit.json", "README.txt"
REQUIRED_PARTS = (SCHEMA, AUDIT, README)
"""What every release has beside what was drawn (`contents`)."""


def policy_part(site: str) -> str:
    """Name of the optional part that holds a site's policy, as canonical JSON (`SitePolicy.to_json`).

    With it a recipient can check four eyes and the site's own release rules, not only the outcome.
    """
    return f"policy-{site}.json"


def check_parts(manifest: BundleManifest, parts: Mapping[str, bytes]) -> None:
    """Refuse parts that are not what the manifest says (step 4).

    Raises:
        BundleError: A required part is missing, a size or hash differs, the table or schema is
            another, or the number of rows, or of every record's visits, is wrong.
    """
    missing = [name for name in REQUIRED_PARTS if name not in parts]
    if missing or [part.name for part in manifest.parts] != list(parts):
        raise BundleError("the parts are not those of a release", where="manifest")
    names_of(parts)
    for part in manifest.parts:
        data = parts[part.name]
        if len(data) != part.size_bytes or sha256_hex(data) != part.sha256:
            raise BundleError("was altered: its hash differs", where=part.name, fix="fetch it again")
    schema = _read_json(parts[SCHEMA], SCHEMA)
    drawn = read_drawn(parts, schema)
    if drawn.digest != manifest.table_digest:
        raise BundleError("the table is not the one in table_digest", where="manifest")
    if digest_of(schema) != manifest.schema_digest:
        raise BundleError("the schema is not the one in schema_digest", where="manifest")
    if drawn.rows != manifest.rows:
        raise BundleError("the number of rows differs from the table's", where="manifest")
    if manifest.visits is not None and drawn.visits != (manifest.visits, manifest.visits):
        raise BundleError("not every record has the stated number of visits", where="manifest")


def check_statements(
    manifest: BundleManifest, statements: Sequence[SiteStatement], parts: Mapping[str, bytes]
) -> None:
    """Refuse statements that are not about this table (step 5, without the signatures).

    Raises:
        BundleError: A site twice, another table, an audit that contradicts its
            statement, or a policy that is not the one the site states.
    """
    sites = [statement.site for statement in statements]
    if len(set(sites)) != len(sites):
        raise BundleError("a site states twice", where="manifest")
    for statement in statements:
        where = f"statement of {quoted(statement.site)}"
        if statement.table_digest != manifest.table_digest:
            raise BundleError("made for another table", where=where)
        if statement.audit.get("verdict") != statement.verdict.value:
            raise BundleError("the audit's verdict differs from the statement's", where=where)
        if statement.audit.get("table_digest") != manifest.table_digest:
            raise BundleError("the audit judged another table", where=where)
        read_rules(statement, parts)
    if parts[AUDIT] != audit_part(statements):
        raise BundleError("differs from the audits in the statements", where=AUDIT)


def check_epsilons(manifest: BundleManifest, statements: Sequence[SiteStatement]) -> None:
    """Refuse an epsilon that does not follow from the sites' spends (step 8).

    Disjoint: no patient is at two hospitals, so the largest spend holds (parallel composition).

    Raises:
        BundleError: A figure is missing, superfluous, lowered or contradicts another.
    """
    spends = [statement.spend for statement in statements if statement.spend is not None]
    figures = (manifest.epsilon_disjoint, manifest.epsilon_worst_overlap, manifest.delta)
    if not spends:
        if figures != (None, None, None):
            raise BundleError("claims an epsilon that no site states", where="manifest")
        return
    if len(spends) != len(statements):
        raise BundleError("some sites state a spend and others none", where="manifest")
    disjoint, overlap, delta = figures
    if disjoint is None or overlap is None or delta is None:
        raise BundleError("keeps an epsilon or delta back that the sites state", where="manifest")
    if len({spend.adjacency for spend in spends}) != 1:
        raise BundleError("the sites' adjacencies differ: no one epsilon holds", where="manifest")
    if disjoint != max(spend.epsilon for spend in spends):
        raise BundleError("epsilon_disjoint is not the largest of the sites' epsilons", where="manifest")
    if delta != max(spend.delta for spend in spends):
        raise BundleError("delta is not the largest of the sites' deltas", where="manifest")
    if overlap < disjoint:
        raise BundleError("epsilon_worst_overlap is below epsilon_disjoint", where="manifest")


def check_encoders(statements: Sequence[SiteStatement]) -> None:
    """Refuse a claim of DP over an encoder that was trained on the patients without DP (step 9).

    Raises:
        BundleError: A site states a spend and NON_DP provenance.
    """
    sound = all(statement.encoder_provenance.allows_claim for statement in statements)
    for statement in statements:
        if statement.spend is not None and not sound:
            raise BundleError(
                "claims DP, but an encoder was trained on patients without DP",
                where=f"statement of {quoted(statement.site)}",
            )


def check_allowed_conditions(
    manifest: BundleManifest, statements: Sequence[SiteStatement], parts: Mapping[str, bytes]
) -> None:
    """Refuse a table under conditions unless each site's enclosed policy allows them (step 10).

    Raises:
        ReleaseRefusedError: A site's policy refuses them, or is not enclosed.
        BundleError: A policy is not the one its site states, or is malformed.
    """
    for statement in statements:
        rules = read_condition_rules(statement, parts) if manifest.conditions is not None else None
        check_conditions(manifest.conditions, rules, site=statement.site)


def check_approval(
    approval: Approval, statement: SiteStatement, manifest: BundleManifest, rules: ReleaseRules | None
) -> None:
    """Refuse an approval that does not fit its statement (step 6, without the signature).

    Raises:
        BundleError: It names another manifest, the verdict does not lead to this decision, a reason
            is missing, or the site's own rules (when the bundle carries them) forbid it.
    """
    where = f"approval for {quoted(approval.site)} by {quoted(approval.officer)}"
    if approval.manifest_digest != manifest.digest:
        raise BundleError("approves another manifest", where=where)
    if statement.verdict is Verdict.INVALID:
        raise BundleError("the audit is INVALID: nobody can approve", where=where)
    if approval.decision is not DECISION_FOR[statement.verdict]:
        raise BundleError(f"{approval.decision.value} does not fit {statement.verdict.value}", where=where)
    if approval.decision is not Decision.AUDIT_PASSED and not is_written_reason(approval.reason):
        raise BundleError("the written reason is missing", where=where)
    if approval.decision is Decision.DP_CLAIM and statement.spend is None:
        raise BundleError("rests on a DP claim that the site does not make", where=where)
    if rules is not None:
        _check_against_rules(approval, statement, manifest, rules, where)


def read_rules(statement: SiteStatement, parts: Mapping[str, bytes]) -> ReleaseRules | None:
    """The release rules of the site's policy, if the bundle carries it.

    Raises:
        BundleError: The part is not the policy whose digest the site states.
    """
    policy = enclosed_policy(statement, parts)
    if policy is None:
        return None
    try:
        return ReleaseRules(**policy["release"])
    except (KeyError, TypeError) as error:
        where = quoted(policy_part(statement.site))
        raise BundleError("has no release rules", where=where) from error


def read_condition_rules(statement: SiteStatement, parts: Mapping[str, bytes]) -> ConditionRules | None:
    """The rules for conditions of the site's policy; None where it is not enclosed, or has none.

    Raises:
        BundleError: The part is not the policy whose digest the site states, or the rules are malformed.
    """
    policy = enclosed_policy(statement, parts)
    if policy is None or "conditions" not in policy:
        return None
    try:
        return ConditionRules.from_json(policy["conditions"])
    except (KeyError, TypeError, ValueError) as error:
        where = quoted(policy_part(statement.site))
        raise BundleError("its rules for conditions are malformed", where=where) from error


def enclosed_policy(statement: SiteStatement, parts: Mapping[str, bytes]) -> JsonObject | None:
    """The site's policy as the bundle carries it, if it does.

    Raises:
        BundleError: The part is not the policy whose digest the site states.
    """
    name = policy_part(statement.site)
    if name not in parts:
        return None
    policy = _read_json(parts[name], name)
    if digest_of(policy) != statement.policy_digest:
        raise BundleError("is not the policy that the site states", where=quoted(name))
    return policy


def audit_part(statements: Sequence[SiteStatement]) -> bytes:
    """The coarse audits by site, as the bundle's `audit.json`."""
    return canonical_json({statement.site: statement.audit for statement in statements})


def _check_against_rules(
    approval: Approval,
    statement: SiteStatement,
    manifest: BundleManifest,
    rules: ReleaseRules,
    where: str,
) -> None:
    """Pass the approval through the gate once more, under the policy the site signed for."""
    try:
        decide(
            verdict=statement.verdict,
            rules=rules,
            private=statement.spend is not None,
            encoder_provenance=statement.encoder_provenance,
            requested=approval.decision,
            reason=approval.reason,
        )
    except ReleaseRefusedError as error:
        raise BundleError(
            f"the site's own policy forbids it, {error.where}: {error.what}", where=where
        ) from error
    check_validity(manifest.expires, approval.approved, rules, where)


def check_validity(expires: dt.date, approved: dt.datetime, rules: ReleaseRules, where: str) -> None:
    """Refuse an expiry later than the site's rules allow from the approval on.

    Raises:
        BundleError: The release would be valid for longer than `valid_days`.
    """
    if (expires - approved.date()).days > rules.valid_days:
        raise BundleError(
            "expires later than the site's policy allows [rule release.valid_days]",
            where=where,
            fix="seal it with an earlier expiry",
        )


def _read_json(data: bytes, name: str) -> JsonObject:
    """Parse a part that holds one JSON object."""
    try:
        document = json.loads(data.decode("utf-8"))
        canonical_json(document)
    except (ValueError, RecursionError) as error:
        raise BundleError("not a JSON document", where=quoted(name)) from error
    if not isinstance(document, dict):
        raise BundleError("not a JSON object", where=quoted(name))
    return document
