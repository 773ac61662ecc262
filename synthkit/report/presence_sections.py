"""Presence disclosure of records by the number of patients known: advantage and lift, and as published.

Knows the report's diagnostics. Refuses to judge: both decide nothing, and say so.
"""

import re
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from synthkit.domain.audit import AuditReport
from synthkit.report.page import Html, figure, heading, paragraph, table
from synthkit.report.svg import INK, MUTED, REAL, SYNTHETIC, draw

AXIS = re.compile(r"eva_(sensitivity|precision)_at_(\d+)")
KNOWN = re.compile(r"presence_advantage_at_(\d+|all)")
PRIOR = 0.8
"""Share of members among the known patients, as published."""

WORDS = (
    "The published test: an attacker knows some patients, four in five of them members, and claims everyone "
    "whose visits, in any order, are a synthetic record. Sensitivity is the share of members claimed; "
    "precision the share of members among the claimed, and 0.8 is what claiming at random yields. Its "
    "published reading takes values below 0.8 for safe. It cannot fail: with half of all patients copied "
    "word for word the sensitivity is about 0.5. The verdict rests on the attack rate minus the control rate "
    "instead, counted apart by number of visits, rarity and condition."
)

KNOWN_WORDS = (
    "An attacker knows some patients, four in five of them members, and claims everyone whose visits, in any "
    "order, are a synthetic record. Advantage is the attack rate minus the control rate, with its 95 % "
    "interval; lift is precision over that prior of 0.8: 1 is guessing, 1.25 the most there can be. Numbers "
    "that the sets are too small for are left out. The verdict rests on the advantage over all patients, "
    "with the interval that stands among the attacks above."
)


def presence_blocks(report: AuditReport) -> tuple[Html, ...]:
    """Advantage and lift, then the published axes; nothing where the audit has no such figures."""
    return (*_known_blocks(report.diagnostics), *_published_blocks(report))


def _known_blocks(figures: Mapping[str, float]) -> tuple[Html, ...]:
    known = [match[1] for name in figures if (match := KNOWN.fullmatch(name))]
    if not known:
        return ()
    rows = tuple((_people(one), _advantage(figures, one), _lift(figures, one)) for one in known)
    return (
        heading("Presence disclosure by known patients: shown beside the verdict"),
        paragraph(KNOWN_WORDS),
        table("Whole records matched, visits in any order", ("Known patients", "Advantage", "Lift"), rows),
    )


def _people(known: str) -> str:
    return f"{int(known):,}" if known.isdigit() else known


def _advantage(figures: Mapping[str, float], known: str) -> str:
    value, lower, upper = (figures[f"presence_advantage{end}_at_{known}"] for end in ("", "_lower", "_upper"))
    return f"{value:.3f} [{lower:.3f}, {upper:.3f}]"


def _lift(figures: Mapping[str, float], known: str) -> str:
    lift = figures.get(f"presence_lift_at_{known}")
    return "nobody claimed" if lift is None else f"{lift:.3f}"


def _published_blocks(report: AuditReport) -> tuple[Html, ...]:
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
