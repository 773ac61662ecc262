"""Attribute inference: what does the table tell about one cell of a person whose other cells are known?

Attacker: holds the released table and all of a target's cells but the secret ones, or the declared
quasi-identifiers alone, or these and half of the rest; looks up the synthetic row closest on what is known
and reads the secret off it. Success: the secret's bin is right (the same
level; for a number the same tenth of the population). A model of the population helps to guess anybody's
secret, which is what synthetic data are for: only what members lose beyond the holdout is disclosure.

Baseline: always guessing the most frequent bin of the reference. Source: Choi et al., MLHC 2017
(arXiv:1703.06490), for the nearest-neighbour attack; the control group as in Anonymeter (Giomi et al.,
PoPETs 2023). Knows evidence; refuses to know verdicts.
"""

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.distance import Neighbours
from synthkit.audit.evidence import Evidence, RealRows
from synthkit.audit.secrets import modal_rate

NAME = "attribute inference"
BY_QUASI = (f"{NAME} from quasi-identifiers", f"{NAME} from quasi-identifiers and half of the rest")


def guessed(part: RealRows, closest: Neighbours, synthetic_bins: np.ndarray, column: int) -> np.ndarray:
    """(people,) whether the secret read off the closest synthetic row is right.

    Of a patient with several rows the attacker holds the one closest to the table.
    """
    held = part.people.row_of_smallest(closest.distances[:, 0])
    return np.asarray(part.bins[held, column] == synthetic_bins[closest.closest[held], column])


def infer(evidence: Evidence) -> tuple[Claims, ...]:
    """One statistic a secret column and attacker; none where a table has nothing to know and to learn."""
    members, holdout = evidence.real.members, evidence.real.holdout
    looks = [(NAME, members.without_secrets, holdout.without_secrets)]
    looks += zip(BY_QUASI, members.by_quasi, holdout.by_quasi, strict=False)
    return tuple(_claims(evidence, column, *look) for look in looks for column in evidence.secrets)


def _claims(
    evidence: Evidence, column: int, name: str, in_members: Neighbours, in_holdout: Neighbours
) -> Claims:
    real, made = evidence.real, evidence.synthetic.bins
    return Claims(
        name=name,
        statistic=f"secret_{evidence.names[column]}",
        members=guessed(real.members, in_members, made, column),
        holdout=guessed(real.holdout, in_holdout, made, column),
        baseline_rate=modal_rate(real.reference.bins[:, column]),
        holds=False,
    )
