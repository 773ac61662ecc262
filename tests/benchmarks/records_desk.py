"""What the benchmark of records is made of: Diabetes 130 or simulated patients, conditions, and floors.

Knows files and records. Diabetes 130 is not bundled: `diabetic_data.csv` of the UCI Machine Learning
Repository, number 296 (Clore, Cios, DeShazo and Strack, 2014, doi 10.24432/C5230J, CC BY 4.0), or a file made
from it with the columns patient_nbr, visit_seq, kind (DX, RX) and code. A visit's codes are diag_1 to diag_3
and the drugs whose column says other than No; visits stand in the order of encounter_id; patients with fewer
than two visits with codes are left out.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from synthkit.data.sequence_reading import read_sequences
from synthkit.data.sequences import PatientSequences, Sequences, ranges, starts_of
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.domain.vocabulary import CodeType
from synthkit.errors import InputError
from synthkit.evaluation.record_conditions import RecordCondition
from synthkit.evaluation.targets import parse_target

DIAGNOSES = ("diag_1", "diag_2", "diag_3")
AFTER_DRUGS = "change"
BEFORE_DRUGS = "A1Cresult"
FEWEST_VISITS, MOST_VISITS = 2, 40
CONDITIONS = 10
"""As many of the most frequent diagnoses are conditions as in the paper's section 5."""


def diabetes130(path: Path) -> PatientSequences:
    """Diagnoses and drugs of the patients with at least two visits."""
    events = _events(path)
    events = events.assign(patient=events.patient_nbr.astype(int), visit=events.visit_seq.astype(int))
    events = events.sort_values(["patient", "visit", "code"])
    visits = events.groupby("patient_nbr").visit_seq.nunique()
    events = events[events.patient_nbr.isin(visits[visits >= FEWEST_VISITS].index)]
    codes = {kind: tuple(sorted(events[events.kind == kind].code.unique())) for kind in ("DX", "RX")}
    types = (CodeType.DIAGNOSIS,) * len(codes["DX"]) + (CodeType.DRUG,) * len(codes["RX"])
    code = Column(name="code", kind=Kind.CODE, categories=(*codes["DX"], *codes["RX"]), types=types)
    schema = Schema(name="diabetes130", columns=(code,), patient_id="patient_nbr", visit="visit_seq")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "records.csv"
        events[["patient_nbr", "visit_seq", "code"]].to_csv(table, index=False)
        return read_sequences(table, schema)


HOSPITAL_CUTS = tuple(million * 1_000_000 for million in (4.5, 22.5, 27, 40.5, 45, 81, 90))
"""Patient numbers come in blocks, which differ in payers, specialties and people like hospitals: read off the
numbers, as the file names no hospital."""


def hospitals_of_diabetes130(path: Path) -> list[np.ndarray]:
    """Positions of each hospital's patients among those of `diabetes130`, which stand by number."""
    events = _events(path)
    visits = events.groupby(events.patient_nbr.astype(int)).visit_seq.nunique()
    numbers = np.sort(visits[visits >= FEWEST_VISITS].index.to_numpy())
    return np.split(np.arange(numbers.size), np.searchsorted(numbers, HOSPITAL_CUTS))


def _events(path: Path) -> pd.DataFrame:
    """One row a code: patient_nbr, visit_seq, kind, code."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if {"patient_nbr", "visit_seq", "kind", "code"} <= set(frame.columns):
        return frame[frame.kind.isin(["DX", "RX"])]
    if not {"patient_nbr", "encounter_id", *DIAGNOSES, AFTER_DRUGS, BEFORE_DRUGS} <= set(frame.columns):
        raise InputError("is neither diabetic_data.csv nor a table of its codes", where=path.name)
    frame = frame.assign(encounter=frame.encounter_id.astype(int)).sort_values(["patient_nbr", "encounter"])
    frame["visit_seq"] = frame.groupby("patient_nbr").cumcount() + 1
    names = list(frame.columns)
    drugs = names[names.index(BEFORE_DRUGS) + 1 : names.index(AFTER_DRUGS)]
    keys = ["patient_nbr", "visit_seq"]
    found = frame.melt(id_vars=keys, value_vars=[*DIAGNOSES], value_name="code")
    taken = frame.melt(id_vars=keys, value_vars=drugs, var_name="code", value_name="dose")
    rows = pd.concat(
        [
            found[~found.code.isin(["", "?"])].assign(kind="DX"),
            taken[~taken.dose.isin(["", "No"])].assign(kind="RX"),
        ]
    )
    return rows[[*keys, "kind", "code"]]


def simulated(patients: int, visits_mean: float) -> PatientSequences:
    """Patients of the stated process, none of whom has more visits than anybody of Diabetes 130."""
    process = standard_process(visits_mean=visits_mean, most_visits=MOST_VISITS)
    return PatientSequences(**vars(simulate(process, patients, seed=11)))


def with_conditions(records: PatientSequences, train: PatientSequences) -> PatientSequences:
    """The records with a column for each of the most frequent diagnoses of `train`: had at any visit or not.

    The columns follow from the codes, so a probability of both is one of the codes.
    """
    chosen = frequent_diagnoses(train)
    levels = ("no", "yes")
    columns = tuple(
        Column(name=_column(records, code), kind=Kind.BINARY, categories=levels) for code in chosen
    )
    named = {
        column.name: np.array(levels, dtype=object)[_carriers(records, code).astype(int)]
        for column, code in zip(columns, chosen, strict=True)
    }
    return replace(
        records,
        schema=replace(records.schema, columns=(*records.schema.columns, *columns)),
        statics=records.statics.assign(**named),
    )


def frequent_diagnoses(records: PatientSequences) -> np.ndarray:
    """Numbers of the `CONDITIONS` diagnoses that most patients have, the most frequent first."""
    diagnoses = np.array(records.schema.vocabulary.of_type(CodeType.DIAGNOSIS))
    carriers = [_carriers(records, code).sum() for code in diagnoses]
    return diagnoses[np.argsort(carriers)[::-1][:CONDITIONS]]


def condition_questions(records: PatientSequences, train: PatientSequences) -> list[RecordCondition]:
    """Has the patient this diagnosis? Of each frequent one of `train`, to be told from the other codes.

    By its column where the records have it, else by the codes.
    """
    known = set() if records.schema.statics is None else {c.name for c in records.schema.columns}
    questions = []
    for code in frequent_diagnoses(train):
        name = _column(records, code)
        target = parse_target(f"{name} = yes", records.schema.statics) if name in known else None
        questions.append(RecordCondition(label=name, target=target, codes=(int(code),)))
    return questions


def _column(records: PatientSequences, code: int) -> str:
    return f"has {records.schema.vocabulary.codes[code]}"


def _carriers(records: Sequences, code: int) -> np.ndarray:
    """Which patients ever have the code, bool (patients,)."""
    has = np.zeros(len(records.statics), dtype=bool)
    has[records.patient_of_visit[records.visit_of_code[records.codes == code]]] = True
    return has


def dealt(records: PatientSequences, rng: np.random.Generator) -> PatientSequences:
    """The same visits, dealt to patients at random: codes keep their visit, and visits lose their patient."""
    order = rng.permutation(records.visit_count)
    entries = ranges(records.visit_starts[order], records.visit_starts[order + 1])
    return replace(
        records,
        codes=records.codes[entries],
        visit_starts=starts_of(records.codes_per_visit[order]),
    )
