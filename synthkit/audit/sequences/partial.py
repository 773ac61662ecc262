"""Presence by partial knowledge: a few visits or codes of a person, all found in one synthetic record.

Attacker: holds the release and a part of a target's record, as a colleague who knows of two visits, or an
insurer who knows three diagnoses. Parts, drawn at random: 1, 2, 3 and half of the visits; 3 and half of the
codes. Success: one synthetic record contains all that is known, for members more often than for people the
generator never saw. Chance finds common parts for most people; only the excess over the holdout counts.
Who knows the rarest codes is an attacker of another file, `rare`.

Knows evidence; refuses to know verdicts.
"""

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.audit.sequences.holding import codes_held, lowest, visits_held

NAME = "partial record match"
VISITS = (1, 2, 3)
CODES = 3
PURPOSE = 11
"""Names this attack's random stream."""


def partial_knowledge(evidence: SequenceEvidence) -> tuple[Claims, ...]:
    """Known visits and known codes; none of them bounds a PASS."""
    rng = evidence.rng(PURPOSE)
    found = {
        f"visits_{count}": [_visits(evidence, part, count, rng) for part in evidence.real] for count in VISITS
    }
    found["visits_half"] = [_visits(evidence, part, None, rng) for part in evidence.real]
    found[f"codes_{CODES}"] = [_codes(evidence, part, CODES, rng) for part in evidence.real]
    found["codes_half"] = [_codes(evidence, part, None, rng) for part in evidence.real]
    return tuple(
        Claims(
            name=NAME,
            statistic=statistic,
            members=members,
            holdout=holdout,
            baseline_rate=float(reference.mean()),
            holds=False,
        )
        for statistic, (members, holdout, reference) in found.items()
    )


def _visits(
    evidence: SequenceEvidence, part: Figures, count: int | None, rng: np.random.Generator
) -> np.ndarray:
    chosen = lowest(part.records.visits, rng.random(part.records.visits.nnz), count)
    return visits_held(evidence.numbering.part(part.records.visits, chosen), evidence.synthetic.visits)


def _codes(
    evidence: SequenceEvidence, part: Figures, count: int | None, rng: np.random.Generator
) -> np.ndarray:
    presence = part.records.presence
    return codes_held(
        presence, lowest(presence, rng.random(presence.nnz), count), evidence.synthetic.presence
    )
