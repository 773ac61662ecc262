"""Linkability: can two files about a person be joined through the table?

Attacker: holds the released table and two records of a target, each with one half of the columns (say,
a registry's and an insurer's; declared quasi-identifiers stand in the first), and looks up the closest
synthetic row of each. Success: both point to the same synthetic row, so the records are taken for one
person's. People of the holdout are linked as often where the table holds the population and nobody's own
record.

Baseline: how often the halves of two different people point to one row. Source: the criterion of
Article 29 Working Party, Opinion 05/2014; the attack after Anonymeter (Giomi et al., PoPETs 2023), with
members and holdout as they are instead of a correction for their sizes. Knows evidence; refuses to know
verdicts.
"""

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, RealRows

NAME = "linkability"


def link(evidence: Evidence) -> tuple[Claims, ...]:
    """Claim everyone whose two halves meet; nothing to link in a table of one column."""
    if evidence.knowledge.known.all():
        return ()
    keys = evidence.synthetic.rows.keys
    holdout = keys[evidence.real.holdout.by_half]
    shuffled = evidence.rng(PURPOSE).permutation(holdout.shape[1])
    return (
        Claims(
            name=NAME,
            statistic="halves_meet",
            members=_linked(evidence.real.members, keys),
            holdout=_linked(evidence.real.holdout, keys),
            baseline_rate=float(np.mean(holdout[0] == holdout[1][shuffled])),
            holds=False,
        ),
    )


PURPOSE = 3


def _linked(part: RealRows, keys: np.ndarray) -> np.ndarray:
    """(people,) whether the two halves of some row lead to identical synthetic rows."""
    first, second = keys[part.by_half]
    return part.people.largest(first == second)
