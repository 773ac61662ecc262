"""An officer's decisions on studies, as they are signed on disk; and her no. Her yes is `approving`.

Knows the study and the policy as signed. Refuses a decision by anybody but an officer whom this site trusts,
under her own key. Rules kept here: a decision is signed and names the
study, the policy and the site; a refusal takes an approval back, and the rounds from then on are refused;
what was spent by then stays spent; every decision ever made stays in `decisions.jsonl`.
"""

import datetime as dt
import os
from dataclasses import dataclass
from enum import StrEnum

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.domain.study import Study
from synthkit.errors import InputError, PolicyError, SignatureError, SynthkitError
from synthkit.release.signing import SigningKey, TrustedKey, open_document, seal_document
from synthkit_client.papers import read_signed_policy, read_study
from synthkit_client.site_folder import SiteFolder

APPROVAL, REFUSAL, LOG = "approval.json", "refusal.json", "decisions.jsonl"

MOST_CHARACTERS = 500
"""Of a reason."""


class Standing(StrEnum):
    """Where a study stands at this site."""

    UNDECIDED = "not decided"
    APPROVED = "approved"
    REFUSED = "refused"
    VOID = "approval void"
    """Approved under another policy, or with a signature that no longer counts."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A study's standing; `officer` and `reason` as far as there are any."""

    standing: Standing
    officer: str = ""
    reason: str = ""


def officer_by(folder: SiteFolder, name: str | None) -> TrustedKey:
    """The officer of this name, or the only one that the site trusts.

    Raises:
        InputError: There is none, or there are several and none was named.
    """
    officers = [key for key in folder.trust.keys if key.role == "officer" and not key.revoked]
    found = [key for key in officers if name in (None, key.name)]
    if len(found) != 1:
        names = ", ".join(key.name for key in officers) or "nobody"
        raise InputError("name one of this site's officers", where="--officer", fix=f"there is {names}")
    return found[0]


def refuse(folder: SiteFolder, study: Study, officer: TrustedKey, key: SigningKey, reason: str) -> None:
    """Record the officer's refusal; an approval that was given is taken back first.

    Raises:
        InputError: The reason is empty, too long or not printable.
        SignatureError: The key is not the officer's.
    """
    check_officers_key(officer, key)
    if not (reason.strip() and reason.isprintable() and len(reason) <= MOST_CHARACTERS):
        raise InputError(f"must be 1 to {MOST_CHARACTERS} printable characters", where="the reason")
    document = {"study_digest": study.digest, "site": folder.name, "reason": reason}
    envelope = seal_document(document, "study-refusal", key, officer.name)
    place = folder.study_folder(study.digest)
    (place / APPROVAL).unlink(missing_ok=True)
    folder.write_json(place / REFUSAL, envelope)
    log_decision(folder, envelope)


def decision_on(folder: SiteFolder, study: Study) -> Decision:
    """Where a study stands, by what is signed on disk."""
    place = folder.study_folder(study.digest)
    if (place / REFUSAL).is_file():
        return _refusal(folder, study)
    if not (place / APPROVAL).is_file():
        return Decision(standing=Standing.UNDECIDED)
    try:
        policy = read_signed_policy(folder)
        document, officer = open_document(folder.read_json(place / APPROVAL), "study-approval", folder.trust)
    except SynthkitError as error:
        return Decision(standing=Standing.VOID, reason=error.what)
    expected = {"study_digest": study.digest, "policy_digest": policy.digest, "site": folder.name}
    if document != expected:
        return Decision(standing=Standing.VOID, officer=officer, reason="of another study, policy or site")
    return Decision(standing=Standing.APPROVED, officer=officer)


def brought_studies(folder: SiteFolder) -> tuple[Study, ...]:
    """Studies that were brought here and are still whole and trusted."""
    studies = []
    for digest in folder.studies:
        try:
            studies.append(read_study(folder, digest))
        except (InputError, PolicyError, SignatureError):
            continue
    return tuple(studies)


def _refusal(folder: SiteFolder, study: Study) -> Decision:
    path = folder.study_folder(study.digest) / REFUSAL
    try:
        document, officer = open_document(folder.read_json(path), "study-refusal", folder.trust)
    except SynthkitError as error:
        return Decision(standing=Standing.REFUSED, reason=error.what)
    return Decision(standing=Standing.REFUSED, officer=officer, reason=str(document.get("reason", "")))


def check_officers_key(officer: TrustedKey, key: SigningKey) -> None:
    """Refuse a private key that is not this officer's.

    Raises:
        SignatureError: It is not.
    """
    if key.public_key_hex != officer.public_key:
        raise SignatureError(
            f"the key is not the one that this site trusts as {officer.name}'s",
            where="--key",
            fix="give her key, or name another officer",
        )


def log_decision(folder: SiteFolder, envelope: JsonObject) -> None:
    """Append a decision; the file only ever grows."""
    line = canonical_json({"time": _now(), "decision": envelope}) + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(folder.path / LOG, flags, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
