"""A model folder is two files: a header with the documented keys, and the generator's parameters. No more."""

import json
import pickle
import pickletools
import struct
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from small_ward import SMALL, WARD, make_plan, ward_table

from synthkit.domain.canonical import sha256_hex
from synthkit.domain.privacy import Budget
from synthkit.errors import InputError
from synthkit.generators.registry import BUILDERS
from synthkit.privacy.ledger import Ledger
from synthkit.privacy.mechanisms import table_noise
from synthkit.training.artefact import load_model, new_generator
from synthkit.training.single_site import Job, train_privately, train_unsafe

HEADER_KEYS = {
    "format",
    "generator",
    "hyperparameters",
    "schema",
    "schema_digest",
    "encoding",
    "spend",
    "unsafe",
    "encoder_provenance",
    "study",
    "study_digest",
    "site",
    "weights_sha256",
    "version",
}
"""What `model.json` says; a new key is a new way out and has to be argued for here."""

JOB = Job(study="ward", site="north", declared_size=100, min_patients=50, seed=4)


PLANS = {
    "medvae-sgd": make_plan(local_steps=2, noise_multiplier=3.0),
    "medvae": make_plan(
        generator="medvae", rounds=0, local_steps=0, hyperparameters={**SMALL, "codes": 40, "fit_steps": 5}
    ),
    "mcm-sgd": make_plan(
        generator="mcm-sgd", local_steps=2, noise_multiplier=3.0, hyperparameters={"hidden": 8}
    ),
    "mcm": make_plan(
        generator="mcm",
        rounds=0,
        local_steps=0,
        hyperparameters={"hidden": 8, "chains": 100, "sweeps": 3, "fit_steps": 5},
    ),
}


@pytest.fixture(scope="module", params=product(PLANS, ["private", "unsafe"]), ids="-".join)
def saved(request, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("model")
    kind, privacy = request.param
    plan = PLANS[kind]
    if privacy == "unsafe":
        train_unsafe(ward_table(120), plan, JOB, folder=root / "model")
    else:
        ledger = Ledger.create(
            root / "ledger", asset="ward", site="north", budget=Budget(epsilon=9, delta=1e-5)
        )
        quota = Budget(epsilon=9, delta=1e-5)
        train_privately(ward_table(120), plan, JOB, ledger=ledger, quota=quota, folder=root / "model")
    return root / "model"


def arrays_in(folder: Path) -> tuple[dict, bytes]:
    """The weights' header, parsed by hand, and the bytes behind it."""
    data = (folder / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def test_a_folder_holds_two_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "weights.safetensors"]


def test_the_header_has_the_documented_keys_and_no_other(saved):
    assert set(json.loads((saved / "model.json").read_text())) == HEADER_KEYS


def test_the_weights_are_the_generators_parameters_by_name_shape_and_type(saved):
    header, _ = arrays_in(saved)
    parameters = dict(load_model(saved).generator.named_parameters())
    assert set(header) == set(parameters), "no `__metadata__`, no further array"
    for name, entry in header.items():
        assert set(entry) == {"dtype", "shape", "data_offsets"}
        assert (entry["dtype"], tuple(entry["shape"])) == ("F32", tuple(parameters[name].shape))


def test_the_arrays_cover_the_file_to_its_last_byte(saved):
    """No gap and no tail in which anything else could travel."""
    header, data = arrays_in(saved)
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    for entry in header.values():
        start, stop = entry["data_offsets"]
        assert stop - start == 4 * int(np.prod(entry["shape"]))


def test_a_generator_keeps_no_state_beside_its_parameters(saved):
    """A buffer would be state that no name in the file accounts for."""
    generator = load_model(saved).generator
    assert list(generator.named_buffers()) == []
    assert set(generator.state_dict()) == set(dict(generator.named_parameters()))


def test_neither_file_is_a_pickle(saved):
    for path in saved.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"\x80", b"PK"))
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(data))


def test_the_check_for_pickles_knows_one():
    assert list(pickletools.genops(pickle.dumps({"a": 1})))


def test_every_generator_is_looked_at():
    assert set(PLANS) == set(BUILDERS)


@pytest.mark.parametrize("kind", BUILDERS)
def test_no_generator_has_room_for_patients(kind):
    """The size of the weights follows from the schema: it is the same for 60 and for 600 patients."""
    plan = make_plan(generator=kind, hyperparameters={})
    sizes = set()
    for patients in (60, 600):
        generator = new_generator(kind, WARD, plan.hyperparameters, seed=patients)
        sizes.add(tuple((name, array.shape) for name, array in generator.get_weights().items()))
    assert len(sizes) == 1


@pytest.mark.parametrize("planted", ["an array too many", "an array too few", "another shape"])
def test_a_folder_whose_arrays_are_not_the_architectures_is_not_loaded(saved, tmp_path, planted):
    weights = load_file(saved / "weights.safetensors")
    name = sorted(weights)[0]
    if planted == "an array too many":
        weights["library"] = np.zeros((120, 6), dtype=np.float32)
    elif planted == "an array too few":
        del weights[name]
    else:
        weights[name] = np.zeros((*weights[name].shape, 2), dtype=np.float32)
    data = save(weights)
    header = json.loads((saved / "model.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes(data)
    (tmp_path / "model.json").write_text(json.dumps({**header, "weights_sha256": sha256_hex(data)}))
    with pytest.raises(InputError, match="the model is malformed"):
        load_model(tmp_path)


def test_the_tables_in_a_private_model_are_no_counts_of_patients(tmp_path):
    """What is kept of the tables is what was bought: every cell that pairs two columns has noise.

    Without privacy the same cells are the patients' counts, so that the comparison can fail. Sample std
    of 15,000 cells within 5 %: more than eight standard errors, false alarm below 1e-15.
    """
    ledger = Ledger.create(tmp_path / "ledger", asset="ward", site="n", budget=Budget(epsilon=9, delta=1e-5))
    table, plan, quota = ward_table(120), PLANS["medvae"], Budget(epsilon=9, delta=1e-5)
    job = replace(JOB, site="n")
    private = train_privately(table, plan, job, ledger=ledger, quota=quota, folder=tmp_path / "private")
    unsafe = train_unsafe(table, plan, job, folder=tmp_path / "unsafe")
    exact = unsafe.generator.get_weights()["tables"].astype(np.float64) * 120
    assert np.abs(exact - np.rint(exact)).max() < 1e-3
    bought = private.generator.get_weights()
    counts = bought["tables"].astype(np.float64) * float(bought["millions"][0]) * 1e6
    block = np.repeat(np.arange(len(WARD)), private.generator.layout.states)
    pairs = np.triu(block[:, None] != block[None, :])
    noise = (counts - exact)[pairs]
    expected, _ = table_noise(private.generator.layout, noise_multiplier=plan.prior_noise_multiplier)
    assert noise.std() == pytest.approx(expected, rel=0.05)
