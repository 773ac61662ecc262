"""The parts of a page on records that ask about conditions: what patients carry, and the latent map.

Knows the report and its pictures. Refuses records. Rule: the page says of the latent map what may leave and
why, for a map is easily taken for harmless.
"""

from synthkit.domain.sequence_utility import ConditionScores, Profile
from synthkit.report.page import Html, Section, callout, figure, heading, paragraph, table
from synthkit.report.sequence_charts import Bar, latent_chart, scatter_grid, score_chart
from synthkit.report.sequence_figures import SequencePictures
from synthkit.report.sequence_words import CEILING, FLOOR, number, text
from synthkit.report.svg import OTHER, REAL, SYNTHETIC


def condition_section(conditions: tuple[ConditionScores, ...], pictures: SequencePictures) -> Section:
    """All conditions: their scores in two tables, then each one's telling codes."""
    words = (
        "Of patients with a condition, which share carries each code? Shares are compared by correlation, "
        "and so are log lifts: the share with the condition over the share without it. Contrary is the "
        "share of a condition's patients who carry a code that no real patient of that condition does, "
        "though chance would give it to at least 20 of them."
    )
    blocks: list[Html] = [paragraph(words), _profiles(conditions)]
    if pictures.conditions:
        grid = scatter_grid(
            pictures.conditions, "Shares of each condition's patients, synthetic against real"
        )
        caption = "One point is a code: the share of the condition's patients who carry it."
        blocks.append(figure(grid, caption))
    blocks += _classifier(conditions)
    for one in conditions:
        if one.codes:
            blocks.append(heading(one.label))
            blocks.append(_codes(one))
    return Section(title="Conditions", blocks=tuple(blocks))


def _profiles(conditions: tuple[ConditionScores, ...]) -> Html:
    rows = tuple(
        (f"{one.label}: {name}", *_profile(profile))
        for one in conditions
        for name, profile in (
            (FLOOR.lower(), one.floor),
            ("synthetic", one.synthetic),
            (CEILING.lower(), one.ceiling),
        )
    )
    columns = ("Condition", "Shares", "Log lifts", "Contrary")
    return table("What a condition's patients carry, against real records", columns, rows)


def _profile(profile: Profile) -> tuple[str, ...]:
    contrary = "none" if number(profile.contrary) == "none" else f"{100 * profile.contrary:.2f} %"
    return number(profile.shares), number(profile.lifts), contrary


def _classifier(conditions: tuple[ConditionScores, ...]) -> list[Html]:
    asked = [(one.label, one.auc) for one in conditions if one.auc is not None]
    if not asked:
        return []
    words = (
        "A logistic regression of the codes a patient carries tells those with the condition from those "
        "without; the condition's own codes are hidden from it. Trained on real, on generated and on "
        "shuffled real records, it is tested on the same real patients. 0.5 is guessing: where real records "
        "teach no more than that, the ratio says nothing."
    )
    groups = tuple(
        (
            label,
            (
                Bar(name="trained on real", estimate=auc.real, colour=REAL),
                Bar(name="trained on synthetic", estimate=auc.synthetic, colour=SYNTHETIC),
                Bar(name="floor: shuffled", estimate=auc.floor, colour=OTHER),
            ),
        )
        for label, auc in asked
    )
    rows = tuple(
        (label, *(text(value) for value in (auc.real, auc.synthetic, auc.floor, auc.ratio)))
        for label, auc in asked
    )
    chart = score_chart(groups, "AUC on real test patients (0.5 is guessing)", "AUC of condition classifiers")
    return [
        heading("Cases and controls"),
        paragraph(words),
        figure(chart, "Dots are means over trainings, bars 95 % intervals."),
        table(
            "AUC with 95 % intervals", ("Condition", "Real", "Synthetic", "Floor", "Synthetic / real"), rows
        ),
    ]


def _codes(one: ConditionScores) -> Html:
    rows = tuple(
        (code.code, *(f"{100 * share:.1f} %" for share in shares))
        for code in one.codes
        for shares in ((code.real, code.synthetic, code.real_without, code.synthetic_without),)
    )
    columns = ("Code", "Real, with", "Synthetic, with", "Real, without", "Synthetic, without")
    return table("Codes that set the real patients with it most apart: share of patients", columns, rows)


def latent_section(pictures: SequencePictures) -> Section:
    """Two maps: of generated records, and of real ones."""
    words = (
        "Each dot is a record, placed by the model's inference network: the mean of its latent, along the "
        f"two directions in which the generated records spread most ({100 * pictures.explained:.0f} % of "
        "their spread). The percentage in a title is the share of the spread in all latent dimensions "
        "that lies between patients with and without the condition."
    )
    may = (
        "The upper map is computed from generated records and the model alone. It costs nothing beyond the "
        "model's own privacy claim, and may leave with the generated records, cut out of this page."
        if pictures.is_private
        else "The model was trained without privacy, so that neither map may leave the site."
    )
    stays = (
        "The lower map never leaves: each of its dots is computed from one real patient's whole record, is "
        "covered by no budget, and tells who holds the model a good deal about that patient."
    )
    return Section(
        title="Latent map",
        blocks=(
            paragraph(words),
            callout(paragraph(may), paragraph(stays), is_warning=True),
            figure(latent_chart(pictures.latents, is_real=False), "Generated records."),
            figure(latent_chart(pictures.latents, is_real=True), "Real records: inside the site only."),
        ),
    )
