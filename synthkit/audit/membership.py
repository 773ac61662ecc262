"""Membership inference from densities: was this person in the training data?

Attacker: holds the released table, the full record of a target, and a sample of the same population that
the generator never saw (the reference). Success: names members more often than people who were not.
The score compares how near the synthetic rows come with how near other people come: a generator that
overfits puts rows where only a member lives. Thresholds are the reference's top 1 %, 10 % and
50 %.

Source: the idea of DOMIAS (van Breugel et al., AISTATS 2023, arXiv:2302.12580), with nearest neighbours
for densities. Knows evidence; refuses to know verdicts.
"""

from synthkit.audit.claims import RATES, Claims, Scores
from synthkit.audit.evidence import Evidence

NAME = "membership by density ratio"
RARE = "rare"


def scores(evidence: Evidence) -> Scores:
    """The density-ratio score of every patient."""
    return Scores(
        members=evidence.members.copy_score,
        holdout=evidence.holdout.copy_score,
        reference=evidence.reference.copy_score,
        member_ties=evidence.members.tie,
        holdout_ties=evidence.holdout.tie,
        reference_ties=evidence.reference.tie,
    )


def density_ratio(evidence: Evidence) -> tuple[Claims, ...]:
    """Claims at every rate over all patients, and at the lower two within the rare stratum.

    The stratum (largest mean distance to 5 reference neighbours, threshold from the reference) is small:
    its tests can fail a table, its wide intervals do not hold up a PASS.
    """
    score = scores(evidence)
    claims = [score.claims_at(rate, name=NAME, bounds=rate == RATES[0]) for rate in RATES]
    rare_members = evidence.members.rarity > evidence.rare_threshold
    rare_holdout = evidence.holdout.rarity > evidence.rare_threshold
    if rare_members.any() and rare_holdout.any():
        claims += [claim.within(rare_members, rare_holdout, stratum=RARE) for claim in claims[:2]]
    return tuple(claims)
