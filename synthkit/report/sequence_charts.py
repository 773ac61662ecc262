"""The charts of records: scatter plots, scores with intervals, and maps of latents.

Knows figures and domain nouns. Refuses to compute. Rules: as of all charts, real is blue and synthetic
vermilion; no chart shows a score without its interval, and none a score without its floor.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from synthkit.domain.utility import Estimate
from synthkit.report.charts import WIDTH, short
from synthkit.report.page import Html
from synthkit.report.sequence_figures import LatentMap, Scatter
from synthkit.report.svg import INK, MUTED, OTHER, REAL, SYNTHETIC, draw

COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One score in a chart: what was trained on, and how it did."""

    name: str
    estimate: Estimate | None
    colour: str = OTHER


def scatter_grid(scatters: tuple[Scatter, ...], description: str) -> Html:
    """Synthetic against real, a panel each; on the diagonal the two agree."""
    wide = min(COLUMNS, len(scatters))
    tall = -(-len(scatters) // wide)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, squeeze=False).ravel()
        for axis, scatter in zip(axes, scatters, strict=False):
            _scatter(axis, scatter)
        for axis in axes[len(scatters) :]:
            axis.set_visible(False)
        canvas.supxlabel("Real", fontsize=9)
        canvas.supylabel("Synthetic", fontsize=9)

    return draw(3.5 * wide, 0.4 + 3.2 * tall, description, paint)


def _scatter(axis: Axes, scatter: Scatter) -> None:
    axis.set_title(short(scatter.title, 38))
    if not scatter.real.size:
        axis.text(0.5, 0.5, "too few to draw", ha="center", transform=axis.transAxes, color=MUTED)
        return
    real, synthetic = scatter.real, scatter.synthetic
    if scatter.is_share:
        positive = np.concatenate([real[real > 0], synthetic[synthetic > 0]])
        edge = float(positive.min()) / 2 if positive.size else 1e-6
        real, synthetic = np.maximum(real, edge), np.maximum(synthetic, edge)
        axis.set_xscale("log")
        axis.set_yscale("log")
        for side in (axis.xaxis, axis.yaxis):
            # The usual labels of such an axis are formulas, which no chart of ours reads.
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter(NullFormatter())
    low = float(min(real.min(), synthetic.min()))
    high = float(max(real.max(), synthetic.max()))
    axis.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    # Thousands of points as an image: as shapes they would weigh more than all the rest of the page.
    axis.scatter(real, synthetic, s=6, color=SYNTHETIC, alpha=0.45, linewidths=0, rasterized=True)
    axis.grid()


def score_chart(groups: tuple[tuple[str, tuple[Bar, ...]], ...], label: str, description: str) -> Html:
    """Scores with 95 % intervals, a panel each group, one row each bar."""
    rows = max(len(bars) for _, bars in groups)
    wide = min(COLUMNS, len(groups))
    tall = -(-len(groups) // wide)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, squeeze=False).ravel()
        for axis, (title, bars) in zip(axes, groups, strict=False):
            _scores(axis, title, bars)
        for axis in axes[len(groups) :]:
            axis.set_visible(False)
        canvas.supxlabel(label, fontsize=9)

    return draw(WIDTH, 0.6 + tall * (0.6 + 0.3 * rows), description, paint)


def _scores(axis: Axes, title: str, bars: tuple[Bar, ...]) -> None:
    for row, bar in enumerate(reversed(bars)):
        if bar.estimate is None:
            continue
        value = bar.estimate
        axis.plot([value.lower, value.upper], [row, row], color=bar.colour, linewidth=2.0)
        inside = "white" if bar.colour == SYNTHETIC else bar.colour
        axis.plot([value.mean], [row], "o", color=bar.colour, markersize=6, markerfacecolor=inside)
        axis.annotate(
            f"{value.mean:.3f}", (value.upper, row), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(bars)), [short(bar.name, 26) for bar in reversed(bars)])
    axis.set_ylim(-0.6, len(bars) - 0.4)
    axis.margins(x=0.18)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.set_title(short(title, 38))


def latent_chart(maps: tuple[LatentMap, ...], *, is_real: bool) -> Html:
    """One panel a condition: filled dots have it, hollow ones have it not."""
    wide = min(COLUMNS, len(maps))
    tall = -(-len(maps) // wide)
    colour = REAL if is_real else SYNTHETIC

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, one in zip(axes, maps, strict=False):
            places, has = (one.real, one.real_has) if is_real else (one.generated, one.generated_has)
            axis.scatter(
                *places[~has].T, s=9, facecolor="none", edgecolor=OTHER, linewidths=0.5, rasterized=True
            )
            axis.scatter(*places[has].T, s=9, color=colour, alpha=0.7, linewidths=0, rasterized=True)
            apart = one.apart[0 if not is_real else 1]
            share = "" if apart != apart else f" ({100 * apart:.0f} % apart)"  # noqa: PLR0124
            axis.set_title(short(one.condition, 26) + share)
            axis.set_xticks([])
            axis.set_yticks([])
        for axis in axes[len(maps) :]:
            axis.set_visible(False)
        handles = [
            Line2D([], [], color=colour, marker="o", linestyle="", label="with the condition"),
            Line2D([], [], color=OTHER, marker="o", linestyle="", fillstyle="none", label="without"),
        ]
        canvas.legend(handles=handles, loc="outside upper right", ncols=2)

    whose = "real" if is_real else "generated"
    return draw(3.6 * wide, 0.5 + 3.0 * tall, f"Latents of {whose} records by condition", paint)
