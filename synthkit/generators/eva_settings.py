"""EVA's hyperparameters: what they are unless said otherwise, and within which bounds.

Knows numbers alone. `posterior` is how many draws of the weights a training keeps, 0 for a point estimate;
`pairs` whether pairs of codes are bought with the shares; both are part of the plan that is signed.
`pair_odds` 0 is of former models, whose pairs have no odds of their own. `direct` adds up what of a patient
reaches the codes past all layers over visits: 1 static columns, 2 the latent. `dropout` is the share of
channels that a training without privacy leaves out of a patient: with privacy the noise is enough. `factored`
is of EVA_c alone: equation 7, bias and strengths inferred apart from the latent.
"""

from collections.abc import Mapping

DEFAULTS: Mapping[str, float] = {
    "channels": 64,
    "hidden": 64,
    "latent": 16,
    "layers": 4,
    "recurrent": 0,
    "reader": 0,
    "factored": 0,
    "direct": 1,
    "dropout": 0.3,
    "memory": 2,
    "kl_weight": 1.0,
    "most_visits": 200,
    "most_codes": 100,
    "dated": 1,
    "posterior": 0,
    "pairs": 0,
    "pair_odds": 1,
}

RANGES: Mapping[str, tuple[float, float]] = {
    "channels": (4, 1024),
    "hidden": (4, 1024),
    "latent": (0, 256),
    "layers": (0, 8),
    "recurrent": (0, 1),
    "reader": (0, 1),
    "factored": (0, 1),
    "direct": (0, 3),
    "dropout": (0.0, 0.9),
    "memory": (0, 2),
    "kl_weight": (0.0, 10.0),
    "most_visits": (1, 1000),
    "most_codes": (1, 10_000),
    "dated": (0, 1),
    "posterior": (0, 50),
    "pairs": (0, 1),
    "pair_odds": (0, 1),
}

FORMER: Mapping[str, float] = {"factored": 1, "direct": 0, "dropout": 0, "pair_odds": 0}
"""What models were before these settings had names: a saved one that does not name them is built so."""
