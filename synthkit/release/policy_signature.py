"""An officer's signature on a site's policy: kept beside the policy, and checked before it is acted on.

Knows the policy's canonical form, which is also what a release binds by its digest, and the reader's trusted
keys. Refuses to know files. Rules kept here: what is signed is the meaning, every rule and the last day
included, not the text's comments; whose signature counts is the reader's decision; a policy that was changed
afterwards, if only in one rule, is not the one she signed.
"""

from collections.abc import Sequence

from synthkit.domain.canonical import JsonObject
from synthkit.domain.policy import SitePolicy
from synthkit.domain.toml_reading import shown
from synthkit.errors import SignatureError
from synthkit.release.revocation import RevocationList, revocation_of_key
from synthkit.release.signing import SigningKey, open_document, seal_document
from synthkit.release.trust import TrustStore

KIND = "policy"
ENDING = ".signed.json"
"""`policy.toml` is signed in `policy.signed.json`, as in a federated site's folder."""

SIGN_AGAIN = "restore it, or have an officer sign it again: synthkit policy sign"


def sign_policy(policy: SitePolicy, key: SigningKey, officer: str) -> JsonObject:
    """The envelope that is kept beside the policy."""
    return seal_document(policy.to_json(), KIND, key, officer)


def check_policy_signature(
    policy: SitePolicy,
    envelope: object,
    trust: TrustStore,
    *,
    where: str,
    site: str = "",
    revocations: Sequence[RevocationList] = (),
) -> str:
    """Check that a trusted officer signed exactly these rules.

    Args:
        policy: The policy as it is now.
        envelope: What `sign_policy` returned.
        trust: The reader's keys.
        where: What messages call the policy.
        site: This hospital; an officer who is bound to another one signs nothing here. Empty: not compared.
        revocations: What `revocation.read_lists` returned.

    Returns:
        The officer's name.

    Raises:
        SignatureError: The signature is wrong, by an unknown or revoked key, or by one that may not sign a
            policy, or the policy was changed afterwards.
    """
    document, officer = open_document(envelope, KIND, trust, where=f"signature of {where}")
    if document != policy.to_json():
        changed = "the policy was changed after an officer signed it [rule policy.signed]"
        raise SignatureError(changed, where=where, fix=SIGN_AGAIN)
    public_key = str(envelope["public_key"]) if isinstance(envelope, dict) else ""
    entry = trust.find(public_key)
    if site and entry is not None and entry.site not in ("", site):
        raise SignatureError(
            f"signed by an officer of {shown(entry.site)} [rule policy.signed]",
            where=where,
            fix=f"have an officer of {shown(site)} sign it",
        )
    found = revocation_of_key(public_key, revocations, trust)
    if found is not None:
        issuer, revoked = found
        raise SignatureError(
            f"signed by a key that {shown(issuer)} revoked {revoked.words} [rule policy.signed]",
            where=where,
            fix=SIGN_AGAIN,
        )
    return officer
