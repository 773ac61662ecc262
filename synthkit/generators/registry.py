"""Generators by name. The one place that knows which there are."""

from collections.abc import Callable

from synthkit.domain.layout import Layout
from synthkit.errors import InputError
from synthkit.generators.base import Generator
from synthkit.generators.medvae import MedVae

BUILDERS: dict[str, Callable[[Layout, dict[str, float]], Generator]] = {MedVae.kind: MedVae}


def build(kind: str, layout: Layout, hyperparameters: dict[str, float] | None = None) -> Generator:
    """A generator with fresh weights from torch's current random state.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    if kind not in BUILDERS:
        raise InputError(f"no generator {kind!r} in this version", fix=f"one of {', '.join(BUILDERS)}")
    return BUILDERS[kind](layout, dict(hyperparameters or {}))
