"""Charts made of squares: two numbers together, and requested against delivered values.

Knows figures. Refuses to compute: what is drawn is what was handed in, scaled for the eye. Rule: the two
pictures of one pair share a scale, so that equal shades are equal shares.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from synthkit.report.charts import chosen_ticks, short
from synthkit.report.figures import Confusion, PairDensity
from synthkit.report.page import Html
from synthkit.report.svg import INK, REAL, SYNTHETIC, draw

PAIRS_A_ROW = 2


def pair_chart(pairs: tuple[PairDensity, ...]) -> Html:
    """Two-dimensional densities: each pair of columns twice, real on the left, synthetic on the right."""
    wide = min(PAIRS_A_ROW, len(pairs))
    tall = -(-len(pairs) // wide)

    def paint(canvas: Figure) -> None:
        frames = np.atleast_1d(canvas.subfigures(tall, wide, squeeze=False)).ravel()
        for frame, pair in zip(frames, pairs, strict=False):
            left, right = frame.subplots(1, 2, sharex=True, sharey=True)
            top = float(max(pair.real.max(), pair.synthetic.max(), 1e-9)) ** 0.5
            _density(left, pair, pair.real, ("real", REAL, top))
            _density(right, pair, pair.synthetic, ("synthetic", SYNTHETIC, top))
            left.set_ylabel(short(pair.y, 26), fontsize=8)
            frame.supxlabel(short(pair.x, 40), fontsize=8)

    return draw(11.0, 0.3 + 2.5 * tall, f"Real and synthetic densities of {len(pairs)} column pairs", paint)


def _density(axis: Axes, pair: PairDensity, shares: np.ndarray, look: tuple[str, str, float]) -> None:
    """One panel; the shade is the root of the share, so that thin parts are seen too."""
    title, colour, top = look
    shades = LinearSegmentedColormap.from_list(title, ["white", colour, INK])
    axis.imshow(
        np.sqrt(shares),
        cmap=shades,
        vmin=0.0,
        vmax=top,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    for labels, set_ticks in ((pair.x_labels, axis.set_xticks), (pair.y_labels, axis.set_yticks)):
        ticks = chosen_ticks(len(labels), 5)
        set_ticks(ticks, [short(labels[i], 10) for i in ticks], fontsize=6.5)
    axis.set_title(title, fontsize=8, color=colour)


def confusion_chart(confusion: Confusion) -> Html:
    """Requested values by row, delivered values by column, each row's shares adding to 100 %."""
    rows, columns = confusion.counts.shape
    totals = np.maximum(1, confusion.counts.sum(axis=1, keepdims=True))
    shares = confusion.counts / totals

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
        axis.set_xticks(range(columns), [short(v, 18) for v in confusion.values], rotation=90, fontsize=7)
        axis.set_yticks(range(rows), [short(r, 24) for r in confusion.requests], fontsize=7)
        axis.set_title(short(confusion.column, 40))
        axis.set_xlabel("delivered", fontsize=8)
        axis.set_ylabel("requested", fontsize=8)
        axis.tick_params(length=0)
        _numbers(axis, shares)

    width, height = min(11.0, 2.6 + 0.45 * columns), min(14.0, 1.6 + 0.26 * rows)
    return draw(width, height, f"Requested against delivered values of column {confusion.column}", paint)


def _numbers(axis: Axes, shares: np.ndarray) -> None:
    """Per cent, so written that one row in the wrong place shows, and shows in its own row too."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5}
    for (row, column), share in np.ndenumerate(shares):
        if share > 0:
            percent = round(100 * share) if share == 1 else min(99, round(100 * share))
            text = str(percent) if percent >= 1 else "<1"
            axis.text(column, row, text, color="white" if share > 0.55 else INK, **style)
