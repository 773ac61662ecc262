"""What holds of a verified release and should still be read before the table is used.

Knows what verification has checked. Refuses nothing: each caveat is a true sentence, and none of them makes
a release invalid.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

from synthkit.domain.release import Approval, BundleManifest, Decision, SiteStatement
from synthkit.release.claims import read_rules
from synthkit.release.documents import quoted
from synthkit.release.revocation import RevocationList, revocations_of_release

_SOON_DAYS = 14
_WEAK_EPSILON = 10.0
"""Above it the bound hardly limits what one patient's data can reveal; said, not refused."""


def caveats_of(
    manifest: BundleManifest,
    statements: Sequence[SiteStatement],
    approvals: Sequence[Approval],
    parts: Mapping[str, bytes],
    *,
    today: dt.date,
    revocations: Sequence[RevocationList],
) -> tuple[str, ...]:
    """The caveats of a release that verifies; of lists that name it, those that may not revoke it."""
    found = [*_of_epsilon(manifest), *(words for one in approvals for words in _of_approval(one))]
    for statement in statements:
        if statement.spend is not None and not statement.ledger_head:
            found.append(f"{quoted(statement.site)} names no ledger for its spend")
        if read_rules(statement, parts) is None:
            found.append(
                f"the policy of {quoted(statement.site)} is not enclosed: four eyes cannot be checked"
            )
    if (manifest.expires - today).days <= _SOON_DAYS:
        found.append(f"expires on {manifest.expires.isoformat()}")
    found += [
        f"{quoted(one.signer)} lists this release as revoked, but neither states in it nor approved it"
        for one, _ in revocations_of_release(manifest.digest, revocations)
    ]
    return tuple(found)


def _of_epsilon(manifest: BundleManifest) -> list[str]:
    if manifest.epsilon_disjoint is None:
        return ["trained without differential privacy: no epsilon limits what it reveals"]
    if (manifest.epsilon_worst_overlap or 0.0) > _WEAK_EPSILON:
        return [f"worst-overlap epsilon is above {_WEAK_EPSILON:g}: a weak bound"]
    return []


def _of_approval(approval: Approval) -> list[str]:
    if approval.decision is Decision.OVERRIDE:
        return [f"the audit at {quoted(approval.site)} FAILed; {quoted(approval.officer)} overrode it"]
    if approval.decision is Decision.DP_CLAIM:
        return [f"the audit at {quoted(approval.site)} was INCONCLUSIVE; released on its DP claim"]
    return []
