"""What is kept of a training's way: some of its weights, as draws from their posterior, and their mean.

Knows weights by name and the numbers of steps. Refuses to know patients, gradients and losses: whatever is
kept is a function of the weights after steps that were taken, so under DP-SGD it is post-processing of the
noised gradients and covered by the steps' own accounting, however many weights are kept. Rules: nothing
is kept of the burn-in; as many draws as were asked for, at equal distances; no step beyond the plan's.

Source: Mandt, Hoffman and Blei, "Stochastic gradient descent as approximate Bayesian inference", JMLR 2017
(iterates as draws, averages of windows); Wang, Fienberg and Smola, "Privacy for free", ICML 2015, section 4
(the noise of a private gradient as the Langevin noise); Biswal et al., EVA, 2020, section 3 (draws of theta).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class PosteriorSample:
    """Weights as they stood after `step` steps, or their mean over a window that ends there."""

    step: int
    weights: Weights


@dataclass(kw_only=True)
class WeightTrail:
    """Collects while a training goes on.

    Args:
        steps: Of the whole training.
        burn_in: Steps of which nothing is kept.
        samples: How many draws to keep; 0: the mean alone.
        is_averaged: Whether a draw is the mean of its window rather than the window's last weights.
    """

    steps: int
    burn_in: int
    samples: int
    is_averaged: bool
    kept: list[PosteriorSample] = field(default_factory=list)
    _sum: dict[str, np.ndarray] = field(default_factory=dict)
    _window: dict[str, np.ndarray] = field(default_factory=dict)
    _in_window: int = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.burn_in < self.steps or self.samples < 0:
            raise ValueError("a trail needs a step after its burn-in")

    @property
    def ends(self) -> tuple[int, ...]:
        """The steps after which a draw is kept: at most one a step."""
        rest = self.steps - self.burn_in
        count = min(self.samples, rest)
        return tuple(self.burn_in + rest * (number + 1) // count for number in range(count))

    def wants(self, step: int) -> bool:
        """Whether anything of the weights after this step is used."""
        return step > self.burn_in

    def note(self, step: int, weights: Weights) -> None:
        """Take in the weights after a step, counted from 1."""
        if not self.burn_in < step <= self.steps:
            raise ValueError("nothing is kept of this step")
        _add(self._sum, weights)
        self._seen += 1
        if self.is_averaged:
            _add(self._window, weights)
            self._in_window += 1
        if step in self.ends:
            drawn = _mean(self._window, self._in_window) if self.is_averaged else dict(weights)
            self.kept.append(PosteriorSample(step=step, weights=drawn))
            self._window, self._in_window = {}, 0

    def mean(self) -> dict[str, np.ndarray]:
        """Mean of all weights noted, float32."""
        return _mean(self._sum, self._seen)


def _add(total: dict[str, np.ndarray], weights: Weights) -> None:
    for name, value in weights.items():
        total[name] = total[name] + value if name in total else value.astype(np.float64)


def _mean(total: Weights, count: int) -> dict[str, np.ndarray]:
    return {name: (value / count).astype(np.float32) for name, value in total.items()}
