"""The hard rule: a single rare patient's record that was copied.

Attacker: anyone who knows one patient well and reads the table. Success: finds that patient's record,
verbatim or nearly so, where chance would not have put it. No rate can show one copy among a thousand
members, so this rule judges patients one by one.

Rule: a member's record is near-verbatim in the table (every number within 1 % of its range, all
else equal), no reference person is as near, and the density-ratio score is so high that none
such would be expected among all members, were they strangers to the table. That chance comes from people
who *are* strangers, the holdout and the reference: the logarithm of a ratio of neighbour distances has an
exponential tail, fitted to them. Their own chance copies make the tail heavier and the rule slower to
fire.

Two guards keep a pair of look-alikes from being taken for a leak. A law fitted to hundreds of people is
asked about one in ten thousand, so it is asked for fifty times the nominal level. And the patient must be
lonelier than any real person of the audit who has a twin among the others: where real people coincide, a
single coincidence is no evidence, and copies are left to the counting attacks.

Knows evidence; refuses to say which patient.
"""

import numpy as np

from synthkit.audit.evidence import Evidence
from synthkit.audit.statistics import exponential_tail

LEVEL_SHARE = 0.02
"""Share of the attempt's level at which the rule fires."""


def copied_rare_patients(evidence: Evidence, *, level: float) -> tuple[str, ...]:
    """The hard rule in words, or nothing.

    Args:
        evidence: The measured sets.
        level: False-alarm probability of this attempt.
    """
    members = evidence.members
    strangers = np.concatenate((evidence.holdout.copy_score, evidence.reference.copy_score))
    chance = exponential_tail(strangers, members.copy_score) * len(members)
    is_rare = members.rarity > evidence.coincidence_rarity
    fires = members.near_verbatim & is_rare & (chance < level * LEVEL_SHARE)
    found = {"verbatim": (fires & members.exact).any(), "almost verbatim": (fires & ~members.exact).any()}
    return tuple(
        f"the table holds a rare patient's record {how}, beyond what chance explains"
        for how, is_found in found.items()
        if is_found
    )
