"""Generators by name. The one place that knows which there are."""

from synthkit.domain.layout import Layout
from synthkit.errors import InputError
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.generators.medvae import MedVae
from synthkit.generators.medvae_sgd import MedVaeSgd

BUILDERS: dict[str, type[MedVae] | type[MedVaeSgd]] = {MedVae.kind: MedVae, MedVaeSgd.kind: MedVaeSgd}


def build(kind: str, layout: Layout, hyperparameters: dict[str, float] | None = None) -> Generator:
    """A generator with fresh weights from torch's current random state.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    return _builder(kind)(layout, dict(hyperparameters or {}))


def is_stepped(kind: str) -> bool:
    """Whether a generator of this kind is trained by steps; else it is fitted to bought tables.

    Raises:
        InputError: No such generator.
    """
    return issubclass(_builder(kind), SteppedGenerator)


def _builder(kind: str) -> type[MedVae] | type[MedVaeSgd]:
    if kind not in BUILDERS:
        raise InputError(f"no generator {kind!r} in this version", fix=f"one of {', '.join(BUILDERS)}")
    return BUILDERS[kind]
