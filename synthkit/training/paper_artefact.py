"""The published Med-VAE on disk, and the one place that opens a model folder of either mode.

Same two files as any model (`synthkit.training.artefact`): a JSON header and float or integer arrays, no
pickle. But the arrays hold patients: the library keeps each training patient's imputed row and latents.
The header says so under `holds`, and says `"mode": "paper"`, unsafe, and no spend. Such a folder is to be
guarded like the table it was trained on.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synthkit import __version__
from synthkit.data.paper_encoding import PaperEncoding
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.mixed import MixedRows
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.generators.medvae_paper import LATENT, PaperMedVae
from synthkit.training.artefact import Model, load_model, read_folder, write_folder
from synthkit.training.paper import KIND, MODE, Library, PaperModel, PaperSettings

NETWORK, LIBRARY = "network/", "library/"
"""Prefixes of the arrays' names."""

HOLDS = (
    "the smallest and largest value of every numeric column",
    "the categories that occur in the training patients",
    "the imputed row of every training patient",
    "the latent mean and log variance of every training patient",
    "weights fitted to the training patients without noise",
)
"""What in a folder was derived from the patients without any protection."""


def save_paper(model: PaperModel, folder: Path) -> None:
    """Write a model into a new folder; all of it or nothing.

    Raises:
        InputError: The folder exists with content, or cannot be written.
    """
    arrays = save({**_network_arrays(model.network), **_library_arrays(model.library)})
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
        return _model(header, load(data))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError("the model is malformed", where=str(folder), fix="train again") from error


def _network_arrays(network: PaperMedVae) -> dict[str, np.ndarray]:
    """Weights and BatchNorm's averages, float32; not its batch counter, which nothing reads."""
    return {
        NETWORK + name: np.ascontiguousarray(value.numpy())
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def _library_arrays(library: Library) -> dict[str, np.ndarray]:
    arrays = {
        "numeric": library.rows.numeric,
        "binary": library.rows.binary,
        "categories": library.rows.categories,
        "mean": library.mean,
        "log_variance": library.log_variance,
    }
    # An array in column order would be written as it lies in memory, under the shape of the other order.
    return {LIBRARY + name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _header(model: PaperModel, weights_sha256: str) -> JsonObject:
    return {
        "format": 1,
        "mode": MODE,
        "generator": KIND,
        "hyperparameters": {**asdict(model.settings), "binary_weight": model.binary_weight},
        "schema": model.schema.to_json(),
        "schema_digest": model.schema.digest,
        "encoding": model.encoding.to_json(),
        "holds": list(HOLDS),
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
    schema = Schema.from_json(header["schema"])
    claims = (header["mode"], header["generator"], header["spend"], header["unsafe"])
    if claims != (MODE, KIND, None, True) or header["encoder_provenance"] != "non_dp":
        raise ValueError("the header contradicts itself")
    if schema.digest != header["schema_digest"]:
        raise ValueError("the schema is not the digest's")
    encoding = PaperEncoding.from_json(header["encoding"], schema)
    settings = dict(header["hyperparameters"])
    binary_weight = float(settings.pop("binary_weight"))
    return PaperModel(
        encoding=encoding,
        network=_network(encoding, arrays),
        library=_library(encoding, arrays),
        settings=PaperSettings(**settings),
        binary_weight=binary_weight,
        study=header["study"],
        study_digest=header["study_digest"],
        site=header["site"],
    )


def _network(encoding: PaperEncoding, arrays: dict[str, np.ndarray]) -> PaperMedVae:
    with torch.random.fork_rng(devices=[]):
        network = PaperMedVae(encoding.layout)
    expected = network.state_dict()
    found = {name.removeprefix(NETWORK): a for name, a in arrays.items() if name.startswith(NETWORK)}
    if set(found) != {name for name, value in expected.items() if value.is_floating_point()}:
        raise ValueError("an array is missing or too many")
    if any(found[name].shape != tuple(expected[name].shape) for name in found):
        raise ValueError("an array has another shape")
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in found.values()):
        raise ValueError("an array is not of finite float32")
    network.load_state_dict({**expected, **{name: torch.from_numpy(a) for name, a in found.items()}})
    return network.eval()


def _library(encoding: PaperEncoding, arrays: dict[str, np.ndarray]) -> Library:
    layout = encoding.layout
    found = {name.removeprefix(LIBRARY): a for name, a in arrays.items() if name.startswith(LIBRARY)}
    patients = len(found["mean"])
    widths = {
        "numeric": (np.float64, layout.numeric),
        "binary": (np.int64, layout.binary),
        "categories": (np.int64, len(layout.levels)),
        "mean": (np.float32, LATENT),
        "log_variance": (np.float32, LATENT),
    }
    if set(found) != set(widths) or any(not name.startswith((NETWORK, LIBRARY)) for name in arrays):
        raise ValueError("an array is missing or too many")
    for name, (kind, width) in widths.items():
        array = found[name]
        if array.dtype != kind or array.shape != (patients, width) or not np.isfinite(array).all():
            raise ValueError("a library's array does not fit")
    limits = [*(2 for _ in range(layout.binary)), *layout.levels]
    codes = np.concatenate([found["binary"], found["categories"]], axis=1)
    if not patients or (codes < 0).any() or (codes >= np.array(limits, dtype=np.int64)).any():
        raise ValueError("a library's code is no level")
    rows = MixedRows(numeric=found["numeric"], binary=found["binary"], categories=found["categories"])
    return Library(rows=rows, mean=found["mean"], log_variance=found["log_variance"])
