"""A SurvivalReport in words, tables and pictures.

Knows the report. Refuses to judge: every figure of synthetic rows stands beside the real one and, where
there is one, beside what two halves of the real patients differ by. Rule: every number on the page stands in
the report; rounding is the only arithmetic, but for the share of covariates that the text counts.
"""

from synthkit.domain.survival import (
    Calibration,
    CalibrationSlope,
    Concordance,
    CurveDistance,
    HazardRatio,
    SurvivalReport,
    Term,
)
from synthkit.report.page import Html, Section, bullets, figure, paragraph, table
from synthkit.report.survival_charts import curve_chart, forest_chart

NOTHING = "nothing to say"


def survival_sections(report: SurvivalReport) -> tuple[Section, ...]:
    """Curves, hazard ratios, and how well models trained on either table predict real patients."""
    return (_curves(report), _ratios(report), _prediction(report))


def survival_line(report: SurvivalReport) -> str:
    """One line for the summary."""
    known = [one for one in report.hazard_ratios if one.is_inside is not None]
    inside = sum(one.is_inside is True for one in known)
    c_index = report.c_index
    return (
        f"Time to {report.event} = {report.event_level}: {inside} of {len(known)} hazard ratios lie in the "
        f"real 95 % interval; Harrell's C on real rows is {_figure(c_index.synthetic)} after training on "
        f"synthetic rows, {_figure(c_index.real)} after training on real rows."
    )


def _curves(report: SurvivalReport) -> Section:
    words = (
        f"The event is {report.event} = {report.event_level}; the time is column {report.duration}"
        f"{f', in {report.unit}' if report.unit else ''}. All real rows given are compared with the first "
        "synthetic table."
    )
    caption = "Kaplan-Meier curves with 95 % bands. Blue is real, vermilion and dashed is synthetic."
    blocks = [
        paragraph(words),
        figure(curve_chart(report), caption),
        paragraph(
            "The log-rank statistic and its p value depend on the number of rows: a p value above 0.05 in "
            "small tables does not show that the curves agree, and one below it in large tables may stand "
            "for a difference of no importance. The gap and the difference in mean time do not grow with "
            "the rows; two random halves of the real patients show what chance does to tables of half the "
            "rows."
        ),
        _distances(report),
    ]
    if report.notes:
        blocks += [paragraph("To be read with the survival figures:"), bullets(report.notes)]
    return Section(title="Survival: curves", blocks=tuple(blocks))


def _distances(report: SurvivalReport) -> Html:
    rows = [("Synthetic against real", *_distance(report.distance))]
    if report.halves_distance is not None:
        rows.append(("Two real halves, on average", *_distance(report.halves_distance)))
    unit = f", {report.unit}" if report.unit else ""
    columns = (
        "Comparison",
        "Largest gap",
        f"Mean time, difference{unit}",
        f"Up to{unit}",
        "Log-rank statistic",
        "p",
    )
    made = table("How far the curves lie apart", columns, tuple(rows))
    real, synthetic = report.censored
    censored = (("Censored, without the event", f"{100 * real:.1f} %", f"{100 * synthetic:.1f} %"),)
    return Html(made + table("Censoring", ("Share of rows", "Real", "Synthetic"), censored))


def _distance(one: CurveDistance) -> tuple[str, ...]:
    return (
        f"{one.largest_gap:.3f}",
        f"{one.mean_difference:.3g}",
        f"{one.horizon:.4g}",
        f"{one.log_rank:.2f}",
        "below 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}",
    )


def _ratios(report: SurvivalReport) -> Section:
    words = (
        "One Cox model of all covariates is fitted to all real rows given, and one to the synthetic rows; "
        "tied times by Efron's method. A ratio above 1 means an earlier event. In the picture a numeric "
        "covariate's ratio is that of one standard deviation of the real rows, in the table that of one unit."
    )
    blocks = [paragraph(words)]
    if any(one.real or one.synthetic for one in report.hazard_ratios):
        caption = (
            "Hazard ratios with 95 % intervals. Square: real. Round: synthetic. Diamond, where several "
            "synthetic tables were given: pooled. 1 is no effect. Intervals beyond a ratio of 50 are cut."
        )
        blocks.append(figure(forest_chart(report.hazard_ratios), caption))
    if report.references:
        levels = ", ".join(f"{name}: {level}" for name, level in report.references.items())
        blocks.append(paragraph(f"Reference levels: {levels}."))
    blocks.append(_ratio_table(report))
    if report.log_hazard_error is not None and report.half_sample_error is not None:
        blocks.append(
            paragraph(
                f"Mean error of a coefficient, per standard deviation: {report.log_hazard_error:.3f}. A "
                f"random half of the real patients is off by {report.half_sample_error:.3f}."
            )
        )
    return Section(title="Survival: hazard ratios", blocks=tuple(blocks))


def _ratio_table(report: SurvivalReport) -> Html:
    """Two tables: in one, pooled ratios push the last columns off a page's edge."""
    has_pooled = any(one.pooled is not None for one in report.hazard_ratios)
    pooled = (f"Pooled, {report.sets} tables",) if has_pooled else ()
    ratios = table(
        "Hazard ratios per unit, with 95 % intervals",
        ("Covariate", "Real", "Synthetic", *pooled),
        tuple(_ratio_row(one, has_pooled=has_pooled) for one in report.hazard_ratios),
    )
    words = (
        "Log error is the distance of the two coefficients, beside that of a random half of the real "
        "patients from all of them. Overlap is the mean share of the two intervals that both cover. Inside "
        "says whether the synthetic ratio lies in the real interval."
    )
    first = (
        " All are of the first synthetic table; those pooled are in the table above." if has_pooled else ""
    )
    closeness = table(
        "How close the synthetic ratios are",
        ("Covariate", "Log error", "of a half", "Overlap", "Inside"),
        tuple(_closeness_row(one) for one in report.hazard_ratios),
    )
    return Html(ratios + paragraph(words + first) + closeness)


def _ratio_row(one: HazardRatio, *, has_pooled: bool) -> tuple[str, ...]:
    pooled = (_term(one.pooled),) if has_pooled else ()
    return (one.name, _term(one.real), _term(one.synthetic), *pooled)


def _closeness_row(one: HazardRatio) -> tuple[str, ...]:
    return (
        one.name,
        _error(one.log_error),
        _error(one.half_sample_error),
        _figure(one.overlap, 2),
        "" if one.is_inside is None else "yes" if one.is_inside else "no",
    )


def _term(term: Term | None) -> str:
    """A hazard ratio and its interval; empty where there is none."""
    return "" if term is None else term.text


def _prediction(report: SurvivalReport) -> Section:
    words = (
        "Both Cox models, that of real training rows and that of synthetic rows, predict the same real rows, "
        "which the real one was not trained on. Harrell's C is the share of pairs of patients whose order "
        "they get right: 0.5 is guessing. Its standard error counts the choice of test patients."
    )
    about_slopes = (
        "The calibration slope says how much observed event probabilities rise when predicted ones rise by "
        "one, at the 25th and 75th percentile of the times of events: 1 is perfect, below 1 is a model too "
        "sure of itself. Deviation is its distance from 1. The relative slope is the same on the scale of "
        "log hazards. Censored rows enter by pseudo-observations."
    )
    blocks = [paragraph(words), _c_table(report.c_index)]
    if report.calibration_slope:
        blocks += [paragraph(about_slopes), _slope_table(report)]
    return Section(title="Survival: prediction of real patients", blocks=tuple(blocks))


def _c_table(c_index: Concordance) -> Html:
    rows = (
        ("Real rows", _figure(c_index.real), _figure(c_index.real_error)),
        ("Synthetic rows", _figure(c_index.synthetic), _figure(c_index.synthetic_error)),
        ("Synthetic minus real", _figure(c_index.difference), _figure(c_index.difference_error)),
    )
    return table("Harrell's C on real rows", ("Trained on", "C", "Standard error"), rows)


def _slope_table(report: SurvivalReport) -> Html:
    rows = []
    for one in report.calibration_slope:
        for trained, found in (("real", one.real), ("synthetic", one.synthetic)):
            rows.append((f"{one.stratum}, {_time(one, report.unit)}", trained, *_slope(found)))
    columns = (
        "Rows tested on, time",
        "Trained on",
        "Slope",
        "Std. error",
        "Deviation",
        "Relative slope",
        "Predicted",
        "Observed",
    )
    return table("Calibration of event probabilities", columns, tuple(rows))


def _time(one: CalibrationSlope, unit: str) -> str:
    return f"{one.percentile}th percentile ({one.time:.4g}{f' {unit}' if unit else ''})"


def _slope(found: Calibration | None) -> tuple[str, ...]:
    if found is None:
        return (NOTHING, "", "", "", "", "")
    return (
        f"{found.slope:.2f}",
        f"{found.standard_error:.2f}",
        f"{found.deviation:.2f}",
        _figure(found.relative_slope, 2),
        f"{100 * found.predicted:.1f} %",
        f"{100 * found.observed:.1f} %",
    )


def _figure(value: float | None, decimals: int = 3) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _error(value: float | None) -> str:
    """Two digits, however small: per unit of a covariate in the thousands an error is tiny."""
    return "" if value is None else f"{value:.2g}"
