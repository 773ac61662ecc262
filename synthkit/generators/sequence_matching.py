"""As many parameters for the paper's rivals as for EVA: a comparison of ideas, not of sizes.

Knows the generators' shapes. Refuses to know weights. Rule: a rival's `channels` and `hidden` are one width,
the one at which its number of parameters is nearest to that of EVA on the same records; what else was
asked for stays. EVA and EVA_c are left as they are.

Source: Biswal et al., EVA, 2020, section 7.2 ("we matched the number of model parameters").
"""

from collections.abc import Mapping

import torch

from synthkit.domain.sequence_layout import SequenceLayout
from synthkit.generators.eva import Eva
from synthkit.generators.sequence_registry import build_sequences, sequence_defaults

MATCHED = ("lstm", "vae-lstm", "vae-deconv")
"""Whose widths follow EVA's number of parameters."""

WIDTHS = ("channels", "hidden")


def parameter_count(kind: str, layout: SequenceLayout, hyperparameters: Mapping[str, float]) -> int:
    """Number of parameters of a generator, none of which is made.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    with torch.device("meta"):
        network = build_sequences(kind, layout, dict(hyperparameters))
    return sum(parameter.numel() for parameter in network.parameters())


def matched_hyperparameters(
    kind: str, layout: SequenceLayout, hyperparameters: Mapping[str, float]
) -> dict[str, float]:
    """The hyperparameters, a rival's widths such that it has as many parameters as EVA.

    EVA's own widths are its defaults, unless they are asked for here.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    asked = dict(hyperparameters)
    if kind not in MATCHED:
        return asked
    shared = {name: value for name, value in asked.items() if name not in _idea(kind)}
    wanted = parameter_count(Eva.kind, layout, shared)
    low, high = (int(bound) for bound in Eva.ranges[WIDTHS[0]])

    def count(width: int) -> int:
        return parameter_count(kind, layout, {**asked, **dict.fromkeys(WIDTHS, float(width))})

    while low < high:  # the least width with at least as many
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= wanted else (middle + 1, high)
    # Of that width and the one before it, the nearer.
    candidates = range(max(low - 1, int(Eva.ranges[WIDTHS[0]][0])), low + 1)
    best = min(candidates, key=lambda width: abs(count(width) - wanted))
    return {**asked, **dict.fromkeys(WIDTHS, float(best))}


def _idea(kind: str) -> set[str]:
    """The hyperparameters in which a rival differs from EVA."""
    ours = sequence_defaults(Eva.kind)
    return {name for name, value in sequence_defaults(kind).items() if value != ours[name]}
