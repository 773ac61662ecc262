"""A simulated clinic: eleven correlated columns of every kind, with missing cells. No real patient."""

import numpy as np
import pandas as pd

from synthkit.audit.run import run_audit
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport
from synthkit.domain.policy import AuditRules
from synthkit.domain.schema import Column, Kind, Schema

RULES = AuditRules(max_advantage=0.05, alpha=0.05, max_attempts=3)
SITES = ("Crohn's ileum", "Alzheimer's ward", "O'Neill unit", "north", "south", "east")
GRADES = ("I", "II", "III", "IV")
SCHEMA = Schema(
    name="clinic",
    patient_id="pid",
    columns=(
        Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=110),
        Column(name="bmi", kind=Kind.NUMERIC, minimum=10, maximum=70, decimals=1),
        Column(name="systolic", kind=Kind.INTEGER, minimum=60, maximum=260),
        Column(name="creatinine", kind=Kind.NUMERIC, minimum=0, maximum=20, decimals=2, missing=True),
        Column(name="stay", kind=Kind.DURATION, minimum=0, maximum=365),
        Column(name="admitted", kind=Kind.DATETIME, minimum=14600, maximum=19700),
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
        Column(name="ward", kind=Kind.CATEGORICAL, categories=SITES),
        Column(name="grade", kind=Kind.ORDINAL, categories=GRADES, missing=True),
        Column(name="smoker", kind=Kind.BINARY, categories=("no", "yes"), missing=True),
        Column(name="died", kind=Kind.EVENT, categories=("0", "1")),
    ),
)


def draw(rng: np.random.Generator, size: int, *, age_shift: float = 0.0) -> pd.DataFrame:
    """Independent patients: two latent factors move every column."""
    a, b = rng.normal(size=(2, size))
    e = rng.normal(size=(9, size))
    age = np.clip(np.rint(62 + 13 * a + 5 * e[0] + age_shift), 0, 110)
    creatinine = np.clip(np.exp(0.1 + 0.3 * a + 0.3 * b + 0.3 * e[1]), 0, 20)
    creatinine[rng.random(size) < 0.15] = np.nan
    grade = np.digitize(0.8 * b + 0.6 * e[2], (-0.8, 0.2, 1.2))
    frame = {
        "age": age,
        "bmi": np.clip(27 + 3 * b + 3 * e[3], 10, 70),
        "systolic": np.clip(np.rint(128 + 9 * a + 6 * b + 10 * e[4]), 60, 260),
        "creatinine": creatinine,
        "stay": np.clip(np.rint(np.exp(1.5 + 0.4 * b + 0.7 * e[5])), 0, 365),
        "admitted": np.floor(rng.uniform(14600, 19700, size)),
        "sex": np.where(0.3 * a + e[6] > 0, "F", "M").astype(object),
        "ward": np.array(SITES, dtype=object)[np.digitize(0.7 * a + 0.7 * e[7], (-1.4, -0.7, 0, 0.8, 1.6))],
        "grade": np.where(rng.random(size) < 0.1, None, np.array(GRADES, dtype=object)[grade]),
        "smoker": np.where(rng.random(size) < 0.05, None, np.where(e[8] > 0.5, "yes", "no")),
        "died": np.where(rng.random(size) < 1 / (1 + np.exp(2.5 - a - b)), "1", "0").astype(object),
    }
    return pd.DataFrame(frame)


def people(frame: pd.DataFrame, schema: Schema = SCHEMA) -> PatientTable:
    return PatientTable(schema=schema, frame=frame.reset_index(drop=True), patients=np.arange(len(frame)))


def made(frame: pd.DataFrame, schema: Schema = SCHEMA) -> SyntheticTable:
    return SyntheticTable(schema=schema, frame=frame.reset_index(drop=True))


NUMBERS = tuple(column.name for column in SCHEMA if column.is_numeric)


def moved(frame: pd.DataFrame, shares: np.ndarray) -> pd.DataFrame:
    """Every number moved by a share of its public range: `shares` is (rows, numbers) or broadcasts to it."""
    result = frame.copy()
    offsets = np.broadcast_to(shares, (len(frame), len(NUMBERS)))
    for j, name in enumerate(NUMBERS):
        column = SCHEMA.column(name)
        span = column.maximum - column.minimum
        result[name] = np.clip(frame[name] + span * offsets[:, j], column.minimum, column.maximum)
    return result


def with_rows(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The frame with its first rows replaced."""
    return pd.concat((rows, frame.iloc[len(rows) :]), ignore_index=True)


def audit(
    members: pd.DataFrame, holdout: pd.DataFrame, reference: pd.DataFrame, synthetic: pd.DataFrame
) -> AuditReport:
    return run_audit(
        members=people(members),
        holdout=people(holdout),
        reference=people(reference),
        synthetic=made(synthetic),
        rules=RULES,
        policy_digest="0" * 64,
    )
