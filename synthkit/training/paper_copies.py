"""How many made visits and records are a training patient's, beside how many are a patient's it never saw.

Knows three sets of records of one code list. The control is what makes the count mean something: common
visits are made by any good model, and stand among unseen patients as often. So trained and unseen patients
are compared in equal number.
"""

from collections.abc import Sequence

import numpy as np

from synthkit.data.sequences import PatientSequences, SyntheticSequences
from synthkit.data.visit_vocabulary import record_keys, visit_keys
from synthkit.domain.verbatim import Verbatim

LEAST_VISITS = 2
"""Shorter records are one visit, and counted as such."""


def verbatim(
    made: SyntheticSequences, trained: PatientSequences, unseen: PatientSequences, *, seed: int
) -> Verbatim:
    """Count copies.

    Args:
        made: Generated records.
        trained: Those the model was trained on.
        unseen: Others of the same population.
        seed: Of which trained and unseen patients are compared, as many of the one as of the other.
    """
    rng = np.random.default_rng(seed)
    count = min(len(trained), len(unseen))
    known, others = (part.take(rng.permutation(len(part))[:count]) for part in (trained, unseen))
    visits, records = visit_keys(made), _long_records(made)
    return Verbatim(
        visits=_share(visits, set(visit_keys(trained))),
        lone_visits=_share(visits, _lone(trained)),
        known_visits=_share(visits, set(visit_keys(known))),
        unseen_visits=_share(visits, set(visit_keys(others))),
        known_records=_share(records, set(record_keys(known))),
        unseen_records=_share(records, set(record_keys(others))),
    )


def _long_records(made: SyntheticSequences) -> list[tuple[bytes, ...]]:
    return [record for record in record_keys(made) if len(record) >= LEAST_VISITS]


def _lone(trained: PatientSequences) -> set[bytes]:
    """Visits that one patient alone had, once or more often."""
    owner: dict[bytes, int] = {}
    shared: set[bytes] = set()
    for key, patient in zip(visit_keys(trained), trained.patient_of_visit.tolist(), strict=True):
        if owner.setdefault(key, patient) != patient:
            shared.add(key)
    return set(owner) - shared


def _share(found: Sequence[object], known: set[bytes] | set[tuple[bytes, ...]]) -> float:
    """Of what was found, the share that is known; 0 where nothing was found."""
    return sum(one in known for one in found) / len(found) if found else 0.0
