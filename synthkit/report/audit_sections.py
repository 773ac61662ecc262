"""An AuditReport in words, tables and pictures.

Knows the report. Refuses to soften or to add: the verdict and its reasons are the report's own, in its
own order. Rules: a rate never stands without its interval; a diagnostic is never shown among the
attacks that decide; the limits of an audit are on every page that shows a PASS, in plain words.
"""

from synthkit.domain.audit import EVERYONE, AttackResult, AuditReport, Verdict
from synthkit.report.attack_tables import attack_table
from synthkit.report.attack_words import attacker
from synthkit.report.audit_criteria import criteria_section
from synthkit.report.charts import advantage_chart, attack_rate_chart
from synthkit.report.page import (
    Html,
    Section,
    bullets,
    callout,
    facts,
    figure,
    heading,
    paragraph,
    table,
    verdict_line,
)
from synthkit.report.roc_chart import roc_chart

MEANING = {
    Verdict.PASS: (
        "The attacks listed here found less than the limit, and would have noticed more. It is not proof "
        "of anonymity."
    ),
    Verdict.FAIL: "An attack or a hard rule shows that this table gives patients away beyond the limit.",
    Verdict.INCONCLUSIVE: (
        "No attack succeeded, but the audit could not have noticed one of the size that matters. This is "
        "not a pass."
    ),
    Verdict.INVALID: "The audit itself cannot be relied on. Nothing follows about the table, good or bad.",
}

LIMITS = (
    "A PASS means that the attacks listed found less than tau; it is not proof of anonymity.",
    "An attack that was not tried is not excluded. The guarantee that covers every attack is the privacy "
    "budget, not this page.",
    "Every attack states its minimum detectable effect: a smaller leak than that would have gone unseen.",
    "Each further attempt on a new candidate is one more chance for luck; the number of the attempt is "
    "part of the result.",
    "The verdict holds for the one table whose digest is given below, and for no other.",
)

KEEP_INSIDE = (
    "For use inside the site. Rates, p values and reasons are computed from real patients; only the "
    "verdict and the coarse fields of the audit may leave."
)


def audit_sections(report: AuditReport) -> tuple[Section, ...]:
    """What the report alone can say, the verdict first: parts 4 to 8 of the officer's page."""
    return (
        verdict_section(report),
        attack_section(report),
        criteria_section(report),
        limits_section(),
        evidence_section(report),
    )


def lead(report: AuditReport) -> Html:
    """The verdict in one line, for the top of a page."""
    is_warning = report.verdict is not Verdict.PASS
    return callout(verdict_line(report.verdict, MEANING[report.verdict]), is_warning=is_warning)


def verdict_section(report: AuditReport) -> Section:
    """Part 6: verdict, reasons, hard rules, attempts."""
    inner: list[Html] = [verdict_line(report.verdict, MEANING[report.verdict])]
    if report.reasons:
        inner += [paragraph("Reasons:"), bullets(report.reasons)]
    return Section(
        title="Verdict of the privacy audit",
        blocks=(
            callout(*inner, is_warning=report.verdict is not Verdict.PASS),
            paragraph(
                f"Attempt {report.attempt}. Limit on the attacker's advantage: tau = "
                f"{report.max_advantage:g}. Family-wise error over all attacks: alpha = {report.alpha:g}, "
                "shared over all attempts that the policy allows. The ledger logs each attempt it counts."
            ),
            *_hard_rules(report),
            callout(paragraph(KEEP_INSIDE), is_warning=True),
        ),
    )


def _hard_rules(report: AuditReport) -> list[Html]:
    if report.hard_rules:
        return [heading("Hard rules"), callout(bullets(report.hard_rules), is_warning=True)]
    if not report.attacks:
        return [heading("Hard rules"), paragraph("Not examined: the audit stopped before.")]
    return [heading("Hard rules"), paragraph("No hard rule is violated.")]


def attack_section(report: AuditReport) -> Section:
    """Part 4: every attack on all patients, with its attacker, its rates and pictures."""
    everyone = tuple(attack for attack in report.attacks if attack.stratum == EVERYONE)
    if not everyone:
        return Section(title="Attacks", blocks=(paragraph("The audit stopped before any attack."),))
    deciding = tuple(attack for attack in everyone if attack.decides)
    others = tuple(attack for attack in everyone if not attack.decides)
    blocks: list[Html] = [
        paragraph(
            "Each attacker tries to tell patients whose rows the generator learnt from (members) from "
            "patients it never saw (holdout). The advantage is the attack rate minus the control rate: "
            "0 is no better than chance, 1 is every patient given away. PASS needs the upper limit below "
            "tau for exact match, near match and density ratio at a false-positive rate of 1 %, and the best "
            "estimate below tau for every other attack on membership or presence. Any attack that decides "
            "can fail the table; one that names every tenth or second stranger (0.10, 0.50) does so from tau "
            "on. Baseline is what the attack yields without the table."
        ),
        *_attackers(report.attacks),
        *_pictures(everyone, report.max_advantage),
    ]
    if deciding:
        blocks.append(attack_table("Attacks that decide", deciding))
    if others:
        blocks.append(attack_table("Attacks shown for comparison: they decide nothing", others))
    return Section(title="Attacks", blocks=(*blocks, *_diagnostics(report)))


def _pictures(attacks: tuple[AttackResult, ...], max_advantage: float) -> list[Html]:
    pictures = [
        figure(
            attack_rate_chart(attacks),
            "Lines are confidence intervals. An attack that learns nothing has attack and control alike.",
        ),
        figure(
            advantage_chart(attacks, max_advantage),
            "Advantage with its confidence interval; the dashed line is the limit tau.",
        ),
    ]
    curve = roc_chart(attacks)
    if curve is not None:
        words = (
            "Members named against strangers named, both in log scale: what matters is the far left, where "
            "an attacker names few and is sure of them. The dashed line is guessing; arrows at the bottom "
            "are rates of zero."
        )
        pictures.append(figure(curve, words))
    return pictures


def _attackers(attacks: tuple[AttackResult, ...]) -> list[Html]:
    """Who attacks, what they hold, what counts as success; each attack once."""
    words = {attack.name.partition(",")[0]: attacker(attack.name) for attack in attacks}
    rows = tuple(
        (name, found.who, found.holds, found.success) for name, found in words.items() if found is not None
    )
    columns = ("Attack", "Who attacks", "What they hold", "What counts as success")
    return [table("Who attacks", columns, rows, is_text=True)] if rows else []


def _diagnostics(report: AuditReport) -> list[Html]:
    if not report.diagnostics:
        return []
    rows = tuple((name, f"{value:.4g}") for name, value in report.diagnostics.items())
    return [
        heading("Diagnostics: they decide nothing"),
        paragraph(
            "Figures that are often quoted. Tables with patients copied word for word can score well on "
            "them, so none of them moves the verdict."
        ),
        table("", ("Diagnostic", "Value"), rows),
    ]


def limits_section() -> Section:
    """Part 7: what follows from no verdict."""
    return Section(title="What this audit does not say", blocks=(bullets(LIMITS),))


def evidence_section(report: AuditReport, policy: str = "") -> Section:
    """Part 8: the rules, versions and seed by which this can be run again."""
    rows = (
        *((("Policy", policy),) if policy else ()),
        ("Policy digest", report.policy_digest),
        ("Table digest (SHA-256)", report.table_digest),
        ("Schema digest", report.schema_digest),
        ("Report digest", report.digest),
        ("Attempt", str(report.attempt)),
        ("Seed", str(report.seed)),
        *(("Attacked with earlier table", digest) for digest in report.earlier),
        *((f"Version of {name}", version) for name, version in report.versions.items()),
    )
    words = (
        "The policy's limits were read and hashed before the first attack. The same tables, policy, seed and "
        "versions give the same report."
    )
    blocks = (facts("What was judged, by which rules", rows), paragraph(words))
    return Section(title="Evidence", blocks=blocks)
