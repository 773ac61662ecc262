"""Generators by name. The one place that knows which there are."""

from synthkit.domain.layout import Layout
from synthkit.errors import InputError
from synthkit.generators.base import Generator, SteppedGenerator
from synthkit.generators.mcm import Mcm, McmSgd
from synthkit.generators.medvae import MedVae
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.generators.sequence_registry import SEQUENCE_BUILDERS

Builder = type[MedVae] | type[MedVaeSgd] | type[Mcm] | type[McmSgd]

BUILDERS: dict[str, Builder] = {builder.kind: builder for builder in (MedVae, MedVaeSgd, Mcm, McmSgd)}


def build(kind: str, layout: Layout, hyperparameters: dict[str, float] | None = None) -> Generator:
    """A generator with fresh weights from torch's current random state.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    return _builder(kind)(layout, dict(hyperparameters or {}))


def rebuild(kind: str, layout: Layout, hyperparameters: dict[str, float]) -> Generator:
    """A generator of a saved one's architecture, as `build`; what an older version did not save is as it was.

    Raises:
        InputError: As `build`.
    """
    return build(kind, layout, {**_builder(kind).before, **hyperparameters})


def is_stepped(kind: str) -> bool:
    """Whether a generator of this kind is trained by steps; else it is fitted to bought tables.

    Raises:
        InputError: No such generator.
    """
    return is_of_records(kind) or issubclass(_builder(kind), SteppedGenerator)


def is_of_records(kind: str) -> bool:
    """Whether a generator of this kind makes records of visits."""
    return kind in SEQUENCE_BUILDERS


def stepped_twin(kind: str) -> str:
    """The generator of the same family that is trained by steps; itself where it is."""
    return kind if is_stepped(kind) else f"{kind}-sgd"


def _builder(kind: str) -> Builder:
    if kind not in BUILDERS:
        raise InputError(f"no generator {kind!r} in this version", fix=f"one of {', '.join(BUILDERS)}")
    return BUILDERS[kind]
