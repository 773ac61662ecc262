"""Attribute inference: what does the table tell about one cell of a person whose other cells are known?

Attacker: holds the released table and all of a target's cells but the secret ones; looks up the synthetic
row closest on what is known and reads the secret off it. Success: the secret's bin is right (the same
level; for a number the same tenth of the population). A model of the population helps to guess anybody's
secret, which is what synthetic data are for: only what members lose beyond the holdout is disclosure.

Baseline: always guessing the most frequent bin of the reference. Source: Choi et al., MLHC 2017
(arXiv:1703.06490), for the nearest-neighbour attack; the control group as in Anonymeter (Giomi et al.,
PoPETs 2023). Knows evidence; refuses to know verdicts.
"""

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence, RealRows
from synthkit.audit.secrets import modal_rate

NAME = "attribute inference"


def guessed(part: RealRows, synthetic_bins: np.ndarray, column: int) -> np.ndarray:
    """(people,) whether the secret read off the closest synthetic row is right.

    Of a patient with several rows the attacker holds the one closest to the table.
    """
    held = part.people.row_of_smallest(part.open_distance)
    return np.asarray(part.bins[held, column] == synthetic_bins[part.without_secrets[held], column])


def infer(evidence: Evidence) -> tuple[Claims, ...]:
    """One statistic a secret column; none where a table has no column to know and none to learn."""
    real, made = evidence.real, evidence.synthetic.bins
    return tuple(
        Claims(
            name=NAME,
            statistic=f"secret_{evidence.names[column]}",
            members=guessed(real.members, made, column),
            holdout=guessed(real.holdout, made, column),
            baseline_rate=modal_rate(real.reference.bins[:, column]),
            holds=False,
        )
        for column in evidence.secrets
    )
