"""EVA_c: a patient's latent is made of the conditions the patient has, several at once.

Knows an EVA, and which static columns are conditions: those of two states, of which the second means that
the patient has it. Rules: as in `eva`; conditions come before the latent, so records are drawn under any
set of them, and the same patient's under another set.

    z = H (y * sigmoid(w)) + b + noise,  w ~ N(0, I),  b ~ N(0, GAMMA I),  noise ~ N(0, TAU I)

What is inferred of a patient is a product of two experts: of the record, and of the conditions alone. It is
inferred of w, of b and of the noise, each as a number of its prior's standard deviations. The paper's
equation 7 infers z in the noise's place, apart from b and w; but z given b has a tenth of the variance that
is left open, so a posterior that knows nothing of the record is 0.35 nats a dimension away from the prior:
more than a record tells. `factored` does it as the paper has it.

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
from synthkit.generators.eva_latent import GAMMA, TAU, Inferred, divergence, log_ratio, standard_draw
from synthkit.generators.sequence_base import RecordBatch

HALF = 0.5 * math.log(2.0)
"""Log standard deviation of an expert who is one of two and knows nothing: together they are the prior."""


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
        self.factored = bool(self._settings["factored"])
        self.representations = nn.Linear(len(self.conditions), self.latent, bias=False)
        self.expect = nn.Linear(len(self.conditions), width)
        self.expert = nn.Linear(width, 2 * self.inferred)
        if not self.factored:
            self._start_from_prior()

    @torch.no_grad()
    def _start_from_prior(self) -> None:
        """Both experts know nothing yet."""
        for expert in (self.infer, self.expert):
            expert.weight.mul_(0.1)
            expert.bias.zero_()
            expert.bias[self.inferred :] = HALF

    @property
    def inferred(self) -> int:
        """Of the latent's noise (`factored`: of the latent), its bias, and each condition's strength."""
        return 2 * self.latent + len(self.conditions)

    def posterior(self, batch: RecordBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Eva`: the product of both experts, in the order of `inferred`."""
        first, first_log = super().posterior(batch)
        hidden = functional.gelu(self.expect(self._has(batch.statics)))
        second, second_log = self.expert(hidden).chunk(2, dim=1)
        precisions = (-2 * first_log).exp(), (-2 * second_log.clamp(-5.0, 2.0)).exp()
        total = precisions[0] + precisions[1]
        return (precisions[0] * first + precisions[1] * second) / total, -0.5 * total.log()

    def infer_latent(self, batch: RecordBatch, noise: torch.Tensor) -> Inferred:
        """See `Eva`."""
        mean, log_std = self.posterior(batch)
        noise = noise[:, : self.inferred]
        if self.factored:
            return self._apart(batch.statics, mean, log_std, noise)
        found = standard_draw(mean, log_std, noise)
        return Inferred(latent=self._latent(batch.statics, found.latent), kl=found.kl, drawn=found.drawn)

    def _apart(
        self, statics: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor
    ) -> Inferred:
        """Equation 7. The latent's divergence is from its prior under the drawn bias and strengths."""
        latent, bias, strength = drawn = self._split(mean + log_std.exp() * noise)
        priors = self._centre(statics, bias, strength), torch.zeros_like(bias), torch.zeros_like(strength)
        means, logs, noises = self._split(mean), self._split(log_std), self._split(noise)
        rows = list(zip(means, drawn, logs, noises, priors, (TAU, GAMMA, 1.0), strict=True))
        kl = sum((divergence(m, s, p, v) for m, _, s, _, p, v in rows), torch.zeros(len(mean)))
        ratio = sum((log_ratio(d, s, n, p, v) for _, d, s, n, p, v in rows), torch.zeros(len(mean)))
        return Inferred(latent=latent, kl=kl, drawn=ratio)

    def _split(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What is of the latent or its noise, of the bias, and of the strengths."""
        return torch.split(values, [self.latent, self.latent, len(self.conditions)], dim=1)

    def _has(self, statics: torch.Tensor) -> torch.Tensor:
        """Which conditions each patient has, float32 (batch, conditions)."""
        return statics[:, self.conditions].to(self.expect.weight.dtype)

    def _centre(self, statics: torch.Tensor, bias: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """Mean of the latent given conditions, bias and strengths, (batch, latent)."""
        found: torch.Tensor = self.representations(self._has(statics) * torch.sigmoid(strength)) + bias
        return found

    def _latent(self, statics: torch.Tensor, standard: torch.Tensor) -> torch.Tensor:
        """The latent that standard normal variates, (batch, inferred), make with the conditions."""
        chance, bias, strength = self._split(standard)
        return self._centre(statics, math.sqrt(GAMMA) * bias, strength) + math.sqrt(TAU) * chance

    def latent_before_statics(self, count: int, rng: torch.Generator) -> torch.Tensor:  # noqa: ARG002
        """See `Eva`: nothing comes before the conditions."""
        return torch.zeros(count, 0)

    def latent_after_statics(
        self, before: torch.Tensor, statics: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor:
        """See `Eva`: from the prior, given the conditions."""
        return self._latent(statics, torch.randn(len(before), self.inferred, generator=rng))
