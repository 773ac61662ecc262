"""What an audit found, step by step, and how it stops: the same for tables and for records.

Knows verdicts and claims; refuses to know tables, records and attacks. Rule: a crash or a figure that is no
number ends INVALID, with a reason that names the step and never the exception's text.
"""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar

from synthkit.audit.claims import Claims
from synthkit.audit.verdict import Judgement
from synthkit.domain.audit import AttackResult, AuditReport, Verdict
from synthkit.domain.policy import AuditRules
from synthkit.errors import PolicyError

T = TypeVar("T")

PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "synthkit")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the steps found; empty where an INVALID audit stopped."""

    judgement: Judgement
    attacks: tuple[AttackResult, ...] = ()
    hard_rules: tuple[str, ...] = ()
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was judged, by digest and size: `sizes` counts patients, or of a synthetic table rows."""

    table_digest: str
    schema_digest: str
    earlier: tuple[str, ...]
    sizes: dict[str, int]


class StepFailedError(Exception):
    """A step raised or yielded no number; the text names the step, never the data."""


def invalid(*reasons: str) -> Findings:
    """An audit that stopped."""
    return Findings(judgement=Judgement(verdict=Verdict.INVALID, reasons=reasons))


def guarded(name: str, step: Callable[[], T]) -> T:
    """The step's result.

    Raises:
        StepFailedError: It raised; the reason names the step and the kind of error, not its text.
    """
    try:
        return step()
    except Exception as error:
        raise StepFailedError(f"{name}: did not finish ({type(error).__name__})") from error


def check_attempt(attempt: int, rules: AuditRules) -> None:
    """Refuse one candidate more than the policy lets be judged.

    Raises:
        PolicyError: Rule `audit.max_attempts`.
    """
    if not 1 <= attempt <= rules.max_attempts:
        raise PolicyError(
            "this attempt is beyond the number the policy allows",
            rule="audit.max_attempts",
            fix="regenerating until a release passes is selection; the officer decides on the last one",
        )


def attack_each(
    attacks: Mapping[str, Callable[[], tuple[Claims, ...]]], progress: Callable[[str], None]
) -> tuple[dict[str, tuple[Claims, ...]], tuple[str, ...]]:
    """Every attack on its own: its claims by name, and in words which attacks did not finish."""
    claims: dict[str, tuple[Claims, ...]] = {}
    failures: list[str] = []
    for name, attack in attacks.items():
        progress(name)
        try:
            claims[name] = guarded(name, attack)
        except StepFailedError as error:
            failures.append(str(error))
    return claims, tuple(failures)


def report_of(
    findings: Findings, judged: Judged, rules: AuditRules, *, policy_digest: str, attempt: int, seed: int
) -> AuditReport:
    """The report, with everything that somebody needs to run the same audit again."""
    return AuditReport(
        verdict=findings.judgement.verdict,
        reasons=findings.judgement.reasons,
        attacks=findings.attacks,
        hard_rules=findings.hard_rules,
        diagnostics=findings.diagnostics,
        table_digest=judged.table_digest,
        earlier=judged.earlier,
        schema_digest=judged.schema_digest,
        policy_digest=policy_digest,
        max_advantage=rules.max_advantage,
        alpha=rules.alpha,
        attempt=attempt,
        seed=seed,
        sizes=judged.sizes,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )
