"""Generators of records by name. The one place that knows which there are."""

from synthkit.domain.sequence_layout import SequenceLayout
from synthkit.errors import InputError
from synthkit.generators.eva import Eva
from synthkit.generators.eva_conditional import ConditionalEva
from synthkit.generators.eva_rivals import LstmRival, VaeDeconvRival, VaeLstmRival

SEQUENCE_BUILDERS: dict[str, type[Eva]] = {
    one.kind: one for one in (Eva, ConditionalEva, LstmRival, VaeLstmRival, VaeDeconvRival)
}


def sequence_defaults(kind: str) -> dict[str, float]:
    """A kind's hyperparameters where nothing else is asked for.

    Raises:
        InputError: No such generator.
    """
    return dict(_builder(kind).defaults)


def build_sequences(
    kind: str, layout: SequenceLayout, hyperparameters: dict[str, float] | None = None
) -> Eva:
    """A generator with fresh weights from torch's current random state.

    Raises:
        InputError: No such generator, or an unknown hyperparameter.
    """
    return _builder(kind)(layout, dict(hyperparameters or {}))


def _builder(kind: str) -> type[Eva]:
    if kind not in SEQUENCE_BUILDERS:
        raise InputError(
            f"no generator {kind!r} of records in this version", fix=f"one of {', '.join(SEQUENCE_BUILDERS)}"
        )
    return SEQUENCE_BUILDERS[kind]
