"""Mechanisms that release a statistic once: the Gaussian mechanism on a bounded sum.

Knows vectors whose norm is bounded per patient. Rule: the bound is enforced here, not trusted.
"""

import numpy as np
import torch

from synthkit.privacy import rng


def gaussian_sum(vectors: torch.Tensor, *, noise_multiplier: float) -> np.ndarray:
    """Sum of the patients' vectors, each clipped to norm 1, with noise of std `noise_multiplier`.

    Args:
        vectors: float64, shape (patients, k). A row that is not finite counts as zero: no clipping
            bounds a NaN.
        noise_multiplier: Noise's standard deviation; the L2 sensitivity under add-or-remove is 1.

    Returns:
        float64, shape (k,). Costs one `GaussianEvent(noise_multiplier)`.
    """
    norms = vectors.norm(dim=1, keepdim=True)
    clipped = torch.where(norms.isfinite(), vectors / norms.clamp(min=1.0), 0.0)
    total: np.ndarray = clipped.double().sum(dim=0).cpu().numpy()
    noised: np.ndarray = total + rng.normal(total.size, std=noise_multiplier)
    return noised
