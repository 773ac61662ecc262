"""The two papers that decide at a site: a study as its coordinator signed it, the policy as its officer did.

Knows signatures and files. Refuses a paper that was changed afterwards, or signed by somebody else; whether
one allows the other is `synthkit_client.guard`.
"""

from synthkit.domain.policy import SitePolicy
from synthkit.domain.study import Study
from synthkit.errors import InputError, PolicyError
from synthkit.release.signing import open_document
from synthkit_client.site_folder import SiteFolder


def read_study(folder: SiteFolder, study_digest: str) -> Study:
    """The study of that digest, as its coordinator signed it.

    Raises:
        PolicyError: The site does not have it.
    """
    path = folder.study_folder(study_digest) / "study.json"
    if not path.is_file():
        raise PolicyError(
            "no such study was brought to this site",
            rule="study.approved",
            where=f"study {study_digest[:12]}",
            fix="bring its signed file and approve it",
        )
    document, _ = open_document(folder.read_json(path), "study", folder.trust)
    study = Study.from_json(document)
    if study.digest != study_digest:
        raise InputError("the study file is not the study asked for", where=f"study {study_digest[:12]}")
    return study


def read_signed_policy(folder: SiteFolder) -> SitePolicy:
    """The policy, if the officer's signature is on exactly this text's meaning.

    Raises:
        PolicyError: It was changed after it was signed.
    """
    signed, _ = open_document(folder.read_json(folder.path / "policy.signed.json"), "policy", folder.trust)
    policy = folder.policy
    if signed != policy.to_json():
        raise PolicyError(
            "the policy was changed after the officer signed it",
            rule="policy.signature",
            where=f"{folder.name}/policy.toml",
            fix="restore it, or let the officer sign it again",
        )
    return policy
