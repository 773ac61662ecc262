"""A broken attack, a NaN, an empty set or one attempt too many never ends in PASS."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthkit.audit import membership, run, steps
from synthkit.audit.claims import Claims
from synthkit.audit.evidence import Evidence
from synthkit.data.table import PatientTable, SyntheticTable
from synthkit.domain.audit import AuditReport, Verdict
from synthkit.domain.policy import AuditRules
from synthkit.domain.schema import Column, Kind, Schema
from synthkit.errors import PolicyError, SchemaError

RULES = AuditRules(max_advantage=0.05, alpha=0.05, max_attempts=3)
SCHEMA = Schema(
    columns=(
        *(Column(name=f"x{j}", kind=Kind.NUMERIC, minimum=-9, maximum=9, decimals=3) for j in range(4)),
        Column(name="sex", kind=Kind.BINARY, categories=("F", "M")),
    )
)
SECRET = "a patient's own words"  # noqa: S105


def frame(seed: int, size: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    numbers = {f"x{j}": rng.normal(size=size) for j in range(4)}
    return pd.DataFrame({**numbers, "sex": rng.choice(["F", "M"], size).astype(object)})


def people(seed: int, size: int) -> PatientTable:
    return PatientTable(schema=SCHEMA, frame=frame(seed, size), patients=np.arange(size))


def audit(*, attempt: int = 1, sizes: tuple[int, int, int, int] = (600, 600, 600, 600)) -> AuditReport:
    return run.run_audit(
        members=people(1, sizes[0]),
        holdout=people(2, sizes[1]),
        reference=people(3, sizes[2]),
        synthetic=SyntheticTable(schema=SCHEMA, frame=frame(4, sizes[3])),
        rules=RULES,
        policy_digest="0" * 64,
        attempt=attempt,
    )


def test_the_unbroken_audit_passes() -> None:
    """Without this, the tests below could not tell a refusal from a habit. Seed fixed."""
    assert audit().verdict is Verdict.PASS


@pytest.mark.parametrize("name", list(run.ATTACKS))
def test_an_attack_that_raises_is_invalid_named_and_quoted_nowhere(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def crash(evidence: Evidence) -> tuple[Claims, ...]:
        raise ValueError(SECRET)

    monkeypatch.setitem(run.ATTACKS, name, crash)
    report = audit(sizes=(120, 120, 120, 120))
    assert report.verdict is Verdict.INVALID
    assert name in report.reasons[0]
    assert SECRET not in str(report.to_json())
    assert report.attacks == ()


def test_a_score_that_is_nan_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = membership.scores

    def broken(evidence: Evidence) -> object:
        score = honest(evidence)
        return replace(score, members=np.where(np.arange(score.members.size) == 7, np.nan, score.members))

    monkeypatch.setattr(membership, "scores", broken)
    report = audit()
    assert report.verdict is Verdict.INVALID
    assert membership.NAME in report.reasons[0]


def test_a_p_value_that_is_nan_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthkit.audit.statistics.fisher_greater", lambda *_: float("nan"))
    report = audit()
    assert report.verdict is Verdict.INVALID
    assert len(report.digest) == 64


def test_a_rate_that_is_nan_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    def nan_rate(evidence: Evidence) -> tuple[Claims, ...]:
        claims = membership.density_ratio(evidence)
        return (replace(claims[0], baseline_rate=float("nan")),)

    monkeypatch.setitem(run.ATTACKS, membership.NAME, nan_rate)
    assert audit().verdict is Verdict.INVALID


@pytest.mark.parametrize("step", ["blind_baseline", "overlapping_sets", "gather", "measure"])
def test_a_step_that_crashes_is_invalid(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def crash(*args: object, **options: object) -> object:
        raise MemoryError(SECRET)

    monkeypatch.setattr(steps if step == "measure" else run, step, crash)
    report = audit()
    assert report.verdict is Verdict.INVALID
    assert SECRET not in str(report.to_json())


def test_an_empty_battery_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ATTACKS", {})
    assert audit().verdict is not Verdict.PASS


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("size", [0, 5])
def test_an_empty_or_tiny_set_is_invalid(position: int, size: int) -> None:
    sizes = [600, 600, 600, 600]
    sizes[position] = size
    report = audit(sizes=(sizes[0], sizes[1], sizes[2], sizes[3]))
    assert report.verdict is Verdict.INVALID
    assert "too few" in report.reasons[0]


@pytest.mark.parametrize("attempt", [0, 4])
def test_an_attempt_beyond_the_policy_is_refused(attempt: int) -> None:
    with pytest.raises(PolicyError) as refusal:
        audit(attempt=attempt)
    assert refusal.value.rule == "audit.max_attempts"


def test_tables_of_other_columns_are_refused() -> None:
    other = Schema(columns=SCHEMA.columns[:4])
    with pytest.raises(SchemaError):
        run.run_audit(
            members=people(1, 50),
            holdout=people(2, 50),
            reference=people(3, 50),
            synthetic=SyntheticTable(schema=other, frame=frame(4, 50)[list(other.names)]),
            rules=RULES,
            policy_digest="0" * 64,
        )
