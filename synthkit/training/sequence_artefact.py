"""A trained generator of records on disk, and records drawn from it. Drawing costs no budget, ever.

The same two files as any model (`synthkit.training.artefact`): a JSON header, float32 arrays, no pickle, no
row. The header says `"mode": "records"`, so that whoever reads tables refuses it. Posterior samples lie
beside the weights, which are then their mean; the header counts them and says after which step each was
taken. Models of earlier versions, without samples and with other names in an LSTM, load as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from synthkit import __version__
from synthkit.data.sequence_encoding import SequenceEncoding, fit_sequence_encoding
from synthkit.data.sequences import SyntheticSequences
from synthkit.domain.canonical import JsonObject, sha256_hex
from synthkit.domain.conditions import Condition
from synthkit.domain.privacy import EncoderProvenance, PrivacySpend
from synthkit.domain.schema import Schema
from synthkit.errors import InputError
from synthkit.generators.eva_settings import FORMER
from synthkit.generators.sequence_base import SequenceGenerator
from synthkit.generators.sequence_layers import present_name
from synthkit.generators.sequence_matching import matched_hyperparameters
from synthkit.generators.sequence_registry import build_sequences, sequence_defaults
from synthkit.training.artefact import check_keys, read_folder, write_folder
from synthkit.training.latent_use import LatentUse
from synthkit.training.posterior import draw_patients, packed, unpacked
from synthkit.training.weight_trail import PosteriorSample

MODE = "records"

POSTERIOR_FORMAT, MOST_SAMPLES = 1, 50


@dataclass(frozen=True, kw_only=True)
class SequenceModel:
    """A generator of records with schema and history. `spend` is None when trained without privacy."""

    schema: Schema
    generator: SequenceGenerator
    spend: PrivacySpend | None
    study: str
    study_digest: str
    site: str
    samples: tuple[PosteriorSample, ...] = ()
    """Draws of the weights that make records; empty for a point estimate."""
    latent: LatentUse | None = None
    """How much the latent is used, where that was measured."""

    @property
    def is_private(self) -> bool:
        """Whether a differential-privacy claim stands behind the weights."""
        return self.spend is not None

    @property
    def encoder_provenance(self) -> EncoderProvenance:
        """Nothing is ever frozen."""
        return EncoderProvenance.TRAINED

    @property
    def encoding(self) -> SequenceEncoding:
        """How the generator's numbers become records again: a function of schema and hyperparameters."""
        return fit_sequence_encoding(self.schema, self.generator.hyperparameters)


def new_sequence_generator(
    kind: str, schema: Schema, hyperparameters: dict[str, float], *, seed: int
) -> SequenceGenerator:
    """A generator for a longitudinal schema; the same seed gives the same initial weights.

    Raises:
        InputError: No such generator, or a hyperparameter is unknown or out of range.
        SchemaError: The schema is not longitudinal, lists no codes, or leaves something to be bought.
    """
    hyperparameters = {**capped(schema), **hyperparameters}
    layout = fit_sequence_encoding(schema, {**sequence_defaults(kind), **hyperparameters}).layout
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_sequences(kind, layout, hyperparameters)


def capped(schema: Schema) -> dict[str, float]:
    """The schema's caps as hyperparameters; none where it leaves them to whoever trains."""
    return {} if schema.caps is None else schema.caps.hyperparameters()


def matched_to_eva(kind: str, schema: Schema, hyperparameters: dict[str, float]) -> dict[str, float]:
    """The hyperparameters; of the paper's rivals with the widths that give as many parameters as EVA has.

    Raises:
        InputError: No such generator, or a hyperparameter is unknown or out of range.
        SchemaError: See `fit_sequence_encoding`.
    """
    layout = fit_sequence_encoding(schema, {**sequence_defaults(kind), **hyperparameters}).layout
    return matched_hyperparameters(kind, layout, hyperparameters)


def save_sequence_model(model: SequenceModel, folder: Path) -> None:
    """Write a model into a new folder; all of it or nothing.

    Raises:
        InputError: The folder exists with content, or cannot be written.
    """
    weights = save(packed(model.generator.get_weights(), model.samples))
    write_folder(folder, _header(model, sha256_hex(weights)), weights)


def load_sequence_model(folder: Path) -> SequenceModel:
    """Read a model and check it.

    Raises:
        InputError: Missing, of another format or mode, malformed, or its weights are not the header's.
    """
    header, data = read_folder(folder)
    model: SequenceModel | None = None
    try:
        model = _model(header, load(data))
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError):
        model = None
    if model is None:
        raise InputError("the model is malformed", where=folder.name, fix="train again")
    check_keys(header, _header(model, ""), folder)
    return model


def _header(model: SequenceModel, weights_sha256: str) -> JsonObject:
    return {
        "format": 1,
        "mode": MODE,
        "generator": model.generator.kind,
        "hyperparameters": model.generator.hyperparameters,
        "schema": model.schema.to_json(),
        "schema_digest": model.schema.digest,
        "spend": model.spend.to_json() if model.spend else None,
        "unsafe": not model.is_private,
        "encoder_provenance": model.encoder_provenance.value,
        "study": model.study,
        "study_digest": model.study_digest,
        "site": model.site,
        "weights_sha256": weights_sha256,
        "version": __version__,
        **_optional(model),
    }


def _optional(model: SequenceModel) -> JsonObject:
    """What not every model has: its posterior samples and the use of its latent."""
    found: JsonObject = {}
    if model.samples:
        found["posterior"] = {"format": POSTERIOR_FORMAT, "steps": [sample.step for sample in model.samples]}
    if model.latent is not None:
        found["latent"] = model.latent.to_json()
    return found


def _model(header: JsonObject, weights: dict[str, np.ndarray]) -> SequenceModel:
    if header["mode"] != MODE:
        raise ValueError("made in another mode")
    schema, spend = Schema.from_json(header["schema"]), header["spend"]
    if schema.digest != header["schema_digest"] or header["unsafe"] is not (spend is None):
        raise ValueError("the header contradicts itself")
    if header["encoder_provenance"] != EncoderProvenance.TRAINED.value:
        raise ValueError("nothing is ever frozen")
    settings = {**FORMER, **header["hyperparameters"]}
    generator = new_sequence_generator(header["generator"], schema, settings, seed=0)
    posterior = header.get("posterior", {"format": POSTERIOR_FORMAT, "steps": []})
    if posterior["format"] != POSTERIOR_FORMAT or len(posterior["steps"]) > MOST_SAMPLES:
        raise ValueError("posterior samples of another format")
    weights, samples = unpacked(
        {present_name(name): value for name, value in weights.items()}, posterior["steps"], generator
    )
    generator.set_weights(weights)
    generator.eval()
    return SequenceModel(
        schema=schema,
        generator=generator,
        spend=PrivacySpend.from_json(spend) if spend is not None else None,
        study=header["study"],
        study_digest=header["study_digest"],
        site=header["site"],
        samples=samples,
        latent=LatentUse.from_json(header["latent"]) if "latent" in header else None,
    )


@dataclass(frozen=True, kw_only=True)
class RecordSynthesis:
    """Generated records; `reliability` in (0, 1] is the share of effective draws under conditions."""

    records: SyntheticSequences
    reliability: float


def synthesize_records(
    model: SequenceModel,
    count: int,
    *,
    seed: int,
    conditions: Sequence[Condition] = (),
    visits: int | None = None,
) -> RecordSynthesis:
    """Generate records; the same seed gives the same ones from the same model.

    Args:
        model: What draws.
        count: How many patients.
        seed: Of every draw.
        conditions: On static columns, all honoured exactly.
        visits: Every record's number of visits; None: as the model ends them.

    Raises:
        InputError: `count` is below 1, or `visits` is not within the model's cap.
        ConditionError: No value satisfies the conditions.
        SchemaError: A condition names the code column.
    """
    if count < 1:
        raise InputError("the number of patients must be at least 1", where="option -n")
    encoding = model.encoding
    most = encoding.layout.most_visits
    if visits is not None and not 1 <= visits <= most:
        raise InputError("is not a length this model knows", where="option --visits", fix=f"1 to {most}")
    states, reliability = draw_patients(
        model.generator,
        model.samples,
        count,
        rng=torch.Generator().manual_seed(seed),
        where=encoding.restrict(conditions) or None,
        lengths=None if visits is None else np.full(count, visits),
    )
    records = encoding.decode(states, np.random.default_rng(seed), conditions)
    return RecordSynthesis(records=records, reliability=reliability)
