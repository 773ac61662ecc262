"""A matplotlib figure as a picture inside a page.

Knows matplotlib's SVG output. Refuses pyplot and its global state. Rules: no text of a table is ever
read as a formula; every id is prefixed with the picture's own hash, so that many pictures share a
page; the picture names no address and no date, so that equal figures give equal bytes.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from synthkit.domain.canonical import sha256_hex
from synthkit.report.page import Html

INK, MUTED, GRID = "#1f2933", "#6b7785", "#dde2e7"
REAL, SYNTHETIC, OTHER = "#0072b2", "#d55e00", "#8a96a3"
"""Blue and vermilion of Okabe and Ito's palette: told apart by every kind of colour vision."""

UNKNOWN = "#b4bcc4"
"""A square for which there is no value."""

LOOK: Any = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
}

NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@contextmanager
def look() -> Iterator[None]:
    """The one look of all charts, in force inside the block only."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(LOOK)
        yield


def draw(width: float, height: float, description: str, paint: Callable[[Figure], None]) -> Html:
    """Paint a figure of `width` by `height` inches and return it as inline SVG.

    `description` is what a screen reader says in the picture's place.
    """
    with look():
        canvas = Figure(figsize=(width, height), layout="constrained")
        paint(canvas)
        mpl.rcParams["svg.hashsalt"] = description
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="svg", dpi=150, metadata=NO_METADATA)
    return _embed(buffer.getvalue().decode("utf-8"), description, width)


def _embed(text: str, description: str, width: float) -> Html:
    """From a stand-alone document to an element that can share a page with others."""
    text = text[text.index("<svg") :]
    prefix = "f" + sha256_hex(text.encode("utf-8"))[:10]
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))

    def rename(tag: re.Match[str]) -> str:
        # Only inside tags: a column may well be called id="x".
        markup = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", tag[0])
        markup = re.sub(r"url\(#", f"url(#{prefix}-", markup)
        return re.sub(r'href="#', f'href="#{prefix}-', markup)

    text = re.sub(r"<[^>]*>", rename, text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    # Other installations have other fonts: any sans-serif of theirs will do.
    rest = rest.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, Arial, sans-serif")
    label = escape(description, quote=True)
    # A small chart must not be blown up to the width of the page; 1 inch is 96 CSS pixels.
    opening += f' style="max-width: {96 * width:.0f}px" role="img" aria-label="{label}"'
    return Html(f"{opening}><title>{escape(description)}</title>{rest.strip()}")
