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
from synthkit.generators.annealing import annealed
from synthkit.generators.base import TableGenerator
from synthkit.generators.completion import complete_from_codes
from synthkit.generators.layers import perceptron
from synthkit.generators.settings import checked_settings
from synthkit.generators.tables import blocks_of

DEFAULTS = {"hidden_1": 88, "hidden_2": 60, "hidden_3": 32, "latent": 32, "codes": 1000, "fit_steps": 800}

RANGES = {
    "hidden_1": (1, 4096),
    "hidden_2": (1, 4096),
    "hidden_3": (1, 4096),
    "latent": (1, 512),
    "codes": (1, 100_000),
    "fit_steps": (1, 1_000_000),
}

LEARNING_RATE = 0.01
RAKES = 20
"""Passes over the one-way shares after the fit; ten leave less than a thousandth of any."""
SAMPLE_CHUNK = 16384
"""Patients drawn at once: bounds memory."""
LIKELIHOOD_CHUNK = 1024
"""Rows whose probability is asked for at once."""


class MedVae(TableGenerator):
    """See the module docstring."""

    kind = "medvae"
    reliability_words = (
        "about {share} of the signal in these conditions is the patients', the rest is privacy noise or what "
        "no patient taught"
    )

    def __init__(self, layout: Layout, hyperparameters: dict[str, float] | None = None) -> None:
        super().__init__(layout)
        self._settings = checked_settings(self.kind, hyperparameters, DEFAULTS, RANGES)
        widths = [int(self._settings[name]) for name in ("latent", "hidden_3", "hidden_2", "hidden_1")]
        self.codes = nn.Parameter(torch.randn(int(self._settings["codes"]), widths[0]))
        self.linear = nn.Linear(widths[0], layout.width)
        self.perceptron = perceptron([*widths, layout.width])
        with torch.no_grad():
            # Near independence at first: relations grow from the tables, not from the initial weights.
            self.linear.weight.normal_(std=0.3 / math.sqrt(widths[0]))
            self.perceptron[-1].get_parameter("weight").mul_(0.3)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """See `Generator`."""
        return dict(self._settings)

    def fit(
        self,
        *,
        sites: float,
        pair_noise: float,
        single_noise: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """See `TableGenerator`: least squares on every table, each cell weighted by what it is worth."""
        patients = self.patients(sites)
        target = self._target(patients, pair_noise, single_noise)
        fitted = [self.codes, *self.linear.parameters(), *self.perceptron.parameters()]
        optimizer = torch.optim.Adam(fitted, lr=LEARNING_RATE, betas=(0.9, 0.99))
        steps = int(self._settings["fit_steps"])
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * annealed(step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(self._misfit(*target))
            optimizer.step()
            if progress is not None:
                progress(step + 1, steps)
        self._rake(target[0].diagonal())

    @torch.no_grad()
    def _target(
        self, patients: float, pair_noise: float, single_noise: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs' tables and weights, each (width, width), and one-way weights, (width,).

        A cell's weight is the inverse of its variance: the privacy noise's, and that of drawing
        `patients` patients from a population in which the columns are independent.
        """
        pairs, noise = self.cleaned(pair_noise / patients, single_noise / patients)
        shares = pairs.diagonal().clone()
        self.linear.bias.copy_(shares.log())
        expected = (torch.outer(shares, shares) * patients).clamp(min=0.5)
        is_pair = (pairs > 0).fill_diagonal_(False)
        weights = torch.where(is_pair, patients**2 / (pair_noise**2 + expected), 0.0)
        weights /= (weights > 0).sum().clamp(min=1)
        own_noise = (noise * patients)[blocks_of(self.layout, pairs.device)]
        single = patients**2 / (own_noise**2 + shares * patients) / len(shares)
        return pairs.float(), weights.float(), single.float()

    @torch.no_grad()
    def _rake(self, shares: torch.Tensor) -> None:
        """Shift the biases until the model's one-way shares are the bought ones, shape (width,).

        Least squares leaves a few per cent of the rare states, and those far out are most of a skewed
        column's spread. Source: Deming and Stephan, Ann. Math. Statist. 11 (1940), one margin at a time.
        """
        for _ in range(RAKES):
            model = torch.cat([torch.softmax(part, 1) for part in self._blocks()], dim=1).mean(dim=0)
            self.linear.bias.add_(shares.log() - model.clamp(min=1e-12).log())

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

        The share returned is that of signal in the conditions' mass, see `signal_share`.
        """
        masses, log_fit = self._restricted(where or {})
        weights = torch.softmax(log_fit, dim=0)
        mass = _mean_mass(log_fit)
        share = self.signal_share(mass) if where else 1.0
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
        return drawn, share

    @torch.no_grad()
    def mass(self, where: StateWeights, *, rng: torch.Generator) -> float:  # noqa: ARG002
        """See `Generator`. Exact: a sum over all codes."""
        return _mean_mass(self._restricted(where)[1])

    def _restricted(self, where: StateWeights) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Each column's allowed mass per code, (codes, states); and each code's log mass, (codes,)."""
        masses = [torch.softmax(part.double(), dim=1) for part in self._blocks()]
        log_fit = torch.zeros(len(self.codes), dtype=torch.float64, device=self.codes.device)
        for column, allowed in where.items():
            masses[column] = masses[column] * torch.from_numpy(allowed).to(masses[column])
            log_fit += torch.log(masses[column].sum(dim=1) + 1e-300)
        return masses, log_fit

    @torch.no_grad()
    def complete(self, states: np.ndarray, *, rng: torch.Generator) -> np.ndarray:
        """See `Generator`. Exact: the posterior of a row's code is a sum over all codes."""
        return complete_from_codes(states, self._blocks(), rng)

    @torch.no_grad()
    def log_likelihood(self, states: np.ndarray) -> np.ndarray:
        """See `Generator`. Exact: the mean over all codes of the row's probability."""
        columns = [torch.log_softmax(part, dim=1).T.contiguous() for part in self._blocks()]
        found = np.empty(len(states))
        for start in range(0, len(states), LIKELIHOOD_CHUNK):
            rows = torch.from_numpy(states[start : start + LIKELIHOOD_CHUNK]).to(self.codes.device)
            total = torch.zeros(len(rows), len(self.codes), device=self.codes.device)
            for column, table in enumerate(columns):
                total += table[rows[:, column]]  # (rows, codes)
            mass = torch.logsumexp(total.double(), dim=1) - math.log(len(self.codes))
            found[start : start + len(rows)] = mass.cpu().numpy()
        return found


def _mean_mass(log_fit: torch.Tensor) -> float:
    """Mean over the codes of their mass, which is given by its logarithm."""
    return min(1.0, float(torch.exp(torch.logsumexp(log_fit, 0)) / len(log_fit)))
