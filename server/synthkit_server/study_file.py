"""Read a signed study.

Knows the envelope and the trusted keys. Refuses a study that is unsigned, signed by anybody but a
trusted coordinator, or expired.
"""

import datetime as dt
import json
from pathlib import Path

from synthkit.domain.study import Study
from synthkit.errors import InputError
from synthkit.release.signing import open_document
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
    try:
        envelope = json.loads(path.read_bytes())
    except OSError:
        raise InputError("the study cannot be read", where=path.name, fix="check the path") from None
    except ValueError:
        raise InputError("the study is not JSON", where=path.name, fix="sign it again") from None
    document, _ = open_document(envelope, "study", trust, where=path.name)
    study = Study.from_json(document)
    if study.expires < (today or dt.datetime.now(dt.UTC).date()):
        raise InputError("the study has expired", where=path.name, fix="draft and sign a new one")
    return study
