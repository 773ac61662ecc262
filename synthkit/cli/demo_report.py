"""The demo's page and the real tables it compares with.

Pooling real rows of several hospitals is possible here only because the demo plays all of them on one
machine with published data.
"""

# ruff: noqa: PLC0415

from typing import TYPE_CHECKING

from synthkit.cli.demo_setup import plan_words
from synthkit.domain.audit import AuditReport
from synthkit.domain.study import Study
from synthkit.domain.utility import UtilityReport
from synthkit.privacy.accounting import reported_epsilon

if TYPE_CHECKING:
    from synthkit.cli.demo_setup import Demo
    from synthkit.data.table import PatientTable, SyntheticTable
    from synthkit.report.figures import SpendCurve
    from synthkit.report.page import Section
    from synthkit_client.site_folder import SiteFolder


def real_tables(
    stage: "Demo", study: Study, folders: "dict[str, SiteFolder]"
) -> "tuple[PatientTable, PatientTable, dict[str, PatientTable]]":
    """Held-out real rows, all hospitals' training rows together, and each hospital's own."""
    from synthkit.data.connectors import read_table
    from synthkit.data.table import pool

    splits = {name: folder.read_split(study.schema) for name, folder in folders.items()}
    members = {name: split.members for name, split in splits.items()}
    pooled = pool(list(members.values()))
    if stage.example.test is not None:
        return read_table(stage.example.test, study.schema), pooled, members
    return pool([split.holdout for split in splits.values()]), pooled, members


def write_report(
    stage: "Demo",
    *,
    study: Study,
    folders: "dict[str, SiteFolder]",
    real: "PatientTable",
    table: "SyntheticTable",
    utility: UtilityReport,
    audits: dict[str, AuditReport],
    refused: str,
) -> str:
    """The whole page as HTML."""
    from synthkit.evaluation.pairs import pair_densities
    from synthkit.evaluation.pictures import associations, distributions
    from synthkit.report.documents import audit_sections, evaluation_sections, spend_section
    from synthkit.report.page import Page

    weakest = min(audits, key=lambda name: folders[name].config.declared_size)
    sections = (
        _what_happened(stage, study, audits, refused),
        spend_section(_curves(study, folders)),
        _verdicts(audits, weakest),
        *audit_sections(audits[weakest]),
        *evaluation_sections(
            utility, distributions(real, table), associations(real, table), pair_densities(real, table)
        ),
    )
    return Page(
        title="From hospitals' rows to a signed synthetic release",
        subtitle=f"{stage.example.title}; study {study.name}, {study.digest[:16]}",
        sections=sections,
        footer=stage.example.attribution.strip().splitlines()[0].lstrip("# "),
    ).render()


def _curves(study: Study, folders: "dict[str, SiteFolder]") -> "tuple[SpendCurve, ...]":
    """Cumulative reported epsilon, from none; equal for all sites, since all took each round."""
    from synthkit.report.figures import SpendCurve

    plan = study.plan
    rounds = tuple(range(plan.server_rounds + 1))
    spent: list[float] = [0.0]
    events: list[object] = []
    for server_round in rounds[1:]:
        events += plan.round_events(server_round)
        spent.append(reported_epsilon(events, plan.delta))  # type: ignore[arg-type]
    return tuple(
        SpendCurve(site=name, rounds=rounds, epsilon=tuple(spent), cap=folder.policy.budget.epsilon)
        for name, folder in folders.items()
    )


def _what_happened(stage: "Demo", study: Study, audits: dict[str, AuditReport], refused: str) -> "Section":
    from synthkit.report.page import Section, callout, facts, paragraph

    plan = study.plan
    outcome = (
        f"Refused: {refused}"
        if refused
        else "Released: sealed, approved by every officer, exported, verified."
    )
    rows = (
        ("Hospitals", ", ".join(audits)),
        *((name.strip().replace("_", " ").capitalize(), text) for name, text in plan_words(plan).items()),
        ("Synthetic rows", str(stage.scene.rows)),
    )
    words = (
        "No row left a hospital. Each released weights or tables of its own patients under differential "
        "privacy, the coordinator averaged them, and each hospital attacked the resulting synthetic table "
        "with its own patients before its officer decided."
    )
    return Section(
        title="What happened",
        blocks=(
            paragraph(words),
            callout(paragraph(outcome), is_warning=bool(refused)),
            facts("The study", rows),
        ),
    )


def _verdicts(audits: dict[str, AuditReport], weakest: str) -> "Section":
    from synthkit.report.page import Section, paragraph, table

    rows = tuple(
        (
            name,
            report.verdict.value,
            str(sum(attack.decides for attack in report.attacks)),
            str(report.attempt),
        )
        for name, report in audits.items()
    )
    columns = ("Hospital", "Verdict", "Attacks that decide", "Attempt")
    return Section(
        title="Verdicts by hospital",
        blocks=(
            table("Each hospital's audit of the same table, on its own patients", columns, rows),
            paragraph(f"The next sections show {weakest}, the smallest hospital by declared size, in full."),
        ),
    )
