"""EVA's hyperparameters: what they are unless said otherwise, and within which bounds.

Knows numbers alone. `posterior` is how many draws of the weights a training keeps, 0 for a point estimate;
`pairs` whether pairs of codes are bought with the shares; both are part of the plan that is signed.
"""

from collections.abc import Mapping

DEFAULTS: Mapping[str, float] = {
    "channels": 64,
    "hidden": 64,
    "latent": 16,
    "layers": 4,
    "recurrent": 0,
    "reader": 0,
    "memory": 2,
    "kl_weight": 1.0,
    "most_visits": 200,
    "most_codes": 100,
    "dated": 1,
    "posterior": 0,
    "pairs": 0,
}

RANGES: Mapping[str, tuple[float, float]] = {
    "channels": (4, 1024),
    "hidden": (4, 1024),
    "latent": (0, 256),
    "layers": (0, 8),
    "recurrent": (0, 1),
    "reader": (0, 1),
    "memory": (0, 2),
    "kl_weight": (0.0, 10.0),
    "most_visits": (1, 1000),
    "most_codes": (1, 10_000),
    "dated": (0, 1),
    "posterior": (0, 50),
    "pairs": (0, 1),
}
