"""The published Med-VAE's folder: read back byte for byte, no pickle, refused when anything is altered."""

import itertools
import json
import pickletools

import numpy as np
import pytest
from safetensors.numpy import load, save
from small_ward import ward_table

from synthkit.cli.model_header import read_model_header
from synthkit.domain.canonical import sha256_hex
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.privacy import EncoderProvenance
from synthkit.errors import InputError
from synthkit.training.artefact import HEADER, WEIGHTS, Model, load_model
from synthkit.training.paper_artefact import open_model, save_paper
from synthkit.training.paper_medvae import MedVaeSettings, PublishedMedVae, train_medvae
from synthkit.training.single_site import Job, train_unsafe
from synthkit.training.synthesis import synthesize

SETTINGS = MedVaeSettings(epochs=2)


@pytest.fixture(scope="module")
def model() -> PublishedMedVae:
    return train_medvae(ward_table(90), SETTINGS, seed=3, study="trial", site="north")


@pytest.fixture
def folder(model, tmp_path):
    save_paper(model, tmp_path / "model")
    return tmp_path / "model"


def opened(folder) -> PublishedMedVae:
    found = open_model(folder)
    assert isinstance(found, PublishedMedVae)
    return found


def rewrite(folder, change):
    header = json.loads((folder / HEADER).read_text())
    change(header)
    (folder / HEADER).write_text(json.dumps(header))


def replace_arrays(folder, change):
    """New arrays under a header that names them."""
    arrays = load((folder / WEIGHTS).read_bytes())
    change(arrays)
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (folder / WEIGHTS).write_bytes(data)
    rewrite(folder, lambda header: header.update(weights_sha256=sha256_hex(data)))


def test_saved_read_and_saved_again_is_byte_for_byte_the_same(folder, tmp_path):
    save_paper(opened(folder), tmp_path / "again")
    for name in (HEADER, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_is_read_back_draws_the_same_rows(model, folder):
    back, where = opened(folder), parse_conditions(["sex = Female"], model.schema)
    for conditions in ((), where):
        ours, theirs = (synthesize(one, 60, seed=5, conditions=conditions) for one in (model, back))
        assert ours.table.digest == theirs.table.digest
        assert ours.reliability == theirs.reliability
    assert synthesize(back, 60, seed=6).table.digest != synthesize(model, 60, seed=5).table.digest
    for field in ("encoding", "settings", "binary_weight", "study", "study_digest", "site", "schema"):
        assert getattr(back, field) == getattr(model, field)


def test_the_header_says_what_it_is_and_what_it_holds(model, folder):
    header = json.loads((folder / HEADER).read_text())
    assert (header["mode"], header["unsafe"], header["spend"]) == ("paper", True, None)
    assert header["encoder_provenance"] == "non_dp"
    assert header["encoding"]["provenance"] == "data"
    held = " ".join(header["holds"])
    for word in ("smallest and largest", "categories that occur", "imputed row", "latent mean"):
        assert word in held
    found = read_model_header(folder)
    assert (found.spend, found.encoder_provenance) == (None, EncoderProvenance.NON_DP)
    assert found.study_digest == model.study_digest


def test_the_folder_holds_json_and_plain_arrays_and_no_pickle(folder):
    assert sorted(file.name for file in folder.iterdir()) == sorted([HEADER, WEIGHTS])
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    arrays = json.loads(data[8 : 8 + length])
    assert {name.split("/")[0] for name in arrays} == {"network", "library"}
    spans = sorted(tuple(entry["data_offsets"]) for entry in arrays.values())
    assert spans[0][0] == 0
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    assert spans[-1][1] == len(data) - 8 - length
    for file in folder.iterdir():
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(file.read_bytes()))


def refusal(folder, read=open_model):
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_altered_arrays_are_refused(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    assert "not the header's" in refusal(folder)


ALTERATIONS = {
    "another mode": lambda header: header.update(mode="private"),
    "no unsafe": lambda header: header.update(unsafe=False),
    "a spend": lambda header: header.update(spend={"epsilon": 1.0}),
    "a better encoder": lambda header: header.update(encoder_provenance="trained"),
    "another generator": lambda header: header.update(generator="eva"),
    "another format": lambda header: header.update(format=2),
    "a bound shifted": lambda header: header["schema"]["columns"][0].update(maximum=99.0),
    "a column lost": lambda header: header["encoding"]["columns"].pop(),
    "a role lost": lambda header: header["encoding"]["columns"][0].update(role="constant"),
    "a level lost": lambda header: header["encoding"]["columns"][7]["levels"].pop(),
    "an unknown setting": lambda header: header["hyperparameters"].update(depth=3),
    "a setting out of range": lambda header: header["hyperparameters"].update(epochs=0),
    "encoding is a text": lambda header: header.update(encoding="ward"),
    "a field missing": lambda header: header.pop("study"),
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_header_is_refused_in_one_line(folder, change):
    rewrite(folder, change)
    refusal(folder)


def set_code(arrays, value):
    arrays["library/categories"] = np.full_like(arrays["library/categories"], value)


DAMAGE = {
    "an array lost": lambda arrays: arrays.pop("library/mean"),
    "an array too many": lambda arrays: arrays.update(extra=np.zeros(3, dtype=np.float32)),
    "a network array lost": lambda arrays: arrays.pop("network/mean.bias"),
    "a code that is no level": lambda arrays: set_code(arrays, 99),
    "a code below zero": lambda arrays: set_code(arrays, -1),
    "one patient fewer in one array": lambda arrays: arrays.update(
        {"library/binary": arrays["library/binary"][1:]}
    ),
    "no patients": lambda arrays: arrays.update(
        {name: array[:0] for name, array in arrays.items() if name.startswith("library/")}
    ),
    "not a number": lambda arrays: arrays.update(
        {"library/log_variance": arrays["library/log_variance"] * np.float32(np.nan)}
    ),
    "another type": lambda arrays: arrays.update({"library/mean": arrays["library/mean"].astype(np.float64)}),
    "weights that are not finite": lambda arrays: arrays.update(
        {"network/mean.bias": arrays["network/mean.bias"] + np.float32(np.inf)}
    ),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_arrays_that_do_not_fit_are_refused_in_one_line(folder, change):
    replace_arrays(folder, change)
    assert "malformed" in refusal(folder)


def test_the_private_reader_refuses_it(folder):
    refusal(folder, read=load_model)


def test_the_opener_reads_a_plain_model_too(tmp_path):
    from small_ward import make_plan

    job = Job(study="ward", site="north", declared_size=60, min_patients=10, seed=0)
    train_unsafe(ward_table(60), make_plan(local_steps=1), job, folder=tmp_path / "plain")
    assert isinstance(open_model(tmp_path / "plain"), Model)


def test_a_folder_with_content_is_left_as_it_is(model, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        save_paper(model, tmp_path / "model")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["note.txt"]
