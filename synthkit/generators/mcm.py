"""MCM in its private, any-order form: one masked network, learnt from bought tables or by steps.

Source: the masked clinical model's idea (mask part of a row, complete it) without its leak: nothing is
completed from a patient's row. What differs from the paper, and why:
  - The mask is an input, every column is a categorical over its states and is *sampled*: time and event of
    a survival table are columns like any other, drawn jointly, and no proportional hazards are assumed.
  - `mcm` has a duration counted together with its event, the times in groups, as one more column of what is
    bought (see `domain.crossing`): pairs of single columns hold no relation of time, event and covariate.
  - Rows are drawn from nothing, or from conditions, column by column in random order (`masked`).
  - `mcm` buys one release, the two-way tables of all columns, and everything else is post-processing: the
    distribution of most entropy with these tables (`maxent`), and the masked network trained on rows drawn
    from it. Gradients of this network under noise say almost nothing: at epsilon 3 the mean clipped one has
    norm 0.02, the noise of a step 0.2.
  - `mcm-sgd` trains the same network by steps on patients, each patient's masks averaged before clipping.
    It is the form to use without privacy: it learns what pairs of columns do not say.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch

from synthkit.domain.layout import Layout
from synthkit.generators.annealing import annealed
from synthkit.generators.base import SteppedGenerator, TableGenerator
from synthkit.generators.masked import MaskedGenerator
from synthkit.generators.maxent import Chains, Pairwise, fit_pairwise

STEP_DEFAULTS = {"hidden": 256, "masks": 2, "blur": 0.15}
STEP_RANGES = {"hidden": (1, 4096), "masks": (1, 64), "blur": (0.0, 1.0)}
TABLE_DEFAULTS = {
    **STEP_DEFAULTS,
    "blur": 0.0,
    "chains": 8192,
    "sweeps": 120,
    "fit_steps": 1500,
    # More groups follow the course of a hazard more closely, with fewer patients in each; 8 is not tuned.
    "time_groups": 8,
}
TABLE_RANGES = {
    **STEP_RANGES,
    "time_groups": (0, 64),
    "chains": (1, 1_000_000),
    "sweeps": (1, 100_000),
    "fit_steps": (1, 1_000_000),
}

LEARNING_RATE, BATCH = 0.006, 512
"""Of the network's training on drawn rows."""

SWEPT_COLUMNS, MOST_SWEEPS_FOLD, MOST_STEPS_FOLD = 30, 3, 2
"""The usual sweeps and steps are for so many columns or more. Fewer take less time each and get more of them,
up to so many times as many: after 120 sweeps hazard ratios of eight columns were still .04 off in the log."""


class Mcm(MaskedGenerator, TableGenerator):
    """See the module docstring."""

    kind = "mcm"
    defaults, ranges = TABLE_DEFAULTS, TABLE_RANGES
    before: ClassVar[Mapping[str, float]] = {"time_groups": 0}

    def __init__(self, layout: Layout, hyperparameters: dict[str, float] | None = None) -> None:
        fold = max(1.0, SWEPT_COLUMNS / len(layout.states))
        usual = {
            "sweeps": round(min(MOST_SWEEPS_FOLD, fold) * TABLE_DEFAULTS["sweeps"]),
            "fit_steps": round(min(MOST_STEPS_FOLD, fold) * TABLE_DEFAULTS["fit_steps"]),
        }
        super().__init__(layout, {**usual, **(hyperparameters or {})})
        self.cross(int(self._settings["time_groups"]))

    def fit(
        self,
        *,
        sites: float,
        pair_noise: float,
        single_noise: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """See `TableGenerator`: couplings that give the tables, then the network on rows drawn with them."""
        patients = self.patients(sites)
        sweeps, steps = int(self._settings["sweeps"]), int(self._settings["fit_steps"])
        swept = sweeps + (sweeps // 2 if self.crossed else 0)
        say = progress or _silent
        tables = self.cleaned(pair_noise / patients, single_noise / patients)[0].float()
        with torch.no_grad():
            self.shares.copy_(tables.diagonal())
        pairwise, chains = fit_pairwise(
            tables,
            self.layout,
            variance=pair_noise**2 / patients,
            chains=int(self._settings["chains"]),
            sweeps=sweeps,
            progress=lambda done: say(done, swept + steps),
            crossed=self.crossed,
            bought=self.tables.double(),
            patients=patients,
        )
        self._learn(pairwise, chains, steps, lambda done: say(swept + done, swept + steps))

    def _learn(self, model: Pairwise, chains: Chains, steps: int, progress: Callable[[int], None]) -> None:
        """Train the network on rows of the chains, which move on as fast as rows are used up."""
        weights = [*self.first.parameters(), *self.out.parameters(), *self.linear.parameters()]
        optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, betas=(0.9, 0.99))
        rows, used = chains.states(), 0
        for step in range(steps):
            if used + BATCH > len(rows) or not step:
                chains.sweep(model)
                rows, used = chains.states(), 0
            batch = rows[used : used + BATCH, None].expand(-1, self.draws, -1)
            used += BATCH
            noise = torch.randn(*batch.shape[:2], self.noise_size, generator=chains.rng, device=batch.device)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * annealed(step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(self.any_order_loss(batch, noise).mean())
            optimizer.step()
            progress(step + 1)


class McmSgd(MaskedGenerator, SteppedGenerator):
    """See the module docstring. All trained layers are Linear, so ghost clipping applies to each."""

    kind = "mcm-sgd"
    defaults, ranges = STEP_DEFAULTS, STEP_RANGES

    def loss_per_view(
        self,
        states: torch.Tensor,
        *,
        progress: float,  # noqa: ARG002
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """See `MaskedGenerator.any_order_loss`: one mask a view."""
        return self.any_order_loss(states, noise)

    @torch.no_grad()
    def statistics(self, states: torch.Tensor, *, noise: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Which state each column is in, one-hot, divided by the root of the number of columns: norm 1."""
        columns = len(self.layout.states)
        hot = torch.zeros(len(states), self.layout.width, dtype=torch.float64, device=states.device)
        hot.scatter_(1, states + torch.tensor(self.layout.offsets, device=states.device), 1.0)
        return hot / math.sqrt(columns)

    @torch.no_grad()
    def fit_prior(self, total: np.ndarray) -> None:
        """See `Generator`. One-way shares: the column that is drawn first has nothing else to go by."""
        blocks = np.split(np.clip(total, 0.0, None) + 1e-9, np.cumsum(self.layout.states)[:-1])
        self.shares.copy_(torch.from_numpy(np.concatenate([block / block.sum() for block in blocks])))


def _silent(done: int, of: int) -> None:
    """No progress wanted."""
