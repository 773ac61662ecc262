"""Generator: what every model answers to, and nothing else.

A generator knows a `Layout` and tensors of states. It refuses to know privacy, files, hospitals or
what a column means. Rules: every random draw takes a generator. Of one that is trained by steps the loss
is one number per patient, no layer mixes patients (no BatchNorm), because that is what per-patient
clipping rests on, and all trained parameters sit in layers that Opacus can measure. One that is fitted to
bought tables meets no patient, and is free in both.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from synthkit.domain.crossing import Crossing, crossed_layout, crossings, with_crossed
from synthkit.domain.layout import Layout, PatientStates, StateWeights
from synthkit.errors import InputError
from synthkit.generators.tables import cleaned_tables, patients_in

UNKNOWN = -1
"""In states that are to be completed: this cell is to be drawn."""

MASS_DRAWS = 50_000
"""Unconditional draws from which a model without a better way tells how many patients meet conditions."""

PATIENTS_ASSUMED = 10_000
"""Of a model that does not know how many taught it; only conditions rarer than one in these are doubted."""

MOST_STATES = 6000
"""Of a generator fitted to tables, which hold the square of this; beyond, categories have to be grouped."""

VIEWS, CHUNK = 8, 4096
"""Views over which a trained model's loss of a row is averaged, and rows at once."""


class Generator(nn.Module, ABC):
    """A trainable model of one patient's states."""

    kind: ClassVar[str]
    """Its name in studies, policies and artefacts."""

    encoder_parts: ClassVar[tuple[str, ...]] = ()
    """First parts (before the dot) of the names of the parameters that turn a patient into a code."""

    before: ClassVar[Mapping[str, float]] = {}
    """Hyperparameters that a model saved before they existed does not name, as it was built."""

    reliability_words: ClassVar[str] = "1 is as good as a row without conditions, near 0 hardly known"
    """What the reliability of a conditional draw measures; `{share}` stands for it in per cent."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    @property
    @abstractmethod
    def hyperparameters(self) -> dict[str, float]:
        """All hyperparameters, defaults filled in; enough to build the same architecture again."""

    @abstractmethod
    def sample(
        self, count: int, *, rng: torch.Generator, where: StateWeights | None = None
    ) -> tuple[np.ndarray, float]:
        """Draw patients, under conditions if given.

        Returns:
            States, int64, shape (count, columns); and how reliable the conditional draw is, in (0, 1]:
            1.0 without conditions, near 0 where the model has next to no mass for them, so that the rows
            lean on few latent draws or on privacy noise. The model says by which measure.
        """

    def mass(self, where: StateWeights, *, rng: torch.Generator) -> float:
        """Share of patients who meet conditions, by the model alone: 0 to 1.

        Here by Monte Carlo, the mean allowed share of MASS_DRAWS unconditional draws: at a share of 0.001
        the standard error is a seventh of it. A model that can say it more exactly does.
        """
        states, _ = self.sample(MASS_DRAWS, rng=rng)
        allowed = np.ones(len(states))
        for column, weights in where.items():
            allowed *= weights[states[:, column]]
        return float(allowed.mean())

    def signal_share(self, mass: float) -> float:
        """Share of signal in the mass of conditions, in (0, 1]; here no noise is known of, see
        `chance_of_any`.
        """
        return max(1e-12, chance_of_any(mass))

    @abstractmethod
    def complete(self, states: np.ndarray, *, rng: torch.Generator) -> np.ndarray:
        """Draw each row's unknown cells jointly, given that row's known ones.

        Args:
            states: int64, shape (rows, columns); `UNKNOWN` where a cell is to be drawn. Not changed.
            rng: Of every random draw.

        Returns:
            A filled copy, int64, shape (rows, columns): no cell is `UNKNOWN`, the known ones are as given.
            A row without a known cell is a draw as `sample` makes it.
        """

    def log_likelihood(self, states: np.ndarray) -> np.ndarray | None:  # noqa: ARG002
        """How well the weights explain each row, by which a holder of them tells patients from strangers.

        Args:
            states: int64, shape (rows, columns).

        Returns:
            Natural logarithm of each row's probability, float64, shape (rows,), or a lower bound of it; None
            where a model knows neither.
        """
        return None

    def get_weights(self) -> dict[str, np.ndarray]:
        """All parameters by name, float32 copies."""
        return {
            name: p.detach().cpu().numpy().astype(np.float32).copy() for name, p in self.named_parameters()
        }

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Replace all parameters.

        Raises:
            ValueError: Names or shapes differ from this architecture's (a caller's bug: check what
                came over a wire or from a file before).
        """
        own = dict(self.named_parameters())
        if set(own) != set(weights) or any(own[n].shape != weights[n].shape for n in own):
            raise ValueError("weights do not fit this generator's architecture")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))


class SteppedGenerator(Generator):
    """Trained by steps on patients' losses; its prior is fitted at the end, to a sum of vectors."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """How many standard normal variates one view takes."""

    @property
    def draws(self) -> int:
        """Views a row gets in one step (masks, latent draws); they are averaged before clipping."""
        return 1

    @abstractmethod
    def loss_per_view(self, states: torch.Tensor, *, progress: float, noise: torch.Tensor) -> torch.Tensor:
        """Loss of each view of each patient, to be minimised; a function of that view alone.

        Args:
            states: int64, shape (batch, views, columns): a patient's rows, each `draws` times. The first
                dimension of whatever meets a trained layer has to stay the patients'.
            progress: Share of the training done, in [0, 1], for annealing.
            noise: Standard normal variates, float32, shape (batch, views, noise_size): the model's own
                randomness, which has nothing to do with the privacy noise.

        Returns:
            float32, shape (batch, views).
        """

    def loss_per_patient(
        self, states: torch.Tensor, weights: torch.Tensor, *, progress: float, noise: torch.Tensor
    ) -> torch.Tensor:
        """Weighted sum of each patient's views: one loss, and one gradient to clip, a patient.

        Args:
            states: As in `loss_per_view`.
            weights: float32, shape (batch, views); each patient's sum to 1, padding has 0.
            progress: As in `loss_per_view`.
            noise: As in `loss_per_view`.

        Returns:
            float32, shape (batch,).
        """
        return (self.loss_per_view(states, progress=progress, noise=noise) * weights).sum(dim=1)

    @torch.no_grad()
    def log_likelihood(self, states: np.ndarray) -> np.ndarray | None:
        """See `Generator`: minus the loss it was trained on, over VIEWS views with fixed noise."""
        rng = torch.Generator().manual_seed(0)
        found = np.empty(len(states))
        for start in range(0, len(states), CHUNK):
            rows = torch.from_numpy(states[start : start + CHUNK])[:, None].expand(-1, VIEWS, -1)
            noise = torch.randn(len(rows), VIEWS, self.noise_size, generator=rng)
            loss = self.loss_per_view(rows, progress=1.0, noise=noise).mean(dim=1)
            found[start : start + len(rows)] = -loss.double().numpy()
        return found

    @abstractmethod
    def statistics(self, states: torch.Tensor, *, noise: torch.Tensor) -> torch.Tensor:
        """What the prior is fitted from: one vector a row, of Euclidean norm at most 1.

        Args:
            states: int64, shape (batch, columns).
            noise: Standard normal variates, float32, shape (batch, noise_size).

        Returns:
            float64, shape (batch, statistics). A patient counts with the mean of its rows' vectors; the
            bound is the sensitivity of their sum, so it has to hold for any states and any weights.
        """

    @abstractmethod
    def fit_prior(self, total: np.ndarray) -> None:
        """Set the prior from the (noised) sum of `statistics`, float64, shape (statistics,)."""


def chance_of_any(mass: float, patients: float = PATIENTS_ASSUMED) -> float:
    """1 - e^(-m n): how likely n patients hold one who meets conditions that a share m of all meets.

    A model gives every state some mass, also one that it never met: what it says there is its own.
    """
    return -math.expm1(-mass * patients)


class TableGenerator(Generator):
    """Fitted to the patients' two-way tables, bought once; no step of its fit meets a patient.

    `tables` are shares of patients, `millions` how many there are, both averaged over sites; `table_noise` is
    the standard deviation of a pair's cell as a share of all patients, known once the fit is done. `bought`
    is the layout of the tables: the columns, and behind them the crossed ones, if `cross` was called.
    """

    def __init__(self, layout: Layout) -> None:
        if layout.width > MOST_STATES:
            raise InputError(
                f"the columns have more than {MOST_STATES} states together",
                where=f"generator {self.kind}",
                fix="group categories, or drop columns",
            )
        super().__init__(layout)
        self.crossed: tuple[Crossing, ...] = ()
        self.bought = layout
        self.tables = nn.Parameter(torch.zeros(layout.width, layout.width), requires_grad=False)
        self.millions = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.table_noise = nn.Parameter(torch.zeros(1), requires_grad=False)

    def cross(self, groups: int) -> None:
        """Have every duration's times, in so many groups, counted together with its event; 0: do not.

        Crossed columns that would make the tables wider than MOST_STATES are left out.
        """
        crossed = crossings(self.layout, groups)
        self.crossed = crossed if crossed_layout(self.layout, crossed).width <= MOST_STATES else ()
        self.bought = crossed_layout(self.layout, self.crossed)
        self.tables = nn.Parameter(torch.zeros(self.bought.width, self.bought.width), requires_grad=False)

    def to_buy(self, patients: PatientStates) -> PatientStates:
        """The rows as the tables count them, by the layout `bought`."""
        return with_crossed(patients, self.crossed)

    @torch.no_grad()
    def set_tables(self, counts: np.ndarray) -> None:
        """Take over the bought tables, as shares of patients, which average over sites.

        Args:
            counts: float64, shape (width, width) of `bought`, symmetric: noisy patients per pair of states,
                and per state on the diagonal.
        """
        patients = patients_in(counts, self.bought)
        self.tables.copy_(torch.from_numpy(counts / patients))
        self.millions.fill_(patients / 1e6)  # of the order of the other weights, whatever the site's size

    def signal_share(self, mass: float) -> float:
        """1 - noise^2 / m^2 for the conditions' mass m, the noise being that of one bought cell, and nothing
        where m is below it; times the chance that even one patient of those counted met them.

        The mass was measured with its noise: E[m^2] = true^2 + noise^2, so the share of signal in what is
        seen is 1 - noise^2 / m^2 (the positive-part estimate of James and Stein); m^2 / (m^2 + noise^2)
        would call the noise itself half reliable. For the chance see `chance_of_any`.
        """
        noise, counted = float(self.table_noise), float(self.millions)
        signal = max(0.0, 1 - (noise / mass) ** 2) if mass > 0 else 0.0
        return max(1e-12, signal * (chance_of_any(mass, self.patients(1.0)) if counted else 1.0))

    @abstractmethod
    def fit(
        self,
        *,
        sites: float,
        pair_noise: float,
        single_noise: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Fit everything else to the tables; the same tables and initial weights give the same fit.

        Args:
            sites: How many sites of equal size the averaged tables are worth; 1 for one site's.
            pair_noise: Standard deviation of the noise in a pair's cell of the sites' sum, in patients.
            single_noise: The same of the diagonal.
            progress: Called with (steps done, steps in all).
        """

    def patients(self, sites: float) -> float:
        """How many patients the tables of so many sites say there are, at least 1."""
        return max(1.0, float(self.millions) * 1e6 * sites)

    @torch.no_grad()
    def cleaned(self, pair_noise: float, single_noise: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `tables.cleaned_tables`; both noises as shares of patients. Remembers the pairs' noise.

        Of the columns alone: what crossed ones say beyond them is read where it is used.
        """
        self.table_noise.fill_(pair_noise)
        width = self.layout.width
        return cleaned_tables(
            self.tables[:width, :width].double(),
            self.layout,
            pair_noise=pair_noise,
            single_noise=single_noise,
        )
