"""An AuditReport in words, tables and pictures.

Knows the report. Refuses to soften or to add: the verdict and its reasons are the report's own, in its
own order. Rules: a rate never stands without its interval; a diagnostic is never shown among the
attacks that decide; the limits of an audit are on every page that shows a PASS, in plain words.
"""

from synthkit.domain.audit import AttackResult, AuditReport, Interval, Verdict
from synthkit.report.charts import advantage_chart, attack_name, attack_rate_chart
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
    """The sections of an audit, in reading order."""
    sections = [_verdict(report)]
    if report.attacks:
        sections.append(_attacks(report))
    return (*sections, _rules(report), _limits(), _evidence(report))


def _verdict(report: AuditReport) -> Section:
    inner: list[Html] = [verdict_line(report.verdict, MEANING[report.verdict])]
    if report.reasons:
        inner += [paragraph("Reasons:"), bullets(report.reasons)]
    return Section(
        title="Verdict of the privacy audit",
        blocks=(
            callout(*inner, is_warning=report.verdict is not Verdict.PASS),
            paragraph(
                f"Attempt {report.attempt}. Limit on the attacker's advantage: tau = "
                f"{report.max_advantage:g}. Family-wise error over all attacks: alpha = {report.alpha:g}."
            ),
            callout(paragraph(KEEP_INSIDE), is_warning=True),
        ),
    )


def _attacks(report: AuditReport) -> Section:
    deciding = tuple(attack for attack in report.attacks if attack.decides)
    others = tuple(attack for attack in report.attacks if not attack.decides)
    blocks = [
        paragraph(
            "Each attacker tries to tell patients whose rows the generator learnt from (members) from "
            "patients it never saw (holdout). The advantage is the attack rate minus the control rate: "
            "0 is no better than chance, 1 is every patient given away. PASS needs the upper limit below "
            "tau for exact match and at a false-positive rate of 1 %, and the best estimate below tau "
            "for every other attack on all patients."
        ),
        figure(
            attack_rate_chart(report.attacks),
            "Lines are confidence intervals. An attack that learns nothing has attack and control alike.",
        ),
        figure(
            advantage_chart(report.attacks, report.max_advantage),
            "Advantage with its confidence interval; the dashed line is the limit tau.",
        ),
    ]
    if deciding:
        blocks.append(_attack_table("Attacks that decide", deciding))
    if others:
        blocks.append(_attack_table("Attacks shown for comparison: they decide nothing", others))
    return Section(title="Attacks", blocks=tuple(blocks))


def _attack_table(caption: str, attacks: tuple[AttackResult, ...]) -> Html:
    columns = (
        "Attack",
        "Attack rate",
        "Control rate",
        "Baseline",
        "Advantage",
        "Detectable from",
        "p adjusted",
    )
    rows = tuple(
        (
            attack_name(attack, most=200),
            _rate(attack.attack_rate, attack.attack_interval),
            _rate(attack.control_rate, attack.control_interval),
            f"{attack.baseline_rate:.3f}",
            _rate(attack.advantage, attack.advantage_interval),
            f"{attack.minimum_detectable_effect:.3f}",
            _p(attack.p_adjusted),
        )
        for attack in attacks
    )
    return table(caption, columns, rows)


def _rate(value: float, interval: Interval) -> str:
    return f"{value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _rules(report: AuditReport) -> Section:
    blocks = [heading("Hard rules")]
    if report.hard_rules:
        blocks.append(callout(bullets(report.hard_rules), is_warning=True))
    else:
        blocks.append(paragraph("No hard rule is violated."))
    if report.diagnostics:
        rows = tuple((name, f"{value:.4g}") for name, value in report.diagnostics.items())
        blocks += [
            heading("Diagnostics: they decide nothing"),
            paragraph(
                "Figures that are often quoted. Tables with patients copied word for word can score well on "
                "them, so none of them moves the verdict."
            ),
            table("", ("Diagnostic", "Value"), rows),
        ]
    return Section(title="Hard rules and diagnostics", blocks=tuple(blocks))


def _limits() -> Section:
    return Section(title="What this audit does not say", blocks=(bullets(LIMITS),))


def _evidence(report: AuditReport) -> Section:
    rows = (
        ("Table digest (SHA-256)", report.table_digest),
        ("Schema digest", report.schema_digest),
        ("Policy digest", report.policy_digest),
        ("Report digest", report.digest),
        ("Attempt", str(report.attempt)),
        ("Seed", str(report.seed)),
        *((f"Version of {name}", version) for name, version in report.versions.items()),
    )
    return Section(title="Evidence", blocks=(facts("What was judged, by which rules", rows),))
