"""Shadow trainings find a generator that keeps its lonely patients, and accuse no honest one."""

from dataclasses import replace

import audit_clinic as clinic
import numpy as np
import pandas as pd
import pytest
from small_ward import WARD, make_plan, ward_table

from synthkit.audit import shadow
from synthkit.audit.evidence import gather
from synthkit.audit.run import run_audit
from synthkit.audit.shadow import Shadow, ShadowAttack, Shadowing, canary_records
from synthkit.audit.shadow_training import plan_again, shadowing
from synthkit.audit.verdict import measure
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AttackResult, Verdict
from synthkit.domain.privacy import EncoderProvenance, PrivacySpend
from synthkit.errors import InputError
from synthkit.privacy.accounting import spend_of
from synthkit.report.attack_words import attacker
from synthkit.training.artefact import Model, new_generator
from synthkit.training.planning import Effort, plan_for
from synthkit.training.single_site import Job, train_unsafe
from synthkit.training.synthesis import synthesize

SIZE = 700
Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def frames(seed: int) -> Frames:
    rng = np.random.default_rng(seed)
    return tuple(clinic.draw(rng, SIZE) for _ in range(3))


def keeper(kept: float):
    """A generator that draws a patient and keeps each cell with that probability, the others from anybody."""

    def train(patients: PatientTable, rows: int, seed: int) -> Shadow:
        rng = np.random.default_rng((seed, 77))
        frame = patients.frame
        chosen = rng.integers(len(frame), size=rows)
        cells = {}
        for name in frame.columns:
            values = frame[name].to_numpy()
            others = values[rng.integers(len(frame), size=rows)]
            cells[name] = np.where(rng.random(rows) < kept, values[chosen], others)
        made = SyntheticTable(schema=patients.schema, frame=pd.DataFrame(cells))
        return Shadow(table=made, likelihood=lambda _: None)

    return train


def stranger(patients: PatientTable, rows: int, seed: int) -> Shadow:
    """A generator that knows the population and none of its patients."""
    made = clinic.made(clinic.draw(np.random.default_rng((seed, 78)), rows), patients.schema)
    return Shadow(table=made, likelihood=lambda _: None)


def attacked(train, sets: Frames, *, seed: int, trainings: int = 8, **fields) -> ShadowAttack:
    """The attack on what the generator makes of the members."""
    tables = dict(zip(("members", "holdout", "reference"), map(clinic.people, sets), strict=True))
    made = train(tables["members"], SIZE, 10_000 + seed).table
    asked = Shadowing(trainings=trainings, train=train, **fields)
    attack = ShadowAttack(asked, tables, made, lambda _: None)
    attack.outcome(gather(**tables, synthetic=made, seed=seed))
    return attack


def results_of(attack: ShadowAttack) -> list[AttackResult]:
    return list(measure(attack.outcome(None).claims, clinic.RULES))


def test_a_generator_that_keeps_most_cells_is_found_among_the_lonely() -> None:
    """Power: of about 60 lonely members most are named at one stranger in ten; near certainty."""
    attack = attacked(keeper(0.8), frames(1), seed=1)
    found = results_of(attack)
    assert {result.stratum for result in found} == {"rare"}
    assert min(result.p_adjusted for result in found) < 1e-6
    assert max(result.advantage for result in found) > 0.3


def test_canaries_that_show_contradict_a_claim_and_leave_a_larger_one_standing() -> None:
    """Power: four in five cells of a canary stay together; 16 shadows toss 640 coins. Near certainty."""
    attack = attacked(keeper(0.8), frames(1), seed=1, trainings=16)
    shown = attack.figures(None)["shadow_canary_epsilon_at_least"]
    assert 1.2 < shown < 10.0
    assert "beyond the epsilon" in under_claim(attack, 1.0).hard_rule(None, 0.05 / 3)[0]
    assert under_claim(attack, 10.0).hard_rule(None, 0.05 / 3) == ()


def test_an_honest_generator_is_accused_no_more_often_than_stated() -> None:
    """Of 12 honest tables at adjusted level 0.05, more than 3 accused have probability below 0.003; of 12
    bounds at 95 %, more than 3 above zero likewise. Seeds are fixed."""
    attacks = [attacked(stranger, frames(100 + seed), seed=seed) for seed in range(12)]
    accused = sum(min(one.p_adjusted for one in results_of(attack)) < 0.05 for attack in attacks)
    above = sum(attack.figures(None)["shadow_canary_epsilon_at_least"] > 0 for attack in attacks)
    assert accused <= 3
    assert above <= 3
    assert not any(under_claim(attack, 0.5).hard_rule(None, 0.05 / 3) for attack in attacks)


def under_claim(attack: ShadowAttack, epsilon: float) -> ShadowAttack:
    """The same trainings under a claim."""
    attack._asked = replace(attack._asked, epsilon=epsilon)
    return attack


@pytest.mark.slow
def test_fifty_honest_tables_are_accused_at_most_one_in_twenty() -> None:
    """At a true rate of 0.05, more than 8 of 50 has probability below 0.0009. Seeds are fixed."""
    attacks = (attacked(stranger, frames(1000 + seed), seed=seed) for seed in range(50))
    accused = sum(min(one.p_adjusted for one in results_of(attack)) < 0.05 for attack in attacks)
    assert accused <= 8


def test_each_patient_is_in_half_of_the_shadows_and_canaries_are_in_none_of_the_real_tables() -> None:
    seen: list[PatientTable] = []

    def watching(patients: PatientTable, rows: int, seed: int) -> Shadow:
        seen.append(patients)
        return stranger(patients, rows, seed)

    sets = frames(3)
    attacked(watching, sets, seed=3)
    release, *shadows = seen
    assert len(shadows) == 8
    assert len(release) == SIZE
    real = pd.concat(sets).astype(str).agg("|".join, axis=1)
    canaries = [set(one.frame.astype(str).agg("|".join, axis=1)) - set(real) for one in shadows]
    assert all(5 < len(inserted) < 35 for inserted in canaries)
    assert not set(release.frame.astype(str).agg("|".join, axis=1)) - set(real)
    members = set(sets[0].astype(str).agg("|".join, axis=1))
    counts = pd.Series(
        [row for one in shadows for row in one.frame.astype(str).agg("|".join, axis=1) if row in members]
    ).value_counts()
    assert set(counts) == {4}
    assert 20 < len(counts) <= shadow.TARGETS


def test_canaries_are_drawn_from_what_is_public() -> None:
    drawn = canary_records(clinic.SCHEMA, 400, np.random.default_rng(0))
    for column in clinic.SCHEMA:
        values = drawn.frame[column.name]
        if column.is_numeric:
            assert values.between(column.minimum, column.maximum).all()
        else:
            assert set(values) == set(column.categories)


def test_the_audit_decides_with_the_shadows_and_says_how_long_they_take() -> None:
    """Deterministic but for a false alarm of the unbroken battery: at most 0.02; the seed is fixed."""
    sets = frames(4)
    told: list[str] = []
    members, holdout, reference = map(clinic.people, sets)
    fields = {"members": members, "holdout": holdout, "reference": reference, "rules": clinic.RULES}
    synthetic = stranger(members, SIZE, 99).table
    report = run_audit(
        **fields,
        synthetic=synthetic,
        policy_digest="0" * 64,
        shadows=Shadowing(trainings=8, train=stranger, epsilon=1.0),
        progress=told.append,
    )
    assert report.verdict is not Verdict.FAIL
    names = {attack.name: attack.decides for attack in report.attacks}
    assert names[shadow.NAME]
    assert not names[shadow.CANARIES]
    assert all(attacker(name) is not None for name in names)
    assert report.diagnostics["shadow_trainings"] == 8
    assert any("to go" in line for line in told)

    def crash(patients: PatientTable, rows: int, seed: int) -> Shadow:
        raise ValueError("CANARY-7731")

    broken = run_audit(
        **fields, synthetic=synthetic, policy_digest="0" * 64, shadows=Shadowing(trainings=8, train=crash)
    )
    assert broken.verdict is Verdict.INVALID
    assert "CANARY" not in str(broken.to_json())


def model_of(spend: PrivacySpend | None, **fields) -> Model:
    given = {
        "schema": WARD,
        "generator": new_generator("medvae", WARD, None, seed=0),
        "encoder_provenance": EncoderProvenance.TRAINED,
        "study": "s",
        "study_digest": "0" * 64,
        "site": "n",
    }
    return Model(**{**given, **fields}, spend=spend)


def test_a_shadow_takes_the_noise_and_the_steps_of_the_receipt() -> None:
    effort = Effort(rounds=1, local_steps=30, sample_rate=0.25, learning_rate=0.02)
    for kind in ("medvae", "medvae-sgd"):
        plan = plan_for(kind, effort, target_epsilon=2.0, delta=1e-5)
        spend = spend_of(plan.total_events(), plan.delta)
        again = plan_again(kind, dict(plan.hyperparameters), spend, 500)
        assert again.total_events() == plan.total_events()
    asked = shadowing(model_of(spend), 8)
    assert (asked.epsilon, asked.delta) == (spend.epsilon, 1e-5)


@pytest.mark.parametrize("trainings", [0, 6, 9])
def test_too_few_shadows_are_refused(trainings: int) -> None:
    with pytest.raises(InputError, match="--shadow"):
        shadowing(model_of(None), trainings)


def test_a_frozen_encoder_is_refused() -> None:
    with pytest.raises(InputError, match="frozen encoder"):
        shadowing(model_of(None, encoder_provenance=EncoderProvenance.PUBLIC), 8)


@pytest.mark.slow
def test_a_real_generator_that_learnt_its_patients_by_heart_is_found(tmp_path) -> None:
    """Power: a wide network under 360 passes over 300 patients; by rows or weights, near certainty."""
    names = ("members", "holdout", "reference")
    tables = {name: ward_table(300, seed=seed) for seed, name in enumerate(names)}
    plan = make_plan(
        generator="mcm-sgd",
        local_steps=1200,
        sample_rate=0.3,
        learning_rate=0.005,
        hyperparameters={"hidden": 128},
    )
    job = Job(study="s", site="n", declared_size=300, min_patients=100, seed=0)
    model = train_unsafe(tables["members"], plan, job, folder=tmp_path / "model")
    made = synthesize(model, 300, seed=1).table
    attack = ShadowAttack(shadowing(model, 8), tables, made, lambda _: None)
    outcome = attack.outcome(gather(**tables, synthetic=made, seed=0))
    assert min(one.p_adjusted for one in measure((*outcome.claims, *outcome.beside), clinic.RULES)) < 0.001
