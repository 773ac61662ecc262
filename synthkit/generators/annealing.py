"""How fast a fit to bought tables learns, from its first step to its last. Knows no table and no weights."""

import math


def annealed(share: float) -> float:
    """Learning-rate factor at a share of the fit, in [0, 1): a short rise, then a cosine fall to 0.02."""
    return min(1.0, (share + 0.01) / 0.06) * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * share)))
