"""The release bundle, `.synthkit`: one file with a table, its evidence, and the signatures on both.

This is the package's public face. A site seals (`seal`), its officers approve (`approve`), one file
leaves (`export`); a recipient verifies it (`verify`, or `check` for a list of reasons) and takes the
table out (`extract_table`), or the records of visits (`extract_records`). The writer is in `sealing`, the
reader in `verification`, what was drawn in `contents`, the byte form in `framing`.
"""

from synthkit.release.candidate import Candidate
from synthkit.release.claims import policy_part
from synthkit.release.sealing import ReleaseFacts, approve, export, seal
from synthkit.release.verification import (
    VerifiedRelease,
    check,
    extract_records,
    extract_table,
    verify,
)

__all__ = [
    "Candidate",
    "ReleaseFacts",
    "VerifiedRelease",
    "approve",
    "check",
    "export",
    "extract_records",
    "extract_table",
    "policy_part",
    "seal",
    "verify",
]
