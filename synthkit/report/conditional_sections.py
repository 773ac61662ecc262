"""A ConditionalReport in words, tables and matrices.

Knows the report. Refuses rows. Rules: a matrix holds every row that was delivered, wrong values and empty
cells included; a figure that rests on few real patients is not there to be printed.
"""

import numpy as np

from synthkit.domain.condition_statement import share_text
from synthkit.domain.conditional import FEW_REAL, ConditionalReport, Delivery
from synthkit.report.figures import Confusion
from synthkit.report.grids import confusion_chart
from synthkit.report.page import Html, Page, Section, bullets, callout, figure, paragraph, table, verdict_line
from synthkit.report.utility_sections import KEEP_INSIDE


def conditional_page(report: ConditionalReport, title: str = "Conditional generation") -> str:
    """One self-contained HTML document."""
    matrices = tuple(figure(confusion_chart(one), _caption(one)) for one in confusions(report))
    sections = [
        Section(title="In short", blocks=_summary(report)),
        Section(title="Requested against delivered", blocks=matrices),
        Section(title="Request by request", blocks=_requests(report)),
    ]
    subtitle = f"{report.rows} rows for each request, checked one by one"
    return Page(title=title, subtitle=subtitle, sections=tuple(sections)).render()


def confusions(report: ConditionalReport) -> tuple[Confusion, ...]:
    """A matrix per column: a first row without condition, then one per requested value."""
    result = []
    for column, free in report.unconditional.items():
        alone = [d for d in report.deliveries if tuple(d.wanted) == (column,)]
        asked = [d.wanted[column] for d in alone]
        found = dict.fromkeys(value for counts in (free, *(d.delivered for d in alone)) for value in counts)
        values = (*asked, *(value for value in found if value not in asked))
        rows = [free, *(d.delivered for d in alone)]
        counts = np.array([[row.get(value, 0) for value in values] for row in rows], dtype=np.int64)
        names = (
            "unconditional",
            *(v + (" (refused)" if d.refused else "") for v, d in zip(asked, alone, strict=True)),
        )
        result.append(Confusion(column=column, requests=names, values=values, counts=counts))
    return tuple(result)


def _caption(confusion: Confusion) -> str:
    return (
        f"{confusion.column}: per cent of each row's {int(confusion.counts[0].sum())} generated rows. Exact "
        "generation is 100 on the diagonal under the first row and nothing beside it."
    )


def _summary(report: ConditionalReport) -> tuple[Html, ...]:
    asked = [d for d in report.deliveries if not d.refused]
    wrong = sum(d.rows - d.satisfied for d in asked)
    drawn = sum(d.rows for d in asked)
    verdict = f"All {drawn} rows of {len(asked)} requests meet their condition."
    if not report.is_exact:
        verdict = f"{wrong} of {drawn} rows do not meet their condition. The table below names the requests."
    elif not asked:
        verdict = "The model refused every request."
    compared = [d for d in asked if d.distance is not None and d.floor is not None]
    closer = sum(d.distance < d.floor for d in compared if d.distance is not None and d.floor is not None)
    lines = [
        f"Under {closer} of {len(compared)} conditions that enough real rows meet, the conditional rows are "
        "nearer to those real rows than unconditional synthetic rows are.",
        *report.notes,
    ]
    if report.refused:
        lines.append(
            f"The model refused {report.refused} of {len(report.deliveries)} requests; no row was drawn for "
            "them, and nothing is said about them."
        )
    if report.policy:
        lines.append(
            f"The policy {report.policy} would keep back the tables of {report.barred} of "
            f"{len(report.deliveries)} requests; the table below names the rule of each."
        )
    return (
        callout(paragraph(KEEP_INSIDE), is_warning=True),
        verdict_line(report.verdict, verdict),
        bullets(tuple(lines)),
    )


def _requests(report: ConditionalReport) -> tuple[Html, ...]:
    words = (
        "Distance is the mean total variation distance over all other columns from the real rows that meet "
        "the same condition: 0 is equal, 1 shares nothing. The floor is what unconditional synthetic rows "
        "reach: a distance below it means that the condition was passed on to the other columns. The "
        "ceiling is how far two halves of those real rows lie apart, by chance. Reliability is what the "
        "model says of itself: 1 is as good as an unconditional row, near 0 many rows descend from few "
        "draws, or from privacy noise. Share of patients is how many meet the condition by the model, which "
        f"a policy's floor is about. Where fewer than {FEW_REAL} real patients meet a condition, neither "
        "their number nor any distance is given."
    )
    columns = (
        *(
            "Requested",
            "Met",
            "Share of patients",
            "Reliability",
            "Real rows",
            "Distance",
            "Floor",
            "Ceiling",
        ),
        *(("Policy",) if report.policy else ()),
    )
    rows = tuple(
        (*_row(delivery), *((_policy_word(delivery),) if report.policy else ()))
        for delivery in report.deliveries
    )
    return (paragraph(words), table("Each request", columns, rows))


def _row(delivery: Delivery) -> tuple[str, ...]:
    figures = (delivery.distance, delivery.floor, delivery.ceiling)
    return (
        delivery.label,
        "refused" if delivery.refused else f"{delivery.satisfied} of {delivery.rows}",
        "" if delivery.mass is None else share_text(delivery.mass),
        "" if delivery.reliability is None else f"{delivery.reliability:.2f}",
        f"under {FEW_REAL}" if delivery.real_rows is None else str(delivery.real_rows),
        *("" if value is None else f"{value:.3f}" for value in figures),
    )


def _policy_word(delivery: Delivery) -> str:
    return f"kept back: {delivery.barred}" if delivery.barred else "allowed"
