"""Read a signed study, and say who signed it.

Knows the envelope and the trusted keys. Refuses a study that is unsigned, signed by anybody but a
trusted coordinator, or expired.
"""

import datetime as dt
import json
from pathlib import Path

from synthkit.domain.study import Study
from synthkit.errors import InputError, SignatureError
from synthkit.release.signing import SigningKey, check_envelope, open_document
from synthkit.release.trust import TrustStore


def read_study(path: Path, trust: TrustStore, *, today: dt.date | None = None) -> Study:
    """The study in an envelope of kind `study`.

    Args:
        path: JSON file.
        trust: Whose signature counts.
        today: The date that expiry is judged at; None: now, in UTC.

    Raises:
        InputError: The file cannot be read, or the study is malformed or has expired.
        SignatureError: Not signed by a trusted coordinator.
    """
    document, _ = open_document(_read_envelope(path), "study", trust, where=path.name)
    study = Study.from_json(document)
    if study.expires < (today or dt.datetime.now(dt.UTC).date()):
        raise InputError("the study has expired", where=path.name, fix="draft and sign a new one")
    return study


def check_signer(path: Path, trust: TrustStore, key: SigningKey) -> str:
    """The signer's name of a study, if this is the key that signed it.

    Raises:
        InputError: The file cannot be read.
        SignatureError: Not signed by a trusted coordinator, or by another key.
    """
    envelope = check_envelope(_read_envelope(path), "study", where=path.name)
    _, signer = open_document(envelope, "study", trust, where=path.name)
    if envelope["public_key"] != key.public_key_hex:
        raise SignatureError(
            "the coordinator's key is not the one that signed the study",
            where=path.name,
            fix="give that one: every site of the study trusts it",
        )
    return signer


def _read_envelope(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError("the study cannot be read", where=path.name, fix="check the path") from None
    except ValueError:
        raise InputError("the study is not JSON", where=path.name, fix="sign it again") from None
