"""Page, Section and the few blocks they are made of.

Knows HTML and one style sheet. Refuses to load anything: the page carries a content security policy
that forbids every source but itself. Rules: `Html` is markup that has been escaped already, plain str
is not, and the type checker keeps the two apart; colour never carries a meaning alone.
"""

from dataclasses import dataclass
from html import escape
from typing import NewType

from synthkit.domain.audit import Verdict

Html = NewType("Html", str)
"""Escaped markup. Only this package's blocks make it."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2933; line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
header { border-bottom: 2px solid #1f2933; padding-bottom: 1rem; margin-bottom: 1.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.8rem 0 .6rem; padding-top: .4rem; border-top: 1px solid #d5dbe1; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.subtitle { color: #52606d; margin: 0; overflow-wrap: anywhere; }
p, ul { max-width: 74ch; }
p { margin: .6rem 0; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem;
  max-width: none; }
a { color: #005a8f; }
figure { margin: 1.2rem 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: #52606d; font-size: .9rem; max-width: 84ch; margin-top: .3rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; min-width: 40%; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .35rem .65rem; border-bottom: 1px solid #e4e7eb; text-align: right;
  font-variant-numeric: tabular-nums; vertical-align: top; }
thead th { border-bottom: 2px solid #9aa5b1; vertical-align: bottom; }
th.text, td.text { text-align: left; }
td { white-space: nowrap; }
tbody th { font-weight: 500; text-align: left; overflow-wrap: break-word; min-width: 11rem;
  max-width: 22rem; }
td.code, .code { white-space: normal;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem;
  overflow-wrap: anywhere; text-align: left; }
.callout { border-left: 5px solid #52606d; background: #f5f7fa; padding: .7rem 1rem; margin: 1rem 0;
  max-width: 84ch; }
.callout p:first-child, .callout ul:first-child { margin-top: 0; }
.callout p:last-child, .callout ul:last-child { margin-bottom: 0; }
.callout.warn { border-color: #b45309; background: #fff8ec; }
.badge { display: inline-block; padding: .15rem .8rem; border: 2px solid; border-radius: .3rem;
  font-weight: 700; letter-spacing: .04em; }
.badge.pass { color: #005a8f; background: #e8f3fa; }
.badge.fail { color: #fff; background: #9b2c00; border-color: #9b2c00; }
.badge.inconclusive { color: #7a4a00; background: #fff3d6; border-style: dashed; }
.badge.invalid { color: #fff; background: #3e4c59; border-color: #3e4c59; }
td.words { white-space: normal; text-align: left; min-width: 11rem; }
ul.plain { list-style: none; padding-left: 0; }
.blanks { max-width: 84ch; margin: 1.4rem 0; }
.blanks p { border-bottom: 1px solid #52606d; margin: 0; padding: 1.5rem 0 .15rem;
  color: #52606d; max-width: none; }
footer { margin-top: 3rem; border-top: 1px solid #d5dbe1; padding-top: .8rem; color: #52606d;
  font-size: .88rem; }
@page { size: A4; margin: 16mm 15mm 18mm; }
@media print {
  body { font-size: 10pt; line-height: 1.4; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 18pt; }
  h2 { font-size: 13pt; margin-top: 1.4rem; }
  h2, h3, caption { break-after: avoid; }
  p, li { orphans: 3; widows: 3; }
  figure, .callout, .blanks, tr, section:last-of-type { break-inside: avoid; }
  figure svg { width: auto; max-width: 100%; max-height: 225mm; margin: 0 auto; }
  tbody tr:first-child { break-before: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; width: 100%; }
  th, td { padding: .15rem .3rem; }
  td.code { font-size: 7.5pt; }
  tbody th { min-width: 0; max-width: none; }
  .blanks p { padding-top: 1.9rem; }
  .badge, .callout { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and its blocks, in order."""

    title: str
    blocks: tuple[Html, ...]

    def render(self, number: int) -> Html:
        """The section's markup; `number` makes its anchor unique on the page."""
        body = "\n".join(self.blocks)
        return Html(f'<section id="section-{number}">\n<h2>{escape(self.title)}</h2>\n{body}\n</section>')


@dataclass(frozen=True, kw_only=True)
class Page:
    """One self-contained page."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    footer: str = ""
    lead: tuple[Html, ...] = ()
    """What stands above the contents: the one thing to read if nothing else is read."""

    def render(self) -> str:
        """The whole document."""
        anchors = enumerate(self.sections, start=1)
        links = "".join(f'<li><a href="#section-{i}">{escape(s.title)}</a></li>' for i, s in anchors)
        sections = "\n".join(section.render(i) for i, section in enumerate(self.sections, start=1))
        footer = f"<footer><p>{escape(self.footer)}</p></footer>" if self.footer else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f'<header><h1>{escape(self.title)}</h1><p class="subtitle">{escape(self.subtitle)}</p></header>\n'
            f"{''.join(self.lead)}"
            f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n{sections}\n{footer}\n</main>\n'
            "</body>\n</html>\n"
        )


def paragraph(text: str) -> Html:
    """Plain words."""
    return Html(f"<p>{escape(text)}</p>")


def heading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def bullets(lines: tuple[str, ...], *, is_plain: bool = False) -> Html:
    """A list of plain lines; `is_plain` where they bring a mark of their own."""
    start = '<ul class="plain">' if is_plain else "<ul>"
    return Html(start + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>")


def blanks(labels: tuple[str, ...]) -> Html:
    """Lines to be filled in by hand."""
    return Html('<div class="blanks">' + "".join(f"<p>{escape(label)}:</p>" for label in labels) + "</div>")


def callout(*blocks: Html, is_warning: bool = False) -> Html:
    """A box that is meant to be read first."""
    kind = "callout warn" if is_warning else "callout"
    return Html(f'<div class="{kind}">{"".join(blocks)}</div>')


def badge(verdict: Verdict) -> Html:
    """The verdict: its word, with a shape and colour of its own."""
    return Html(f'<span class="badge {verdict.value.lower()}">{verdict.value}</span>')


def verdict_line(verdict: Verdict, text: str) -> Html:
    """The badge and what it means."""
    return Html(f"<p>{badge(verdict)} {escape(text)}</p>")


def figure(svg: Html, caption: str) -> Html:
    """A picture with its caption."""
    return Html(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>")


def table(
    caption: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], *, is_text: bool = False
) -> Html:
    """A table of plain cells; the first column names the row, the others are set as numbers or as text."""
    head = "".join(
        f'<th scope="col"{" class=text" if i == 0 or is_text else ""}>{escape(name)}</th>'
        for i, name in enumerate(columns)
    )
    return _table(caption, head, "".join(_row(row, ' class="words"' if is_text else "") for row in rows))


def facts(caption: str, rows: tuple[tuple[str, str], ...]) -> Html:
    """A two-column table of names and long values, such as digests and versions."""
    return _table(caption, "", "".join(_row(row, ' class="code"') for row in rows))


def _row(row: tuple[str, ...], cell_class: str) -> str:
    cells = "".join(f"<td{cell_class}>{escape(cell)}</td>" for cell in row[1:])
    return f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>'


def _table(caption: str, head: str, body: str) -> Html:
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(f'<div class="scroll"><table>{title}{top}<tbody>{body}</tbody></table></div>')
