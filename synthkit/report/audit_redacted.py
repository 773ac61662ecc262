"""The page about an audit that may leave the site.

Knows the coarse form (`AuditReport.coarse`), which a sealed release carries too, and nothing else: whatever
that form leaves out cannot be on this page. Refuses pictures, rates, p values, reasons, strata, numbers of
patients and the report's digest.
"""

from typing import Any

from synthkit.domain.audit import COARSE_EFFECTS, Verdict
from synthkit.domain.canonical import JsonObject
from synthkit.report.attack_words import attacker
from synthkit.report.audit_sections import LIMITS, MEANING
from synthkit.report.charts import statistic_words
from synthkit.report.page import Page, Section, bullets, callout, facts, paragraph, table, verdict_line

LEFT_OUT = (
    "Left out, because each is computed from real patients: rates, p values, intervals, reasons, hard rules, "
    "diagnostics, strata, pictures, and how many patients there are. The seed and the full report's digest "
    "are left out too: who guessed the patients could use them to check the guess.",
    "What is here is also in the sealed release, as audit.json: there is one coarse form. The full report "
    "stays at the site, for its officer.",
    "That this table has this verdict is itself a fact about the patients, and charged to no budget.",
)

STEPS = ", ".join(f"{step:g}" for step in COARSE_EFFECTS)

DETECTABLE = (
    "Detectable from: an attacker's advantage (members named minus others named, 0 to 1) of at least this "
    f"size would have been noticed. A percentage is the share of strangers "
    f"that the attacker names along. Rounded up to one of {STEPS}."
)


def redacted_page(
    coarse: JsonObject, title: str = "Privacy audit of a synthetic table: what may leave"
) -> str:
    """One self-contained HTML document made of the coarse form alone."""
    verdict = Verdict(coarse["verdict"])
    sections = (
        _verdict(verdict, coarse),
        _attacks(coarse["attacks"]),
        Section(title="What this page leaves out", blocks=(bullets(LEFT_OUT),)),
        Section(title="What this audit does not say", blocks=(bullets(LIMITS),)),
        _evidence(coarse),
    )
    subtitle = f"Table {coarse['table_digest'][:16]}, attempt {coarse['attempt']}; the coarse form"
    return Page(title=title, subtitle=subtitle, sections=sections).render()


def _verdict(verdict: Verdict, coarse: JsonObject) -> Section:
    words = (
        f"Attempt {coarse['attempt']}. Limit on the attacker's advantage: tau = {coarse['max_advantage']:g}. "
        f"Family-wise error over all attacks: alpha = {coarse['alpha']:g}."
    )
    line = callout(verdict_line(verdict, MEANING[verdict]), is_warning=verdict is not Verdict.PASS)
    return Section(title="Verdict", blocks=(line, paragraph(words)))


def _attacks(attacks: list[dict[str, Any]]) -> Section:
    if not attacks:
        return Section(title="Attacks", blocks=(paragraph("The audit stopped before any attack."),))
    tried = tuple(
        (f"{one['name']}, {statistic_words(one['statistic'])}", f"{one['minimum_detectable_effect']:g}")
        for one in attacks
    )
    names = dict.fromkeys(one["name"].partition(",")[0] for one in attacks)
    found = ((name, attacker(name)) for name in names)
    words = tuple((name, one.who, one.holds, one.success) for name, one in found if one is not None)
    blocks = [paragraph(DETECTABLE), table("Attacks on all patients", ("Attack", "Detectable from"), tried)]
    if words:
        columns = ("Attack", "Who attacks", "What they hold", "What counts as success")
        blocks.append(table("Who attacks", columns, words, is_text=True))
    return Section(title="Attacks", blocks=tuple(blocks))


def _evidence(coarse: JsonObject) -> Section:
    rows = (
        ("Table digest (SHA-256)", coarse["table_digest"]),
        ("Policy digest", coarse["policy_digest"]),
        *((f"Version of {name}", version) for name, version in coarse["versions"].items()),
    )
    return Section(title="Evidence", blocks=(facts("What was judged, by which rules", rows),))
