"""A model of records keeps its weights, says what it cost, and is refused when it was touched."""

import json
from dataclasses import replace

import pytest
from record_ward import SMALL, simulated

from synthkit.errors import InputError
from synthkit.generators.eva_settings import FORMER
from synthkit.generators.sequence_registry import SEQUENCE_BUILDERS
from synthkit.training.artefact import load_model
from synthkit.training.sequence_artefact import (
    SequenceModel,
    load_sequence_model,
    new_sequence_generator,
    save_sequence_model,
    synthesize_records,
)

RECORDS = simulated(30)


def model_of(kind="eva"):
    settings = {**SMALL, "latent": 0} if kind == "lstm" else SMALL
    generator = new_sequence_generator(kind, RECORDS.schema, dict(settings), seed=3).eval()
    return SequenceModel(
        schema=RECORDS.schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="north"
    )


@pytest.mark.parametrize("kind", sorted(SEQUENCE_BUILDERS))
def test_what_is_read_draws_what_was_written(kind, tmp_path):
    model = model_of(kind)
    save_sequence_model(model, tmp_path / "model")
    again = load_sequence_model(tmp_path / "model")
    assert again.generator.hyperparameters == model.generator.hyperparameters
    drawn = [synthesize_records(one, 25, seed=4).records.digest for one in (model, again)]
    assert drawn[0] == drawn[1]
    assert synthesize_records(model, 25, seed=5).records.digest != drawn[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generator", "medvae"),
        ("mode", "paper"),
        ("unsafe", False),
        ("encoder_provenance", "public"),
        ("schema_digest", "0" * 64),
        ("hyperparameters", {"channels": 13}),
        ("hyperparameters", {"channels": 0}),
        ("hyperparameters", {"charm": 1}),
        ("format", 2),
    ],
)
def test_a_header_that_was_changed_is_refused(tmp_path, key, value):
    save_sequence_model(model_of(), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text("utf-8"))
    settings = header["hyperparameters"] if isinstance(value, dict) else {}
    path.write_text(json.dumps({**header, key: {**settings, **value} if settings else value}), "utf-8")
    with pytest.raises(InputError):
        load_sequence_model(tmp_path / "model")


def test_a_model_from_before_a_setting_had_a_name_is_what_it_was(tmp_path):
    generator = new_sequence_generator("eva", RECORDS.schema, {**SMALL, **FORMER}, seed=3).eval()
    model = replace(model_of(), generator=generator)
    save_sequence_model(model, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text("utf-8"))
    for name in FORMER:
        del header["hyperparameters"][name]
    path.write_text(json.dumps(header), "utf-8")
    again = load_sequence_model(tmp_path / "model")
    drawn = [synthesize_records(one, 25, seed=4).records.digest for one in (model, again)]
    assert drawn[0] == drawn[1]
    assert not again.generator.sees_patient


def test_changed_weights_and_other_readers_are_refused(tmp_path):
    save_sequence_model(model_of(), tmp_path / "model")
    with pytest.raises(InputError):
        load_model(tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="not the header's"):
        load_sequence_model(tmp_path / "model")


@pytest.mark.parametrize(("count", "visits"), [(0, None), (3, 0), (3, 21)])
def test_impossible_numbers_are_refused(count, visits):
    with pytest.raises(InputError):
        synthesize_records(model_of(), count, seed=0, visits=visits)
