"""README.txt: what the recipient of a release should know, in plain words.

Knows the sealed facts. Says nothing about approvals, which are given after this text is sealed;
`synthkit release verify` prints those.
"""

import datetime as dt
import math
from collections.abc import Sequence

from synthkit.domain.condition_statement import ConditionStatement
from synthkit.domain.release import SiteStatement


def write_note(
    *,
    release: str,
    study: str,
    generator: str,
    statements: Sequence[SiteStatement],
    epsilons: tuple[float | None, float | None, float | None],
    expires: dt.date,
    conditions: ConditionStatement | None = None,
    visits: int | None = None,
    is_of_records: bool = False,
) -> bytes:
    """The note's bytes; `epsilons` are disjoint, worst overlap and delta (all None: trained without DP)."""
    lines = [
        *(_describe_records if is_of_records else _describe_table)(release, study, generator),
        "",
        *_describe_conditions(conditions),
        *_describe_length(visits),
        *_describe_privacy(epsilons),
        "",
        "What each hospital states, under its signature:",
        *(_describe_site(statement) for statement in statements),
        "",
        "A data protection officer of each hospital named above has to have signed this release. Who did,",
        "how she decided and why is part of the bundle; `synthkit release verify` checks it, with the",
        "hospitals' and officers' public keys and nothing else, and prints it.",
        "",
        f"Use the table until {expires.isoformat()}. After that, ask for a new release.",
        "",
    ]
    return "\n".join(lines).encode("utf-8")


def _describe_table(release: str, study: str, generator: str) -> list[str]:
    return [
        f"Release {release}: a synthetic table made in the study {study} (generator: {generator}).",
        "",
        "table.csv holds rows drawn from a generator, not patients' records. schema.json explains the",
        "columns; audit.json holds the coarse results of the attacks run against this very table.",
    ]


def _describe_records(release: str, study: str, generator: str) -> list[str]:
    return [
        f"Release {release}: synthetic records of visits made in the study {study} (generator: {generator}).",
        "",
        "records.csv holds visits drawn from a generator, one row for each code, not patients' records;",
        "patients.csv, where there is one, holds one row for each made patient, under the same numbers.",
        "schema.json explains the columns and lists the codes; audit.json holds the coarse results of the",
        "attacks run against these very records.",
    ]


def _describe_conditions(statement: ConditionStatement | None) -> list[str]:
    if statement is None:
        return []
    return [
        "Every row was generated under these public conditions; the table describes no other patients:",
        *(f"  - {condition}" for condition in statement.conditions),
        f"By the generator {statement.share_words} of patients meet them. It states a reliability of",
        f"{statement.reliability:.2f} for these rows: 1 is as good as rows without conditions.",
        "",
    ]


def _describe_length(visits: int | None) -> list[str]:
    if visits is None:
        return []
    return [
        f"Every record was asked to have this many visits: {visits}. How long records are says nothing here",
        "of how long patients' are.",
        "",
    ]


def _describe_privacy(epsilons: tuple[float | None, float | None, float | None]) -> list[str]:
    disjoint, overlap, delta = epsilons
    if disjoint is None or overlap is None or delta is None:
        return [
            "WITHOUT DIFFERENTIAL PRIVACY. The generator was trained on the patients without it; no epsilon",
            "limits what this table reveals about them. The audits are all the evidence there is.",
        ]
    return [
        "Differential privacy for one patient, all their rows:",
        f"  - epsilon {_rounded_up(disjoint)} at delta {delta:g} if no patient is at two of the hospitals,",
        f"  - epsilon {_rounded_up(overlap)} at delta {delta:g} if one patient is at all of them.",
        "This bounds what is learnt about one patient. It promises nothing about the truth of the source",
        "data, or about a hospital's patients as a whole.",
    ]


def _describe_site(statement: SiteStatement) -> str:
    spend = statement.spend
    cost = (
        f"epsilon {_rounded_up(spend.epsilon)} ({spend.accountant})" if spend else "no differential privacy"
    )
    weights = f" (weights {statement.encoder_digest[:12]})" if statement.encoder_digest else ""
    return (
        f"  - {statement.site}: {cost}; encoder {statement.encoder_provenance.value}{weights}; "
        f"audit {statement.verdict.value}"
    )


def _rounded_up(epsilon: float) -> str:
    """Three decimals, upwards: a printed epsilon is never below the one that holds."""
    return f"{math.ceil(epsilon * 1000) / 1000:.10g}"
