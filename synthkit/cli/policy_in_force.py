"""The policy a command acts on: read, not expired, and signed by an officer where that is demanded.

Knows where a policy's signature lies: beside it, under the same name with `.signed.json` for its ending.
Rule kept here: a signature is demanded by the policy itself (`signed = true`) or by whoever gives --trust;
nobody can waive it, and a policy that demands one is not acted on without keys to check it by.
"""

from collections.abc import Sequence
from pathlib import Path

from synthkit.cli.loading import check_in_force, load_policy, name_of, policy_path, read_json
from synthkit.domain.policy import SitePolicy
from synthkit.errors import InputError, PolicyError, SignatureError
from synthkit.release.policy_signature import ENDING, check_policy_signature
from synthkit.release.revocation import RevocationList
from synthkit.release.trust import TrustStore


def signature_path(policy: Path) -> Path:
    """Where the signature on that policy lies."""
    return policy.with_name(policy.stem + ENDING)


def policy_in_force(
    name: str,
    trust: Path | None,
    *,
    site: str = "",
    revocations: Sequence[RevocationList] = (),
) -> SitePolicy:
    """A policy that may be acted on.

    Args:
        name: A path, or a shipped policy's name.
        trust: The trusted keys; given, a signature is demanded whatever the policy says.
        site: This hospital; empty: an officer of any counts.
        revocations: Lists of keys that were taken back.

    Raises:
        InputError: There is no such policy, or the trusted keys cannot be read.
        PolicyError: A rule is missing, unknown or contradicts another; the policy has expired; or it demands
            a signature, and no trusted keys are given.
        SignatureError: The signature is missing, wrong, of another text, or by a key that does not count.
    """
    policy = load_policy(name)
    check_in_force(policy)
    if trust is not None:
        check_signed(policy, policy_path(name), trust, site=site, revocations=revocations)
    elif policy.signed:
        raise PolicyError(
            "the policy demands an officer's signature, and no keys are given to check it by",
            rule="policy.signed",
            where=name_of(policy_path(name)),
            fix="add --trust KEYS",
        )
    return policy


def check_signed(
    policy: SitePolicy,
    path: Path,
    trust: Path,
    *,
    site: str = "",
    revocations: Sequence[RevocationList] = (),
) -> str:
    """The name of the trusted officer who signed this policy.

    Raises:
        InputError: The trusted keys cannot be read, or are none.
        SignatureError: As `policy_in_force`.
    """
    store = trusted_keys(trust)
    beside = signature_path(path)
    if not beside.is_file():
        raise SignatureError(
            "no officer has signed this policy [rule policy.signed]",
            where=name_of(path),
            fix=f"synthkit policy sign writes {name_of(beside)}",
        )
    envelope = read_json(beside)
    return check_policy_signature(
        policy, envelope, store, where=name_of(path), site=site, revocations=revocations
    )


def trusted_keys(path: Path) -> TrustStore:
    """The trusted keys, at least one.

    Raises:
        InputError: The path is missing, malformed, or holds no key.
    """
    store = TrustStore.read(path)
    if not store.keys:
        raise InputError("holds no trusted key", where=name_of(path), fix="put trust files into it")
    return store
