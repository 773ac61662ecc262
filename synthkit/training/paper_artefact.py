"""A published system on disk, and the one place that opens a model folder of either mode.

Same two files as any model (`synthkit.training.artefact`): a JSON header and float or integer arrays, no
pickle. But the arrays hold patients: Med-VAE keeps each training patient's imputed row and latents, MCM
each row, with how many made rows lead back to it, EVA their visits, with how much of what it makes is a
patient's. The header says so under `holds` (and `linkage` or `verbatim`), and says `"mode": "paper"`, unsafe,
and no spend. Such a folder is to be guarded like the table it was trained on.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synthkit import __version__
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.training.artefact import Model, check_keys, load_model, read_folder, write_folder
from synthkit.training.paper import MODE, PaperModel, PublishedSystem
from synthkit.training.paper_eva import PublishedEva, PublishedEvaC
from synthkit.training.paper_mcm import PublishedMcm
from synthkit.training.paper_medvae import PublishedMedVae

PUBLISHED: dict[str, type[PaperModel]] = {one.kind: one for one in (PublishedMedVae, PublishedMcm)}
"""The published systems of tables by the generator's name."""

PUBLISHED_RECORDS: dict[str, type[PublishedEva]] = {one.kind: one for one in (PublishedEva, PublishedEvaC)}
"""Those of records."""


def save_paper(model: PublishedSystem, folder: Path) -> None:
    """Write a model into a new folder; all of it or nothing.

    Raises:
        InputError: The folder exists with content, or cannot be written.
    """
    arrays = save(model.arrays())
    write_folder(folder, _header(model, sha256_hex(arrays)), arrays)


def open_model(folder: Path) -> Model | PaperModel:
    """Read a model of either mode, as its header says.

    Raises:
        InputError: Missing, of another format or mode, malformed, or its weights are not the header's.
    """
    header, data = read_folder(folder)
    if "mode" not in header:
        return load_model(folder)
    try:
        model = _model(header, load(data))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError("the model is malformed", where=str(folder), fix="train again") from error
    check_keys(header, _header(model, ""), folder)
    return model


def open_published_records(folder: Path) -> PublishedEva:
    """Read a published system of records.

    Raises:
        InputError: Missing, of another format or mode, malformed, or its weights are not the header's.
    """
    header, data = read_folder(folder)
    model: PublishedEva | None = None
    try:
        schema = _checked_schema(header)
        model = PUBLISHED_RECORDS[header["generator"]].read(header, load(data), schema)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, InputError, SafetensorError):
        model = None
    if model is None:
        raise InputError("the model is malformed", where=folder.name, fix="train again")
    check_keys(header, _header(model, ""), folder)
    return model


def masking(model: Model | PaperModel, share: float) -> PublishedMcm:
    """The published MCM, masking another share of each real row than the published one.

    Raises:
        InputError: It is another model, or the share is out of range.
    """
    if not isinstance(model, PublishedMcm):
        raise InputError("this model masks no real rows", where="option --mask-share", fix="leave it out")
    return model.with_mask_share(share)


def _header(model: PublishedSystem, weights_sha256: str) -> JsonObject:
    return {
        "format": 1,
        "mode": MODE,
        "generator": model.kind,
        **model.header(),
        "schema": model.schema.to_json(),
        "schema_digest": model.schema.digest,
        "holds": list(model.holds),
        "spend": None,
        "unsafe": True,
        "encoder_provenance": model.encoder_provenance.value,
        "study": model.study,
        "study_digest": model.study_digest,
        "site": model.site,
        "weights_sha256": weights_sha256,
        "version": __version__,
    }


def _model(header: JsonObject, arrays: dict[str, np.ndarray]) -> PaperModel:
    schema = _checked_schema(header)
    return PUBLISHED[header["generator"]].read(header, arrays, schema)


def _checked_schema(header: JsonObject) -> Schema:
    """The model's schema; ValueError when the header claims what no published system may."""
    schema = Schema.from_json(header["schema"])
    claims = (header["mode"], header["spend"], header["unsafe"])
    if claims != (MODE, None, True) or header["encoder_provenance"] != "non_dp":
        raise ValueError("the header contradicts itself")
    if schema.digest != header["schema_digest"]:
        raise ValueError("the schema is not the digest's")
    return schema
