"""The audit on generators as they are trained: overfitted and published ones FAIL, private ones do not.

A small version of tests/benchmarks/bench_audit_generators.py, on simulated patients; slow.
"""

import logging
from collections.abc import Callable

import numpy as np
import pytest
from audit_clinic import RULES
from small_ward import WARD, make_plan, ward_table

from synthkit.audit.run import run_audit
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.privacy import Budget
from synthkit.privacy.ledger import Ledger
from synthkit.training.paper_mcm import McmSettings, train_mcm
from synthkit.training.paper_medvae import MedVaeSettings, train_medvae
from synthkit.training.planning import effort_for, plan_for
from synthkit.training.single_site import Job, train_privately, train_unsafe
from synthkit.training.synthesis import synthesize

pytestmark = pytest.mark.slow

HOSPITAL = (3000, 1500, 700)
"""Members, holdout and reference of a private training: a PASS is possible."""
FEW = (500, 500, 500)
Draw = Callable[[PatientTable, int], SyntheticTable]


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("synthkit.unsafe").setLevel(logging.ERROR)


def audited(draw: Draw, sizes: tuple[int, int, int], seed: int) -> AuditReport:
    everyone = ward_table(sum(sizes), seed=seed)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    members, holdout, reference = (everyone.take(part) for part in parts)
    return run_audit(
        members=members,
        holdout=holdout,
        reference=reference,
        synthetic=draw(members, seed),
        rules=RULES,
        policy_digest="0" * 64,
        seed=seed,
    )


def private(kind: str, tmp_path) -> Draw:
    def draw(members: PatientTable, seed: int) -> SyntheticTable:
        budget, size = Budget(epsilon=1.0, delta=1e-5), members.patient_count
        plan = plan_for(kind, effort_for(size), target_epsilon=1.0, delta=1e-5)
        job = Job(study="s", site="n", declared_size=size, min_patients=100, seed=seed)
        ledger = Ledger.create(tmp_path / f"ledger{seed}", asset="a", site="n", budget=budget)
        folder = tmp_path / f"model{seed}"
        model = train_privately(members, plan, job, ledger=ledger, quota=budget, folder=folder)
        return synthesize(model, size, seed=seed).table

    return draw


def by_heart(tmp_path) -> Draw:
    """A wide autoencoder under 500 passes over its patients."""

    def draw(members: PatientTable, seed: int) -> SyntheticTable:
        wide = {"hidden_1": 128, "hidden_2": 64, "kl_weight": 0.0, "posterior_std": 0.01}
        fields = {"local_steps": 2500, "sample_rate": 0.2, "learning_rate": 0.003, "hyperparameters": wide}
        job = Job(study="s", site="n", declared_size=500, min_patients=100, seed=seed)
        model = train_unsafe(members, make_plan(**fields), job, folder=tmp_path / "model")
        return synthesize(model, len(members), seed=seed).table

    return draw


def published(members: PatientTable, seed: int) -> SyntheticTable:
    settings = MedVaeSettings(epochs=100, kl_weight=0.0)
    model = train_medvae(members, settings=settings, seed=seed, study="s", site="n")
    return synthesize(model, len(members), seed=seed).table


def published_mcm(members: PatientTable, seed: int) -> SyntheticTable:
    model = train_mcm(members, settings=McmSettings(), seed=seed, study="s", site="n")
    return synthesize(model, len(members), seed=seed).table


def test_an_autoencoder_that_learnt_its_patients_by_heart_fails(tmp_path):
    assert audited(by_heart(tmp_path), FEW, 1).verdict is Verdict.FAIL


@pytest.mark.parametrize("draw", [published, published_mcm])
def test_the_published_systems_fail(draw):
    """Of Med-VAE, as the notebook trains, rows are decoded from patients' latents; of MCM a quarter of the
    cells are a patient's own."""
    assert audited(draw, FEW, 2).verdict is Verdict.FAIL


def test_rows_drawn_with_replacement_fail():
    def resampled(members: PatientTable, seed: int) -> SyntheticTable:
        frame = members.frame.sample(len(members), replace=True, random_state=seed)
        return SyntheticTable(schema=WARD, frame=frame.reset_index(drop=True))

    report = audited(resampled, FEW, 3)
    assert report.verdict is Verdict.FAIL
    assert report.hard_rules


def test_private_generators_at_epsilon_one_pass_where_the_size_allows_it(tmp_path):
    """FAIL has probability at most about 0.02 a table, so any of 2 has 0.04; the privacy noise is fresh.
    `mcm` and more trainings are the benchmark's."""
    verdicts = [audited(private("medvae", tmp_path), HOSPITAL, 10 + seed).verdict for seed in range(2)]
    assert verdicts.count(Verdict.FAIL) == 0
    assert Verdict.PASS in verdicts
