"""One byte form for every signed or hashed document.

Knows nothing about what is signed. Canonical here means: UTF-8 JSON, sorted keys, no spaces, no NaN;
so two sites that hold the same document hold the same bytes.
"""

import hashlib
import json
from typing import Any

JsonObject = dict[str, Any]


def canonical_json(document: JsonObject) -> bytes:
    """Encode a document to its only byte form.

    Raises:
        ValueError: A number is NaN or infinite (a caller's bug: such values have no canonical form).
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of `data`, 64 characters."""
    return hashlib.sha256(data).hexdigest()


def digest_of(document: JsonObject) -> str:
    """SHA-256 of a document's canonical bytes."""
    return sha256_hex(canonical_json(document))
