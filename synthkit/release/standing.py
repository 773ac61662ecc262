"""Do the keys and the release itself still stand, before an officer signs and before a file leaves?

Knows a candidate, trusted keys and revocation lists. Refuses what a recipient would refuse, earlier: a key
that was taken back approves nothing, and a release that was taken back is not approved. Rule kept here: of
two readings of who may revoke, the wider one holds, because nothing has left yet.
"""

from collections.abc import Sequence

from synthkit.domain.toml_reading import shown
from synthkit.errors import ReleaseRefusedError, SignatureError
from synthkit.release.candidate import Candidate
from synthkit.release.revocation import RevocationList, revocation_of_key, revocations_of_release
from synthkit.release.trust import TrustStore


def check_officer_stands(
    public_key: str, officer: str, site: str, *, trust: TrustStore, revocations: Sequence[RevocationList] = ()
) -> None:
    """Refuse an officer whose approval no recipient with these trusted keys would accept.

    Args:
        public_key: The public half of the key she is about to sign with.
        officer: The name she signs as.
        site: The hospital she answers for.
        trust: The trusted keys.
        revocations: What `revocation.read_lists` returned.

    Raises:
        SignatureError: The key is unknown, no officer's, another person's, another hospital's, or revoked.
    """
    where = f"officer {shown(officer)}"
    entry = trust.check_signer(public_key, "approval", officer, where=where)
    if entry.site and entry.site != site:
        raise SignatureError(
            f"is an officer of {shown(entry.site)}", where=where, fix=f"ask an officer of {shown(site)}"
        )
    _check_key(public_key, where, trust, revocations)


def check_candidate_stands(
    candidate: Candidate, *, trust: TrustStore, revocations: Sequence[RevocationList]
) -> None:
    """Refuse a candidate that was taken back, or that a key signed which was.

    Raises:
        SignatureError: A signature is by a revoked key.
        ReleaseRefusedError: The release was revoked, by a site that states in it or by an officer.
    """
    _check_key(candidate.envelope["public_key"], "manifest", trust, revocations)
    for one in candidate.manifest.statements:
        _check_key(one["public_key"], f"statement of {shown(one['signer'])}", trust, revocations)
    for one in candidate.approvals:
        _check_key(one["public_key"], f"approval by {shown(one['signer'])}", trust, revocations)
    sites = {statement.site for statement in candidate.statements}
    for one_list, entry in revocations_of_release(candidate.manifest.digest, revocations):
        issuer = trust.find(one_list.public_key)
        if issuer is None:
            continue
        hospital = issuer.name if issuer.role == "site" else issuer.site
        if hospital in sites or (issuer.role == "officer" and not hospital):
            raise ReleaseRefusedError(
                f"revoked by {shown(one_list.signer)} {entry.words}",
                where=f"release {shown(candidate.manifest.release)}",
                fix="it cannot leave; generate, audit and seal another",
            )


def _check_key(public_key: str, where: str, trust: TrustStore, revocations: Sequence[RevocationList]) -> None:
    found = revocation_of_key(public_key, revocations, trust)
    if found is not None:
        issuer, entry = found
        raise SignatureError(
            f"the key was revoked by {shown(issuer)} {entry.words}",
            where=where,
            fix="use a key that stands; what this one signed has to be signed again",
        )
