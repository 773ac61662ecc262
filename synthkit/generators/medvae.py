"""Med-VAE in its private form: a decoder over learnt codes, fitted to bought two-way tables.

Source: Hogg and Sainsbury, Med-VAE (supplementary text: 32 latent dimensions, a decoder of 32-60-88 leaky
rectifier units); Liu, Vietri and Wu, "Iterative methods for private synthetic data", NeurIPS 2021 (a
generator fitted to noisy marginals). What differs from the paper, and why:
  - Every column is a categorical over its states (numeric columns over bins, missing as a state) and
    is *sampled*, never taken at its most probable value: spread and gaps survive.
  - What is bought from the patients is one release: the two-way tables of all columns, by one Gaussian
    mechanism. Decoder and codes are fitted to them by post-processing, as long as one likes. Noise on a
    few hundred counts per pair, once, costs far less than noise on every gradient of a long training:
    compare `medvae-sgd` in tests/benchmarks/bench_quality.py.
  - The prior is uniform over `codes` learnt codes instead of a normal one: no mismatch between prior and
    posterior is left, the posterior of a row is an exact sum, and so is conditional generation. No
    library of patients' codes exists.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import Layout, StateWeights
from synthkit.errors import InputError
from synthkit.generators.base import TableGenerator
from synthkit.generators.layers import perceptron
from synthkit.generators.settings import checked_settings
from synthkit.generators.tables import share_of_each_state, shrunk_to_independence

DEFAULTS = {"hidden_1": 88, "hidden_2": 60, "hidden_3": 32, "latent": 32, "codes": 1000, "fit_steps": 800}

RANGES = {
    "hidden_1": (1, 4096),
    "hidden_2": (1, 4096),
    "hidden_3": (1, 4096),
    "latent": (1, 512),
    "codes": (1, 100_000),
    "fit_steps": (1, 1_000_000),
}

MOST_STATES = 6000
"""The tables hold the square of this; beyond, categories have to be grouped."""

LEARNING_RATE = 0.01
SAMPLE_CHUNK = 16384
"""Patients drawn at once: bounds memory."""


class MedVae(TableGenerator):
    """See the module docstring."""

    kind = "medvae"

    def __init__(self, layout: Layout, hyperparameters: dict[str, float] | None = None) -> None:
        super().__init__(layout)
        self._settings = checked_settings(self.kind, hyperparameters, DEFAULTS, RANGES)
        if layout.width > MOST_STATES:
            raise InputError(
                f"the columns have more than {MOST_STATES} states together",
                where="generator medvae",
                fix="group categories, or drop columns",
            )
        widths = [int(self._settings[name]) for name in ("latent", "hidden_3", "hidden_2", "hidden_1")]
        self.codes = nn.Parameter(torch.randn(int(self._settings["codes"]), widths[0]))
        self.linear = nn.Linear(widths[0], layout.width)
        self.perceptron = perceptron([*widths, layout.width])
        with torch.no_grad():
            # Near independence at first: relations grow from the tables, not from the initial weights.
            self.linear.weight.normal_(std=0.3 / math.sqrt(widths[0]))
            self.perceptron[-1].get_parameter("weight").mul_(0.3)
        self.tables = nn.Parameter(torch.zeros(layout.width, layout.width), requires_grad=False)
        self.millions = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.table_noise = nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """See `Generator`."""
        return dict(self._settings)

    @torch.no_grad()
    def set_tables(self, counts: np.ndarray) -> None:
        """See `TableGenerator`. Kept as shares of patients, which average over sites."""
        diagonal = np.split(np.diag(counts), np.cumsum(self.layout.states)[:-1])
        # Each column's states add up to the patients, with as much noise as there are states.
        trust = 1.0 / np.array(self.layout.states)
        patients = max(float(np.average([block.sum() for block in diagonal], weights=trust)), 1.0)
        self.tables.copy_(torch.from_numpy(counts / patients))
        self.millions.fill_(patients / 1e6)  # of the order of the other weights, whatever the site's size

    def fit(
        self,
        *,
        sites: float,
        pair_noise: float,
        single_noise: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """See `TableGenerator`: least squares on every table, each cell weighted by what it is worth."""
        patients = max(1.0, float(self.millions) * 1e6 * sites)
        target = self._target(patients, pair_noise, single_noise)
        fitted = [self.codes, *self.linear.parameters(), *self.perceptron.parameters()]
        optimizer = torch.optim.Adam(fitted, lr=LEARNING_RATE, betas=(0.9, 0.99))
        steps = int(self._settings["fit_steps"])
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * _schedule(step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(self._misfit(*target))
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)
        with torch.no_grad():
            self.table_noise.fill_(pair_noise / patients)

    @torch.no_grad()
    def _target(
        self, patients: float, pair_noise: float, single_noise: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs' tables and weights, each (width, width), and one-way weights, (width,).

        A cell's weight is the inverse of its variance: the privacy noise's, and that of drawing
        `patients` patients from a population in which the columns are independent.
        """
        tables = self.tables.double()
        shares, told = share_of_each_state(tables, self.layout, noise=single_noise / patients)
        self.linear.bias.copy_(shares.log())
        pairs = shrunk_to_independence(tables, shares, told, self.layout, noise=pair_noise / patients)
        expected = (torch.outer(shares, shares) * patients).clamp(min=0.5)
        weights = torch.where(pairs > 0, patients**2 / (pair_noise**2 + expected), 0.0)
        weights /= (weights > 0).sum().clamp(min=1)
        single = patients**2 / (single_noise**2 + shares * patients) / len(shares)
        pairs.diagonal().copy_(shares)
        return pairs.float(), weights.float(), single.float()

    def _misfit(self, pairs: torch.Tensor, weights: torch.Tensor, single: torch.Tensor) -> torch.Tensor:
        """Weighted squared distance between the model's tables and the bought ones."""
        mass = torch.cat([torch.softmax(part, 1) for part in self._blocks()], dim=1)  # (codes, width)
        model = mass.T @ mass / len(mass)  # (width, width)
        shares = mass.mean(dim=0)
        return ((model - pairs).square() * weights).sum() + (
            (shares - pairs.diagonal()).square() * single
        ).sum()

    def _blocks(self) -> tuple[torch.Tensor, ...]:
        """Logits of every code, column by column, each (codes, states)."""
        logits = self.linear(self.codes) + self.perceptron(self.codes)
        return torch.split(logits, list(self.layout.states), dim=1)

    @torch.no_grad()
    def sample(
        self, count: int, *, rng: torch.Generator, where: StateWeights | None = None
    ) -> tuple[np.ndarray, float]:
        """See `Generator`. Exact under conditions: codes by their posterior, then states within them.

        The share returned is that of signal in the conditions' mass m, m^2 / (m^2 + noise^2), the noise
        being that of one bought cell.
        """
        masses = [torch.softmax(part.double(), dim=1) for part in self._blocks()]
        log_fit = torch.zeros(len(self.codes), dtype=torch.float64, device=self.codes.device)
        for column, allowed in (where or {}).items():
            masses[column] = masses[column] * torch.from_numpy(allowed).to(masses[column])
            log_fit += torch.log(masses[column].sum(dim=1) + 1e-300)
        weights = torch.softmax(log_fit, dim=0)
        mass = float(torch.exp(torch.logsumexp(log_fit, 0)) / len(log_fit))
        noise = float(self.table_noise)
        share = mass**2 / (mass**2 + noise**2) if where and noise > 0 else 1.0
        cumulative = [part.cumsum(dim=1).float().contiguous() for part in masses]
        last = {c: int(np.flatnonzero(allowed)[-1]) for c, allowed in (where or {}).items()}
        drawn = np.empty((count, len(cumulative)), dtype=np.int64)
        for start in range(0, count, SAMPLE_CHUNK):
            rows = drawn[start : start + SAMPLE_CHUNK]
            code = torch.multinomial(weights, len(rows), replacement=True, generator=rng)
            uniform = torch.rand(len(cumulative), len(rows), generator=rng, device=weights.device)
            for column, table in enumerate(cumulative):
                sums = table[code]  # (rows, states)
                state = (sums <= uniform[column][:, None] * sums[:, -1:]).sum(dim=1)
                rows[:, column] = state.clamp(max=last.get(column, sums.shape[1] - 1)).cpu().numpy()
        return drawn, max(share, 1e-12)


def _schedule(share: float) -> float:
    """Learning-rate factor at a share of the fit: a short rise, then a cosine fall to 0.02."""
    return min(1.0, (share + 0.01) / 0.06) * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * share)))
