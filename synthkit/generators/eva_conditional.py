"""EVA_c: a patient's latent is made of the conditions the patient has, several at once.

Knows an EVA, and which static columns are conditions: those of two states, of which the second means that
the patient has it. Rules: as in `eva`; conditions come before the latent, so records are drawn under any
set of them, and the same patient's under another set.

    z = H (y * sigmoid(w)) + b + noise,  w ~ N(0, I),  b ~ N(0, GAMMA I),  noise ~ N(0, TAU I)

What is inferred of a patient, of z, w and b each, is a product of two experts: of the record, and of the
conditions alone.

Source: Biswal et al., 2020, section 2.2, equation 5, and section 3, equation 7.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from synthkit.domain.sequence_layout import SequenceLayout
from synthkit.errors import InputError
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_base import RecordBatch

TAU, GAMMA = 0.1, 0.1
"""Variances of what conditions do not explain: of chance, and of a patient's own bias."""


class ConditionalEva(Eva):
    """See the module."""

    kind = "eva-c"
    statics_follow_latent: ClassVar[bool] = False
    local_parts: ClassVar[tuple[str, ...]] = (*Eva.local_parts, "expect", "expert")
    defaults: ClassVar[Mapping[str, float]] = {**Eva.defaults, "reader": 1}

    def __init__(self, layout: SequenceLayout, hyperparameters: dict[str, float] | None = None) -> None:
        states = enumerate(layout.statics.states[:-1])
        self.conditions = [column for column, count in states if count == 2]
        super().__init__(layout, hyperparameters)
        if not self.conditions or not self.latent:
            raise InputError(
                "needs a latent, and at least one static column of two categories: a condition",
                where=f"generator {self.kind}",
                fix="add the conditions to the patients' table, or --generator eva",
            )
        width = int(self._settings["channels"])
        self.representations = nn.Linear(len(self.conditions), self.latent, bias=False)
        self.expect = nn.Linear(len(self.conditions), width)
        self.expert = nn.Linear(width, 2 * self.inferred)

    @property
    def inferred(self) -> int:
        """Of the latent, of its bias, and of the strength of each condition."""
        return 2 * self.latent + len(self.conditions)

    @property
    def noise_size(self) -> int:
        """See `SequenceGenerator`."""
        return self.inferred

    def posterior(self, batch: RecordBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Eva`: the product of both experts, latent first, then bias, then strengths."""
        first, first_log = super().posterior(batch)
        hidden = functional.gelu(self.expect(self._has(batch.statics)))
        second, second_log = self.expert(hidden).chunk(2, dim=1)
        precisions = (-2 * first_log).exp(), (-2 * second_log.clamp(-5.0, 2.0)).exp()
        total = precisions[0] + precisions[1]
        return (precisions[0] * first + precisions[1] * second) / total, -0.5 * total.log()

    def infer_latent(self, batch: RecordBatch, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Eva`. The latent's divergence is from its prior under the drawn bias and strengths."""
        mean, log_std = self.posterior(batch)
        drawn = mean + log_std.exp() * noise
        sizes = [self.latent, self.latent, len(self.conditions)]
        latent, bias, strength = torch.split(drawn, sizes, dim=1)
        means, logs = torch.split(mean, sizes, dim=1), torch.split(log_std, sizes, dim=1)
        centre = self._centre(batch.statics, bias, strength)
        kl = _divergence(means[0], logs[0], centre, TAU)
        kl = kl + _divergence(means[1], logs[1], torch.zeros_like(bias), GAMMA)
        return latent, kl + _divergence(means[2], logs[2], torch.zeros_like(strength), 1.0)

    def _has(self, statics: torch.Tensor) -> torch.Tensor:
        """Which conditions each patient has, float32 (batch, conditions)."""
        return statics[:, self.conditions].to(self.expect.weight.dtype)

    def _centre(self, statics: torch.Tensor, bias: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Mean of the latent given conditions, bias and strengths, (batch, latent)."""
        found: torch.Tensor = self.representations(self._has(statics) * torch.sigmoid(strength)) + bias
        return found

    def latent_before_statics(self, count: int, rng: torch.Generator) -> torch.Tensor:  # noqa: ARG002
        """See `Eva`: nothing comes before the conditions."""
        return torch.zeros(count, 0)

    def latent_after_statics(
        self, before: torch.Tensor, statics: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor:
        """See `Eva`: from the prior, given the conditions."""
        noise = torch.randn(len(before), self.inferred, generator=rng)
        sizes = [self.latent, self.latent, len(self.conditions)]
        chance, bias, strength = torch.split(noise, sizes, dim=1)
        return self._centre(statics, math.sqrt(GAMMA) * bias, strength) + math.sqrt(TAU) * chance


def _divergence(
    mean: torch.Tensor, log_std: torch.Tensor, prior: torch.Tensor, variance: float
) -> torch.Tensor:
    """Of N(mean, exp(log_std)^2) from N(prior, variance), summed over dimensions, (batch,)."""
    spread = ((2 * log_std).exp() + (mean - prior).square()) / variance
    return (0.5 * (spread - 1.0 + math.log(variance)) - log_std).sum(dim=1)
