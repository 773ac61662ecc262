"""What a model's folder says about itself, read without torch.

Knows `model.json` and the weights' hash. Refuses to build a generator: sealing and auditing need to
know what a model cost and where it came from, not how it works.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from synthkit.cli.loading import name_of, read_json
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.linkage import Linkage
from synthkit.domain.privacy import EncoderProvenance, PrivacySpend
from synthkit.domain.verbatim import Verbatim
from synthkit.errors import InputError

HEADER, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = 1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """A model's history. `spend` is None when it was trained without privacy; `where` names it."""

    generator: str
    study: str
    study_digest: str
    site: str
    schema_digest: str
    spend: PrivacySpend | None
    encoder_provenance: EncoderProvenance
    weights_sha256: str
    where: str
    encoder_digest: str = ""
    """SHA-256 of a frozen encoder's weights; empty where none was frozen."""
    linkage: tuple[Linkage, ...] = ()
    """Of the published MCM: how many rows lead back to the patient they were made from."""
    verbatim: Verbatim | None = None
    """Of the published EVA: how much of what it makes is a training patient's."""


def read_model_header(folder: Path) -> ModelHeader:
    """Read a model's header and check that the weights beside it are the ones it names.

    Raises:
        InputError: No model folder, of another format, malformed, with other weights, or with a spend
            beside an encoder that was trained on the patients without DP.
    """
    where = f"model {name_of(folder)}"
    if not folder.is_dir():
        raise InputError("there is no such folder", where=where, fix="name what `train -o` wrote")
    document = read_json(folder / HEADER)
    if document.get("format", FORMAT) != FORMAT:
        raise InputError("unknown model format", where=where, fix="use the version that wrote it")
    header = _parsed(lambda: _header(document, where), where)
    if header.spend is None and document.get("unsafe") is not True:
        raise InputError("states neither a spend nor unsafe = true", where=where, fix="train it again")
    if header.spend is not None and not header.encoder_provenance.allows_claim:
        raise InputError(
            "the encoder was trained on the patients without DP, so no epsilon can be claimed",
            where=where,
            fix="train with a public encoder or one trained with DP",
        )
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256_hex(weights.read_bytes()) != header.weights_sha256:
        raise InputError("the weights are not the header's", where=where, fix="train it again")
    return header


def _header(document: JsonObject, where: str) -> ModelHeader:
    texts = ("generator", "study", "study_digest", "site", "schema_digest", "weights_sha256")
    if not all(isinstance(document[name], str) for name in texts):
        raise TypeError("a text is expected")
    spend, encoder_digest = document["spend"], document.get("encoder_digest", "")
    copies = document.get("verbatim")
    if not isinstance(encoder_digest, str):
        raise TypeError("a text is expected")
    return ModelHeader(
        **{name: document[name] for name in texts},
        spend=PrivacySpend.from_json(spend) if spend is not None else None,
        encoder_provenance=EncoderProvenance(document["encoder_provenance"]),
        where=where,
        encoder_digest=encoder_digest,
        linkage=tuple(Linkage.from_json(entry) for entry in document.get("linkage", [])),
        verbatim=None if copies is None else Verbatim.from_json(copies),
    )


def _parsed(read: Callable[[], T], where: str) -> T:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise InputError("the header is malformed", where=where, fix="train it again") from error
