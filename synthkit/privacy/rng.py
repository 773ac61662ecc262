"""The only source of privacy randomness: the operating system's entropy.

Knows nothing of data or models. Rules: every noise value and every sampling decision is computed from
fresh bytes of `os.urandom`; there is no state, so nothing can be seeded, saved, logged or repeated,
and no configuration reaches it. A generator seeded from entropy would be weaker: torch's Mersenne
Twister keeps 32 bits of its seed, few enough to try them all and subtract the noise.

Not covered: the normal variates are 53-bit floating-point numbers, not an exact discrete Gaussian
(Mironov, 2012, on the least significant bits), and the time a draw takes is not hidden.
"""

import os

import numpy as np


def uniform(count: int) -> np.ndarray:
    """Independent uniform variates in (0, 1], float64, shape (count,)."""
    integers = np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> np.uint64(11)
    return (integers.astype(np.float64) + 1.0) * 2.0**-53


def normal(count: int, *, std: float) -> np.ndarray:
    """Independent normal variates of mean 0, float64, shape (count,).

    Source: Box and Muller, 1958; both coordinates of each pair are used.
    """
    pairs = (count + 1) // 2
    radius = std * np.sqrt(-2.0 * np.log(uniform(pairs)))
    angle = 2.0 * np.pi * uniform(pairs)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def poisson_sample(count: int, *, sample_rate: float) -> np.ndarray:
    """Indices of a Poisson sample: each of `count` patients independently with `sample_rate`.

    May be empty, and has to stay so: dropping empty batches would break the accounting.
    """
    return np.flatnonzero(uniform(count) <= sample_rate)
