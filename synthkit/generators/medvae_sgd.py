"""Med-VAE in its private form: a variational autoencoder over mixed clinical columns.

Source: Hogg and Sainsbury, Med-VAE (supplementary text: 88-60-32 leaky rectifier layers, mirrored
decoder, scaled KL term). What differs, and why:
  - Every column is a categorical over its states (numeric columns over bins, missing as a state) and
    is *sampled*, never taken at its most probable value: spread and gaps survive.
  - No BatchNorm: it mixes patients, and per-patient clipping would bound nothing.
  - The code starts as fixed random features of the patient (a public random projection of the one-hot
    vector) to which the trained encoder adds a correction. Under noise the plain encoder and decoder
    never get each other going and the code collapses to about the score of independent columns (pair
    trends of 0.81 on Diabetes 130). Starting from an informative code gives 0.88 at epsilon 3
    (tests/benchmarks/bench_quality.py).
  - No latent library of real patients. The prior is a Gaussian with full covariance, fitted once, at
    the end, to the patients' codes by one Gaussian mechanism; a standard normal prior matches only
    where the KL term has destroyed the code.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from synthkit.domain.layout import Layout, StateWeights
from synthkit.generators.base import SteppedGenerator, chance_of_any
from synthkit.generators.completion import complete_from_codes
from synthkit.generators.layers import perceptron
from synthkit.generators.settings import checked_settings

DEFAULTS = {
    "hidden_1": 88,
    "hidden_2": 60,
    "hidden_3": 32,
    "latent": 32,
    "kl_weight": 0.02,
    "posterior_std": 0.2,
    "projection_seed": 1,
}

RANGES = {
    "hidden_1": (1, 4096),
    "hidden_2": (1, 4096),
    "hidden_3": (1, 4096),
    "latent": (1, 512),
    "kl_weight": (0.0, 100.0),
    "posterior_std": (1e-9, 10.0),
    "projection_seed": (0, 2**31),
}

PROJECTION_SCALE = 2.0
"""Standard deviation of a code coordinate is then of the order of 1.5, against a posterior of 0.2."""

CODE_NORM_PER_LATENT = 3.0
"""Codes are clipped to the norm sqrt(3 * latent) before their moments are taken."""


class MedVaeSgd(SteppedGenerator):
    """See the module docstring. All trained layers are Linear, so ghost clipping applies to each."""

    kind = "medvae-sgd"
    reliability_words = (
        "the rows vary as if {share} of them came from latent draws of their own that patients taught"
    )
    encoder_parts = ("encoder", "projection")

    def __init__(self, layout: Layout, hyperparameters: dict[str, float] | None = None) -> None:
        super().__init__(layout)
        self._settings = checked_settings(self.kind, hyperparameters, DEFAULTS, RANGES)
        widths = [int(self._settings[f"hidden_{i}"]) for i in (1, 2, 3)]
        self.latent = int(self._settings["latent"])
        self.encoder = perceptron([layout.width, *widths, 2 * self.latent])
        self.decoder = _Decoder([self.latent, *widths[::-1], layout.width])
        with torch.no_grad():
            # The correction starts small, so that the code starts as the random features.
            self.encoder[-1].get_parameter("weight").mul_(0.1)
            self.encoder[-1].get_parameter("bias").zero_()
        # Not trained, hence not Linear layers: a public constant, and what `fit_prior` sets.
        self.projection = nn.Parameter(self._draw_projection(), requires_grad=False)
        self.prior_mean = nn.Parameter(torch.zeros(self.latent), requires_grad=False)
        self.prior_moment = nn.Parameter(torch.eye(self.latent), requires_grad=False)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """See `Generator`."""
        return dict(self._settings)

    @property
    def noise_size(self) -> int:
        """See `Generator`: one code."""
        return self.latent

    @torch.no_grad()
    def forget_encoder(self) -> None:
        """Leave the code to the public random features alone: no correction, a fixed posterior width."""
        for parameter in self.encoder.parameters():
            parameter.zero_()
        self.projection.copy_(self._draw_projection())

    def _draw_projection(self) -> torch.Tensor:
        """Random features: the same for every site that knows the (public) seed. Shape (width, latent)."""
        seeded = torch.Generator().manual_seed(int(self._settings["projection_seed"]))
        gaussian = torch.randn(self.layout.width, self.latent, generator=seeded)
        return gaussian * (PROJECTION_SCALE / math.sqrt(len(self.layout.states)))

    def loss_per_view(
        self,
        states: torch.Tensor,
        *,
        progress: float,  # noqa: ARG002
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """Negative evidence lower bound, the KL term weighted, one latent draw a view."""
        mean, log_std = self._encode(states)  # each (batch, views, latent)
        logits = self.decoder(mean + log_std.exp() * noise)  # (batch, views, width)
        kl = (0.5 * (mean**2 + torch.exp(2 * log_std) - 1) - log_std).sum(-1)  # (batch, views)
        return reconstruction_loss(logits, states, self.layout) + self._settings["kl_weight"] * kl

    def _encode(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior mean and log standard deviation, each (..., latent)."""
        hot = one_hot(states, self.layout)
        correction, log_std = self.encoder(hot).chunk(2, dim=-1)
        return hot @ self.projection + correction, math.log(self._settings["posterior_std"]) + torch.tanh(
            log_std
        )

    @torch.no_grad()
    def statistics(self, states: torch.Tensor, *, noise: torch.Tensor) -> torch.Tensor:
        """(1, c, upper triangle of c c^T with off-diagonals times sqrt 2) / sqrt 3, for c = z / bound.

        With |c| <= 1 the three parts have norms 1, |c| and |c|^2, so the whole is at most 1. The
        constant part buys the count: the exact one is private.
        """
        mean, log_std = self._encode(states)
        # A draw, not the mean: the prior has to cover the codes that the decoder was trained on.
        z = (mean + log_std.exp() * noise).double() / self._code_bound
        norms = z.norm(dim=1, keepdim=True)
        # A code that overflowed counts as zero: no clipping bounds a NaN.
        z = torch.where(norms.isfinite(), z / norms.clamp(min=1.0), 0.0)
        rows, columns = torch.triu_indices(self.latent, self.latent)
        scale = torch.where(rows == columns, 1.0, math.sqrt(2.0)).to(z)
        products = z[:, rows] * z[:, columns] * scale
        return torch.cat([torch.ones(len(z), 1).to(z), z, products], dim=1) / math.sqrt(3.0)

    @torch.no_grad()
    def fit_prior(self, total: np.ndarray) -> None:
        """See `Generator`. Leaves the uncentred second moment, which averages over sites exactly."""
        count = max(float(total[0]), 1e-3)
        means = torch.from_numpy(total[1:] / count)
        rows, columns = torch.triu_indices(self.latent, self.latent)
        moment = torch.zeros(self.latent, self.latent, dtype=torch.float64)
        scale = torch.where(rows == columns, 1.0, math.sqrt(0.5)).double()
        moment[rows, columns] = means[self.latent :] * scale * self._code_bound**2
        self.prior_mean.copy_(means[: self.latent] * self._code_bound)
        self.prior_moment.copy_(moment + moment.T - torch.diag(moment.diagonal()))

    @property
    def _code_bound(self) -> float:
        return math.sqrt(CODE_NORM_PER_LATENT * self.latent)

    @torch.no_grad()
    def sample(
        self, count: int, *, rng: torch.Generator, where: StateWeights | None = None
    ) -> tuple[np.ndarray, float]:
        """See `Generator`. Conditions by importance resampling of the latent code.

        A latent z drawn from the prior is kept with probability proportional to the decoder's mass on
        the allowed states, then every column is drawn from its own (restricted) distribution: exactly
        the model's conditional distribution as the number of prior draws grows.
        """
        chunks, shares = [], []
        for start in range(0, count, SAMPLE_CHUNK):
            size = min(SAMPLE_CHUNK, count - start)
            states, share = self._sample_chunk(size, rng, where or {})
            chunks.append(states)
            shares.append(share * size)
        empty = np.zeros((0, len(self.layout.names)), dtype=np.int64)
        return np.concatenate([empty, *chunks]), sum(shares) / max(count, 1)

    def _sample_chunk(self, size: int, rng: torch.Generator, where: StateWeights) -> tuple[np.ndarray, float]:
        share = 1.0
        z = self._draw_prior(size * (CANDIDATES if where else 1), rng)
        if where:
            fits = torch.cat(
                [log_mass(self.decoder(part), self.layout, where) for part in torch.split(z, size)]
            )
            weights = torch.softmax(fits.double(), dim=0)  # (candidates,)
            mass = float(torch.exp(torch.logsumexp(fits.double(), 0)) / len(fits))
            effective = min(1.0, 1.0 / (weights**2).sum().item() / size)
            share = max(1e-12, effective * chance_of_any(mass))
            z = z[torch.multinomial(weights, size, replacement=True, generator=rng)]
        return draw_states(self.decoder(z), self.layout, rng, where), share

    @torch.no_grad()
    def mass(self, where: StateWeights, *, rng: torch.Generator) -> float:
        """See `Generator`. By Monte Carlo over MASS_CODES codes, the mass of each being exact."""
        total = 0.0
        for codes in torch.split(self._draw_prior(MASS_CODES, rng), SAMPLE_CHUNK):
            fits = log_mass(self.decoder(codes), self.layout, where)
            total += float(fits.double().exp().sum())
        return min(1.0, total / MASS_CODES)

    @torch.no_grad()
    def complete(self, states: np.ndarray, *, rng: torch.Generator) -> np.ndarray:
        """See `Generator`. By importance: codes from the prior, weighed by each row's known states.

        Rows of a chunk share their candidates. Exact as those grow in number; with many known cells a row
        leans on the few candidates that fit it.
        """
        filled = [np.zeros((0, len(self.layout.names)), dtype=np.int64)]
        for start in range(0, len(states), COMPLETION_CHUNK):
            logits = self.decoder(self._draw_prior(COMPLETION_CODES, rng))
            blocks = torch.split(logits, list(self.layout.states), dim=1)
            filled.append(complete_from_codes(states[start : start + COMPLETION_CHUNK], blocks, rng))
        return np.concatenate(filled)

    def _draw_prior(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Codes from the fitted Gaussian, shape (count, latent)."""
        covariance = self.prior_moment.double() - torch.outer(self.prior_mean, self.prior_mean).double()
        values, vectors = torch.linalg.eigh(covariance)
        # Noise may leave a direction with less variance than the posterior itself has, or none.
        floor = self._settings["posterior_std"] ** 2
        root = (vectors * values.clamp(min=floor).sqrt()).float()
        noise = torch.randn(count, self.latent, generator=rng, device=root.device)
        codes: torch.Tensor = self.prior_mean + noise @ root.T
        return codes


class _Decoder(nn.Module):
    """The mirrored perceptron beside a linear path, (batch, latent) -> (batch, width) logits.

    Under noise three layers in a row learn little; the linear path carries the relations from the
    first step on, and the perceptron adds what is not linear.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(widths[0], widths[-1])
        self.perceptron = perceptron(widths)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(z) + self.perceptron(z)
        return logits


SAMPLE_CHUNK = 8192
"""Patients drawn at once: bounds memory, and keeps the tables in the processor's cache."""

CANDIDATES = 20
"""Prior draws per kept draw under conditions."""

MASS_CODES = 20_000
"""Prior draws from which the share of patients who meet conditions is told."""

COMPLETION_CODES, COMPLETION_CHUNK = 2048, 8192
"""Prior draws that rows are completed from, and rows that share them."""


def one_hot(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """States, shape (..., columns), as one-hot blocks, float32, shape (..., width)."""
    offsets = torch.tensor(layout.offsets, device=states.device)
    hot = torch.zeros(*states.shape[:-1], layout.width, device=states.device)
    return hot.scatter_(-1, states + offsets, 1.0)


def reconstruction_loss(logits: torch.Tensor, states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Sum over columns of the cross entropy of each column's states, shape (...,)."""
    offsets = torch.tensor(layout.offsets, device=states.device)
    chosen = logits.gather(-1, states + offsets).sum(dim=-1)
    blocks = torch.split(logits, list(layout.states), dim=-1)
    return torch.stack([torch.logsumexp(block, dim=-1) for block in blocks]).sum(dim=0) - chosen


def log_mass(logits: torch.Tensor, layout: Layout, where: StateWeights) -> torch.Tensor:
    """Log probability that independent draws from each block are allowed, shape (batch,)."""
    blocks = torch.split(logits, list(layout.states), dim=1)
    total = torch.zeros(logits.shape[0], device=logits.device)
    for column, weights in where.items():
        allowed = torch.from_numpy(weights).to(logits)
        probabilities = torch.softmax(blocks[column], dim=1)
        total = total + torch.log((probabilities * allowed).sum(dim=1) + 1e-30)
    return total


def draw_states(
    logits: torch.Tensor, layout: Layout, rng: torch.Generator, where: StateWeights
) -> np.ndarray:
    """Draw one state per column and patient, int64, shape (batch, columns)."""
    uniform = torch.rand(logits.shape[0], len(layout.states), generator=rng, device=logits.device).T
    # States down, patients across: a block has few states, and along the patients it can be vectorised.
    blocks = torch.split(logits.T.contiguous(), list(layout.states))
    drawn = np.empty((len(layout.states), logits.shape[0]), dtype=np.int64)
    for column, block in enumerate(blocks):
        mass = torch.softmax(block, dim=0)
        if column in where:
            mass = mass * torch.from_numpy(where[column]).to(mass)[:, None]
        cumulative = mass.cumsum(dim=0)
        state = (cumulative <= uniform[column] * cumulative[-1]).sum(dim=0)
        last = int(np.flatnonzero(where[column])[-1]) if column in where else len(mass) - 1
        drawn[column] = state.clamp(max=last).cpu().numpy()
    return drawn.T
