"""Attacker: the three sentences that an attack is introduced by."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attacker:
    """`who` attacks, what they `hold`, what counts as `success`."""

    who: str
    holds: str
    success: str
