"""A UtilityReport in words, tables and pictures.

Knows the report and the figures beside it. Refuses to judge: it says what a figure means and where its
floor and ceiling lie, and leaves "good enough" to the reader. Rule: every number on the page stands in
the report; rounding is the only arithmetic, but for the one share that the text explains.
"""

from synthkit.domain.utility import Estimate, Quality, TargetUtility, UtilityReport
from synthkit.report.charts import association_chart, distribution_grid, tstr_chart
from synthkit.report.figures import AssociationMaps, ColumnDistribution, PairDensity
from synthkit.report.grids import pair_chart
from synthkit.report.moment_sections import moments_section, spread_line, spread_section
from synthkit.report.page import Html, Section, bullets, callout, figure, paragraph, table
from synthkit.report.survival_sections import survival_line, survival_sections

PER_GRID = 20
"""Columns per picture: a printed page holds no more small multiples than this."""

KEEP_INSIDE = (
    "For use inside the site. These figures and pictures are computed from real patients and are not "
    "covered by the privacy budget."
)


def evaluation_sections(
    report: UtilityReport,
    distributions: tuple[ColumnDistribution, ...] = (),
    associations: AssociationMaps | None = None,
    pairs: tuple[PairDensity, ...] = (),
) -> tuple[Section, ...]:
    """The sections of an evaluation, in reading order; those without figures are left out."""
    sections = [_summary(report), _fidelity(report)]
    if report.utility:
        sections.append(_usefulness(report.utility))
    if report.survival is not None:
        sections += survival_sections(report.survival)
    if distributions:
        sections.append(_columns(distributions))
    if associations is not None:
        sections.append(_relations(associations))
    if pairs:
        sections.append(_together(pairs))
    if report.spread:
        sections.append(spread_section(report))
    if report.moments:
        sections.append(moments_section(report.moments))
    if report.missing_rates:
        sections.append(_missing(report.missing_rates))
    return tuple(sections)


def _summary(report: UtilityReport) -> Section:
    lines = [
        f"Likeness to real rows (sdmetrics, 0 to 1): {report.quality.overall:.3f}. The same columns with "
        f"every relation destroyed score {report.floor.overall:.3f}; other real rows score "
        f"{report.ceiling.overall:.3f}."
    ]
    lines += [
        f"Predicting {entry.target}: AUC {entry.synthetic.auc:.3f} after training on synthetic rows, "
        f"{entry.real.auc:.3f} after training on real rows.{_ratio(entry)}"
        for entry in report.utility
    ]
    if report.survival is not None:
        lines.append(survival_line(report.survival))
    if report.spread:
        lines.append(spread_line(report.spread))
    blocks = [callout(paragraph(KEEP_INSIDE), is_warning=True), bullets(tuple(lines))]
    if report.notes:
        blocks += [paragraph("To be read with the figures:"), bullets(report.notes)]
    return Section(title="Usefulness in short", blocks=tuple(blocks))


def _ratio(entry: TargetUtility) -> str:
    if entry.repeats is None or entry.repeats.ratio.auc is None:
        return ""
    return f" Repeated, the ratio is {_estimate(entry.repeats.ratio.auc)}."


def _fidelity(report: UtilityReport) -> Section:
    rows = tuple(
        _quality_row(name, quality)
        for name, quality in (
            ("Floor: relations destroyed", report.floor),
            ("Synthetic", report.quality),
            ("Ceiling: other real rows", report.ceiling),
        )
    )
    words = (
        "The quality score is compressed: even a table without any relation scores high, so a figure "
        "means something only between its floor and its ceiling. The floor keeps every column as it is "
        "and destroys the relations; its column shapes are therefore perfect, and its column pairs are "
        "what to beat."
    )
    blocks = [
        paragraph(words),
        table(
            "Quality by sdmetrics (0 to 1, higher is better)",
            ("Table", "Overall", "Column shapes", "Column pairs"),
            rows,
        ),
        *_covered(report),
    ]
    distances = _distance_rows(report.total_variation)
    if distances:
        blocks += [
            paragraph(
                "The total variation distance is the share of rows that would have to change for two "
                "tables of counts to agree. It counts missing cells as a value of their own. Some distance "
                "is chance: the ceiling shows how much."
            ),
            table(
                "Mean total variation distance (0 to 1, lower is better)",
                ("Table", "Single columns", "Pairs of columns"),
                distances,
            ),
        ]
    return Section(title="Likeness to real rows", blocks=tuple(blocks))


def _quality_row(name: str, quality: Quality) -> tuple[str, ...]:
    return (name, f"{quality.overall:.3f}", f"{quality.column_shapes:.3f}", f"{quality.column_pairs:.3f}")


def _covered(report: UtilityReport) -> tuple[Html, ...]:
    """How far the column pairs go from floor to ceiling; nothing where the two do not differ."""
    floor, ceiling = report.floor.column_pairs, report.ceiling.column_pairs
    if ceiling - floor < 0.005:
        return ()
    share = (report.quality.column_pairs - floor) / (ceiling - floor)
    if share > 1:
        return (paragraph("In column pairs the synthetic table scores above its ceiling."),)
    if share < 0:
        return (paragraph("In column pairs the synthetic table scores below its floor."),)
    return (paragraph(f"In column pairs the synthetic table covers {100 * share:.0f} % of the way up."),)


def _distance_rows(distances: dict[str, float]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for name, prefix in (
        ("Floor: relations destroyed", "floor_"),
        ("Synthetic", ""),
        ("Ceiling: other real rows", "ceiling_"),
    ):
        cells = [distances.get(prefix + way) for way in ("one_way", "two_way")]
        if any(cell is not None for cell in cells):
            rows.append((name, *("" if cell is None else f"{cell:.4f}" for cell in cells)))
    return tuple(rows)


def _usefulness(utility: tuple[TargetUtility, ...]) -> Section:
    words = (
        "The same classifier is trained on real rows, on synthetic rows and, where given, on each site's "
        "rows alone, and always tested on the same real rows that none of them contains. Synthetic rows "
        "are useful where they bring a site further than its own rows do."
    )
    return Section(
        title="Trained on synthetic, tested on real",
        blocks=(
            paragraph(words),
            figure(tstr_chart(utility), "AUC by training set: 0.5 is guessing, 1 is perfect."),
            _score_table(utility),
            *_repeat_table(utility),
        ),
    )


def _repeat_table(utility: tuple[TargetUtility, ...]) -> tuple[Html, ...]:
    """Means and intervals, where the tasks were repeated."""
    rows = tuple(
        (
            f"{entry.target}: {name}",
            *(_estimate(getattr(side, score)) for side in (again.real, again.synthetic, again.ratio)),
        )
        for entry in utility
        if (again := entry.repeats) is not None
        for name, score in (("AUC", "auc"), ("accuracy", "accuracy"))
    )
    if not rows:
        return ()
    count = max(entry.repeats.count for entry in utility if entry.repeats is not None)
    words = (
        f"Repeated with {count} classifiers, each tree of which sees a random part of the training rows, and "
        "each tested on random draws of the real test patients, with all their rows. The intervals "
        "cover the classifier and the choice of test patients. They do not cover another training of the "
        "generator, or another synthetic table."
    )
    columns = ("Target", "Trained on real", "Trained on synthetic", "Synthetic / real")
    return (paragraph(words), table("Means with 95 % intervals", columns, rows))


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "nothing to say"
    return f"{estimate.mean:.3f} [{estimate.lower:.3f}, {estimate.upper:.3f}]"


def _score_table(utility: tuple[TargetUtility, ...]) -> Html:
    """A row per training set, two columns per task; empty where a task has no such training set."""
    scores = [
        {"real": entry.real, "synthetic": entry.synthetic}
        | {f"{label} alone": score for label, score in entry.others.items()}
        for entry in utility
    ]
    trained_on = dict.fromkeys(name for by_name in scores for name in by_name)
    rows = tuple(
        (
            name,
            *(
                f"{getattr(by_name[name], score):.3f}" if name in by_name else ""
                for by_name in scores
                for score in ("auc", "accuracy")
            ),
        )
        for name in trained_on
    )
    columns = (f"{entry.target}: {score}" for entry in utility for score in ("AUC", "accuracy"))
    return table("Scores on held-out real rows", ("Trained on", *columns), rows)


def _columns(distributions: tuple[ColumnDistribution, ...]) -> Section:
    grids = [distributions[i : i + PER_GRID] for i in range(0, len(distributions), PER_GRID)]
    caption = (
        "Share of rows by value. Numbers: filled is real, the line is synthetic; a last bin marked + "
        "holds all larger values. Missing cells have bars of their own."
    )
    pictures = tuple(figure(distribution_grid(grid), caption) for grid in grids)
    return Section(title="Column by column", blocks=pictures)


def _relations(associations: AssociationMaps) -> Section:
    words = (
        "Each square is one pair of columns: 0 is unrelated, 1 is fully determined. Two numbers are "
        "compared by correlation, two columns of categories by Cramer's V, a number and categories by "
        "the correlation ratio. In the right map purple means that the synthetic rows show a weaker "
        "relation than the real ones, orange a stronger one, white the same."
    )
    return Section(
        title="Relations between columns",
        blocks=(
            paragraph(words),
            figure(
                association_chart(associations), "Grey: a constant column, for which nothing can be said."
            ),
        ),
    )


def _together(pairs: tuple[PairDensity, ...]) -> Section:
    words = (
        "Each pair of numeric columns twice, on one scale. Darker is more rows; the shade follows the root "
        "of the share, so that thin parts are seen. Shown are the numeric columns that are most strongly "
        "related to another one in the real rows."
    )
    caption = (
        "Blue is real, vermilion synthetic. A last bin marked + holds all larger values; rows with a missing "
        "number are left out."
    )
    return Section(title="Numbers two by two", blocks=(paragraph(words), figure(pair_chart(pairs), caption)))


def _missing(rates: dict[str, tuple[float, float]]) -> Section:
    rows = tuple((n, f"{100 * real:.1f} %", f"{100 * made:.1f} %") for n, (real, made) in rates.items())
    return Section(
        title="Missing cells",
        blocks=(table("Share of cells that are missing", ("Column", "Real", "Synthetic"), rows),),
    )
