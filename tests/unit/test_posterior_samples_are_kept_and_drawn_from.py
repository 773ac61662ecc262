"""Posterior samples: which iterates are kept, how they lie on disk, and that patients are drawn from them."""

import json

import numpy as np
import pytest
from record_ward import SMALL, simulated

from synthkit.errors import InputError
from synthkit.training.latent_use import OWN, LatentUse
from synthkit.training.sequence_artefact import (
    SequenceModel,
    load_sequence_model,
    new_sequence_generator,
    save_sequence_model,
    synthesize_records,
)
from synthkit.training.weight_trail import PosteriorSample, WeightTrail

RECORDS = simulated(30)
USE = LatentUse(kl_share=0.02, kl_nats=0.5, trail=((4, 0.01), (8, 0.02)), measured_on=OWN)


def sampled(shifts, kind="eva"):
    """A model whose samples differ in how likely codes are."""
    settings = {**SMALL, "posterior": float(len(shifts))}
    generator = new_sequence_generator(kind, RECORDS.schema, settings, seed=3).eval()
    own = {n: w for n, w in generator.get_weights().items() if not generator.is_local(n)}
    samples = tuple(
        PosteriorSample(step=10 * (number + 1), weights={**own, "out.bias": own["out.bias"] + shift})
        for number, shift in enumerate(shifts)
    )
    return SequenceModel(
        schema=RECORDS.schema,
        generator=generator,
        spend=None,
        study="s",
        study_digest="0" * 64,
        site="north",
        samples=samples,
        latent=USE,
    )


def test_a_trail_keeps_what_it_was_asked_for_and_nothing_of_the_burn_in():
    trail = WeightTrail(steps=20, burn_in=8, samples=4, is_averaged=False)
    for step in range(1, 21):
        if trail.wants(step):
            trail.note(step, {"w": np.full(2, step, dtype=np.float32)})
    assert [sample.step for sample in trail.kept] == [11, 14, 17, 20] == list(trail.ends)
    assert [sample.weights["w"][0] for sample in trail.kept] == [11, 14, 17, 20]
    assert trail.mean()["w"][0] == np.mean(range(9, 21))
    with pytest.raises(ValueError, match="nothing is kept"):
        trail.note(8, {"w": np.zeros(2)})


def test_an_averaged_sample_is_the_mean_of_its_window():
    trail = WeightTrail(steps=20, burn_in=8, samples=4, is_averaged=True)
    for step in range(9, 21):
        trail.note(step, {"w": np.full(2, step, dtype=np.float32)})
    assert [sample.weights["w"][1] for sample in trail.kept] == [10, 13, 16, 19]
    assert WeightTrail(steps=3, burn_in=1, samples=10, is_averaged=True).ends == (2, 3)


def test_samples_come_back_from_disk_as_they_were(tmp_path):
    model = sampled([-1.0, 0.5])
    save_sequence_model(model, tmp_path / "model")
    again = load_sequence_model(tmp_path / "model")
    assert [sample.step for sample in again.samples] == [10, 20]
    for one, other in zip(model.samples, again.samples, strict=True):
        assert one.weights.keys() == other.weights.keys()
        assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
        assert not any(model.generator.is_local(name) for name in one.weights)
    assert again.latent == USE
    drawn = [synthesize_records(one, 30, seed=4).records.digest for one in (model, again)]
    assert drawn[0] == drawn[1] != synthesize_records(model, 30, seed=5).records.digest


def test_each_patient_is_drawn_from_one_sample_and_the_generator_stays_as_it_was():
    """Of samples of which one draws hardly any code, about half of the patients have hardly any.

    Fixed seed; 200 patients: outside 60 to 140 with probability below 1e-8 for another one.
    """
    model = sampled([-12.0, 1.0])
    before = model.generator.get_weights()
    records = synthesize_records(model, 200, seed=1).records
    codes = np.bincount(records.patient_of_visit[records.visit_of_code], minlength=200)
    bare = codes <= records.visits_per_patient
    assert 60 < bare.sum() < 140
    assert (codes / records.visits_per_patient)[~bare].min() > 1.0
    after = model.generator.get_weights()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_conditions_and_lengths_hold_under_every_sample():
    from synthkit.domain.conditions import parse_conditions

    model = sampled([-1.0, 0.0, 1.0])
    sex = str(RECORDS.schema.column("sex").categories[0])
    conditions = parse_conditions([f"sex = {sex}"], model.schema)
    made = synthesize_records(model, 50, seed=2, conditions=conditions, visits=3)
    assert set(made.records.statics["sex"].astype(str)) == {sex}
    assert set(made.records.visits_per_patient) == {3}
    assert 0 < made.reliability <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2, "steps": [10, 20]},
        {"format": 1, "steps": [10]},
        {"format": 1, "steps": [10, 20, 30]},
        {"format": 1, "steps": list(range(60))},
        {"steps": [10, 20]},
        {"format": 1, "steps": ["x", 20]},
    ],
)
def test_a_header_that_counts_other_samples_is_refused(tmp_path, change):
    save_sequence_model(sampled([-1.0, 0.5]), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**header, "posterior": change}), "utf-8")
    with pytest.raises(InputError, match="malformed"):
        load_sequence_model(tmp_path / "model")


@pytest.mark.parametrize(
    "change", [{"kl_share": -0.1}, {"measured_on": "patients' rows"}, {"kl_nats": "nan"}, {"trail": 3}]
)
def test_an_impossible_use_of_the_latent_is_refused(tmp_path, change):
    save_sequence_model(sampled([0.0]), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**header, "latent": {**header["latent"], **change}}), "utf-8")
    with pytest.raises(InputError, match="malformed"):
        load_sequence_model(tmp_path / "model")


def test_a_model_of_the_first_version_still_loads(tmp_path):
    """Without samples, without a word on its latent, and with torch's names in its LSTM."""
    from safetensors.numpy import load, save

    from synthkit.domain.canonical import sha256_hex

    generator = new_sequence_generator("vae-lstm", RECORDS.schema, dict(SMALL), seed=3).eval()
    model = SequenceModel(
        schema=RECORDS.schema, generator=generator, spend=None, study="s", study_digest="0" * 64, site="n"
    )
    save_sequence_model(model, tmp_path / "model")
    path, arrays = tmp_path / "model" / "model.json", tmp_path / "model" / "weights.safetensors"
    former = {"inputs": "ih", "hidden": "hh"}
    weights = {}
    for name, value in load(arrays.read_bytes()).items():
        parts = name.split(".")
        is_gate = parts[:2] == ["stack", "lstm"]
        weights[f"stack.lstm.{parts[3]}_{former[parts[2]]}_l0" if is_gate else name] = value
    assert "stack.lstm.weight_ih_l0" in weights
    arrays.write_bytes(save(weights))
    header = json.loads(path.read_text("utf-8"))
    del header["hyperparameters"]["posterior"]
    header["weights_sha256"] = sha256_hex(arrays.read_bytes())
    assert "latent" not in header
    assert "posterior" not in header
    path.write_text(json.dumps(header), "utf-8")
    again = load_sequence_model(tmp_path / "model")
    digests = [synthesize_records(one, 20, seed=1).records.digest for one in (model, again)]
    assert digests[0] == digests[1]
