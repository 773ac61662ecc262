"""Survival curves and hazard ratios, drawn.

Knows the nouns of `synthkit.domain.survival`. Refuses to compute beyond scaling an axis. Rules: real is
blue, synthetic vermilion and dashed or round, so that the two stay apart on a grey print; no estimate
without its interval.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from synthkit.domain.survival import HazardRatio, SurvivalCurve, SurvivalReport, Term
from synthkit.report.charts import short
from synthkit.report.page import Html
from synthkit.report.svg import INK, MUTED, REAL, SYNTHETIC, draw

WIDEST = np.log(50.0)
"""Intervals that reach further than a ratio of 50, or of one in 50, are cut there."""

WIDE = np.log(8.0)
TICKS = (0.125, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0)
FEW_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Where the axis reaches beyond a ratio of 8."""


def curve_chart(report: SurvivalReport) -> Html:
    """Two Kaplan-Meier curves with their bands, and who was still followed below them."""
    unit = f" ({report.unit})" if report.unit else ""

    def paint(canvas: Figure) -> None:
        top, below = canvas.subplots(2, 1, height_ratios=[6, 1], sharex=True)
        _curve(top, report.real_curve, REAL, "-")
        _curve(top, report.synthetic_curve, SYNTHETIC, (0, (5, 2)))
        top.set_ylim(0, 1.02)
        top.set_xlim(0, report.real_curve.times[-1])
        top.set_ylabel(short(f"without {report.event} = {report.event_level}", 44), fontsize=8.5)
        top.grid(axis="y")
        handles = [
            Line2D([], [], color=REAL, label="real"),
            Line2D([], [], color=SYNTHETIC, linestyle=(0, (5, 2)), label="synthetic"),
        ]
        canvas.legend(handles=handles, loc="outside upper right", ncols=2)
        _at_risk(below, report)
        below.set_xlabel(short(f"{report.duration}{unit}", 60))

    return draw(8.5, 4.6, "Kaplan-Meier curves of real and synthetic rows, with numbers at risk", paint)


def _curve(axis: Axes, curve: SurvivalCurve, colour: str, line: str | tuple[int, tuple[int, int]]) -> None:
    axis.fill_between(
        curve.times, curve.lower, curve.upper, step="post", color=colour, alpha=0.15, linewidth=0
    )
    axis.step(curve.times, curve.survival, where="post", color=colour, linewidth=1.6, linestyle=line)


def _at_risk(axis: Axes, report: SurvivalReport) -> None:
    """The table of numbers still followed, as text at the ticks of the time axis."""
    axis.set_ylim(0, 2)
    axis.set_yticks([1.5, 0.5], ["real", "synthetic"])
    axis.set_title("still followed", fontsize=8)
    end = report.real_curve.times[-1]
    for row, curve, colour in ((1.5, report.real_curve, REAL), (0.5, report.synthetic_curve, SYNTHETIC)):
        for tick, count in zip(curve.ticks, curve.at_risk, strict=True):
            side = "left" if tick == 0 else "right" if tick > 0.97 * end else "center"
            axis.text(tick, row, f"{count:,}", ha=side, va="center", fontsize=8, color=colour)
    axis.set_xticks(report.real_curve.ticks, [f"{tick:.4g}" for tick in report.real_curve.ticks])
    axis.tick_params(axis="y", length=0, pad=8)
    for side in ("left", "top", "right"):
        axis.spines[side].set_visible(False)


def forest_chart(ratios: tuple[HazardRatio, ...]) -> Html:
    """Hazard ratios with 95 % intervals, real above synthetic; numbers per standard deviation."""
    marks = [("real", REAL, "s", 0.22), ("synthetic", SYNTHETIC, "o", 0.0 if _has_pooled(ratios) else -0.22)]
    if _has_pooled(ratios):
        marks.append(("pooled", INK, "D", -0.22))

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        axis.axvline(0, color=MUTED, linewidth=0.9)
        reach = 0.1
        for row, ratio in enumerate(reversed(ratios)):
            scale = ratio.spread if not ratio.is_level and ratio.spread else 1.0
            for name, colour, marker, shift in marks:
                term: Term | None = getattr(ratio, name)
                if term is not None:
                    reach = max(reach, _point(axis, row + shift, term, scale, (colour, marker)))
        axis.set_yticks(range(len(ratios)), [_label(ratio) for ratio in reversed(ratios)], fontsize=8.5)
        axis.set_ylim(-0.6, len(ratios) - 0.4)
        axis.set_xlim(-1.08 * reach, 1.08 * reach)
        _ratio_axis(axis, reach)
        handles = [
            Line2D(
                [], [], color=colour, marker=marker, label="synthetic, pooled" if name == "pooled" else name
            )
            for name, colour, marker, _ in marks
        ]
        canvas.legend(handles=handles, loc="outside upper right", ncols=len(handles))

    description = f"Hazard ratios of {len(ratios)} covariates, real and synthetic, with 95 % intervals"
    return draw(9.0, 1.1 + 0.42 * len(ratios), description, paint)


def _has_pooled(ratios: tuple[HazardRatio, ...]) -> bool:
    return any(ratio.pooled is not None for ratio in ratios)


def _point(axis: Axes, row: float, term: Term, scale: float, style: tuple[str, str]) -> float:
    """Draws one estimate; how far from 1 it reaches, as a log."""
    ends = np.clip([scale * end for end in (*term.log_interval, term.coefficient)], -WIDEST, WIDEST)
    colour, marker = style
    axis.plot(ends[:2], [row, row], color=colour, linewidth=1.6)
    axis.plot(ends[2:], [row], marker, color=colour, markersize=5)
    return float(np.abs(ends).max())


def _label(ratio: HazardRatio) -> str:
    if ratio.is_level or not ratio.spread:
        return short(ratio.name, 34)
    return f"{short(ratio.name, 24)}, per {ratio.spread:.3g}"


def _ratio_axis(axis: Axes, reach: float) -> None:
    """Logs on the axis, ratios in its labels; not so many that they run into one another."""
    inside = [tick for tick in (FEW_TICKS if reach > WIDE else TICKS) if abs(np.log(tick)) <= 1.08 * reach]
    if len(inside) < 3:
        step = max(0.01, round(float(np.expm1(reach)), 2))
        inside = [1 / (1 + step), 1.0, 1 + step]
    axis.set_xticks([float(np.log(tick)) for tick in inside])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{np.exp(value):.2g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("Hazard ratio (log scale)")
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)
