"""Presence disclosure of records as EVA's authors drew it, for comparison.

Knows the report's diagnostics. Refuses to judge: the figure decides nothing, and says so.
"""

import re

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from synthkit.domain.audit import AuditReport
from synthkit.report.page import Html, figure, heading, paragraph
from synthkit.report.svg import INK, MUTED, REAL, SYNTHETIC, draw

AXIS = re.compile(r"eva_(sensitivity|precision)_at_(\d+)")
PRIOR = 0.8
"""Share of members among the known patients, as published."""

WORDS = (
    "The published test: an attacker knows some patients, four in five of them members, and claims everyone "
    "whose visits, in any order, are a synthetic record. Sensitivity is the share of members claimed; "
    "precision the share of members among the claimed, and 0.8 is what claiming at random yields. Its "
    "published reading takes values below 0.8 for safe. It cannot fail: with half of all patients copied "
    "word for word the sensitivity is about 0.5. The verdict rests on the attack rate minus the control rate "
    "instead, counted apart by number of visits and rarity."
)


def presence_blocks(report: AuditReport) -> tuple[Html, ...]:
    """A heading and the published axes; nothing where the audit has no such figures."""
    axes = _axes(report)
    if not axes["sensitivity"]:
        return ()
    chart = figure(
        _chart(axes),
        "Sensitivity and precision against the number of known patients; the dashed line is the prior, 0.8.",
    )
    return (heading("Presence disclosure on the published axes: decides nothing"), paragraph(WORDS), chart)


def _axes(report: AuditReport) -> dict[str, list[tuple[int, float]]]:
    axes: dict[str, list[tuple[int, float]]] = {"sensitivity": [], "precision": []}
    for name, value in report.diagnostics.items():
        match = AXIS.fullmatch(name)
        if match:
            axes[match[1]].append((int(match[2]), value))
    return {name: sorted(points) for name, points in axes.items()}


def _chart(axes: dict[str, list[tuple[int, float]]]) -> Html:
    looks = {"sensitivity": (REAL, "o", "-"), "precision": (SYNTHETIC, "s", "--")}

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        for name, points in axes.items():
            colour, marker, line = looks[name]
            places, values = [x for x, _ in points], [y for _, y in points]
            axis.plot(places, values, color=colour, marker=marker, linestyle=line, label=name)
        axis.axhline(PRIOR, color=INK, linestyle=(0, (5, 3)), linewidth=1.1)
        axis.set_xscale("log")
        ticks = [x for x, _ in axes["sensitivity"]]
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_ylim(-0.02, 1.05)
        axis.set_xlabel("patients the attacker knows", color=MUTED)
        axis.grid(axis="y")
        canvas.legend(loc="outside upper right", ncols=2)

    return draw(7.5, 3.2, "Sensitivity and precision against the number of known patients", paint)
