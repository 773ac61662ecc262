"""What the charts of records draw: names, numbers and nothing else.

Knows arrays and plain strings. Refuses records: whoever holds them computes these first.
"""

from dataclasses import dataclass

import numpy as np

from synthkit.report.figures import ColumnDistribution


@dataclass(frozen=True, kw_only=True, eq=False)
class Scatter:
    """Real against synthetic: one point a code or a pair of codes, both float64 (points,)."""

    title: str
    real: np.ndarray
    synthetic: np.ndarray
    is_share: bool = True
    """Shares stand on logarithmic axes, absent ones at the edge; lifts are logarithms already."""

    def __post_init__(self) -> None:
        if self.real.shape != self.synthetic.shape:
            raise ValueError("the two sides differ in length")


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentMap:
    """Records' latents in two dimensions, coloured by one condition.

    `generated` and `real` are float64 (records, 2), `generated_has` and `real_has` bool (records,).
    `apart`: share of the spread of all latent dimensions that lies between patients with and without it,
    generated and real.
    """

    condition: str
    generated: np.ndarray
    generated_has: np.ndarray
    real: np.ndarray
    real_has: np.ndarray
    apart: tuple[float, float]

    def __post_init__(self) -> None:
        if len(self.generated) != self.generated_has.size or len(self.real) != self.real_has.size:
            raise ValueError("places and colours differ in length")


@dataclass(frozen=True, kw_only=True, eq=False)
class SequencePictures:
    """All pictures of one evaluation."""

    scatters: tuple[Scatter, ...]
    distributions: tuple[ColumnDistribution, ...]
    conditions: tuple[Scatter, ...] = ()
    latents: tuple[LatentMap, ...] = ()
    explained: float = 0.0
    """Share of the generated records' latent spread that the map's two axes hold."""
    is_private: bool = False
    """Whether a privacy claim stands behind the model of the latents."""
