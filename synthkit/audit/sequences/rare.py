"""Presence by rare codes: the rarest codes of a person, all found in one synthetic record.

Attacker: knows of a target what few people have, two or four codes, and reads the release. Success: one
synthetic record has them all, for members more often than for people the generator never saw. Which codes
are rare, the reference says; codes no reference patient has are the rarest.

Knows evidence; refuses to know verdicts.
"""

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.audit.sequences.holding import codes_held, lowest

NAME = "rare codes of records"
RAREST = (2, 4)
PURPOSE = 12
"""Names this attack's random stream."""


def rare_codes(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """The two and the four rarest codes; neither bounds a PASS."""
    rng = evidence.rng(PURPOSE)
    presence = evidence.reference.records.presence
    frequency = np.bincount(presence.indices, minlength=presence.shape[1]) + rng.random(presence.shape[1])
    return tuple(_claims(evidence, frequency, count) for count in RAREST)


def _claims(evidence: SequenceEvidence, frequency: np.ndarray, count: int) -> Claims:
    def held(part: Figures) -> np.ndarray:
        presence = part.records.presence
        chosen = lowest(presence, frequency[presence.indices], count)
        return codes_held(presence, chosen, evidence.synthetic.presence)

    return Claims(
        name=NAME,
        statistic=f"rarest_{count}",
        members=held(evidence.members),
        holdout=held(evidence.holdout),
        baseline_rate=float(held(evidence.reference).mean()),
        holds=False,
    )
