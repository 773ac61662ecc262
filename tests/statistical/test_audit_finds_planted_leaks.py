"""A table that leaks is failed, whatever the leak's shape; columns of every kind are compared rightly."""

from collections.abc import Callable
from dataclasses import replace

import audit_clinic as clinic
import numpy as np
import pandas as pd
import pytest

from synthkit.audit.run import run_audit
from synthkit.domain.audit import Verdict
from synthkit.domain.schema import Schema

SIZE = 1000
Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def frames() -> Frames:
    rng = np.random.default_rng(11)
    return tuple(clinic.draw(rng, SIZE) for _ in range(4))


def copied(count: int) -> Callable[[pd.DataFrame, pd.DataFrame, np.random.Generator], pd.DataFrame]:
    return lambda members, fresh, _: clinic.with_rows(fresh, members.iloc[:count])


def jittered_part(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    shares = rng.normal(0.0, 0.01, size=(50, len(clinic.NUMBERS)))
    return clinic.with_rows(fresh, clinic.moved(members.iloc[:50], shares))


def jittered_all(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return clinic.moved(members, rng.normal(0.0, 0.05, size=(SIZE, len(clinic.NUMBERS))))


def kernel_density(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    result = members.copy()
    for name in clinic.NUMBERS:
        column = clinic.SCHEMA.column(name)
        noise = 0.5 * members[name].std() * rng.normal(size=SIZE)
        result[name] = (members[name] + noise).clip(column.minimum, column.maximum)
    return result


def offset(share: float) -> Callable[[pd.DataFrame, pd.DataFrame, np.random.Generator], pd.DataFrame]:
    return lambda members, _fresh, _rng: clinic.moved(members, np.array(share))


def masked(kept: float) -> Callable[[pd.DataFrame, pd.DataFrame, np.random.Generator], pd.DataFrame]:
    """Each row keeps that share of one member's cells; the others come from a row drawn independently."""

    def leak(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        keeps = rng.random((SIZE, len(fresh.columns))) < kept
        cells = {
            name: np.where(keeps[:, j], members[name], fresh[name]) for j, name in enumerate(fresh.columns)
        }
        return pd.DataFrame(cells)

    return leak


def masked_then_marginals(
    members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    return masked(0.25)(members, fresh.apply(rng.permutation), rng)


def memorised(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """An overfitted generator: members drawn with replacement, a fifth of their cells drawn anew."""
    drawn = members.iloc[rng.integers(SIZE, size=SIZE)].reset_index(drop=True)
    return masked(0.8)(drawn, fresh, rng)


def latent_library(members: pd.DataFrame, fresh: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A generator that keeps every member's latent and decodes near it: scores on the main axes of the
    members' standardised columns, half of them kept, with a little noise; codes are the nearest member's."""
    drawn = members.iloc[rng.integers(SIZE, size=SIZE)].reset_index(drop=True)
    numbers = drawn[list(clinic.NUMBERS)].astype(float)
    known = numbers.fillna(numbers.mean())
    middle, spread = known.mean(), known.std()
    axes = np.linalg.svd((known - middle) / spread, full_matrices=False)[2][: len(clinic.NUMBERS) // 2]
    latents = ((known - middle) / spread).to_numpy() @ axes.T
    decoded = (latents + 0.05 * rng.normal(size=latents.shape)) @ axes * spread.to_numpy() + middle.to_numpy()
    for j, name in enumerate(clinic.NUMBERS):
        column = clinic.SCHEMA.column(name)
        drawn[name] = np.where(
            numbers[name].isna(), np.nan, decoded[:, j].clip(column.minimum, column.maximum)
        )
    return drawn


LEAKS = {
    "latent_library": latent_library,
    "ten_of_a_thousand_verbatim": copied(10),
    "fifty_rows_with_one_percent_jitter": jittered_part,
    "all_rows_with_five_percent_jitter": jittered_all,
    "kernel_density_with_half_a_deviation": kernel_density,
    "fixed_offset_of_two_percent": offset(0.02),
    "fixed_offset_of_five_percent": offset(0.05),
    "masked_rows_with_a_quarter_of_real_cells": masked(0.25),
    "masked_rows_completed_from_marginals": masked_then_marginals,
    "overfitted_generator": memorised,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_fails(frames: Frames, leak: str) -> None:
    members, holdout, reference, fresh = frames
    table = LEAKS[leak](members, fresh, np.random.default_rng(5))
    report = clinic.audit(members, holdout, reference, table)
    assert report.verdict is Verdict.FAIL
    assert report.reasons


@pytest.mark.parametrize("seed", range(8))
def test_one_verbatim_unique_patient_of_a_thousand_fails_by_the_hard_rule(seed: int) -> None:
    """The patient is drawn at random, not among the rarest. Misses about 1 in 100 at these sizes."""
    rng = np.random.default_rng(seed)
    members, holdout, reference, fresh = (clinic.draw(rng, SIZE) for _ in range(4))
    report = clinic.audit(members, holdout, reference, clinic.with_rows(fresh, members.iloc[[3]]))
    assert report.verdict is Verdict.FAIL
    assert any("verbatim" in rule for rule in report.hard_rules)


def test_reasons_carry_no_value_of_the_copied_patient(frames: Frames) -> None:
    members, holdout, reference, fresh = frames
    marked = members.assign(bmi=members["bmi"].where(members.index != 0, 66.6))
    report = clinic.audit(marked, holdout, reference, clinic.with_rows(fresh, marked.iloc[[0]]))
    assert report.hard_rules
    text = " ".join((*report.reasons, *report.hard_rules))
    assert "66.6" not in text
    assert not any(site in text for site in clinic.SITES[:3])


def stretched(frame: pd.DataFrame, rng: np.random.Generator) -> tuple[Schema, pd.DataFrame]:
    """An all-categorical table: the non-numeric columns of three independent visits, side by side."""
    codes = [column for column in clinic.SCHEMA if not column.is_numeric]
    columns = tuple(replace(c, name=f"{c.name}_{visit}") for visit in range(3) for c in codes)
    visits = [clinic.draw(rng, len(frame)) for _ in range(3)]
    cells = {f"{c.name}_{visit}": visits[visit][c.name] for visit in range(3) for c in codes}
    return Schema(name="codes", columns=columns), pd.DataFrame(cells)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_copy_of_an_all_categorical_table_fails_and_an_independent_one_does_not(share: float) -> None:
    """The independent table is failed with probability at most 0.05 / 3, seed fixed."""
    rng = np.random.default_rng(3)
    tables = [stretched(clinic.draw(rng, SIZE), rng) for _ in range(4)]
    schema, (members, holdout, reference, fresh) = tables[0][0], [frame for _, frame in tables]
    for leaked, expected in ((0, False), (int(share * SIZE), True)):
        table = clinic.with_rows(fresh, members.iloc[:leaked])
        report = run_audit(
            members=clinic.people(members, schema),
            holdout=clinic.people(holdout, schema),
            reference=clinic.people(reference, schema),
            synthetic=clinic.made(table, schema),
            rules=clinic.RULES,
            policy_digest="0" * 64,
        )
        assert (report.verdict is Verdict.FAIL) == expected


COLUMN_SETS = {
    "apostrophes": ("ward", "age", "systolic", "bmi"),
    "datetimes": ("admitted", "sex", "died"),
    "missing_cells": ("creatinine", "grade", "smoker", "stay", "age"),
    "all_categorical": ("ward", "grade", "smoker", "sex", "died"),
}


@pytest.mark.parametrize("case", COLUMN_SETS)
def test_a_verbatim_copy_fails_whatever_the_columns_hold(frames: Frames, case: str) -> None:
    names = COLUMN_SETS[case]
    schema = replace(clinic.SCHEMA, columns=tuple(c for c in clinic.SCHEMA if c.name in names))
    members, holdout, reference, _ = (frame[list(schema.names)] for frame in frames)
    report = run_audit(
        members=clinic.people(members, schema),
        holdout=clinic.people(holdout, schema),
        reference=clinic.people(reference, schema),
        synthetic=clinic.made(members, schema),
        rules=clinic.RULES,
        policy_digest="0" * 64,
    )
    exact = next(attack for attack in report.attacks if attack.statistic == "exact_match")
    assert exact.attack_rate == 1.0
    assert report.verdict is Verdict.FAIL


def test_a_verbatim_copy_fails_with_unseen_levels_and_people_who_are_alike() -> None:
    """Each set has a level no other has, outside the schema; a fifth of all people have a twin somewhere."""
    rng = np.random.default_rng(6)
    different = clinic.draw(rng, 2700)
    people = pd.concat((different, different.iloc[:300])).iloc[rng.permutation(3000)]
    sets = []
    for place, level in enumerate(("O'a", "O'b", "O'c")):
        part = people.iloc[place * SIZE : (place + 1) * SIZE].reset_index(drop=True)
        sets.append(part.assign(ward=part["ward"].where(part.index % 400 != 7, level)))
    report = clinic.audit(*sets, sets[0])
    assert report.verdict is Verdict.FAIL
    exact = next(attack for attack in report.attacks if attack.statistic == "exact_match")
    assert exact.attack_rate == 1.0
    assert exact.control_rate > 0.05, "twins of members stand in the holdout"


def test_a_copy_of_patients_with_several_rows_fails_and_counts_patients(frames: Frames) -> None:
    members, holdout, reference, fresh = frames
    doubled = clinic.people(pd.concat((members, members), ignore_index=True))
    doubled = replace(doubled, patients=np.tile(np.arange(SIZE), 2))
    report = run_audit(
        members=doubled,
        holdout=clinic.people(holdout),
        reference=clinic.people(reference),
        synthetic=clinic.made(clinic.with_rows(fresh, members.iloc[:30])),
        rules=clinic.RULES,
        policy_digest="0" * 64,
    )
    exact = next(attack for attack in report.attacks if attack.statistic == "exact_match")
    assert exact.attack_rate == pytest.approx(30 / SIZE)
    assert report.verdict is Verdict.FAIL
