"""The Working Party's three criteria in words, and the patients who are easiest to find.

Knows the report. Refuses to judge: the verdict is the report's own, and these sections say what stands
behind it. Source: Article 29 Working Party, Opinion 05/2014 on Anonymisation Techniques, section 2.2.
"""

from dataclasses import dataclass

from synthkit.domain.audit import EVERYONE, AttackResult, AuditReport
from synthkit.report.attack_tables import attack_table
from synthkit.report.charts import advantage_chart, statistic_words
from synthkit.report.page import Html, Section, figure, heading, paragraph
from synthkit.report.presence_sections import presence_blocks


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A question of the Opinion, the attack that puts it, and what a success of that attack is called."""

    title: str
    attack: str
    question: str
    success: str


CRITERIA = (
    Criterion(
        title="Singling out",
        attack="singling out",
        question="Can somebody isolate one patient by means of the table?",
        success="descriptions made from the table fit exactly one person",
    ),
    Criterion(
        title="Linkability",
        attack="linkability",
        question="Can somebody tell by means of the table that two records belong to the same patient?",
        success="a person's two halves lead to the same synthetic row",
    ),
    Criterion(
        title="Inference",
        attack="attribute inference",
        question="Can somebody deduce of a patient, from what they know, something they did not know?",
        success="a secret read off the closest synthetic row is right",
    ),
)

PREFACE = (
    "European authorities ask three questions of data that are said to be anonymous. Each is put here as an "
    "attack, on members and on people whom the generator never saw. What the table teaches about everybody "
    "is not a patient's exposure: only the difference between the two groups is."
)

ON_RECORDS = (
    "The three attacks that put these questions do not run on records of visits. Of the attacks above, the "
    "partial matches are nearest to linkability, and rare codes to singling out."
)

RAREST = (
    "Averages hide the few. These are the same attacks among patients who are lonely in the reference, of a "
    "given number of visits, whose record nobody in the reference has (unshared), or, for records, of one "
    "level of a binary column; a level with too few patients in some set is left out. Such strata are small "
    "and their intervals wide: they can fail a table, and a difference of zero here proves little."
)

NO_STRATUM = "No stratum was measured: the audit stopped before, or too few patients are in one."


def criteria_section(report: AuditReport) -> Section:
    """Part 5: three questions answered, presence as published, and the rarest patients."""
    blocks: list[Html] = [paragraph(PREFACE)]
    found = {criterion.title: _results(report, criterion) for criterion in CRITERIA}
    if report.attacks and not any(found.values()):
        blocks.append(paragraph(ON_RECORDS))
    else:
        for criterion in CRITERIA:
            blocks += [heading(criterion.title), *_answers(criterion, found[criterion.title])]
    blocks += presence_blocks(report)
    blocks += [heading("The rarest patients"), *_rarest(report)]
    return Section(
        title="Singling out, linkability, inference, and the rarest patients", blocks=tuple(blocks)
    )


def _results(report: AuditReport, criterion: Criterion) -> tuple[AttackResult, ...]:
    return tuple(
        attack
        for attack in report.attacks
        if attack.name.partition(",")[0] == criterion.attack and attack.stratum == EVERYONE
    )


def _answers(criterion: Criterion, results: tuple[AttackResult, ...]) -> list[Html]:
    if not results:
        return [paragraph(f"{criterion.question} Not tried: this audit has no answer.")]
    return [paragraph(f"{criterion.question} {_answer(criterion, one)}") for one in results]


def _answer(criterion: Criterion, result: AttackResult) -> str:
    interval = result.advantage_interval
    measured = (
        f"{_sentence(criterion.success)} for {_percent(result.attack_rate)} of the members' trials and "
        f"{_percent(result.control_rate)} of the others' ({statistic_words(result.statistic)}); the "
        f"difference is {100 * result.advantage:+.1f} points "
        f"[{100 * interval.lower:+.1f}, {100 * interval.upper:+.1f}]."
    )
    if interval.lower > 0:
        return f"More than of strangers. {measured}"
    return (
        f"No difference was shown. {measured} One below {100 * result.minimum_detectable_effect:.1f} points "
        "could have gone unseen."
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _rarest(report: AuditReport) -> list[Html]:
    strata = tuple(attack for attack in report.attacks if attack.stratum != EVERYONE)
    if not strata:
        return [paragraph(NO_STRATUM)]
    return [
        paragraph(RAREST),
        figure(
            advantage_chart(strata, report.max_advantage),
            "Advantage within strata, with its confidence interval; the dashed line is the limit tau.",
        ),
        attack_table("Attacks within strata: they can fail a table", strata),
    ]
