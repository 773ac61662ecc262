"""The hard rule for records: one patient with five or more visits whose record was copied.

Attacker: anyone who knows one patient's record well and reads the release. Success: finds it, whole or with
a visit or two altered, where chance would not have put it. No rate can show one copy among thousands, so
this rule judges patients one by one.

Rule: a synthetic record is alike (Jaccard similarity of visits at least 0.6), is nearer than any reference
patient's, and shares so much information with the member's that no such case would be expected among all
members, were they strangers to the release. Information tells five rare visits from fifty common ones, and
a visit repeated for years from many; the ratio of distances does not, and takes short routines that coincide
for copies. The chance comes by an exponential tail from people who *are* strangers: holdout and reference
to the release, and all real people to the reference.

Guards against taking look-alikes for copies: the chance is asked for at a fifth of the level, since the law
is asked about more people than it was fitted to; and the patient must share more than every real person does
with a look-alike in the reference, and than every stranger with one in the release: where coincidences are
seen to happen, one coincidence is no evidence, and the counting attacks have to tell.

Knows evidence; refuses to say which patient.
"""

import numpy as np

from synthkit.audit.sequences.evidence import Figures, SequenceEvidence
from synthkit.audit.sequences.near import ALIKE, is_alike
from synthkit.audit.statistics import exponential_tail

LONG = 5
"""Visits from which a copied record is one too many."""
LEVEL_SHARE = 0.2
"""Share of the attempt's level at which the rule fires."""
TAIL = 0.05
"""Share of the strangers to whom the tail is fitted: deeper than one shared visit, which is common."""
FEW = 50
"""With fewer long records among the strangers no tail can be fitted, and the rule is silent."""


def copied_rare_records(evidence: SequenceEvidence, *, level: float) -> tuple[str, ...]:
    """The hard rule in words, or nothing.

    Args:
        evidence: The measured sets.
        level: False-alarm probability of this attempt.
    """
    members = evidence.members
    if sum(int(_is_long(part).sum()) for part in (evidence.holdout, evidence.reference)) < FEW:
        return ()
    is_beyond = _beyond_chance(evidence) < level * LEVEL_SHARE
    is_beyond &= members.shared > _coincidence(evidence)
    fires = _is_long(members) & is_alike(members) & members.is_nearer & is_beyond
    is_whole = np.isin(members.records.multiset, evidence.synthetic.multiset)
    found = {"verbatim": (fires & is_whole).any(), "almost verbatim": (fires & ~is_whole).any()}
    return tuple(
        f"the release holds a rare patient's record of {LONG} or more visits {how}, beyond what chance "
        "explains"
        for how, is_found in found.items()
        if is_found
    )


def _beyond_chance(evidence: SequenceEvidence) -> np.ndarray:
    """How many of as many strangers as there are members would share as much: (members,)."""
    with_release = [part.shared[_is_long(part)] for part in (evidence.holdout, evidence.reference)]
    with_people = [part.shared_with_people[_is_long(part)] for part in evidence.real]
    tail = exponential_tail(
        np.concatenate((*with_release, *with_people)), evidence.members.shared, share=TAIL
    )
    return tail * int(_is_long(evidence.members).sum())


def _is_long(part: Figures) -> np.ndarray:
    return np.asarray(part.records.visit_counts >= LONG)


def _coincidence(evidence: SequenceEvidence) -> float:
    """The most that a long record shares with a look-alike by chance; -inf if there is none."""
    by_chance = [(part.shared_with_people, part.likeness_to_people >= ALIKE, part) for part in evidence.real]
    by_chance += [(part.shared, is_alike(part), part) for part in (evidence.holdout, evidence.reference)]
    return max(
        float(np.max(shared, where=_is_long(part) & seen, initial=-np.inf))
        for shared, seen, part in by_chance
    )
