"""The pages of a blinded review: records as a clinician reads them, real and generated alike.

Knows a record's static values, days and codes as texts. Refuses to know where a record is from: nothing on
a page, in its name or in its order depends on it. Rules: no patient id and no calendar date; every page says
that it stays inside the site; equal records give equal pages.
"""

from dataclasses import dataclass
from html import escape

from synthkit.report.page import Html, Page, Section, bullets, callout, facts, paragraph, table

KEEP = (
    "Inside the site only. About half of these records are real patients' records. This pack is never "
    "mailed, copied out of the site or shown to anyone who may not read patients' records here; no policy "
    "lists it among the files that may leave."
)

DAYS = (
    "Dates are shifted: each record's first visit is day 0, and every other visit is given in days after it. "
    "Years, seasons and weekdays are gone. Patient numbers are left out, and so are columns of dates. "
    "Ages and other values of a patient stand as they are recorded."
)

TASK = (
    "Each record is real or generated, decided by the toss of a coin, one record at a time: the number of "
    "real ones is not fixed.",
    "Read each page alone, without looking a patient up and without talking about a record with other "
    "reviewers until all have answered.",
    "Copy answers.csv, write your name or initials under reviewer, and real or synthetic under answer. An "
    "answer that is left empty does not count.",
)


@dataclass(frozen=True, kw_only=True)
class ReviewVisit:
    """One visit: days since the first one, None without times; codes by type, in the schema's order."""

    day: int | None
    codes: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class ReviewRecord:
    """One record as it is shown. `facts` are static columns; `more` visits follow that are not shown."""

    name: str
    facts: tuple[tuple[str, str], ...]
    visits: tuple[ReviewVisit, ...]
    more: int = 0


def record_page(record: ReviewRecord) -> str:
    """One record as one self-contained HTML document."""
    kinds = tuple(dict.fromkeys(kind for visit in record.visits for kind, _ in visit.codes))
    has_days = any(visit.day is not None for visit in record.visits)
    rows = tuple(
        (
            str(number),
            *((str(visit.day),) if has_days else ()),
            *(", ".join(dict(visit.codes).get(kind, ())) for kind in kinds),
        )
        for number, visit in enumerate(record.visits, start=1)
    )
    columns = ("Visit", *(("Day",) if has_days else ()), *kinds)
    blocks = [table("", columns, rows, is_text=True)]
    if record.more:
        blocks.append(paragraph(f"The record goes on; its first {len(record.visits)} visits are shown."))
    person = (facts("", record.facts),) if record.facts else (paragraph("Nothing else is recorded."),)
    return Page(
        title=f"Record {record.name}",
        subtitle="Real or generated?",
        sections=(
            Section(title="Patient", blocks=person),
            Section(title="Visits", blocks=tuple(blocks)),
        ),
        lead=(callout(paragraph(KEEP), is_warning=True),),
        footer="For use inside the site.",
    ).render()


def index_page(names: tuple[str, ...]) -> str:
    """The page that a reviewer opens first."""
    links = "".join(f'<li><a href="{escape(name)}.html">{escape(name)}</a></li>' for name in names)
    return Page(
        title="Blinded review of records",
        subtitle=f"{len(names)} records, real and generated in random order",
        sections=(
            Section(title="What to do", blocks=(bullets(TASK),)),
            Section(title="What was changed", blocks=(paragraph(DAYS),)),
            Section(title="Records", blocks=(Html(f"<ul>{links}</ul>"),)),
        ),
        lead=(callout(paragraph(KEEP), is_warning=True),),
        footer="For use inside the site.",
    ).render()
