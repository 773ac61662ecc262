"""Small records for the tests of their generators."""

import numpy as np
import pandas as pd

from synthkit.data.sequence_encoding import SequenceEncoding, fit_sequence_encoding
from synthkit.data.sequences import PatientSequences, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.vocabulary import CodeType
from synthkit.generators.eva import Eva

SMALL = {
    "channels": 12,
    "hidden": 12,
    "latent": 4,
    "layers": 3,
    "most_visits": 20,
    "most_codes": 30,
    "dated": 1,
}


def simulated(patients: int, *, seed: int = 1) -> PatientSequences:
    """Records of the stated process, about six visits each."""
    return PatientSequences(
        **vars(simulate(standard_process(visits_mean=6, most_visits=30), patients, seed=seed))
    )


def encoding_of(records: PatientSequences, settings: dict[str, float] | None = None) -> SequenceEncoding:
    return fit_sequence_encoding(records.schema, {**Eva.defaults, **(settings or SMALL)})


def tiny_schema(codes: int = 4, *, missing: bool = True) -> Schema:
    """Codes without times and static columns, of two types."""
    names = tuple(f"c{i}" for i in range(codes))
    types = tuple(CodeType.DIAGNOSIS if i < codes // 2 else CodeType.DRUG for i in range(codes))
    column = Column(name="code", kind=Kind.CODE, categories=names, types=types, missing=missing)
    return Schema(columns=(column,), patient_id="patient", visit="visit", name="tiny")


def records_of(visits: list[list[list[int]]], schema: Schema) -> PatientSequences:
    """Patients as lists of visits, visits as ascending lists of codes."""
    flat = [visit for patient in visits for visit in patient]
    return PatientSequences(
        schema=schema,
        codes=np.array([code for visit in flat for code in visit], dtype=np.int32),
        visit_starts=starts_of(np.array([len(visit) for visit in flat])),
        patient_starts=starts_of(np.array([len(patient) for patient in visits])),
        statics=pd.DataFrame(index=range(len(visits))),
    )
