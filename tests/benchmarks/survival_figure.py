"""Figure 2(b) as a picture: every method's hazard ratios in the real rows' 95 % intervals.

Knows coefficients and the house's look of a chart. Refuses to compute beyond scaling: a covariate is shown in
real standard errors, on which all of them share an axis.
"""

import numpy as np
from matplotlib.figure import Figure

from synthkit.domain.survival import NORMAL
from synthkit.evaluation.cox import CoxFit
from synthkit.report.page import Html
from synthkit.report.svg import INK, MUTED, draw

MARKERS = "osD^vPX*"
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK, MUTED)
"""Okabe and Ito's palette."""

REACH = 8.0
"""Standard errors beyond which a point is drawn at the edge."""


def ratio_figure(real: CoxFit, pooled: dict[str, np.ndarray]) -> Html:
    """One row a covariate, the real interval as a band from -1.96 to 1.96, one mark a method."""

    def paint(canvas: Figure) -> None:
        axis = canvas.subplots()
        axis.axvspan(-NORMAL, NORMAL, color=MUTED, alpha=0.15, linewidth=0)
        axis.axvline(0, color=MUTED, linewidth=0.9)
        rows = np.arange(len(real.terms))[::-1]
        for place, (name, coefficient) in enumerate(pooled.items()):
            away = (coefficient - real.coefficient) / real.standard_error
            shift = 0.3 - 0.6 * (place + 0.5) / len(pooled)
            mark, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
            axis.plot(away.clip(-REACH, REACH), rows + shift, mark, color=colour, label=name, markersize=5)
        labels = [
            f"{term}: HR {ratio:.3f}"
            for term, ratio in zip(real.terms, np.exp(real.coefficient), strict=True)
        ]
        axis.set_yticks(rows, labels, fontsize=8.5)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(
            "Log hazard ratio less the real one, in real standard errors (band: real 95 % interval)"
        )
        axis.grid(axis="x")
        canvas.legend(loc="outside upper right", ncols=min(4, max(1, len(pooled))))

    description = "Hazard ratios of synthetic rows beside those of real rows: " + ", ".join(pooled)
    return draw(9.0, 1.4 + 0.5 * len(real.terms), description, paint)
