"""Retraining hundreds of times: no claim of the clean build is contradicted, each planted fault's is.

False alarms: every bound holds at confidence 99.9 %, so a clean build exceeds its claim with probability
at most 0.001 a test, if the claim were exactly tight. A planted fault escapes with the probability that
its attack is weaker than measured; the bounds asserted are far below the measured ones. The noise comes
from the operating system, so nothing here can be seeded.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from retraining import (
    DELTA,
    TINY,
    WARD_SIZE,
    CanaryAudit,
    audit_plan,
    audited_epsilon,
    claimed_epsilon,
    collect,
    retrain,
    scale_noise,
    seed_noise,
)
from small_ward import ward_table

from synthkit.data.encoding import fit_encoding
from synthkit.data.table import PatientTable
from synthkit.domain.layout import PatientStates
from synthkit.domain.privacy import EncoderProvenance
from synthkit.domain.schema import Column, Kind, Provenance, Schema
from synthkit.errors import SchemaError
from synthkit.privacy.accounting import spend_of
from synthkit.privacy.dpsgd import DpSgdStep, LossPerPatient
from synthkit.training.artefact import Model, new_generator
from synthkit.training.single_site import Job, check_trainable
from synthkit.training.synthesis import synthesize
from synthkit.training.unsafe import UnsafeNoPrivacy

pytestmark = pytest.mark.slow

CONFIDENCE = 0.999
CLEAN_RUNS, FAULT_RUNS = 160, 160
ROWS = 40
"""Rows of the patient who is counted forty times over."""


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(("rows", "max_grad_norm"), [(1, 1.0), (ROWS, 1.0), (1, 0.05)])
def test_the_clean_build_keeps_its_claim(rows, max_grad_norm, settled):
    plan = audit_plan(max_grad_norm=max_grad_norm)
    assert 0.9 < claimed_epsilon(plan) <= 1.0
    audit = CanaryAudit(plan, rows=rows, settled=settled)
    assert audit.audited(CLEAN_RUNS, confidence=CONFIDENCE) <= 1.0


def test_the_clean_build_keeps_a_loose_claim_and_the_attack_sees_some_of_it():
    """Claimed 24.5: the attacker shows over 1, so zero against a claim of 1 is no blindness."""
    plan = audit_plan(noise_multiplier=0.25, prior_noise_multiplier=3.0)
    audited = CanaryAudit(plan).audited(2 * CLEAN_RUNS, confidence=CONFIDENCE)
    assert 1.0 < audited <= claimed_epsilon(plan)


@pytest.mark.parametrize("factor", [0.0, 1 / 40], ids=["no noise", "noise divided by the batch twice"])
def test_missing_noise_is_found(monkeypatch, factor):
    scale_noise(monkeypatch, factor)
    assert CanaryAudit(audit_plan()).audited(FAULT_RUNS, confidence=CONFIDENCE) > 1.0


def test_noise_from_a_known_seed_is_found(monkeypatch):
    seed_noise(monkeypatch)
    assert CanaryAudit(audit_plan()).audited(FAULT_RUNS, confidence=CONFIDENCE) > 1.0


class WithoutClipping(DpSgdStep):
    """Fault: the norm is measured and ignored."""

    def _clipped_sum(self, chunk: np.ndarray, loss_per_patient: LossPerPatient) -> list[torch.Tensor]:
        self._gradients.forget()
        return self._gradients.clipped_sum(loss_per_patient(chunk), 1e9)


class ClipsTheMean(DpSgdStep):
    """Fault: the batch's mean gradient is clipped, not each patient's; the sum is its multiple."""

    def _clipped_sum(self, chunk: np.ndarray, loss_per_patient: LossPerPatient) -> list[torch.Tensor]:
        self._gradients.forget()
        sums = self._gradients.clipped_sum(loss_per_patient(chunk), 1e9)
        norm = torch.stack([(one / chunk.size).square().sum() for one in sums]).sum().sqrt()
        return [one * min(1.0, self.settings.max_grad_norm / float(norm)) for one in sums]


@pytest.mark.parametrize(("fault", "settled"), [(WithoutClipping, False), (ClipsTheMean, True)])
def test_missing_clipping_is_found(fault, settled):
    audit = CanaryAudit(audit_plan(max_grad_norm=0.05), settled=settled)
    assert audit.audited(2 * FAULT_RUNS, confidence=CONFIDENCE, privacy=fault) > 1.0


def test_a_prior_fitted_without_noise_is_found():
    """The latent library's leak: every step is private, the codes' moments are not."""
    audit = CanaryAudit(audit_plan())
    assert audit.audited(FAULT_RUNS, confidence=CONFIDENCE, prior_privacy=UnsafeNoPrivacy) > 1.0


def test_a_patients_rows_counted_as_patients_are_found():
    """The same forty rows: one patient in the clean test above, forty patients here."""
    audit = CanaryAudit(audit_plan(), rows=ROWS)
    rows_as_patients = PatientStates.one_row_each(audit.together.states)
    assert audit.audited(FAULT_RUNS, confidence=CONFIDENCE, together=rows_as_patients) > 1.0


HOSPICE = "hospice"
UNITS = ("icu", "ward", "day clinic", HOSPICE)
PUBLIC = Schema(
    name="outlier",
    columns=(
        Column(name="creatinine", kind=Kind.NUMERIC, minimum=0.2, maximum=12.0, decimals=2, missing=True),
        Column(name="unit", kind=Kind.CATEGORICAL, categories=UNITS),
    ),
)
OUTLIER = {"creatinine": 11.9, "unit": HOSPICE}


def outlier_tables() -> tuple[PatientTable, PatientTable]:
    """The ward with a patient of extreme creatinine in a unit of their own, and without."""
    ward = ward_table(WARD_SIZE).frame[["creatinine", "unit"]]
    together = pd.concat([ward, pd.DataFrame([OUTLIER])], ignore_index=True)
    return tuple(
        PatientTable(schema=PUBLIC, frame=frame, patients=np.arange(len(frame))) for frame in (together, ward)
    )


def read_off(table: PatientTable) -> Schema:
    """The fault: bounds and categories of the rows at hand, which somebody then calls public."""
    creatinine, unit = PUBLIC.columns
    numbers = table.frame["creatinine"]
    seen = set(table.frame["unit"])
    return replace(
        PUBLIC,
        columns=(
            replace(creatinine, minimum=float(numbers.min()), maximum=float(numbers.max())),
            replace(unit, categories=tuple(name for name in UNITS if name in seen)),
        ),
    )


def black_box(table: PatientTable, schema: Schema, shown) -> np.ndarray:
    """Train, generate two hundred rows, and look at nothing but these."""
    plan = audit_plan()
    states = fit_encoding(schema).encode_patients(replace(table, schema=schema))
    generator = retrain(new_generator("medvae-sgd", schema, TINY, seed=0), states, plan)
    model = Model(
        schema=schema,
        generator=generator,
        spend=spend_of(plan.total_events(), DELTA),
        encoder_provenance=EncoderProvenance.TRAINED,
        study="trial",
        study_digest="d" * 64,
        site="north",
    )
    return np.array([shown(synthesize(model, 200, seed=0).table.frame)])


def highest_creatinine(frame: pd.DataFrame) -> float:
    return float(np.nan_to_num(frame["creatinine"].max()))


def patients_in_hospice(frame: pd.DataFrame) -> float:
    return float((frame["unit"] == HOSPICE).sum())


@pytest.mark.parametrize("shown", [highest_creatinine, patients_in_hospice])
@pytest.mark.parametrize("schema_of", [lambda table: table.schema, read_off], ids=["public", "read off"])
def test_bounds_and_vocabulary_read_off_the_patients_are_found_in_the_table_alone(shown, schema_of):
    """Black box: the attacker sees the synthetic rows only."""
    tables = outlier_tables()
    looks = [lambda table=table: black_box(table, schema_of(table), shown) for table in tables]
    audited = audited_epsilon(*collect(looks, FAULT_RUNS), confidence=CONFIDENCE)
    assert (audited > 1.0) == (schema_of is read_off)


def test_the_product_refuses_a_schema_that_was_read_off():
    """Unless a person writes "public" over it; then it is their word, and the audit above is why."""
    table = outlier_tables()[0]
    draft = replace(
        read_off(table),
        columns=tuple(replace(c, provenance=Provenance.DATA) for c in read_off(table).columns),
    )
    job = Job(study="trial", site="north", declared_size=40, min_patients=10, seed=0)
    with pytest.raises(SchemaError, match="read off"):
        check_trainable(replace(table, schema=draft), job)
    check_trainable(table, job)
