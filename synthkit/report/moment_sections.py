"""Moments and spread of numeric columns, as tables.

Knows the figures of a UtilityReport. Refuses to judge, but for one mark that the contract asks for: a
column whose standard deviation is more than 2 % off. Rule: the mark stands beside what chance alone does.

Source: Med-VAE, table 3, and its finding that synthetic spread came out smaller than real.
"""

import numpy as np

from synthkit.domain.utility import SPREAD_TOLERANCE, Moments, Spread, UtilityReport
from synthkit.report.page import Section, paragraph, table

TOLERANCE = f"{100 * SPREAD_TOLERANCE:g} %"


def moments_section(moments: dict[str, tuple[Moments, Moments]]) -> Section:
    """Four moments of each column, real beside synthetic."""
    rows = []
    for name, pair in moments.items():
        cells = [
            f"{getattr(side, moment):.3g}"
            for moment in ("mean", "std", "skewness", "kurtosis")
            for side in pair
        ]
        rows.append((name, *cells))
    if len(moments) > 1:
        averages = (
            np.mean([getattr(pair[side], moment) for pair in moments.values()])
            for moment in ("mean", "std", "skewness", "kurtosis")
            for side in (0, 1)
        )
        rows.append(("All columns, averaged (units differ)", *(f"{value:.3g}" for value in averages)))
    headings = ("Mean", "Std. dev.", "Skewness", "Excess kurtosis")
    columns = ("Column", *(f"{h}, {side}" for h in headings for side in ("real", "synth.")))
    return Section(
        title="Moments",
        blocks=(table("Numeric columns, missing cells left out", columns, tuple(rows)),),
    )


def spread_section(report: UtilityReport) -> Section:
    """Synthetic over real standard deviation of each column, and which are outside the tolerance."""
    words = (
        f"1 means that synthetic values are spread as widely as real ones. A column is marked when it is "
        f"more than {TOLERANCE} off. Chance says how far two samples of these sizes from one and "
        "the same population lie apart in 19 of 20 cases."
    )
    rows = tuple(
        (
            name,
            f"{report.moments[name][0].std:.4g}",
            f"{report.moments[name][1].std:.4g}",
            "none" if spread.ratio is None else f"{spread.ratio:.3f}",
            f"{spread.chance:.3f}",
            _mark(spread),
        )
        for name, spread in report.spread.items()
    )
    columns = ("Column", "Std. dev., real", "Std. dev., synth.", "Synth. / real", "Chance", "Mark")
    return Section(
        title="Spread",
        blocks=(paragraph(words), table("Standard deviations, missing cells left out", columns, rows)),
    )


def spread_line(spread: dict[str, Spread]) -> str:
    """One line for the summary."""
    outside = {name: one for name, one in spread.items() if one.is_outside}
    if not outside:
        return f"Spread: every numeric column's standard deviation is within {TOLERANCE} of the real one."
    names = ", ".join(f"{name} ({_mark(one)})" for name, one in outside.items())
    return (
        f"Spread: {len(outside)} of {len(spread)} numeric columns have a standard deviation more than "
        f"{TOLERANCE} off: {names}."
    )


def _mark(spread: Spread) -> str:
    """Nothing within the tolerance."""
    if not spread.is_outside:
        return ""
    if spread.ratio is None:
        return "real is constant"
    direction = "narrower" if spread.ratio < 1 else "wider"
    by_chance = ", within chance" if spread.is_chance else ""
    return f"{direction} by {100 * abs(spread.ratio - 1):.1f} %{by_chance}"
