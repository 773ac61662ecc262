"""A patient's latent as it is inferred: a draw, and how far its posterior is from the prior.

Knows means, deviations and standard normal noise. Refuses to know records. Rules: every figure is in nats
and of one patient; the draw's own log ratio has the divergence for its mean, so that a bound by importance
weights (`sequence_likelihood`) and the evidence bound come from the same draws.

Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014, section 2.4 and appendix B.
"""

import math
from dataclasses import dataclass

import torch

TAU, GAMMA = 0.1, 0.1
"""Variances of what conditions do not explain in EVA_c: of chance, and of a patient's own bias."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Inferred:
    """Of each patient.

    Attributes:
        latent: A draw from the posterior, float32 (batch, latent).
        kl: Divergence of the posterior from the prior, (batch,).
        drawn: Log of posterior over prior density at the draw, (batch,).
    """

    latent: torch.Tensor
    kl: torch.Tensor
    drawn: torch.Tensor


def standard_draw(mean: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor) -> Inferred:
    """From N(mean, exp(log_std)^2) where the prior is standard normal; all (batch, size)."""
    latent = mean + log_std.exp() * noise
    return Inferred(
        latent=latent,
        kl=divergence(mean, log_std, torch.zeros_like(mean), 1.0),
        drawn=log_ratio(latent, log_std, noise, torch.zeros_like(mean), 1.0),
    )


def divergence(
    mean: torch.Tensor, log_std: torch.Tensor, prior: torch.Tensor, variance: float
) -> torch.Tensor:
    """Of N(mean, exp(log_std)^2) from N(prior, variance), summed over dimensions, (batch,)."""
    spread = ((2 * log_std).exp() + (mean - prior).square()) / variance
    return (0.5 * (spread - 1.0 + math.log(variance)) - log_std).sum(dim=1)


def log_ratio(
    drawn: torch.Tensor, log_std: torch.Tensor, noise: torch.Tensor, prior: torch.Tensor, variance: float
) -> torch.Tensor:
    """At what `noise` made of a posterior: log of its density over N(prior, variance)'s, summed, (batch,)."""
    far = (drawn - prior).square() / variance
    return (0.5 * (far - noise.square() + math.log(variance)) - log_std).sum(dim=1)
