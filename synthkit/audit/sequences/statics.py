"""Presence by static columns: a patient's row of age, sex, site and the like, combined with little else.

Attacker: holds the release and a target's static columns, as a registry's clerk does, or the declared
quasi-identifiers alone, and knows either the number of visits or the day of the first. Success: finds a
synthetic patient with the same, for members more often than for people the generator never saw. This sees a
generator that copies each patient's static row and draws the visits anew; with few and coarse columns nearly
everybody matches by chance, and then the attack says little.

Knows the four sets; refuses to know verdicts.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from synthkit.audit.claims import Claims
from synthkit.audit.distance import encode
from synthkit.data.sequences import PatientSequences, Sequences, SyntheticSequences

NAME = "static columns of records"


def match_statics(
    *,
    members: PatientSequences,
    holdout: PatientSequences,
    reference: PatientSequences,
    synthetic: SyntheticSequences,
) -> tuple[Claims, ...]:
    """Static columns, all and the declared few, with the number of visits and, with times, the first day.

    Nothing if the schema has no static column.
    """
    schema = synthetic.schema.statics
    if schema is None:
        return ()
    parts: list[Sequences] = [members, holdout, reference, synthetic]
    known = {"with_visits": [part.visits_per_patient for part in parts]}
    days = [part.first_days for part in parts if part.first_days is not None]
    if len(days) == len(parts):
        known["with_first_day"] = days
    views = {"": schema.names, "quasi_": members.schema.quasi_identifiers}
    claims: list[Claims] = []
    for view, names in ((view, names) for view, names in views.items() if names):
        seen = replace(schema, columns=tuple(schema.column(name) for name in names), quasi_identifiers=())
        rows = np.concatenate([part.keys for part in encode(seen, [part.statics for part in parts])])
        claims += [
            _claims(view + name, rows, np.concatenate(values), parts) for name, values in known.items()
        ]
    return tuple(claims)


def _claims(statistic: str, rows: np.ndarray, values: np.ndarray, parts: list[Sequences]) -> Claims:
    keys = np.unique(np.stack((rows, values), axis=1), axis=0, return_inverse=True)[1].ravel()
    cuts = np.cumsum([0, *(part.patient_count for part in parts)])
    members, holdout, reference, synthetic = (keys[start:end] for start, end in pairwise(cuts))
    return Claims(
        name=NAME,
        statistic=statistic,
        members=np.isin(members, synthetic),
        holdout=np.isin(holdout, synthetic),
        baseline_rate=float(np.isin(reference, synthetic).mean()),
        holds=False,
    )
