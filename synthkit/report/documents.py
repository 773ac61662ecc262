"""Whole pages: the evaluation's, the audit's, and the section on privacy spend that a demo adds.

Knows reports. Refuses rows, files and the network: a page is a string, and whoever asked for it saves
it. Rule: a larger page is made of the same sections, never of copied markup.
"""

import math
from dataclasses import replace

from synthkit.domain.audit import AuditReport
from synthkit.domain.utility import UtilityReport
from synthkit.report.audit_criteria import criteria_section
from synthkit.report.audit_decision import decision_section
from synthkit.report.audit_redacted import redacted_page
from synthkit.report.audit_scope import AuditScope, ModelClaim, claim_section, leaving_section, scope_section
from synthkit.report.audit_sections import (
    attack_section,
    audit_sections,
    evidence_section,
    lead,
    limits_section,
    verdict_section,
)
from synthkit.report.charts import spend_chart
from synthkit.report.figures import AssociationMaps, ColumnDistribution, PairDensity, SpendCurve
from synthkit.report.page import Page, Section, figure, paragraph, table
from synthkit.report.sequence_attack_words import is_of_records
from synthkit.report.utility_sections import evaluation_sections

__all__ = [
    "AuditScope",
    "ModelClaim",
    "audit_page",
    "audit_sections",
    "evaluation_page",
    "evaluation_sections",
    "redacted_page",
    "spend_section",
]


def evaluation_page(
    report: UtilityReport,
    distributions: tuple[ColumnDistribution, ...] = (),
    associations: AssociationMaps | None = None,
    pairs: tuple[PairDensity, ...] = (),
    title: str = "Evaluation of a synthetic table",
) -> str:
    """One self-contained HTML document about usefulness."""
    return Page(
        title=title,
        subtitle="Synthetic rows beside real ones, with a floor and a ceiling for every score",
        sections=evaluation_sections(report, distributions, associations, pairs),
    ).render()


def audit_page(report: AuditReport, scope: AuditScope | None = None, title: str | None = None) -> str:
    """One self-contained HTML document about one audit: the nine parts that the officer signs under.

    It is for the site's own eyes; `redacted_page` makes the one that may leave.
    """
    known = scope or AuditScope()
    subject = "synthetic records of visits" if is_of_records(report) else "a synthetic table"
    sections = (
        scope_section(report, known),
        leaving_section(report, known),
        claim_section(known),
        attack_section(report),
        criteria_section(report),
        verdict_section(report),
        limits_section(),
        evidence_section(report, known.policy),
        decision_section(report),
    )
    return Page(
        title=title or f"Privacy audit of {subject}",
        subtitle=f"Table {report.table_digest[:16]}, attempt {report.attempt}",
        sections=tuple(
            replace(section, title=f"{number}. {section.title}")
            for number, section in enumerate(sections, start=1)
        ),
        lead=(lead(report),),
        footer="For use inside the site.",
    ).render()


def spend_section(curves: tuple[SpendCurve, ...]) -> Section:
    """What each site spent, round by round, against its own cap."""
    if not curves:
        return Section(title="Privacy spend", blocks=(paragraph("No site has spent anything."),))
    rows = tuple(
        (curve.site, _rounded_up(curve.epsilon[-1]) if curve.epsilon else "0", f"{curve.cap:g}")
        for curve in curves
    )
    words = (
        "Epsilon bounds what anything that ever left a site can reveal about one of its patients. It only "
        "grows. When the next round would cross a site's cap, that site refuses."
    )
    return Section(
        title="Privacy spend",
        blocks=(
            paragraph(words),
            figure(
                spend_chart(curves), "Cumulative epsilon by round; the dashed line is the site's own cap."
            ),
            table("Spend per site", ("Site", "Epsilon spent", "Cap"), rows),
        ),
    )


def _rounded_up(epsilon: float) -> str:
    """Three decimals, never rounded down: a printed epsilon is never below the one that holds."""
    return f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:.3f}"
