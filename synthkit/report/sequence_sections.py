"""A SequenceReport in words, tables and pictures.

Knows the report and the figures beside it. Refuses to judge: it says what a figure means and where its
floor and ceiling lie, and leaves "good enough" to the reader. Rules: every number on the page stands in the
report or beside its picture; the first thing on the page is that it stays inside the site.
"""

import math

from synthkit.domain.sequence_utility import (
    Augmentation,
    Likeness,
    NextVisit,
    SequenceFidelity,
    SequenceReport,
)
from synthkit.report.charts import distribution_grid
from synthkit.report.page import Page, Section, bullets, callout, figure, paragraph, table
from synthkit.report.sequence_charts import Bar, scatter_grid, score_chart
from synthkit.report.sequence_condition_sections import condition_section, latent_section
from synthkit.report.sequence_figures import SequencePictures
from synthkit.report.sequence_words import CEILING, FLOOR, lengths, number, text
from synthkit.report.svg import OTHER, REAL, SYNTHETIC
from synthkit.report.utility_sections import KEEP_INSIDE

SHORT = ("Floor", "Ceiling")


def sequence_page(
    report: SequenceReport, pictures: SequencePictures, title: str = "Evaluation of generated records"
) -> str:
    """One self-contained HTML document."""
    sections = [_summary(report), _likeness(report.fidelity, pictures), _shape(report.fidelity, pictures)]
    if report.next_visit is not None:
        sections.append(_next_visit(report.next_visit))
    if report.augmentation is not None:
        sections.append(_augmentation(report.augmentation))
    if report.conditions:
        sections.append(condition_section(report.conditions, pictures))
    if pictures.latents:
        sections.append(latent_section(pictures))
    return Page(
        title=title,
        subtitle="Generated records beside real ones, with a floor and a ceiling for every score",
        sections=tuple(sections),
        lead=(callout(paragraph(KEEP_INSIDE), is_warning=True),),
        footer="For use inside the site.",
    ).render()


def _summary(report: SequenceReport) -> Section:
    made, floor, ceiling = report.fidelity.synthetic, report.fidelity.floor, report.fidelity.ceiling
    lines = [
        f"Pairs of codes, correlation of log lifts {name}: {number(score)}. Codes dealt out at random score "
        f"{number(low)}; other real records score {number(high)}."
        for name, score, low, high in (
            ("within a visit", made.within.lift, floor.within.lift, ceiling.within.lift),
            ("from a visit to the next", made.across.lift, floor.across.lift, ceiling.across.lift),
        )
    ]
    if report.next_visit is not None:
        lines += [
            f"Of the codes of the next visit, {text(one.synthetic)} are among the {top} that a network "
            f"trained on generated records names; trained on real records {text(one.real)}; trained on "
            f"shuffled ones {text(one.floor)}. Synthetic over real: {text(one.ratio)}."
            for top, one in report.next_visit.top.items()
        ]
    lines += [
        f"Telling {one.label} from the codes: AUC {text(one.auc.synthetic)} after training on generated "
        f"patients, {text(one.auc.real)} after training on real ones."
        for one in report.conditions
        if one.auc is not None
    ]
    blocks = [bullets(tuple(lines))]
    if report.notes:
        blocks += [paragraph("To be read with the figures:"), bullets(report.notes)]
    return Section(title="In short", blocks=tuple(blocks))


def _likeness(fidelity: SequenceFidelity, pictures: SequencePictures) -> Section:
    words = (
        "A pair's lift is how much more often two codes meet than they would by chance. Shares are led by "
        "frequent codes, so that even codes dealt out at random correlate highly in them; what decides is "
        "the correlation of log lifts. Lifts are compared over pairs seen at least 25 times on both sides; "
        "covered is the share of the real pairs that the other records have at all that often. Of either's "
        "pairs: the same over pairs that are frequent on one side at least, so that pairs which the records "
        "make up count against them."
    )
    rows = tuple(
        (name, *_scores(one))
        for name, one in (
            (FLOOR, fidelity.floor),
            ("Synthetic", fidelity.synthetic),
            (CEILING, fidelity.ceiling),
        )
    )
    columns = (
        *("Records", "Codes", "Pairs within", "Log lifts within", "Of either's pairs", "Covered"),
        *("Pairs across", "Log lifts across", "Of either's pairs", "Covered"),
    )
    blocks = [paragraph(words), table("Correlations with real records", columns, rows)]
    if pictures.scatters:
        caption = (
            "One point is a code, or a pair of codes that the real records have at least 25 times; at most "
            "4,000 are drawn. On the dashed line generated and real records agree; a pair that the generated "
            "records do not have stands at the lower edge."
        )
        grid = scatter_grid(pictures.scatters, "Codes and pairs of codes, synthetic against real")
        blocks.append(figure(grid, caption))
    return Section(title="Codes and pairs of codes", blocks=tuple(blocks))


def _scores(one: Likeness) -> tuple[str, ...]:
    cells = [number(one.unigram)]
    for pairs in (one.within, one.across):
        cells += [number(value) for value in (pairs.bigram, pairs.lift, pairs.lift_either, pairs.covered)]
    return tuple(cells)


def _shape(fidelity: SequenceFidelity, pictures: SequencePictures) -> Section:
    real, made = fidelity.real_shape, fidelity.synthetic_shape
    shapes = (real, made, fidelity.floor_shape, fidelity.ceiling_shape)
    distances = (fidelity.distances, fidelity.ceiling_distances)
    blank = ("", "")
    rows = [
        ("Jaccard of consecutive visits", *(number(one.jaccard) for one in shapes), *blank),
        ("Distinct over all codes of a patient", *(number(one.unique_ratio) for one in shapes), *blank),
    ]
    rows += [
        (
            name,
            *(lengths(getattr(one, key)) for one in shapes),
            *(number(one.get(key, math.nan)) for one in distances),
        )
        for name, key in (("Visits a patient", "visits"), ("Codes a visit", "codes"), ("Days apart", "gaps"))
        if getattr(real, key) or getattr(made, key)
    ]
    words = (
        "Jaccard is the share of codes that a visit and the next have in common: how much a record repeats "
        "itself. Lengths are given as mean, and in brackets the 5th, 50th and 95th percentile. The distance "
        "is the largest difference of the two distribution functions, 0 is equal: of generated and real "
        "records, and of the two sets of real ones behind the ceiling."
    )
    blocks = [
        paragraph(words),
        table("Shape of records", ("", "Real", "Synthetic", *SHORT, "Distance", "Of real"), tuple(rows)),
    ]
    if pictures.distributions:
        caption = (
            "Share of patients, of visits or of gaps: filled is real, the line is synthetic. A last bin "
            "marked + holds all larger values."
        )
        blocks.append(figure(distribution_grid(pictures.distributions), caption))
    return Section(title="Lengths, gaps and repetition", blocks=tuple(blocks))


def _next_visit(found: NextVisit) -> Section:
    words = (
        "A small LSTM reads all visits so far and names the codes it expects at the next one. Recall is the "
        "share of the next visit's codes that are among those named. The same network is trained on real, on "
        "generated and on shuffled real records, as many patients each, and always tested on the same real "
        f"patients, whom none of them contains. Networks of each kind, from other patients and seeds: "
        f"{found.repeats}."
    )
    groups = tuple(
        (
            f"{top} codes named",
            (
                Bar(name="trained on real", estimate=one.real, colour=REAL),
                Bar(name="trained on synthetic", estimate=one.synthetic, colour=SYNTHETIC),
                Bar(name="floor: shuffled", estimate=one.floor, colour=OTHER),
            ),
        )
        for top, one in found.top.items()
    )
    rows = tuple(
        (f"Top {top}", *(text(e) for e in (one.real, one.synthetic, one.floor, one.ratio)))
        for top, one in found.top.items()
    )
    columns = ("Recall", "Real", "Synthetic", "Floor", "Synthetic / real")
    chart = score_chart(groups, "Recall on real test patients", "Recall of next visits' codes")
    return Section(
        title="What comes next: trained on synthetic, tested on real",
        blocks=(
            paragraph(words),
            figure(chart, "Dots are means over the networks, bars 95 % intervals."),
            table("Recall of the next visit's codes, with 95 % intervals", columns, rows),
        ),
    )


def _augmentation(found: Augmentation) -> Section:
    words = (
        f"{found.cohort} real patients train the network alone, and then with generated patients beside "
        "them, 1, 10 and 100 times as many as far as there are enough. A gain whose "
        "interval holds 0 may be chance."
    )
    tops = tuple(found.steps[0].recall)
    groups = tuple(
        (
            f"{top} codes named",
            tuple(
                Bar(
                    name=_added(step.factor),
                    estimate=step.recall[top],
                    colour=SYNTHETIC if step.factor else REAL,
                )
                for step in found.steps
            ),
        )
        for top in tops
    )
    rows = tuple(
        (
            _added(step.factor),
            *(
                cell
                for top in tops
                for cell in (text(step.recall[top]), "" if not step.factor else text(step.gain[top]))
            ),
        )
        for step in found.steps
    )
    columns = ("Trained on", *(name for top in tops for name in (f"Top {top}", "Gain")))
    chart = score_chart(groups, "Recall on real test patients", "Recall with generated patients added")
    return Section(
        title="Generated records beside a small real cohort",
        blocks=(
            paragraph(words),
            figure(chart, "Dots are means over the networks, bars 95 % intervals."),
            table("Recall and gain, with 95 % intervals", columns, rows),
        ),
    )


def _added(factor: int) -> str:
    return f"real + {factor} x generated" if factor else "real alone"
