"""A trained model on disk: a JSON header and arrays. No pickle, no code, no row.

`model.json` says what the weights are, what they cost and where they came from; `weights.safetensors`
holds float32 arrays. Compatibility promise: `format` 1 stays readable; a reader that meets another
format, or weights whose hash is not the header's, refuses.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synthkit import __version__
from synthkit.data.encoding import Encoding, fit_encoding
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.privacy import EncoderProvenance, PrivacySpend
from synthkit.domain.schema import Schema
from synthkit.domain.toml_reading import shown
from synthkit.errors import InputError
from synthkit.generators.base import Generator
from synthkit.generators.registry import build, rebuild
from synthkit.training.freeze import encoder_digest

HEADER, WEIGHTS = "model.json", "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A generator with its schema and its history. `spend` is None when trained without privacy.

    Raises:
        InputError: A spend beside an encoder that was trained on the patients without DP.
    """

    schema: Schema
    generator: Generator
    spend: PrivacySpend | None
    encoder_provenance: EncoderProvenance
    study: str
    study_digest: str
    site: str

    def __post_init__(self) -> None:
        if self.is_private and not self.encoder_provenance.allows_claim:
            raise InputError(
                "the encoder was trained on these patients without DP, so no epsilon can be claimed",
                where=f"model of study {self.study}",
                fix="train with a public encoder or one trained with DP",
            )

    @property
    def is_private(self) -> bool:
        """Whether a differential-privacy claim stands behind the weights."""
        return self.spend is not None

    @property
    def encoding(self) -> Encoding:
        """How the generator's states become values again: a function of the schema."""
        return fit_encoding(self.schema)


def new_generator(
    kind: str, schema: Schema, hyperparameters: dict[str, float] | None, *, seed: int
) -> Generator:
    """A generator for a schema; the same seed gives the same initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(kind, fit_encoding(schema).layout, hyperparameters)


def save_model(model: Model, folder: Path) -> None:
    """Write a model into a new folder; all of it or nothing.

    Raises:
        InputError: The folder exists with content, or cannot be written; or parts of a model with a
            spend were frozen, and its provenance says that none was.
    """
    _check_nothing_frozen(model)
    weights = save(model.generator.get_weights())
    write_folder(folder, _header(model, sha256_hex(weights)), weights)


def write_folder(folder: Path, header: JsonObject, weights: bytes) -> None:
    """Write a header and its arrays into a new folder; see `save_model`."""
    text = json.dumps(header, indent=2, sort_keys=True)
    partial = folder.with_name(folder.name + ".partial")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError("the folder is not empty", where=str(folder), fix="name a new folder")
        partial.mkdir(parents=True, exist_ok=True)
        (partial / WEIGHTS).write_bytes(weights)
        (partial / HEADER).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError("cannot be written", where=str(folder), fix="check the folder's rights") from error


def load_model(folder: Path) -> Model:
    """Read a model and check it.

    Raises:
        InputError: Missing, of another format or mode, its weights are not the header's, or its header says
            something that this version does not know.
    """
    header, data = read_folder(folder)
    try:
        model = _model(header, load(data))
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError("the model is malformed", where=str(folder), fix="train again") from error
    check_keys(header, _header(model, ""), folder)
    return model


def check_keys(header: JsonObject, written: JsonObject, folder: Path) -> None:
    """Refuse what this version would not have written for such a model.

    Passed over, it might be what a newer version says against the model: a caveat, or a limit. An older
    version wrote fewer keys, never others.

    Raises:
        InputError: Names the first such key.
    """
    unknown = sorted(set(header) - set(written))
    if unknown:
        what = f"its header says {shown(unknown[0])}, which this version does not know of such a model"
        raise InputError(what, where=folder.name, fix="use the version that wrote it")


def read_folder(folder: Path) -> tuple[JsonObject, bytes]:
    """A folder's header and the arrays that it names, whatever the mode; see `load_model`."""
    try:
        header: JsonObject = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        data = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError("not a model folder", where=str(folder), fix="name what `train -o` wrote") from error
    if not isinstance(header, dict):
        raise InputError("not a model folder", where=str(folder), fix="name what `train -o` wrote")
    if header.get("format") != 1:
        raise InputError("unknown model format", where=str(folder), fix="use the version that wrote it")
    if header.get("weights_sha256") != sha256_hex(data):
        raise InputError("the weights are not the header's", where=str(folder), fix="train again")
    return header, data


def _check_nothing_frozen(model: Model) -> None:
    """Refuse the label "trained" for a model with parameters that its private training was kept from."""
    if not model.is_private or model.encoder_provenance is not EncoderProvenance.TRAINED:
        return
    generator = model.generator
    fresh = build(generator.kind, generator.layout, generator.hyperparameters)
    trainable = {name for name, parameter in fresh.named_parameters() if parameter.requires_grad}
    if any(name in trainable and not p.requires_grad for name, p in generator.named_parameters()):
        raise InputError(
            "parameters were frozen, and nothing says where they came from",
            where=f"model of study {model.study}",
            fix="state the encoder's provenance: public, dp or non_dp",
        )


def _header(model: Model, weights_sha256: str) -> JsonObject:
    return {
        "format": 1,
        "generator": model.generator.kind,
        "hyperparameters": model.generator.hyperparameters,
        "schema": model.schema.to_json(),
        "schema_digest": model.schema.digest,
        "encoding": model.encoding.to_json(),
        "spend": model.spend.to_json() if model.spend else None,
        "unsafe": not model.is_private,
        "encoder_provenance": model.encoder_provenance.value,
        **_encoder_header(model),
        "study": model.study,
        "study_digest": model.study_digest,
        "site": model.site,
        "weights_sha256": weights_sha256,
        "version": __version__,
    }


def _encoder_header(model: Model) -> JsonObject:
    """Which encoder was frozen, by the digest of its weights; nothing for any other model."""
    digest = encoder_digest(model.generator)
    is_frozen = model.encoder_provenance in (EncoderProvenance.PUBLIC, EncoderProvenance.DP)
    return {"encoder_digest": digest} if is_frozen and digest else {}


def _model(header: JsonObject, weights: dict[str, np.ndarray]) -> Model:
    if "mode" in header:
        raise ValueError("made in another mode")
    schema, spend = Schema.from_json(header["schema"]), header["spend"]
    if schema.digest != header["schema_digest"] or header["unsafe"] is not (spend is None):
        raise ValueError("the header contradicts itself")
    generator = rebuild(header["generator"], fit_encoding(schema).layout, header["hyperparameters"])
    generator.set_weights(weights)
    generator.eval()
    if header.get("encoder_digest", encoder_digest(generator)) != encoder_digest(generator):
        raise ValueError("the encoder is not the header's")
    return Model(
        schema=schema,
        generator=generator,
        spend=PrivacySpend.from_json(spend) if spend is not None else None,
        encoder_provenance=EncoderProvenance(header["encoder_provenance"]),
        study=header["study"],
        study_digest=header["study_digest"],
        site=header["site"],
    )
