"""The charts: one function each, arrays in, inline SVG out.

Knows figures and domain nouns. Refuses to compute: what is drawn is what was handed in. Rules: real is
always blue and filled, synthetic always vermilion and outlined or marked differently, so that the two
stay apart on a grey print; no chart shows a rate without its interval.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from synthkit.domain.audit import AttackResult, Interval
from synthkit.domain.utility import TargetUtility
from synthkit.report.figures import AssociationMaps, ColumnDistribution, SpendCurve
from synthkit.report.page import Html
from synthkit.report.svg import INK, MUTED, OTHER, REAL, SYNTHETIC, UNKNOWN, draw

WIDTH = 11.0
"""Inches of every full-width chart; the page scales it."""


def spend_chart(curves: tuple[SpendCurve, ...]) -> Html:
    """Cumulative epsilon by round, one panel a site, each under its own dashed cap."""
    wide = min(4, len(curves))
    tall = -(-len(curves) // wide)
    top = 1.12 * max(max((curve.cap, *curve.epsilon)) for curve in curves)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
        for axis, curve in zip(axes, curves, strict=False):
            axis.step(curve.rounds, curve.epsilon, where="post", color=REAL, linewidth=1.8)
            axis.plot(curve.rounds[-1:], curve.epsilon[-1:], "o", color=REAL, markersize=4)
            axis.axhline(curve.cap, color=INK, linestyle=(0, (5, 3)), linewidth=1.1)
            axis.set_title(_spend_title(curve))
            axis.grid(axis="y")
            axis.set_ylim(0, top)
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        canvas.supxlabel("Round", fontsize=9)
        canvas.supylabel("Epsilon spent so far", fontsize=9)

    return draw(WIDTH, 0.5 + 1.9 * tall, "Privacy spend by site and round, with each site's cap", paint)


def _spend_title(curve: SpendCurve) -> str:
    spent = curve.epsilon[-1] if curve.epsilon else 0.0
    return f"{short(curve.site, 20)}: {spent:.2f} of {curve.cap:g}"


def distribution_chart(distribution: ColumnDistribution) -> Html:
    """One column, real beside synthetic."""

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        _distribution(axis, distribution, most_ticks=12)
        _two_colours(canvas)

    return draw(7.0, 3.2, f"Real and synthetic shares of column {distribution.name}", paint)


def distribution_grid(distributions: tuple[ColumnDistribution, ...]) -> Html:
    """Small multiples, four a row."""
    wide = min(4, len(distributions))
    tall = -(-len(distributions) // wide)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, squeeze=False).ravel()
        for axis, distribution in zip(axes, distributions, strict=False):
            _distribution(axis, distribution, most_ticks=6)
        for axis in axes[len(distributions) :]:
            axis.set_visible(False)
        _two_colours(canvas)

    names = f"Real and synthetic shares of {len(distributions)} columns"
    return draw(2.75 * wide if wide > 1 else 5.0, 0.4 + 2.0 * tall, names, paint)


def _distribution(axis: Axes, shown: ColumnDistribution, *, most_ticks: int) -> None:
    """Bars for categories, filled steps for numbers; a missing share stands apart on the right."""
    places = np.arange(len(shown.labels), dtype=float)
    if shown.is_numeric:
        edges = np.append(places, len(places)) - 0.5
        axis.stairs(100 * shown.real, edges, fill=True, color=REAL, alpha=0.35)
        axis.stairs(100 * shown.real, edges, color=REAL, linewidth=0.9)
        axis.stairs(100 * shown.synthetic, edges, color=SYNTHETIC, linewidth=1.6)
    else:
        _pair_of_bars(axis, places, shown.real, shown.synthetic)
    chosen = chosen_ticks(len(places), most_ticks) if shown.is_numeric else range(len(places))
    ticks, labels = [float(i) for i in chosen], [shown.labels[i] for i in chosen]
    has_missing = shown.real_missing > 0 or shown.synthetic_missing > 0
    if has_missing:
        width = max(1.0, len(places) / 8)
        place = len(places) - 0.5 + width
        shares = np.array([shown.real_missing]), np.array([shown.synthetic_missing])
        _pair_of_bars(axis, np.array([place]), *shares, width=width)
        axis.axvline(len(places) - 0.5 + width / 4, color=MUTED, linewidth=0.7, linestyle=":")
        ticks, labels = [*ticks, place], [*labels, "missing"]
    is_crowded = has_missing or sum(min(len(label), 11) + 1 for label in labels) > 5 * most_ticks
    names = [short(label, 16 if is_crowded else 11) for label in labels]
    axis.set_xticks(ticks, names, rotation=90 if is_crowded else 0, fontsize=7)
    axis.set_title(short(shown.name, 30))
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter("{x:g} %")
    axis.tick_params(axis="y", labelsize=7)
    axis.grid(axis="y")


def chosen_ticks(count: int, most: int) -> list[int]:
    """Every so many bins, and the last one, which may say "and more"; none close before the last."""
    step, last = -(-count // most), count - 1
    return [*(i for i in range(0, last, step) if last - i >= step), last]


def _pair_of_bars(
    axis: Axes, places: np.ndarray, real: np.ndarray, synthetic: np.ndarray, width: float = 1.0
) -> None:
    shift, bar = 0.2 * width, 0.38 * width
    axis.bar(places - shift, 100 * real, bar, color=REAL)
    axis.bar(places + shift, 100 * synthetic, bar, facecolor="white", edgecolor=SYNTHETIC, hatch="/////")


def _two_colours(canvas: Figure) -> None:
    handles = [
        Patch(facecolor=REAL, label="real"),
        Patch(facecolor="white", edgecolor=SYNTHETIC, hatch="/////", label="synthetic"),
    ]
    canvas.legend(handles=handles, loc="outside upper right", ncols=2)


def association_chart(maps: AssociationMaps) -> Html:
    """Three maps side by side: real, synthetic, and synthetic minus real."""
    difference = maps.synthetic - maps.real
    count = len(maps.names)
    size = 7.0 if count <= 32 else max(3.0, 7.0 * 32 / count)
    names = [short(name, 24) for name in maps.names]

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(1, 3, sharey=True)
        panels = (("Real", maps.real), ("Synthetic", maps.synthetic), ("Synthetic minus real", difference))
        for axis, (title, values) in zip(axes, panels, strict=True):
            is_difference = title.startswith("Synthetic minus")
            image = axis.imshow(
                np.ma.masked_invalid(values),
                cmap="PuOr_r" if is_difference else "Blues",
                vmin=-0.5 if is_difference else 0.0,
                vmax=0.5 if is_difference else 1.0,
                interpolation="nearest",
            )
            axis.set_facecolor(UNKNOWN)
            axis.set_title(title)
            axis.set_xticks(range(count), names, rotation=90, fontsize=size)
            axis.set_yticks(range(count), names, fontsize=size)
            axis.tick_params(length=0)
            for side in axis.spines.values():
                side.set_visible(False)
            bar = canvas.colorbar(image, ax=axis, orientation="horizontal", shrink=0.8, aspect=30, pad=0.02)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=7)

    return draw(13.0, 5.7 if count > 12 else 4.8, "How strongly columns are related: real, synthetic", paint)


def attack_rate_chart(attacks: tuple[AttackResult, ...]) -> Html:
    """How often the attacker claims membership: of members, of holdout patients, and by guessing."""

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        for row, attack in enumerate(reversed(attacks)):
            _point(axis, row + 0.2, attack.attack_rate, attack.attack_interval, (SYNTHETIC, "o"))
            _point(axis, row, attack.control_rate, attack.control_interval, (REAL, "s"))
            axis.plot([attack.baseline_rate], [row - 0.2], "D", color=OTHER, markersize=5)
        _name_rows(axis, attacks)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xlabel("Rate")
        styles = (
            ("attack, on members", SYNTHETIC, "o"),
            ("control, on holdout", REAL, "s"),
            ("baseline, by guessing", OTHER, "D"),
        )
        handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, c, m in styles]
        canvas.legend(handles=handles, loc="outside upper right", ncols=3)

    return draw(9.0, 1.2 + 0.55 * len(attacks), "Attack, control and baseline rate of each attack", paint)


def advantage_chart(attacks: tuple[AttackResult, ...], max_advantage: float) -> Html:
    """Each attack's advantage with its interval, against zero and against the limit tau."""

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        axis.axvline(0, color=MUTED, linewidth=0.9)
        axis.axvline(max_advantage, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        for row, attack in enumerate(reversed(attacks)):
            colour = SYNTHETIC if attack.decides else OTHER
            _point(axis, row, attack.advantage, attack.advantage_interval, (colour, "o"))
        _name_rows(axis, attacks)
        lowest = min(attack.advantage_interval.lower for attack in attacks)
        highest = max(attack.advantage_interval.upper for attack in attacks)
        reach = max(highest, max_advantage) - min(lowest, 0)
        axis.set_xlim(min(lowest, 0) - 0.06 * reach, max(highest, max_advantage) + 0.12 * reach)
        axis.set_xlabel("Advantage: attack rate minus control rate")
        handles = [
            Line2D([], [], color=SYNTHETIC, marker="o", label="decides"),
            Line2D([], [], color=INK, linestyle=(0, (5, 3)), label=f"limit tau = {max_advantage:g}"),
        ]
        if not all(attack.decides for attack in attacks):
            handles.insert(1, Line2D([], [], color=OTHER, marker="o", label="decides nothing"))
        canvas.legend(handles=handles, loc="outside upper right", ncols=len(handles))

    return draw(9.0, 1.2 + 0.42 * len(attacks), "Advantage of each attack, with the limit tau", paint)


def _point(axis: Axes, row: float, value: float, interval: Interval, style: tuple[str, str]) -> None:
    colour, marker = style
    axis.plot([interval.lower, interval.upper], [row, row], color=colour, linewidth=1.8)
    axis.plot([value], [row], marker, color=colour, markersize=6)


def _name_rows(axis: Axes, attacks: tuple[AttackResult, ...]) -> None:
    axis.set_yticks(range(len(attacks)), [attack_name(attack) for attack in reversed(attacks)], fontsize=8.5)
    axis.set_ylim(-0.6, len(attacks) - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.spines["left"].set_visible(False)


def statistic_words(statistic: str) -> str:
    """What is counted: `tpr_at_fpr_0.01` is the attack at 1 %, other names are words already."""
    rate = statistic.removeprefix("tpr_at_fpr_")
    is_rate = rate != statistic and rate.replace(".", "", 1).isdigit()
    return f"at {100 * float(rate):g} %" if is_rate else statistic.replace("_", " ")


def attack_name(attack: AttackResult, most: int = 60) -> str:
    """An attack's name on charts and in tables; the stratum is named unless it is everyone."""
    stratum = "" if attack.stratum == "all" else f" ({attack.stratum})"
    head, comma, view = attack.name.partition(",")
    told = f"{comma}{view}, {statistic_words(attack.statistic)}{stratum}"
    # What sets two rows of one attack apart stands at the end, so the cut is made before it.
    return short(f"{short(head, max(most - len(told), most // 3))}{told}", most)


def tstr_chart(utility: tuple[TargetUtility, ...]) -> Html:
    """AUC on the same real rows after training on real, on synthetic, and on each other set."""
    rows = max(2 + len(entry.others) for entry in utility)
    wide = min(3, len(utility))
    tall = -(-len(utility) // wide)
    lowest = min(
        score.auc for entry in utility for score in (entry.real, entry.synthetic, *entry.others.values())
    )
    left = min(0.5, np.floor(lowest * 10) / 10)

    def paint(canvas: Figure) -> None:
        axes = canvas.subplots(tall, wide, squeeze=False, sharex=True).ravel()
        for axis, entry in zip(axes, utility, strict=False):
            _auc_bars(axis, entry, left)
        for axis in axes[len(utility) :]:
            axis.set_visible(False)
        canvas.supxlabel("AUC on held-out real rows (0.5 is guessing)", fontsize=9)

    return draw(
        WIDTH, 0.7 + tall * (0.5 + 0.26 * rows), "AUC after training on real and on synthetic rows", paint
    )


def _auc_bars(axis: Axes, entry: TargetUtility, left: float) -> None:
    named = [("real", entry.real.auc, REAL), ("synthetic", entry.synthetic.auc, SYNTHETIC)]
    named += [(short(f"{label} alone", 18), score.auc, OTHER) for label, score in entry.others.items()]
    for row, (_, value, colour) in enumerate(reversed(named)):
        is_synthetic = colour == SYNTHETIC
        axis.barh(
            row,
            value - left,
            0.66,
            left=left,
            facecolor="white" if is_synthetic else colour,
            edgecolor=colour,
            hatch="/////" if is_synthetic else None,
        )
        axis.annotate(
            f"{value:.3f}",
            (value, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axis.set_yticks(range(len(named)), [name for name, _, _ in reversed(named)])
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(left, 1.07)
    axis.set_title(short(entry.target, 32))
    axis.grid(axis="x")


def short(text: str, most: int) -> str:
    """Cut a name that would run into its neighbour; tables show it whole."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
