"""`--encoder`: the sound ways to freeze an encoder, as typed.

Rule kept here: what a person vouches for is printed, in one line, before anything is drawn. Imports that
take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.loading import name_of
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.privacy.ledger import Ledger

if TYPE_CHECKING:
    from synthkit.domain.study import Study
    from synthkit.federation.messages import Weights
    from synthkit.training.encoder_source import EncoderSource

WAYS = "public:MODEL, random or dp:EPSILON"


@dataclass(frozen=True, kw_only=True)
class EncoderOption:
    """`kind` as a plan names it; `folder` of a public encoder, `epsilon` of one trained with DP."""

    kind: str = "trained"
    folder: Path | None = None
    epsilon: float | None = None

    @property
    def vow(self) -> str:
        """What whoever types a public encoder vouches for; empty for any other."""
        if self.folder is None:
            return ""
        return (
            f"you vouch that {name_of(self.folder)} was trained on public, simulated or other patients' "
            "consented data, and on no patient of this asset; no check can find out"
        )

    def source(self, schema: Schema, *, site: str, study: str, ledger: Ledger | None) -> "EncoderSource":
        """The encoder itself, as far as there is one before the training at this site.

        Raises:
            InputError: A public encoder's folder is refused; see `training.encoder_source`.
        """
        from synthkit.training.encoder_source import EncoderSource, read_public_encoder

        if self.folder is not None:
            return read_public_encoder(self.folder, schema, site=site, study=study, ledger=ledger)
        return EncoderSource(kind=self.kind, epsilon=self.epsilon)

    def of_federation(self, study: "Study", ledgers: Mapping[str, Ledger]) -> "tuple[Study, Weights | None]":
        """The study that freezes this encoder at all sites, and the encoder; as it was if none was typed.

        Raises:
            InputError: The encoder is one for a single site, or any site's ledger or name speaks against it.
        """
        if self.kind == "trained":
            return study, None
        if self.kind == "dp":
            raise _refusal("dp is for one site on its own", "public:MODEL, random, or leave it out")
        sources = [
            self.source(study.schema, site=site, study=study.name, ledger=ledger)
            for site, ledger in ledgers.items()
        ]
        return replace(study, plan=sources[0].freeze_in(study.plan)), sources[0].weights


def parse_encoder(text: str | None, *, generator: str, epsilon: float | None) -> EncoderOption:
    """Read `--encoder`.

    Args:
        text: What was typed; None when the option was not given.
        generator: What `--generator` says.
        epsilon: The whole training's, infinite where it follows from a study; None without privacy.

    Raises:
        InputError: No such way, a generator without encoder, no privacy, or no epsilon left for the decoder.
    """
    if text is None:
        return EncoderOption()
    kind, colon, rest = text.partition(":")
    if (kind, bool(colon), bool(rest)) not in {
        ("public", True, True),
        ("random", False, False),
        ("dp", True, True),
    }:
        raise _refusal("there is no such way", WAYS)
    if generator != "medvae-sgd":
        raise _refusal(f"{generator} has no encoder to freeze", "leave it out, or --generator medvae-sgd")
    if epsilon is None:
        raise _refusal("a frozen encoder is for private training", "leave it out, or give --epsilon")
    if kind == "dp":
        return EncoderOption(kind=kind, epsilon=_share(rest, epsilon))
    return EncoderOption(kind=kind, folder=Path(rest) if kind == "public" else None)


def _share(text: str, whole: float) -> float:
    """The encoder's own epsilon, below the whole training's."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise _refusal("the encoder's epsilon is a positive number", "for example dp:1")
    if epsilon >= whole:
        raise _refusal(
            f"the encoder's epsilon {epsilon:g} leaves nothing of {whole:g} for the decoder",
            "give it less than --epsilon",
        )
    return epsilon


def _refusal(what: str, fix: str) -> InputError:
    return InputError(what, where="option --encoder", fix=fix)
