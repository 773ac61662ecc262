"""Where an attacker is sure: attack against false-positive rate, both in log scale.

Knows the results at set rates. Refuses to join what was not measured: the points are joined by straight
lines, and no area is computed. Source: Carlini et al., S&P 2022, section IV (log scale, low rates).
"""

import re

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthkit.domain.audit import AttackResult, Interval
from synthkit.report.charts import short
from synthkit.report.page import Html
from synthkit.report.svg import INK, REAL, SYNTHETIC, draw

AT_RATE = re.compile(r"tpr_at_fpr_(0\.\d+)")
FLOOR = 0.001
"""What is drawn at the lower edge: log scale has no zero."""

Point = tuple[float, AttackResult]


def roc_chart(attacks: tuple[AttackResult, ...]) -> Html | None:
    """Small multiples, four a row; None where no attack was measured at two set rates."""
    curves = {name: points for name, points in _curves(attacks).items() if len(points) > 1}
    if not curves:
        return None
    wide = min(4, len(curves))
    tall = -(-len(curves) // wide)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
        for axis, (name, points) in zip(axes, curves.items(), strict=False):
            _paint(axis, name, points)
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        canvas.supxlabel("Share of strangers named, as the reference sets it (log)", fontsize=9)
        canvas.supylabel("Share named (log)", fontsize=9)
        handles = [
            Line2D([], [], color=SYNTHETIC, marker="o", label="members"),
            Line2D([], [], color=REAL, marker="s", linestyle="", label="holdout"),
            Line2D([], [], color=INK, linestyle=(0, (5, 3)), label="guessing"),
        ]
        canvas.legend(handles=handles, loc="outside upper right", ncols=3)

    return draw(2.75 * wide if wide > 1 else 5.0, 0.8 + 2.1 * tall, "Attack rates in log scale", paint)


def _curves(attacks: tuple[AttackResult, ...]) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    for attack in attacks:
        match = AT_RATE.fullmatch(attack.statistic)
        if match:
            curves.setdefault(attack.name, []).append((float(match[1]), attack))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()}


def _paint(axis: Axes, name: str, points: list[Point]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.plot([FLOOR, 1], [FLOOR, 1], color=INK, linestyle=(0, (5, 3)), linewidth=1.0)
    rates = [rate for rate, _ in points]
    axis.plot(rates, [max(FLOOR, one.attack_rate) for _, one in points], color=SYNTHETIC, linewidth=1.2)
    for rate, one in points:
        _bar(axis, rate * 0.94, one.control_rate, one.control_interval, (REAL, "s"))
        _bar(axis, rate * 1.06, one.attack_rate, one.attack_interval, (SYNTHETIC, "o"))
    axis.set_xlim(0.005, 1)
    axis.set_ylim(FLOOR, 1.2)
    axis.set_xticks([0.01, 0.1, 0.5], ["1 %", "10 %", "50 %"], fontsize=7)
    axis.set_yticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"], fontsize=7)
    axis.minorticks_off()
    axis.set_title(short(name, 48), fontsize=7)
    axis.grid()


def _bar(axis: Axes, place: float, value: float, interval: Interval, style: tuple[str, str]) -> None:
    """A rate with its interval; an arrow where the rate is zero."""
    colour, marker = style
    axis.plot(
        [place] * 2, [max(FLOOR, interval.lower), max(FLOOR, interval.upper)], color=colour, linewidth=1.5
    )
    axis.plot([place], [max(FLOOR, value)], marker if value >= FLOOR else "v", color=colour, markersize=4.5)
