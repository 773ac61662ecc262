"""Samples of theta and H of the published EVA, as networks and as arrays."""

from collections.abc import Sequence

import numpy as np
import torch

from synthkit.generators.eva_paper import PaperEva
from synthkit.training.paper_eva_loop import Sample

SAMPLES = "samples/"
"""Prefix of the names of the arrays of further samples."""


def with_samples(network: PaperEva, samples: Sequence[Sample]) -> tuple[PaperEva, ...]:
    """The network and, for each sample of theta and H, one that infers alike."""
    others = []
    for sample in samples:
        other = PaperEva(network.sizes).eval()
        other.load_state_dict({**network.state_dict(), **sample})
        others.append(other)
    return (network, *others)


def sample_arrays(networks: Sequence[PaperEva]) -> dict[str, np.ndarray]:
    """Theta and H of each network, under `SAMPLES`; what infers is the same in all and stands elsewhere."""
    return {
        f"{SAMPLES}{number}/{name}": np.ascontiguousarray(weights.detach().numpy())
        for number, network in enumerate(networks)
        for name, weights in network.shared_parameters().items()
    }


def read_samples(network: PaperEva, arrays: dict[str, np.ndarray], *, count: int) -> list[Sample]:
    """Inverse of `sample_arrays`; ValueError when they do not fit the network."""
    shared = network.shared_parameters()
    names = {f"{SAMPLES}{number}/{name}": name for number in range(count) for name in shared}
    found = {name: array for name, array in arrays.items() if name.startswith(SAMPLES)}
    if set(found) != set(names):
        raise ValueError("an array is missing or too many")
    if any(found[key].shape != tuple(shared[name].shape) for key, name in names.items()):
        raise ValueError("an array has another shape")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in found.values()):
        raise ValueError("an array is not of finite float32")
    return [
        {name: torch.from_numpy(found[f"{SAMPLES}{number}/{name}"]) for name in shared}
        for number in range(count)
    ]
